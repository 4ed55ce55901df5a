//! The one way out: a file or tree of the guest as entries.

use std::collections::{HashMap, HashSet};

use super::transfer::{Entry, EntryKind, Report, Sink};
use super::{At, Guest, Place};
use crate::base::{GuestPathBuf, Result, progress};
use crate::fs::{FileType, Metadata};

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
            let entry = self.entry(at, name, metadata, earlier, sink.wants_xattrs());
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
        xattrs: bool,
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
        let content = match &kind {
            EntryKind::Regular(size) => Some(self.stream(at, *size)?),
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
            xattrs: if xattrs { fs.xattrs(at.node)? } else { Vec::new() },
            content,
        })
    }
}
