//! The one way out: a file or tree of the guest as entries.

use std::collections::{HashMap, HashSet};
use std::io::BufReader;
use std::ops::Range;

use super::transfer::{Entry, EntryKind, Pieced, Report, Sink};
use super::{At, Guest, Place};
use crate::base::{GuestPathBuf, Result, progress};
use crate::fs::{FileType, Metadata};

/// Bytes that are read at once of a file with holes.
const CHUNK: usize = 1 << 20;
/// Holes below this many bytes are not worth a piece.
const SMALL: u64 = 64 << 10;

impl Guest {
    /// Gives a file or tree as entries, their paths beginning with `prefix`: the one way out for copy-out, tar-out
    /// and cp. Depth first, sorted, across mounts; links in the tree are not followed, one at `path` itself is.
    /// [`Sink::finish`] is left to the caller.
    pub fn export(&self, path: &GuestPathBuf, prefix: &GuestPathBuf, sink: &mut dyn Sink) -> Result<Report> {
        let start = self.at(path, true)?;
        self.expect_tree(start);
        let mut report = Report::default();
        // The first name of every node that has several.
        let mut first: HashMap<Place, GuestPathBuf> = HashMap::new();
        self.walk_from(start, &mut |at, below, metadata| {
            let name = match (prefix.is_empty(), below.is_empty()) {
                (true, _) => below.clone(),
                (false, true) => prefix.clone(),
                (false, false) => prefix.join(below),
            };
            let linked = metadata.links > 1 && metadata.file_type != FileType::Directory;
            let earlier = if linked { first.get(&self.place(at)?).cloned() } else { None };
            if linked && earlier.is_none() {
                first.insert(self.place(at)?, name.clone());
            }
            let entry = self.entry(at, name, metadata, earlier, sink);
            let size = if let Ok(Entry { kind: EntryKind::Regular(size), .. }) = &entry { *size } else { 0 };
            entry
                .and_then(|entry| sink.put(entry))
                .map_err(|e| if below.is_empty() { e.at(path) } else { e.at(path.join(below)) })?;
            report.entries += 1;
            report.bytes += size;
            Ok(true)
        })
        .map_err(|e| e.at(path))?;
        Ok(report)
    }

    /// Looks ahead how many bytes of files are to come, if anybody wants to know: names and sizes take a small part of the
    /// time that contents take.
    pub(super) fn expect_tree(&self, start: At) {
        if !progress::is_watched() {
            return;
        }
        let mut linked = HashSet::new();
        // What cannot be read is the error of the walk that follows.
        let _ = self.walk_from(start, &mut |at, _, metadata| {
            if metadata.file_type == FileType::Regular && (metadata.links < 2 || linked.insert(self.place(at)?)) {
                progress::expect(metadata.size);
            }
            Ok(true)
        });
    }

    fn entry(
        &self,
        at: At,
        path: GuestPathBuf,
        metadata: &Metadata,
        earlier: Option<GuestPathBuf>,
        sink: &dyn Sink,
    ) -> Result<Entry<'_>> {
        let fs = self.fs_of(at)?;
        let (major, minor) = metadata.device;
        let kind = match (earlier, metadata.file_type) {
            (Some(earlier), _) => EntryKind::HardLink(earlier),
            (None, FileType::Regular) => EntryKind::Regular(metadata.size),
            (None, FileType::Directory) => EntryKind::Directory,
            (None, FileType::Symlink) => EntryKind::Symlink(fs.read_link(at.node)?),
            (None, FileType::CharDevice) => EntryKind::CharDevice(major, minor),
            (None, FileType::BlockDevice) => EntryKind::BlockDevice(major, minor),
            (None, FileType::Fifo) => EntryKind::Fifo,
            (None, FileType::Socket) => EntryKind::Socket,
        };
        let mut pieces = None;
        let content = match &kind {
            EntryKind::Regular(size) => {
                pieces = self.pieces(at, metadata, sink)?;
                Some(match &pieces {
                    Some(pieces) => Box::new(BufReader::with_capacity(CHUNK, self.pieced(at, pieces.clone())?)),
                    None => self.stream(at, *size)?,
                })
            }
            _ => None,
        };
        Ok(Entry {
            path,
            kind,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            modified: metadata.modified,
            accessed: Some(metadata.accessed),
            xattrs: if sink.wants_xattrs() { fs.xattrs(at.node)? } else { Vec::new() },
            content,
            pieces,
        })
    }

    /// The runs of a file that are no holes, if the sink wants a file like this one without them.
    fn pieces(&self, at: At, metadata: &Metadata, sink: &dyn Sink) -> Result<Option<Vec<Range<u64>>>> {
        let size = metadata.size;
        // Most files need no look at where their blocks are.
        if !sink.leaves_out(size, size.saturating_sub(metadata.blocks.saturating_mul(512))) {
            return Ok(None);
        }
        let mut pieces: Vec<Range<u64>> = Vec::new();
        for extent in self.fs_of(at)?.extents(at.node)?.into_iter().filter(|extent| !extent.hole) {
            match pieces.last_mut() {
                Some(last) if extent.range.start - last.end < SMALL => last.end = extent.range.end,
                _ => pieces.push(extent.range),
            }
        }
        let holes = size - pieces.iter().map(|piece| piece.end - piece.start).sum::<u64>();
        if !sink.leaves_out(size, holes) {
            return Ok(None);
        }
        progress::add(holes);
        Ok(Some(pieces))
    }

    fn pieced(&self, at: At, pieces: Vec<Range<u64>>) -> Result<impl std::io::Read + '_> {
        let fs = self.fs_of(at)?;
        Ok(Pieced::new(pieces, move |offset, buf: &mut [u8]| {
            self.check_interrupt()?;
            let got = fs.read(at.node, offset, buf)?;
            progress::add(got as u64);
            Ok(got)
        }))
    }
}
