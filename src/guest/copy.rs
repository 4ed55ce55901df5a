//! Copies inside the guest: `cp`, `cp -r`, `cp -a`.

use std::collections::HashMap;

use super::labelling::Labels;
use super::walk::Tree;
use super::write::{ACCESS_LIST, DEFAULT_LIST};
use super::{At, Guest, Place};
use crate::base::{Error, GuestPathBuf, Kind, Name, Result, progress};
use crate::fs::{FileType, Metadata, NewKind, NewNode, SetAttributes};

/// Bytes that are held at once.
const CHUNK: u64 = 4 << 20;

/// A copy under way.
struct Copy {
    keep: bool,
    /// The path of the directory that the copy is put into.
    folder: GuestPathBuf,
    labels: Labels,
    /// The copy of every node that has several names.
    linked: HashMap<Place, At>,
    /// Times of directories, set last.
    times: Vec<(At, SetAttributes)>,
}

impl Guest {
    /// Copies inside the guest, across mounts: `cp`, with `recursive` `cp -r`, with `keep_attributes` too `cp -a`
    /// (owner, mode, times, extended attributes, hard links). Into `to` if that is a directory. A plain `cp`
    /// follows a link at `from`, the others copy links as links. An existing file is overwritten in place, through a link
    /// that leads to it; what is no file takes the place of a link.
    ///
    /// # Errors
    /// `Kind::IsADirectory` for a directory without `recursive`, `Kind::Invalid` for a copy into or onto itself, or through a
    /// link that leads nowhere; those of reading and writing.
    pub fn copy(
        &mut self,
        from: &GuestPathBuf,
        to: &GuestPathBuf,
        keep_attributes: bool,
        recursive: bool,
    ) -> Result<()> {
        let start = self.at(from, !(recursive || keep_attributes))?;
        let metadata = self.fs_of(start)?.metadata(start.node).map_err(|e| e.at(from))?;
        if metadata.file_type == FileType::Directory && !recursive {
            return Err(Error::new(Kind::IsADirectory, "is a directory, and only files are copied")
                .at(from)
                .hint("cp-r copies a tree, cp-a keeps its attributes"));
        }
        let (parent, folder, name) = self.copy_target(from, (start, metadata.file_type), to).map_err(|e| e.at(to))?;
        self.expect_tree(start);
        let mut copy = Copy {
            keep: keep_attributes,
            folder,
            labels: Labels::default(),
            linked: HashMap::new(),
            times: Vec::new(),
        };
        copy.tree(self, start, &metadata, parent, &name).map_err(|e| e.at(to))?;
        while let Some((at, set)) = copy.times.pop() {
            self.edit(at).and_then(|edit| edit.set_attributes(at.node, &set)).map_err(|e| e.at(to))?;
        }
        Ok(())
    }

    /// Where the copy goes: a directory with its path, and the name in it.
    fn copy_target(
        &self,
        from: &GuestPathBuf,
        (start, kind): (At, FileType),
        to: &GuestPathBuf,
    ) -> Result<(At, GuestPathBuf, Name)> {
        let mut path = to.clone();
        let walked = self.walk_path(to, true)?;
        if let Ok(at) = walked.found()
            && self.type_of(at)? == FileType::Directory
        {
            match from.file_name() {
                // What is in a directory named so goes into the target itself.
                Some(b"..") => {}
                _ if from.ends_with(b"/.") => {}
                Some(name) => path = walked.path().join(name),
                None => return Err(Error::new(Kind::Invalid, "the source has no name; give the target's")),
            }
        }
        if kind != FileType::Directory && self.is_onto_itself(from, start, &path)? {
            return Err(Error::new(Kind::Invalid, "source and target are the same file"));
        }
        // Only a file's content goes through a link.
        let through = matches!(kind, FileType::Regular | FileType::Directory) || path.ends_with(b"/");
        let walked = self.walk_path(&path, through)?;
        match walked.named() {
            Some(named) if named.directory && kind != FileType::Directory => Err(Kind::NotADirectory.into()),
            Some(named) if named.node.is_none() && self.exists(&path)? => Err(Error::new(
                Kind::Invalid,
                "the target is a link that leads nowhere, and nothing is written through it",
            )),
            Some(named) => Ok((named.parent, named.folder, named.name)),
            None => Err(Kind::Busy.into()),
        }
    }

