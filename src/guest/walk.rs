//! Trees, walked without recursion: a path of directories may be as long as the image can make it.

use std::collections::HashSet;
use std::vec;

use super::{At, Guest, WalkEntry};
use crate::base::{Error, GuestPathBuf, Name, Result};
use crate::fs::{FileType, Metadata};

/// The directories of a walk that are open, and those that were seen.
pub(super) struct Tree {
    levels: Vec<(usize, vec::IntoIter<(Name, At)>)>,
    /// No directory has two names; one that turns up again makes a walk endless, or exponential.
    seen: HashSet<At>,
    path: Vec<u8>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Tree { levels: Vec::new(), seen: HashSet::new(), path: Vec::new() }
    }

    /// Opens a directory below the present path.
    pub(super) fn enter(&mut self, guest: &Guest, dir: At) -> Result<()> {
        if !self.seen.insert(dir) {
            return Err(Error::corrupt(format!("directory {} has more than one name", dir.node.0)));
        }
        self.levels.push((self.path.len(), guest.entries(dir)?.into_iter()));
        Ok(())
    }

    /// The next node and its path; directories are entered by the caller.
    pub(super) fn next(&mut self) -> Option<(GuestPathBuf, At)> {
        while let Some((length, entries)) = self.levels.last_mut() {
            self.path.truncate(*length);
            if let Some((name, at)) = entries.next() {
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(&name);
                return Some((GuestPathBuf(self.path.clone()), at));
            }
            self.levels.pop();
        }
        None
    }
}

impl Guest {
    /// A node and every node below it, in sorted depth-first order, directories before what is in them, crossing
    /// mounts; links are not followed, except that `path` itself may be one. The start has an empty path. `each`
    /// answers whether to descend.
    pub fn walk(&self, path: &GuestPathBuf, each: &mut dyn FnMut(&WalkEntry) -> Result<bool>) -> Result<()> {
        let start = self.at(path, true)?;
        self.walk_from(start, &mut |at, path, metadata| {
            each(&WalkEntry { path: path.clone(), place: self.place(at)?, metadata: metadata.clone() })
        })
        .map_err(|e| e.at(path))
    }

    /// As [`Guest::walk`], from a node.
    pub(super) fn walk_from(
        &self,
        start: At,
        each: &mut dyn FnMut(At, &GuestPathBuf, &Metadata) -> Result<bool>,
    ) -> Result<()> {
        let mut tree = Tree::new();
        let mut next = Some((GuestPathBuf::default(), start));
        while let Some((path, at)) = next {
            self.check_interrupt()?;
            let metadata = self.fs_of(at)?.metadata(at.node)?;
            if each(at, &path, &metadata)? && metadata.file_type == FileType::Directory {
                tree.enter(self, at)?;
            }
            next = tree.next();
        }
        Ok(())
    }
}
