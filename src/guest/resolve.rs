//! The only path walk: one component at a time, on bytes, inside the guest.

use super::{At, Guest, Place};
use crate::base::{Error, GuestPathBuf, Kind, Name, Result};
use crate::fs::FileType;

/// Links that one path may lead through (Linux, include/linux/namei.h MAXSYMLINKS).
const LINKS_MAX: u32 = 40;
/// Bytes of a path with its final NUL (Linux, include/uapi/linux/limits.h PATH_MAX).
const PATH_MAX: usize = 4096;
/// Bytes of a component (Linux, NAME_MAX); a file system may allow fewer.
pub(super) const NAME_MAX: usize = 255;

/// Where a walk ended.
pub(super) struct Walked {
    /// The nodes from the root to the end; the root has an empty name. Never empty.
    stack: Vec<(At, Name)>,
    /// The last component, if there is no such name in the last directory of `stack`.
    missing: Option<Name>,
    /// Whether the path asks for a directory by a slash at its end.
    directory: bool,
}

/// A name in a directory, as the operations that change names need it.
pub(super) struct Named {
    /// The directory.
    pub parent: At,
    /// Its path, without links.
    pub folder: GuestPathBuf,
    /// The name in it.
    pub name: Name,
    /// What it names, if it exists; on another mount than `parent` if something is mounted there.
    pub node: Option<At>,
    /// Whether the path asks for a directory by a slash at its end.
    pub directory: bool,
}

impl Walked {
    /// The node, or `Kind::NotFound`.
    pub fn found(&self) -> Result<At> {
        match (&self.missing, self.stack.last()) {
            (None, Some((at, _))) => Ok(*at),
            _ => Err(Kind::NotFound.into()),
        }
    }

    /// The path without links, `..` and double slashes.
    pub fn path(&self) -> GuestPathBuf {
        self.path_of(self.stack.len())
    }

    /// The path of the first nodes, with the missing name behind all of them.
    fn path_of(&self, nodes: usize) -> GuestPathBuf {
        let missing = self.missing.iter().filter(|_| nodes == self.stack.len());
        let names = self.stack.iter().take(nodes).skip(1).map(|(_, name)| name).chain(missing);
        let mut bytes = Vec::new();
        for name in names {
            bytes.push(b'/');
            bytes.extend_from_slice(name);
        }
        if bytes.is_empty() { GuestPathBuf::root() } else { GuestPathBuf(bytes) }
    }

    /// The name that was reached; `None` for the root.
    pub fn named(mut self) -> Option<Named> {
        let directory = self.directory;
        let missing = self.missing.take();
        let depth = self.stack.len() - usize::from(missing.is_none());
        let folder = self.path_of(depth);
        let (last, name) = self.stack.pop()?;
        if let Some(missing) = missing {
            return Some(Named { parent: last, folder, name: missing, node: None, directory });
        }
        let (parent, _) = *self.stack.last()?;
        Some(Named { parent, folder, name, node: Some(last), directory })
    }
}

/// Components to come, the next one last.
fn push_components(todo: &mut Vec<Name>, path: &[u8]) {
    todo.extend(path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").rev().map(Name::from));
}

fn asks_for_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.") || path == b"."
}

impl Guest {
    /// The top of the guest.
    pub(super) fn root_at(&self) -> Result<At> {
        let mount = self.mounts.iter().position(|m| m.covers.is_none()).ok_or(Kind::NotMounted)?;
        self.cross(At { mount, node: self.fs_of(At { mount, node: crate::fs::NodeId(0) })?.root() })
    }

    /// What is mounted on a directory, or the directory.
    pub(super) fn cross(&self, mut at: At) -> Result<At> {
        while let Some(here) = self.mounts.get(at.mount).map(|m| (m.id, at.node)) {
            match self.mounts.iter().position(|m| m.covers == Some(here)) {
                Some(mount) => at = At { mount, node: self.fs(self.mounts[mount].fs)?.root() },
                None => break,
            }
        }
        Ok(at)
    }

    /// The child of a directory, with what is mounted on it.
    pub(super) fn child(&self, dir: At, name: &[u8]) -> Result<Option<At>> {
        if name.len() > NAME_MAX {
            return Err(Kind::NameTooLong.into());
        }
        match self.open(self.place(dir)?.fs)?.lookup(dir.node, name)? {
            Some(node) => Ok(Some(self.cross(At { mount: dir.mount, node })?)),
            None => Ok(None),
        }
    }

    pub(super) fn type_of(&self, at: At) -> Result<FileType> {
        Ok(self.fs_of(at)?.metadata(at.node)?.file_type)
    }