    /// Whether `cp` takes source and target for one file: they are, or one is a link that leads to the other.
    fn is_onto_itself(&self, from: &GuestPathBuf, start: At, to: &GuestPathBuf) -> Result<bool> {
        let Ok(old) = self.at(to, false) else { return Ok(false) };
        if self.place(old)? == self.place(start)? {
            return Ok(true);
        }
        let links = self.type_of(old)? == FileType::Symlink && self.type_of(start)? == FileType::Symlink;
        match (self.at(from, true), self.at(to, true)) {
            (Ok(one), Ok(other)) if !links => Ok(self.place(one)? == self.place(other)?),
            _ => Ok(false),
        }
    }
}

impl Copy {
    fn tree(&mut self, guest: &mut Guest, start: At, metadata: &Metadata, parent: At, top_name: &Name) -> Result<()> {
        let top = self.node(guest, (start, metadata), parent, &GuestPathBuf::clone, top_name)?;
        if metadata.file_type != FileType::Directory {
            return Ok(());
        }
        let target = guest.place(top)?;
        let into_itself = || Error::new(Kind::Invalid, "cannot copy a directory into itself");
        if guest.place(start)? == target {
            return Err(into_itself());
        }
        let mut tree = Tree::new();
        tree.enter(guest, start)?;
        // The copies of the directories between the start and the present node.
        let mut copies = vec![top];
        while let Some((path, at)) = tree.next() {
            guest.check_interrupt()?;
            let depth = path.components().count();
            copies.truncate(depth);
            let (Some(parent), Some(name)) = (copies.last().copied(), path.file_name()) else { break };
            let metadata = guest.fs_of(at)?.metadata(at.node)?;
            if guest.place(at)? == target {
                return Err(into_itself());
            }
            let below = |folder: &GuestPathBuf| {
                let names = path.components().take(depth - 1);
                names.fold(folder.join(top_name), |folder, name| folder.join(name))
            };
            let made = self.node(guest, (at, &metadata), parent, &below, &Name::from(name))?;
            if metadata.file_type == FileType::Directory {
                copies.push(made);
                tree.enter(guest, at)?;
            }
        }
        Ok(())
    }

    /// Copies one node; directories without what is in them. `below` answers the path of `parent` from that of the copy's directory.
    fn node(
        &mut self,
        guest: &mut Guest,
        (from, metadata): (At, &Metadata),
        parent: At,
        below: &dyn Fn(&GuestPathBuf) -> GuestPathBuf,
        name: &Name,
    ) -> Result<At> {
        let old = guest.child(parent, name)?;
        if old.is_some_and(|old| guest.place(old).ok() == guest.place(from).ok())
            && metadata.file_type != FileType::Directory
        {
            return Err(Error::new(Kind::Invalid, "source and target are the same file"));
        }
        let place = guest.place(from)?;
        let linked = self.keep && metadata.links > 1 && metadata.file_type != FileType::Directory;
        if let Some(first) = self.linked.get(&place).copied().filter(|first| linked && first.mount == parent.mount) {
            self.clear(guest, parent, name, old)?;
            guest.edit(parent)?.link(first.node, parent.node, name)?;
            return Ok(first);
        }
        let old_type = match old {
            Some(old) => Some(guest.type_of(old)?),
            None => None,
        };
        let at = match (metadata.file_type, old, old_type) {
            (FileType::Directory, Some(old), Some(FileType::Directory)) => old,
            (FileType::Directory, Some(_), _) => return Err(Kind::NotADirectory.into()),
            (_, Some(_), Some(FileType::Directory)) => return Err(Kind::IsADirectory.into()),
            (FileType::Regular, Some(old), Some(FileType::Regular)) => old,
            _ => {
                self.clear(guest, parent, name, old)?;
                let kind = self.kind(guest, from, metadata)?;
                let new = match (self.keep, guest.keeps_owners(parent)?) {
                    (true, true) => NewNode { kind, mode: metadata.mode, uid: metadata.uid, gid: metadata.gid },
                    _ => guest.new_node(parent, kind, metadata.mode & 0o777)?,
                };
                let folder = || below(&self.folder);
                guest.create_at(&mut self.labels, parent, &folder, name, &new)?
            }
        };
        if metadata.file_type == FileType::Regular {
            copy_content(guest, from, metadata.size, at)?;
        }
        if self.keep {
            self.attributes(guest, from, metadata, at)?;
        }
        if linked {
            self.linked.insert(place, at);
        }
        Ok(at)
    }

    fn clear(&self, guest: &mut Guest, parent: At, name: &Name, old: Option<At>) -> Result<()> {
        match old {
            Some(_) => guest.edit(parent)?.unlink(parent.node, name),
            None => Ok(()),
        }
    }

