//! Writing: files, names, attributes.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::labelling::Labels;
use super::resolve::Named;
use super::{At, Guest, selinux};
use crate::base::{GuestPathBuf, Kind, Name, Result};
use crate::fs::{FileType, NewKind, NewNode, SetAttributes};

/// The mode bit of directories whose group goes over to what comes into them.
const SET_GROUP_ID: u32 = 0o2000;
/// The attributes that hold lists of who may do what.
pub(super) const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// A source that stops when the interrupt flag is set.
pub(super) struct Watched<'a> {
    pub source: &'a mut dyn Read,
    pub flag: Arc<AtomicBool>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.flag.load(Ordering::Relaxed) {
            return Err(crate::base::Error::from(Kind::Interrupted).into());
        }
        self.source.read(buf)
    }
}

impl Guest {
    /// Puts the path in front of an operation's errors.
    fn on<T>(&mut self, path: &GuestPathBuf, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        work(self).map_err(|e| e.at(path))
    }

    /// Whether a path is the name of a link with a slash behind it. For what changes names the link is not followed then: no
    /// other name is meant than the one that stands there.
    fn is_link_with_slash(&self, path: &GuestPathBuf) -> bool {
        let bare = path.file_name().filter(|_| path.ends_with(b"/")).map(|name| path.parent().join(name));
        bare.is_some_and(|bare| self.lstat(&bare).is_ok_and(|m| m.file_type == FileType::Symlink))
    }

    /// A name that must not exist yet.
    fn new_name(&self, path: &GuestPathBuf) -> Result<Named> {
        if self.is_link_with_slash(path) {
            return Err(Kind::Exists.into());
        }
        match self.name_at(path, false) {
            Ok(Named { node: Some(_), .. }) => Err(Kind::Exists.into()),
            // The root itself exists.
            Err(e) if e.kind() == Kind::Busy => Err(Kind::Exists.into()),
            named => named,
        }
    }

    /// A name that must exist and be no mount point; its node.
    fn old_name(&self, path: &GuestPathBuf) -> Result<(Named, At)> {
        if self.is_link_with_slash(path) {
            return Err(Kind::NotADirectory.into());
        }
        let named = self.name_at(path, false)?;
        match named.node {
            Some(node) if node.mount == named.parent.mount => Ok((named, node)),
            Some(_) => Err(Kind::Busy.into()),
            None => Err(Kind::NotFound.into()),
        }
    }

    /// A new node of root's in a directory, with `mode` less the umask, unless a default list of the directory stands in its
    /// place (Linux, fs/posix_acl.c, posix_acl_create). A directory with the set-group-ID bit gives its group, and the bit to
    /// directories (Linux, fs/inode.c, inode_init_owner).
    pub(super) fn new_node(&self, parent: At, kind: NewKind, mode: u32) -> Result<NewNode> {
        let fs = self.fs_of(parent)?;
        let directory = fs.metadata(parent.node)?;
        let shared = directory.mode & SET_GROUP_ID;
        let gid = if shared == 0 { 0 } else { directory.gid };
        // The umask is not for links.
        if matches!(kind, NewKind::Symlink(_)) {
            return Ok(NewNode { kind, mode: 0o777, uid: 0, gid });
        }
        let listed = fs.xattrs(parent.node)?.iter().any(|(name, _)| **name == *DEFAULT_LIST);
        let mode = mode & 0o7777 & if listed { 0o7777 } else { !self.umask };
        let mode = if kind == NewKind::Directory { mode | shared } else { mode };
        Ok(NewNode { kind, mode, uid: 0, gid })
    }

    /// Makes a node in a directory, whose path `folder` answers. It gets the SELinux label that the guest's policy says.
    pub(super) fn create_at(
        &mut self,
        labels: &mut Labels,
        parent: At,
        folder: &dyn Fn() -> GuestPathBuf,
        name: &Name,
        new: &NewNode,
    ) -> Result<At> {
        let label = self.new_label(labels, parent, folder, name, &new.kind)?;
        let edit = self.edit(parent)?;
        let node = edit.create(parent.node, name, new)?;
        if let Some(label) = label {
            edit.set_xattr(node, selinux::ATTRIBUTE, Some(&label))?;
        }
        Ok(At { mount: parent.mount, node })
    }

    /// A new node with one name.
    fn create_named(&mut self, named: &Named, new: &NewNode) -> Result<At> {
        self.create_at(&mut Labels::default(), named.parent, &|| named.folder.clone(), &named.name, new)
    }

    /// The regular file of a path, made with `mode` less the umask if it is not there.
    fn open_file(&mut self, path: &GuestPathBuf, mode: u32) -> Result<At> {
        let walked = self.walk_path(path, true)?;
        if let Ok(at) = walked.found() {
            self.type_of(at)?.check_regular()?;
            return Ok(at);
        }
        match walked.named() {
            Some(Named { directory: true, .. }) | None => Err(Kind::IsADirectory.into()),
            Some(named) => {
                let new = self.new_node(named.parent, NewKind::Regular, mode)?;
                self.create_named(&named, &new)
            }
        }
    }

