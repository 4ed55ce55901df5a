//! A tar archive as a sink: ustar headers, with a pax header before those that need one.

use std::io::{self, Read, Write};
use std::ops::Range;

use super::fields::{self, Block};
use super::{BLOCK, Compression, Encoder};
use crate::base::{Error, GuestPathBuf, Kind, Result, Timestamp};
use crate::guest::transfer::{Entry, EntryKind, Sink};

/// Archives are padded to whole records of this many bytes, as GNU tar does.
const RECORD: u64 = 20 * BLOCK as u64;
/// Largest owner that fits a header.
const ID_MAX: u32 = 0o7777777;
/// Largest size and time that fit a header.
const OCTAL_MAX: u64 = 0o77777777777;

/// A file is written with its holes left out if they are more than half of it and at least this many bytes: GNU tar, bsdtar and
/// Python unpack that (pax sparse format 1.0), others do not, and small files are for all.
const HOLES: u64 = 64 << 20;

/// A tar archive that is being written.
pub struct TarSink<'w> {
    /// `None` after the end was written.
    output: Option<Encoder<'w>>,
    xattrs: bool,
    written: u64,
    /// Sockets, which an archive cannot hold, were left out.
    skipped: u64,
}

impl<'w> TarSink<'w> {
    /// An archive into a stream; extended attributes are stored if `xattrs`.
    pub fn new(writer: Box<dyn Write + 'w>, compression: Compression, xattrs: bool) -> Result<Self> {
        let output = compression.writer(writer, None)?;
        Ok(TarSink { output: Some(output), xattrs, written: 0, skipped: 0 })
    }

    /// How many sockets were left out.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        match &mut self.output {
            Some(output) => output.write_all(data)?,
            None => return Err(Error::new(Kind::Internal, "an entry after the end of the archive")),
        }
        self.written += data.len() as u64;
        Ok(())
    }

    /// Zeros up to a multiple of `unit`.
    fn pad(&mut self, unit: u64) -> Result<()> {
        let zeros = [0; BLOCK];
        while !self.written.is_multiple_of(unit) {
            let part = (unit - self.written % unit).min(BLOCK as u64) as usize;
            self.write(&zeros[..part])?;
        }
        Ok(())
    }

    fn content(&mut self, content: &mut dyn Read, size: u64) -> Result<()> {
        let mut buf = vec![0; size.min(1 << 18) as usize];
        let mut rest = size;
        while rest > 0 {
            let part = rest.min(buf.len() as u64) as usize;
            let got = match content.read(&mut buf[..part]) {
                Ok(0) => return Err(Error::new(Kind::Io, format!("the file ends {rest} bytes early"))),
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.into()),
            };
            self.write(&buf[..got])?;
            rest -= got as u64;
        }
        self.pad(BLOCK as u64)
    }
}

/// The records of a pax header.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        for part in [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"] {
            self.0.extend_from_slice(part);
        }
    }
}

fn pax_time(time: Timestamp) -> String {
    let (seconds, nanos) = match time.nanos {
        0 => return time.seconds.to_string(),
        nanos if time.seconds < 0 => (time.seconds + 1, 1_000_000_000 - nanos),
        nanos => (time.seconds, nanos),
    };
    let sign = if time.seconds < 0 && seconds == 0 { "-" } else { "" };
    format!("{sign}{seconds}.{nanos:09}")
}