    fn kind(&self, guest: &Guest, from: At, metadata: &Metadata) -> Result<NewKind> {
        let (major, minor) = metadata.device;
        Ok(match metadata.file_type {
            FileType::Regular => NewKind::Regular,
            FileType::Directory => NewKind::Directory,
            FileType::Symlink => NewKind::Symlink(guest.fs_of(from)?.read_link(from.node)?),
            FileType::CharDevice => NewKind::CharDevice(major, minor),
            FileType::BlockDevice => NewKind::BlockDevice(major, minor),
            FileType::Fifo => NewKind::Fifo,
            FileType::Socket => NewKind::Socket,
        })
    }

    fn attributes(&mut self, guest: &mut Guest, from: At, metadata: &Metadata, at: At) -> Result<()> {
        let owners = guest.keeps_owners(at)?;
        if owners {
            let kept = guest.fs_of(from)?.xattrs(from.node)?;
            // What the new directory's default list made of it goes.
            for (name, _) in guest.fs_of(at)?.xattrs(at.node)? {
                if [ACCESS_LIST, DEFAULT_LIST].contains(&&*name) && kept.iter().all(|(other, _)| *other != name) {
                    guest.edit(at)?.set_xattr(at.node, &name, None)?;
                }
            }
            for (name, value) in kept {
                guest.edit(at)?.set_xattr(at.node, &name, Some(&value))?;
            }
        }
        let times = SetAttributes {
            accessed: Some(metadata.accessed),
            modified: Some(metadata.modified),
            ..SetAttributes::default()
        };
        let set = match owners {
            // The mode of a link cannot be changed.
            true if metadata.file_type == FileType::Symlink => {
                SetAttributes { uid: Some(metadata.uid), gid: Some(metadata.gid), ..times.clone() }
            }
            true => SetAttributes {
                mode: Some(metadata.mode),
                uid: Some(metadata.uid),
                gid: Some(metadata.gid),
                ..times.clone()
            },
            false => times.clone(),
        };
        if metadata.file_type == FileType::Directory {
            self.times.push((at, times));
        }
        guest.edit(at)?.set_attributes(at.node, &set)
    }
}