    /// Makes or replaces a regular file with exactly `size` bytes of `source`. A new file gets `mode` less the
    /// umask, an old one keeps its attributes; links are followed, to a file that is made if there is none.
    ///
    /// # Errors
    /// `Kind::Io` if the source ends early; `Kind::ReadOnly`, `Kind::NoSpace`, those of [`Guest::resolve`].
    pub fn write_from(&mut self, path: &GuestPathBuf, size: u64, source: &mut dyn Read, mode: u32) -> Result<()> {
        let flag = self.interrupt.clone();
        self.on(path, |guest| {
            let at = guest.open_file(path, mode)?;
            guest.edit(at)?.fill(at.node, size, &mut Watched { source, flag }, false)
        })
    }

    /// Makes or replaces a regular file; a new one is made with 0666 less the umask.
    pub fn write_file(&mut self, path: &GuestPathBuf, data: &[u8]) -> Result<()> {
        self.write_from(path, data.len() as u64, &mut &*data, 0o666)
    }

    /// Writes into an existing file at an offset (`pwrite`), or at its end.
    pub fn write_at(&mut self, path: &GuestPathBuf, offset: Option<u64>, data: &[u8]) -> Result<()> {
        self.on(path, |guest| {
            let at = guest.at(path, true)?;
            let metadata = guest.fs_of(at)?.metadata(at.node)?;
            metadata.file_type.check_regular()?;
            guest.edit(at)?.write(at.node, offset.unwrap_or(metadata.size), data)
        })
    }

    /// Sets the size of a regular file.
    pub fn truncate(&mut self, path: &GuestPathBuf, size: u64) -> Result<()> {
        self.on(path, |guest| {
            let at = guest.at(path, true)?;
            guest.type_of(at)?.check_regular()?;
            guest.edit(at)?.resize(at.node, size)
        })
    }

    /// Makes an empty regular file with `mode` less the umask.
    ///
    /// # Errors
    /// `Kind::Exists`, `Kind::IsADirectory` for a path with a slash at its end, those of [`Guest::write_from`].
    pub fn make_file(&mut self, path: &GuestPathBuf, mode: u32) -> Result<()> {
        self.on(path, |guest| match guest.new_name(path)? {
            Named { directory: true, .. } => Err(Kind::IsADirectory.into()),
            named => {
                let new = guest.new_node(named.parent, NewKind::Regular, mode)?;
                guest.create_named(&named, &new).map(|_| ())
            }
        })
    }

    /// Makes any node; `new.mode` is used as it is.
    pub fn make(&mut self, path: &GuestPathBuf, new: &NewNode) -> Result<()> {
        self.make_with(path, &new.kind, |_, _| Ok(new.clone()))
    }

    /// Makes a node of root's, or of its directory's group, with `mode` less the umask.
    pub fn make_masked(&mut self, path: &GuestPathBuf, kind: &NewKind, mode: u32) -> Result<()> {
        self.make_with(path, kind, |guest, parent| guest.new_node(parent, kind.clone(), mode))
    }

    /// Makes what `new` says of the directory that it comes into.
    fn make_with(
        &mut self,
        path: &GuestPathBuf,
        kind: &NewKind,
        new: impl FnOnce(&Self, At) -> Result<NewNode>,
    ) -> Result<()> {
        self.on(path, |guest| {
            let named = guest.new_name(path)?;
            if named.directory && *kind != NewKind::Directory {
                return Err(Kind::NotFound.into());
            }
            let new = new(guest, named.parent)?;
            guest.create_named(&named, &new).map(|_| ())
        })
    }

    /// Makes a directory with `mode` less the umask.
    pub fn mkdir(&mut self, path: &GuestPathBuf, mode: u32) -> Result<()> {
        self.make_masked(path, &NewKind::Directory, mode)
    }

    /// Makes a directory and those above it; one that is there is no error.
    pub fn mkdir_p(&mut self, path: &GuestPathBuf, mode: u32) -> Result<()> {
        let mut part = GuestPathBuf::root();
        let names: Vec<Name> = path.components().map(Name::from).collect();
        for name in names {
            part = part.join(&name);
            match self.stat(&part) {
                Ok(metadata) if metadata.file_type == FileType::Directory => {}
                Ok(_) => return Err(crate::base::Error::from(Kind::NotADirectory).at(part)),
                Err(e) if e.kind() == Kind::NotFound => self.mkdir(&part, mode)?,
                Err(e) => return Err(e),
            }
        }
        // Even a path without components needs a root.
        self.resolve(&part).map(|_| ())
    }

    /// Makes a symbolic link at `path`.
    pub fn symlink(&mut self, target: &GuestPathBuf, path: &GuestPathBuf) -> Result<()> {
        self.make_masked(path, &NewKind::Symlink(target.clone()), 0o777)
    }