    /// Walks a path. Only the last component may be missing; a link there is followed if `follow`, or if a
    /// slash comes after it. Errors are without subject.
    pub(super) fn walk_path(&self, path: &[u8], follow: bool) -> Result<Walked> {
        self.walk_path_through(path, follow, &|_| true)
    }

    /// As `walk_path`, but only through links that `may` allows (`Kind::Denied`).
    pub(super) fn walk_path_through(&self, path: &[u8], follow: bool, may: &dyn Fn(Place) -> bool) -> Result<Walked> {
        let root = self.root_at()?;
        if path.is_empty() {
            return Err(Kind::NotFound.into());
        }
        if path.first() != Some(&b'/') {
            return Err(Error::new(Kind::Invalid, "guest paths must be absolute").hint("begin the path with /"));
        }
        if path.len() >= PATH_MAX {
            return Err(Kind::NameTooLong.into());
        }
        let mut walked =
            Walked { stack: vec![(root, Name::default())], missing: None, directory: asks_for_directory(path) };
        let mut todo = Vec::new();
        push_components(&mut todo, path);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            // The stack holds directories only while components are to come.
            let Some((dir, _)) = walked.stack.last() else { break };
            let dir = *dir;
            if &*name == b".." {
                if walked.stack.len() > 1 {
                    walked.stack.pop();
                }
                continue;
            }
            let Some(at) = self.child(dir, &name)? else {
                if todo.is_empty() {
                    walked.missing = Some(name);
                    return Ok(walked);
                }
                return Err(Kind::NotFound.into());
            };
            let last = todo.is_empty();
            match self.type_of(at)? {
                FileType::Symlink if !last || follow || walked.directory => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Kind::TooManyLinks.into());
                    }
                    if !may(self.place(at)?) {
                        return Err(Error::new(Kind::Denied, "the way leads through a symbolic link just unpacked"));
                    }
                    let target = self.fs_of(at)?.read_link(at.node)?;
                    if target.is_empty() {
                        return Err(Kind::NotFound.into());
                    }
                    if target.len() >= PATH_MAX {
                        return Err(Kind::NameTooLong.into());
                    }
                    if target.is_absolute() {
                        walked.stack.truncate(1);
                    }
                    walked.directory |= last && asks_for_directory(&target);
                    push_components(&mut todo, &target);
                }
                FileType::Directory => walked.stack.push((at, name)),
                _ if last && !walked.directory => walked.stack.push((at, name)),
                _ => return Err(Kind::NotADirectory.into()),
            }
        }
        Ok(walked)
    }

    /// The node of a path, errors with the path as subject.
    pub(super) fn at(&self, path: &GuestPathBuf, follow: bool) -> Result<At> {
        self.walk_path(path, follow).and_then(|walked| walked.found()).map_err(|e| e.at(path))
    }

    /// The name at the end of a path for an operation that changes it. Errors are without subject.
    pub(super) fn name_at(&self, path: &GuestPathBuf, follow: bool) -> Result<Named> {
        if path.split(|b| *b == b'/').rfind(|c| !c.is_empty()).is_some_and(|c| c == b".." || c == b".") {
            return Err(Kind::Invalid.into());
        }
        self.walk_path(path, follow)?.named().ok_or_else(|| Kind::Busy.into())
    }

    /// The node of a path, following every link.
    ///
    /// # Errors
    /// `Kind::NotFound`, `Kind::NotADirectory`, `Kind::TooManyLinks`, `Kind::NameTooLong`; `Kind::NotMounted`
    /// without a root; whatever a driver finds.
    pub fn resolve(&self, path: &GuestPathBuf) -> Result<Place> {
        self.place(self.at(path, true)?)
    }

    /// As [`Guest::resolve`], but a link at the end is not followed.
    pub fn resolve_link(&self, path: &GuestPathBuf) -> Result<Place> {
        self.place(self.at(path, false)?)
    }

    /// The canonical path, without links (`realpath`).
    pub fn realpath(&self, path: &GuestPathBuf) -> Result<GuestPathBuf> {
        let walked = self.walk_path(path, true).and_then(|walked| walked.found().map(|_| walked));
        Ok(walked.map_err(|e| e.at(path))?.path())
    }

    /// Whether a path names something; a link that leads nowhere is there.
    ///
    /// # Errors
    /// Only those that are not an answer: damage, no root mounted.
    pub fn exists(&self, path: &GuestPathBuf) -> Result<bool> {
        match self.at(path, false) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }
}