/// Copies the bytes of a regular file, holes as holes.
fn copy_content(guest: &mut Guest, from: At, size: u64, to: At) -> Result<()> {
    let extents = guest.fs_of(from)?.extents(from.node)?;
    if size <= CHUNK && extents.iter().all(|e| !e.hole) {
        let mut data = vec![0; size as usize];
        let got = guest.fs_of(from)?.read(from.node, 0, &mut data)?;
        progress::add(got as u64);
        return guest.edit(to)?.fill(to.node, got as u64, &mut &data[..got], false);
    }
    guest.edit(to)?.resize(to.node, 0)?;
    let mut data = vec![0; CHUNK.min(size) as usize];
    for extent in extents.into_iter().filter(|e| !e.hole) {
        let mut offset = extent.range.start;
        let end = extent.range.end.min(size);
        while offset < end {
            guest.check_interrupt()?;
            let part = (end - offset).min(data.len() as u64) as usize;
            let got = guest.fs_of(from)?.read(from.node, offset, &mut data[..part])?;
            if got == 0 {
                break;
            }
            guest.edit(to)?.write(to.node, offset, &data[..got])?;
            progress::add(got as u64);
            offset += got as u64;
        }
    }
    guest.edit(to)?.resize(to.node, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::model::Model;
    use crate::guest::tests::{fill_with_everything, guest, listing, path};

    fn kind(result: Result<()>) -> Kind {
        result.expect_err("should have failed").kind()
    }

    #[test]
    fn an_archive_copy_is_equal() {
        let mut g = guest();
        g.mkdir(&path("/from"), 0o750).unwrap();
        g.mount("/dev/sda2", &path("/from"), false, &mut || Ok(Model::new())).unwrap();
        // The tree is made as a root of its own, then copied across file systems and inside one.
        let mut source = guest();
        fill_with_everything(&mut source);
        let wanted = listing(&source);
        source.mkdir(&path("/new"), 0o755).unwrap();
        source.mount("/dev/sdb1", &path("/new"), false, &mut || Ok(Model::new())).unwrap();
        for name in source.list(&path("/")).unwrap() {
            if &*name != b"new" {
                source.copy(&path("/").join(&name), &path("/new"), true, true).unwrap();
            }
        }
        // Hard links are kept within one copy; these two were copied on their own.
        source.remove_tree(&path("/new/hard2")).unwrap();
        source.link(&path("/new/hard1"), &path("/new/hard2")).unwrap();
        source.umount_all().unwrap();
        source.mount("/dev/sdb1", &path("/"), false, &mut || panic!("it is open")).unwrap();
        let top = |lines: Vec<String>| lines.into_iter().skip(1).collect::<Vec<_>>();
        assert_eq!(top(listing(&source)), top(wanted));
    }

    #[test]
    fn hard_links_and_holes_stay() {
        let mut g = guest();
        g.mkdir_p(&path("/a/b"), 0o755).unwrap();
        g.write_file(&path("/a/one"), b"same").unwrap();
        g.link(&path("/a/one"), &path("/a/b/two")).unwrap();
        g.write_file(&path("/a/holes"), b"start").unwrap();
        g.write_at(&path("/a/holes"), Some(100 << 20), b"end").unwrap();
        g.copy(&path("/a"), &path("/copy"), true, true).unwrap();
        assert_eq!(g.stat(&path("/copy/one")).unwrap().links, 2);
        assert_eq!(g.stat(&path("/copy/one")).unwrap().inode, g.stat(&path("/copy/b/two")).unwrap().inode);
        assert_eq!(g.extents(&path("/copy/holes")).unwrap(), g.extents(&path("/a/holes")).unwrap());
        // cp -r: links become files of their own, owners and modes those of a new file.
        g.copy(&path("/a"), &path("/copy"), false, true).unwrap();
        assert_eq!(g.stat(&path("/copy/a/one")).unwrap().links, 1);
    }

    #[test]
    fn targets_as_cp_takes_them() {
        let mut g = guest();
        g.mkdir_p(&path("/d/f"), 0o755).unwrap();
        g.write_file(&path("/f"), b"new").unwrap();
        let set = SetAttributes { mode: Some(0o4777), uid: Some(9), ..SetAttributes::default() };
        g.set_attributes(&path("/f"), true, &set).unwrap();
        g.write_file(&path("/old"), b"older").unwrap();
        g.symlink(&path("f"), &path("/link")).unwrap();
        g.copy(&path("/link"), &path("/old"), false, false).unwrap();
        let old = g.stat(&path("/old")).unwrap();
        assert_eq!((old.mode, old.uid, old.size), (0o644, 0, 3));
        g.copy(&path("/link"), &path("/fresh"), false, false).unwrap();
        let fresh = g.lstat(&path("/fresh")).unwrap();
        assert_eq!((fresh.file_type, fresh.mode, fresh.uid), (FileType::Regular, 0o755, 0));
        g.copy(&path("/link"), &path("/l2"), true, true).unwrap();
        assert_eq!(g.read_link(&path("/l2")).unwrap(), path("f"));
        assert_eq!(kind(g.copy(&path("/f"), &path("/f"), false, false)), Kind::Invalid);
        assert_eq!(kind(g.copy(&path("/f"), &path("/link"), false, false)), Kind::Invalid);
        assert_eq!(kind(g.copy(&path("/link"), &path("/f"), true, true)), Kind::Invalid);
        assert_eq!(kind(g.copy(&path("/f"), &path("/new/"), false, false)), Kind::NotADirectory);
        g.symlink(&path("nowhere"), &path("/dangling")).unwrap();
        assert_eq!(kind(g.copy(&path("/f"), &path("/dangling"), true, true)), Kind::Invalid);
        // A link takes the place of a link, and is copied with all bits whatever the umask.
        g.copy(&path("/link"), &path("/dangling"), false, true).unwrap();
        let made = g.lstat(&path("/dangling")).unwrap();
        assert_eq!((g.read_link(&path("/dangling")).unwrap(), made.mode), (path("f"), 0o777));
        assert!(g.lstat(&path("/nowhere")).is_err());
        // What is in a directory.
        g.mkdir(&path("/in"), 0o755).unwrap();
        g.copy(&path("/d/."), &path("/in"), false, true).unwrap();
        assert_eq!(g.list(&path("/in")).unwrap(), [Name::from(&b"f"[..])]);
        assert_eq!(kind(g.copy(&path("/f"), &path("/d"), false, false)), Kind::IsADirectory);
        assert_eq!(kind(g.copy(&path("/d"), &path("/x"), false, false)), Kind::IsADirectory);
        assert_eq!(kind(g.copy(&path("/d"), &path("/f"), false, true)), Kind::NotADirectory);
        assert_eq!(kind(g.copy(&path("/d"), &path("/d"), false, true)), Kind::Invalid);
        assert_eq!(kind(g.copy(&path("/d"), &path("/d/f/x"), true, true)), Kind::Invalid);
        assert_eq!(kind(g.copy(&path("/none"), &path("/x"), true, true)), Kind::NotFound);
        assert_eq!(kind(g.copy(&path("/f"), &path("/none/x"), false, false)), Kind::NotFound);
    }
}