    /// Gives `target` another name; a link at its end is not followed.
    ///
    /// # Errors
    /// `Kind::Denied` for a directory, `Kind::CrossDevice`.
    pub fn link(&mut self, target: &GuestPathBuf, path: &GuestPathBuf) -> Result<()> {
        let node = self.at(target, false)?;
        self.on(path, |guest| {
            let named = guest.new_name(path)?;
            if named.directory {
                return Err(Kind::NotFound.into());
            }
            if guest.type_of(node)? == FileType::Directory {
                return Err(crate::base::Error::new(Kind::Denied, "Operation not permitted").at(target));
            }
            if node.mount != named.parent.mount {
                return Err(Kind::CrossDevice.into());
            }
            guest.edit(named.parent)?.link(node.node, named.parent.node, &named.name)
        })
    }

    /// Removes a name that is no directory.
    pub fn unlink(&mut self, path: &GuestPathBuf) -> Result<()> {
        self.on(path, |guest| {
            let (named, node) = guest.old_name(path)?;
            if guest.type_of(node)? == FileType::Directory {
                return Err(Kind::IsADirectory.into());
            }
            guest.edit(named.parent)?.unlink(named.parent.node, &named.name)
        })
    }

    /// Removes an empty directory.
    pub fn rmdir(&mut self, path: &GuestPathBuf) -> Result<()> {
        self.on(path, |guest| {
            let (named, node) = guest.old_name(path)?;
            guest.type_of(node)?.check_directory()?;
            guest.edit(named.parent)?.rmdir(named.parent.node, &named.name)
        })
    }

    /// Removes a whole tree; a missing path is no error; links are not followed.
    ///
    /// # Errors
    /// `Kind::Busy` for a mount point in it.
    pub fn remove_tree(&mut self, path: &GuestPathBuf) -> Result<()> {
        self.on(path, |guest| match guest.old_name(path) {
            Ok((named, node)) => guest.remove_name(named.parent, named.name, node),
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            Err(e) => Err(e),
        })
    }

    /// Removes what a name stands for, directories with all that is in them.
    pub(super) fn remove_name(&mut self, parent: At, name: Name, node: At) -> Result<()> {
        if self.type_of(node)? != FileType::Directory {
            return self.edit(parent)?.unlink(parent.node, &name);
        }
        // One level for each directory on the way down: its parent, its name, itself, what is left in it.
        let mut levels = vec![(parent, name, node, self.entries(node)?.into_iter())];
        while let Some((parent, name, dir, entries)) = levels.last_mut() {
            let (parent, dir) = (*parent, *dir);
            let Some((child, node)) = entries.next() else {
                let name = std::mem::take(name);
                self.edit(parent)?.rmdir(parent.node, &name)?;
                levels.pop();
                continue;
            };
            self.check_interrupt()?;
            if node.mount != dir.mount {
                return Err(Kind::Busy.into());
            }
            if self.type_of(node)? != FileType::Directory {
                self.edit(dir)?.unlink(dir.node, &child)?;
            } else if levels.iter().any(|level| level.2 == node) {
                return Err(crate::base::Error::corrupt(format!("directory {} lies in itself", node.node.0)));
            } else {
                levels.push((dir, child, node, self.entries(node)?.into_iter()));
            }
        }
        Ok(())
    }

    /// rename(2).
    ///
    /// # Errors
    /// `Kind::CrossDevice` between file systems, `Kind::Busy` for a mount point, those of `Edit::rename`.
    pub fn rename(&mut self, from: &GuestPathBuf, to: &GuestPathBuf) -> Result<()> {
        let (old, node) = self.old_name(from).map_err(|e| e.at(from))?;
        let directory = self.type_of(node)? == FileType::Directory;
        self.on(to, |guest| {
            let new = guest.name_at(to, false)?;
            if new.node.is_some_and(|n| n.mount != new.parent.mount) {
                return Err(Kind::Busy.into());
            }
            if new.parent.mount != old.parent.mount {
                return Err(Kind::CrossDevice.into());
            }
            if new.directory && !directory {
                return Err(Kind::NotADirectory.into());
            }
            guest.edit(old.parent)?.rename(old.parent.node, &old.name, new.parent.node, &new.name)
        })
    }

    /// Changes attributes.
    pub fn set_attributes(&mut self, path: &GuestPathBuf, follow: bool, set: &SetAttributes) -> Result<()> {
        self.on(path, |guest| {
            let at = guest.at(path, follow)?;
            guest.edit(at)?.set_attributes(at.node, set)
        })
    }

    /// Sets an extended attribute by its full name, or removes it.
    pub fn set_xattr(&mut self, path: &GuestPathBuf, follow: bool, name: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.on(path, |guest| {
            let at = guest.at(path, follow)?;
            guest.edit(at)?.set_xattr(at.node, name, value)
        })
    }
}
