//! A host file or folder as entries (copy-in): sorted, links as links, hard links found.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::Counted;
use crate::base::{Error, GuestPathBuf, Result, Timestamp, holes, progress};
use crate::guest::transfer::{Entry, EntryKind, Pieced, Source};

/// Files with this many bytes in holes are given without them.
const HOLES: u64 = 64 << 20;

/// What is still to come of a folder: its own entry path, and names in descending order (the next one is last).
struct Level {
    host: PathBuf,
    entry: GuestPathBuf,
    names: Vec<OsString>,
}

/// Gives the entries of one file or tree.
pub(super) struct Tree {
    top: Option<(PathBuf, GuestPathBuf)>,
    levels: Vec<Level>,
    /// First entry path of every file that has more names.
    linked: HashMap<(u64, u64), GuestPathBuf>,
}

impl Tree {
    /// A link is given as a link, whatever slashes stand after its name; `FOLDER/.` is what is in a folder, which has no name then.
    ///
    /// # Errors
    /// A path that leads nowhere or cannot be read.
    pub(super) fn new(path: &Path) -> Result<Self> {
        fs::metadata(path).map_err(|e| Error::io(path.display(), e))?;
        let top = if path.as_os_str().as_bytes().ends_with(b"/.") {
            (path.to_path_buf(), GuestPathBuf::default())
        } else {
            let name = path.file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
            (path.components().as_path().to_path_buf(), GuestPathBuf(name))
        };
        Ok(Tree { top: Some(top), levels: Vec::new(), linked: HashMap::new() })
    }

    fn next_path(&mut self) -> Option<(PathBuf, GuestPathBuf)> {
        if let Some(top) = self.top.take() {
            return Some(top);
        }
        loop {
            let level = self.levels.last_mut()?;
            if let Some(name) = level.names.pop() {
                let entry = match level.entry.is_empty() {
                    true => GuestPathBuf(name.as_bytes().to_vec()),
                    false => level.entry.join(name.as_bytes()),
                };
                return Some((level.host.join(&name), entry));
            }
            self.levels.pop();
        }
    }

    fn kind(&mut self, host: &Path, entry: &GuestPathBuf, found: &Metadata) -> Result<EntryKind> {
        let kind = found.file_type();
        if found.nlink() > 1 && !kind.is_dir() {
            let first = self.linked.entry((found.dev(), found.ino())).or_insert_with(|| entry.clone());
            if first != entry {
                return Ok(EntryKind::HardLink(first.clone()));
            }
        }
        let device = || (number(major(found.rdev())), number(minor(found.rdev())));
        Ok(if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_symlink() {
            let target = fs::read_link(host).map_err(|e| Error::io(host.display(), e))?;
            EntryKind::Symlink(GuestPathBuf(target.into_os_string().into_vec()))
        } else if kind.is_char_device() {
            let (major, minor) = device();
            EntryKind::CharDevice(major, minor)
        } else if kind.is_block_device() {
            let (major, minor) = device();
            EntryKind::BlockDevice(major, minor)
        } else if kind.is_fifo() {
            EntryKind::Fifo
        } else if kind.is_socket() {
            EntryKind::Socket
        } else {
            EntryKind::Regular(found.size())
        })
    }

    fn descend(&mut self, host: &Path, entry: &GuestPathBuf) -> Result<()> {
        let failed = |e| Error::io(host.display(), e);
        let names = fs::read_dir(host).map_err(failed)?.map(|item| item.map(|item| item.file_name()));
        let mut names = names.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        self.levels.push(Level { host: host.to_path_buf(), entry: entry.clone(), names });
        Ok(())
    }
}

/// Looks ahead how many bytes of files a tree holds. What cannot be read is told when its turn comes.
pub(super) fn expect(path: &Path) {
    let Ok(mut tree) = Tree::new(path) else { return };
    while let Some((host, entry)) = tree.next_path() {
        let Ok(found) = fs::symlink_metadata(&host) else { continue };
        match tree.kind(&host, &entry, &found) {
            Ok(EntryKind::Regular(size)) => progress::expect(size),
            Ok(EntryKind::Directory) => drop(tree.descend(&host, &entry)),
            _ => {}
        }
    }
}

/// The runs of a file that are no holes; `None` if it has none, or the host cannot tell.
fn pieces_of(file: &File, size: u64) -> std::io::Result<Option<Vec<Range<u64>>>> {
    let runs = holes::runs(file, 0..size)?;
    let has_holes = runs.iter().any(|(_, hole)| *hole);
    Ok(has_holes.then(|| runs.into_iter().filter(|(_, hole)| !hole).map(|(range, _)| range).collect()))
}

/// Linux device numbers have 32 bits at most on each side.
fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Source for Tree {
    fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let Some((host, path)) = self.next_path() else { return Ok(None) };
        let found = fs::symlink_metadata(&host).map_err(|e| Error::io(host.display(), e))?;
        let kind = self.kind(&host, &path, &found)?;
        let mut content: Option<Box<dyn Read>> = None;
        let mut pieces = None;
        match kind {
            EntryKind::Directory => self.descend(&host, &path)?,
            EntryKind::Regular(size) => {
                let file = File::open(&host).map_err(|e| Error::io(host.display(), e))?;
                if size.saturating_sub(found.blocks().saturating_mul(512)) >= HOLES {
                    pieces = pieces_of(&file, size).map_err(|e| Error::io(host.display(), e))?;
                }
                content = Some(match pieces.clone() {
                    Some(pieces) => {
                        progress::add(size - pieces.iter().map(|run| run.end - run.start).sum::<u64>());
                        let read = move |offset, buf: &mut [u8]| file.read_at(buf, offset);
                        Box::new(Counted(Pieced::new(pieces, read)))
                    }
                    None => Box::new(Counted(file.take(size))),
                });
            }
            _ => {}
        }
        let time = |seconds, nanos: i64| Timestamp { seconds, nanos: u32::try_from(nanos).unwrap_or(0) };
        Ok(Some(Entry {
            path,
            kind,
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            modified: time(found.mtime(), found.mtime_nsec()),
            accessed: Some(time(found.atime(), found.atime_nsec())),
            xattrs: Vec::new(),
            content,
            pieces,
        }))
    }
}
