//! `explain`: where a guest file's bytes are, from the file down to the image.

use crate::base::Result;
use crate::command::{
    Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Table, Value,
};
use crate::disk::{Device, Kept};
use crate::fs::{Segment, Stored};
use crate::session::{Located, Session};

/// Rows that are shown without `all:true`, and with it.
const ROWS: usize = 1000;
const ROWS_ALL: usize = 100_000;

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "explain",
    aliases: &[],
    summary: "where the bytes of a file are: in its file system, on its disk, in the image",
    help: "A row for each run of bytes: `offset` and `length` in the file; `kind`: data, hole (zeros that take no space), unwritten \
           (space that reads as zeros), inline (with the file's metadata), compressed or elsewhere (on several devices, or another one); `block`, the file system's own number (FAT: the \
           cluster; XFS: group and block as xfs_bmap has them; btrfs: the logical address in sectors); `device` and `place`, the volume and \
           the byte on it; `disk` and `diskplace`, the same behind partitions and LVM; `staged`, whether something there waits for the \
           commit; `kept`: data, sparse (a hole of the image file), zero or compressed, or staged for \
           what is not in the image yet; `file` and `fileplace`, the image file that has it, which may be \
           a backing or a data file, and the byte in it; `packed`, the stored bytes of what is compressed. Columns that are empty are left \
           out. In Rhai the answer is an array of maps.\n\n\
           After 1000 rows the rest of the file is one row of the kind `more`; `all:true` shows up to 100000. `json:true` prints JSON.",
    params: &[
        Param::required("path", Kind::Path),
        Param::optional("all", Kind::Bool),
        Param::optional("json", Kind::Bool),
    ],
    returns: Returns::Table,
    effect: Effect::Reads,
    examples: &[Example {
        setup: Setup::Ext4,
        lines: "touch /hole\ntruncate-size /hole 1048576\nexplain /hole\n",
        output: "offset   length  kind\n     0  1048576  hole\n",
    }],
    run: explain,
}];

/// The rows of one file as they are put together.
struct Rows<'a> {
    session: &'a Session,
    /// The volume's name, and the volume.
    name: String,
    device: Device,
    /// Bytes of the file system's blocks.
    block_size: u64,
    disks: Vec<String>,
    most: usize,
    rows: Vec<Record>,
    /// Rows that are left out, and the first byte of the file that they are about.
    more: usize,
    more_from: u64,
}

fn explain(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.path("path");
    let session = &*cx.session;
    let (name, segments) = session.guest.layout(&path)?;
    let device = session.device(&name)?;
    let end = segments.last().map_or(0, |last| last.offset.saturating_add(last.len));
    let most = if args.bool("all") { ROWS_ALL } else { ROWS };
    let disks = session.devices();
    let block_size = session.guest.statvfs(&path)?.block_size.max(1);
    let mut rows = Rows { session, name, device, block_size, disks, most, rows: Vec::new(), more: 0, more_from: 0 };
    for segment in &segments {
        session.guest.check_interrupt()?;
        rows.add_segment(segment)?;
    }
    let note = (rows.more > 0).then(|| {
        let hint = if args.bool("all") { "" } else { "; all:true shows more of them" };
        format!("and {} more rows{hint}", rows.more)
    });
    if rows.more > 0 {
        let rest = Segment { offset: rows.more_from, len: end - rows.more_from, block: None, stored: Stored::Hole };
        rows.rows.push(rows.row(&rest, "more", None));
    }
    Ok(Value::Table(Table { rows: rows.rows, note, json: args.bool("json") }))
}

impl Rows<'_> {
    fn add_segment(&mut self, segment: &Segment) -> Result<()> {
        let (kind, at, len) = match segment.stored {
            Stored::Data(at) => ("data", at, segment.len),
            Stored::Unwritten(at) => ("unwritten", at, segment.len),
            Stored::Compressed { at, len } => ("compressed", at, len),
            other => {
                let kind = match other {
                    Stored::Hole => "hole",
                    Stored::Elsewhere => "elsewhere",
                    _ => "inline",
                };
                let row = self.row(segment, kind, None);
                self.push(segment.offset, row);
                return Ok(());
            }
        };
        let session = self.session;
        let device = self.device.clone();
        let block_size = self.block_size;
        session.locate(device.as_ref(), at..at.saturating_add(len), &mut |found| {
            session.guest.check_interrupt()?;
            let inside = found.at - at;
            // What is compressed is a whole: each of its rows is about all of its bytes.
            let part = match segment.stored {
                Stored::Compressed { .. } => *segment,
                _ => Segment {
                    offset: segment.offset + inside,
                    len: found.range.end - found.range.start,
                    block: segment.block.map(|block| block + inside / block_size),
                    ..*segment
                },
            };
            let row = self.row(&part, kind, Some(&found));
            self.push(part.offset, row);
            Ok(())
        })
    }

    fn push(&mut self, offset: u64, row: Record) {
        if self.rows.len() < self.most {
            return self.rows.push(row);
        }
        if self.more == 0 {
            self.more_from = offset;
        }
        self.more += 1;
    }

    fn row(&self, part: &Segment, kind: &str, found: Option<&Located<'_>>) -> Record {
        let number = |number: Option<u64>| number.map_or(Field::Nothing, |number| Field::Int(number.into()));
        let text = |text: Option<&str>| text.map_or(Field::Nothing, |text| Field::Text(text.as_bytes().to_vec()));
        let kept = found.map(|found| found.kept);
        let (word, place, mut packed) = match kept.map(|kept| kept.map(|(_, kept)| kept)) {
            None => (None, None, None),
            Some(None) => (Some("staged"), None, None),
            Some(Some(Kept::Data(at))) => (Some("data"), Some(at), None),
            Some(Some(Kept::Sparse(at))) => (Some("sparse"), Some(at), None),
            Some(Some(Kept::Zero)) => (Some("zero"), None, None),
            Some(Some(Kept::Compressed { at, len })) => (Some("compressed"), Some(at), Some(len)),
        };
        if let (Stored::Compressed { .. }, Some(found)) = (part.stored, found) {
            packed = packed.or(Some(found.range.end - found.range.start));
        }
        let file = kept.flatten().map(|(file, _)| file.display().to_string());
        let disk = found.and_then(|found| self.disks.get(found.disk));
        Record(vec![
            ("offset", Field::Int(part.offset.into())),
            ("length", Field::Int(part.len.into())),
            ("kind", text(Some(kind))),
            ("block", number(part.block)),
            ("device", text(found.map(|_| self.name.as_str()))),
            ("place", number(found.map(|found| found.at))),
            ("disk", text(disk.map(String::as_str))),
            ("diskplace", number(found.map(|found| found.range.start))),
            ("staged", text(found.map(|found| if found.staged { "yes" } else { "no" }))),
            ("kept", text(word)),
            ("file", text(file.as_deref())),
            ("fileplace", number(place)),
            ("packed", number(packed)),
        ])
    }
}