/// A header's checksum goes in as six digits, NUL, blank.
fn seal(block: &mut Block) {
    let (sum, _) = fields::checksums(block);
    block[fields::CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The name in an archive: never empty, never absolute, directories with a slash.
fn archive_name(path: &GuestPathBuf, directory: bool) -> Vec<u8> {
    let mut name = if path.is_empty() { b".".to_vec() } else { path.0.clone() };
    if directory && !name.ends_with(b"/") {
        name.push(b'/');
    }
    name
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// The map of a file with holes, which stands in front of its data: lines of numbers, padded to a block.
fn map_of(size: u64, pieces: &[Range<u64>]) -> Vec<u8> {
    let mut pieces: Vec<(u64, u64)> = pieces.iter().map(|piece| (piece.start, piece.end - piece.start)).collect();
    // As GNU tar does, so that those who only look at the map know where the file ends.
    if pieces.last().is_none_or(|(start, length)| start + length < size) {
        pieces.push((size, 0));
    }
    let mut map = format!("{}\n", pieces.len()).into_bytes();
    pieces.iter().for_each(|(start, length)| map.extend_from_slice(format!("{start}\n{length}\n").as_bytes()));
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// The name of a file with holes for those who do not know that form.
fn name_beside(name: &[u8]) -> Vec<u8> {
    let at = name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    [&name[..at], b"GNUSparseFile.0/", &name[at..]].concat()
}

impl Sink for TarSink<'_> {
    fn put(&mut self, mut entry: Entry<'_>) -> Result<()> {
        let nothing = GuestPathBuf::default();
        let (kind, size, link, (major, minor)) = match &entry.kind {
            EntryKind::Regular(size) => (b'0', *size, &nothing, (0, 0)),
            EntryKind::Directory => (b'5', 0, &nothing, (0, 0)),
            EntryKind::Symlink(target) => (b'2', 0, target, (0, 0)),
            EntryKind::HardLink(earlier) => (b'1', 0, earlier, (0, 0)),
            EntryKind::CharDevice(major, minor) => (b'3', 0, &nothing, (*major, *minor)),
            EntryKind::BlockDevice(major, minor) => (b'4', 0, &nothing, (*major, *minor)),
            EntryKind::Fifo => (b'6', 0, &nothing, (0, 0)),
            EntryKind::Socket => {
                self.skipped += 1;
                return Ok(());
            }
        };
        let mut name = archive_name(&entry.path, kind == b'5');
        let mut records = Records::default();
        let (mut stored, mut map) = (size, Vec::new());
        if let Some(pieces) = &entry.pieces {
            map = map_of(size, pieces);
            stored = map.len() as u64 + pieces.iter().map(|piece| piece.end - piece.start).sum::<u64>();
            records.add(b"GNU.sparse.major", b"1");
            records.add(b"GNU.sparse.minor", b"0");
            records.add(b"GNU.sparse.name", &name);
            records.add(b"GNU.sparse.realsize", size.to_string().as_bytes());
            name = name_beside(&name);
        }
        let whole_time =
            entry.modified.nanos == 0 && u64::try_from(entry.modified.seconds).is_ok_and(|s| s <= OCTAL_MAX);
        if std::str::from_utf8(&name).is_err() || std::str::from_utf8(link).is_err() {
            records.add(b"hdrcharset", b"BINARY");
        }
        if name.len() > fields::NAME.len() {
            records.add(b"path", &name);
        }
        if link.len() > fields::LINK.len() {
            records.add(b"linkpath", link);
        }
        if stored > OCTAL_MAX {
            records.add(b"size", stored.to_string().as_bytes());
        }
        for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
            if id > ID_MAX {
                records.add(key, id.to_string().as_bytes());
            }
        }
        if !whole_time {
            records.add(b"mtime", pax_time(entry.modified).as_bytes());
        }
        if self.xattrs && kind != b'1' {
            for (key, value) in &entry.xattrs {
                records.add(&[b"SCHILY.xattr.", &**key].concat(), value);
            }
        }
        let mut block: Block = [0; BLOCK];
        block[fields::MAGIC].copy_from_slice(b"ustar\x0000");
        fields::put_number(&mut block[fields::MTIME], entry.modified.seconds.clamp(0, OCTAL_MAX as i64) as u64);
        if !records.0.is_empty() {
            let mut extension = block;
            put_text(&mut extension[fields::NAME], b"./PaxHeaders/entry");
            fields::put_number(&mut extension[fields::MODE], 0o644);
            fields::put_number(&mut extension[fields::UID], 0);
            fields::put_number(&mut extension[fields::GID], 0);
            fields::put_number(&mut extension[fields::SIZE], records.0.len() as u64);
            extension[fields::TYPE] = b'x';
            seal(&mut extension);
            self.write(&extension)?;
            self.write(&records.0)?;
            self.pad(BLOCK as u64)?;
        }
        put_text(&mut block[fields::NAME], &name);
        put_text(&mut block[fields::LINK], link);
        fields::put_number(&mut block[fields::MODE], u64::from(entry.mode & 0o7777));
        fields::put_number(&mut block[fields::UID], u64::from(entry.uid.min(ID_MAX)));
        fields::put_number(&mut block[fields::GID], u64::from(entry.gid.min(ID_MAX)));
        fields::put_number(&mut block[fields::SIZE], stored.min(OCTAL_MAX));
        fields::put_number(&mut block[fields::MAJOR], u64::from(major));
        fields::put_number(&mut block[fields::MINOR], u64::from(minor));
        block[fields::TYPE] = kind;
        seal(&mut block);
        self.write(&block)?;
        self.write(&map)?;
        match &mut entry.content {
            Some(content) => self.content(content, stored - map.len() as u64),
            None if size > 0 => Err(Error::new(Kind::Internal, "a file without its content")),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        if self.output.is_none() {
            return Ok(());
        }
        self.write(&[0; 2 * BLOCK])?;
        self.pad(RECORD)?;
        if let Some(output) = self.output.take() {
            output.finish()?;
        }
        Ok(())
    }

    fn wants_xattrs(&self) -> bool {
        self.xattrs
    }

    fn leaves_out(&self, size: u64, holes: u64) -> bool {
        holes >= HOLES && holes > size / 2
    }
}
