//! The one way in: entries of a host folder or an archive become nodes of the guest.
//!
//! What happens to names that are taken is what GNU tar does: a file replaces a file or an empty directory, a
//! directory keeps a directory and updates its attributes. No entry is put through a symbolic link that the same
//! source made before, so an archive cannot reach what is outside the directory it is unpacked in, unless the
//! guest had a link there already.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::ops::Range;

use super::labelling::Labels;
use super::transfer::{Entry, EntryKind, ImportOptions, Report, Source};
use super::write::Watched;
use super::{At, Guest, Place};
use crate::base::{Error, GuestPathBuf, Kind, Name, Result};
use crate::fs::{FileType, NewKind, NewNode, SetAttributes};

/// Most bytes that are written at once of a file with holes.
const PIECE: usize = 1 << 20;

struct Import<'g> {
    guest: &'g mut Guest,
    options: ImportOptions,
    /// The directory that is unpacked into, and its path without links.
    top: At,
    path: GuestPathBuf,
    /// The directories between `top` and the parent of the present entry: trees come in order, so nearly every
    /// entry finds its parent here.
    levels: Vec<(Name, At)>,
    /// Symbolic links made by this import.
    links: HashSet<Place>,
    /// Times of directories, set last: what is put into them changes them. By file system and node.
    times: BTreeMap<(usize, u64), (At, SetAttributes)>,
    /// Whether a file system keeps owners and modes.
    owners: HashMap<usize, bool>,
    labels: Labels,
    report: Report,
}

impl Guest {
    /// Unpacks entries below a directory: the one way in for copy-in, tar-in and cp. Parents that the source does
    /// not have are made with 0777 less the umask. On file systems that keep no owners, owners, modes and
    /// extended attributes are left out.
    ///
    /// # Errors
    /// `Kind::NotADirectory` if `into` is none, `Kind::Denied` for entries that would leave it, what the source
    /// and the file systems say. The subject is the path in the guest.
    pub fn import(&mut self, into: &GuestPathBuf, source: &mut dyn Source, options: &ImportOptions) -> Result<Report> {
        let top = self.at(into, true)?;
        self.type_of(top)?.check_directory().map_err(|e| e.at(into))?;
        let path = self.realpath(into)?;
        let mut import = Import {
            guest: self,
            options: *options,
            top,
            path,
            levels: Vec::new(),
            links: HashSet::new(),
            times: BTreeMap::new(),
            owners: HashMap::new(),
            labels: Labels::default(),
            report: Report::default(),
        };
        while let Some(entry) = source.next()? {
            import.guest.check_interrupt()?;
            let path = entry.path.clone();
            import.put(entry).map_err(|e| e.at(import.path.join(&path)))?;
        }
        import.finish()
    }

    /// Whether a file system keeps owners and modes.
    pub(super) fn keeps_owners(&self, at: At) -> Result<bool> {
        Ok(self.fs_of(at)?.info()?.owners)
    }
}

/// The components of an entry's path; those that would leave the target are refused.
fn checked(path: &GuestPathBuf) -> Result<Vec<Name>> {
    if path.is_absolute() || path.components().any(|c| c == b"..") || path.contains(&0) {
        return Err(Error::new(Kind::Denied, format!("the entry '{path}' would leave the directory"))
            .hint("nothing was unpacked; names of entries must be relative and without '..'"));
    }
    Ok(path.components().map(Name::from).collect())
}

/// The path of the last level.
fn joined(top: &GuestPathBuf, levels: &[(Name, At)]) -> GuestPathBuf {
    levels.iter().fold(top.clone(), |path, (level, _)| path.join(level))
}

impl Import<'_> {
    fn put(&mut self, entry: Entry<'_>) -> Result<()> {
        let mut names = checked(&entry.path)?;
        self.report.entries += 1;
        let Some(name) = names.pop() else {
            if entry.kind != EntryKind::Directory {
                return Err(Error::new(Kind::Invalid, "the entry without a name is no directory"));
            }
            return self.update_directory(self.top, &entry);
        };
        let parent = self.directory(&names)?;
        let old = self.guest.child(parent, &name)?;
        match &entry.kind {
            EntryKind::Directory => self.put_directory(parent, name, old, &entry),
            EntryKind::HardLink(target) => self.put_hard_link(parent, &name, old, target),
            EntryKind::Regular(size) => {
                let size = *size;
                self.clear(parent, &name, old)?;
                let at = self.create(parent, &name, &entry, NewKind::Regular)?;
                let flag = self.guest.interrupt.clone();
                let sparse = self.options.sparse;
                let mut entry = entry;
                let mut nothing = std::io::empty();
                let source: &mut dyn Read = match &mut entry.content {
                    Some(content) => content,
                    None => &mut nothing,
                };
                if let Some(pieces) = entry.pieces.take() {
                    self.put_pieces(at, size, &pieces, source)?;
                } else if size > 0 {
                    self.guest.edit(at)?.fill(at.node, size, &mut Watched { source, flag }, sparse)?;
                }
                self.report.bytes += size;
                self.set_xattrs(at, &entry)?;
                self.guest.edit(at)?.set_attributes(at.node, &times_of(&entry))
            }
            kind => {
                let new = match kind {
                    EntryKind::Symlink(target) => NewKind::Symlink(target.clone()),
                    EntryKind::CharDevice(major, minor) => NewKind::CharDevice(*major, *minor),
                    EntryKind::BlockDevice(major, minor) => NewKind::BlockDevice(*major, *minor),
                    EntryKind::Fifo => NewKind::Fifo,
                    _ => NewKind::Socket,
                };
                let link = matches!(new, NewKind::Symlink(_));
                self.clear(parent, &name, old)?;
                let at = self.create(parent, &name, &entry, new)?;
                if link {
                    self.links.insert(self.guest.place(at)?);
                }
                self.set_xattrs(at, &entry)?;
                self.guest.edit(at)?.set_attributes(at.node, &times_of(&entry))
            }
        }
    }

    /// Writes the runs of a file that has holes.
    fn put_pieces(&mut self, at: At, size: u64, pieces: &[Range<u64>], source: &mut dyn Read) -> Result<()> {
        let mut buffer = vec![0; PIECE];
        for piece in pieces {
            let mut offset = piece.start;
            while offset < piece.end {
                self.guest.check_interrupt()?;
                let part = (piece.end - offset).min(buffer.len() as u64) as usize;
                source.read_exact(&mut buffer[..part])?;
                self.guest.edit(at)?.write(at.node, offset, &buffer[..part])?;
                offset += part as u64;
            }
        }
        self.guest.edit(at)?.resize(at.node, size)
    }

    /// The directory of these names below the target, made where it is missing.
    fn directory(&mut self, names: &[Name]) -> Result<At> {
        let same = self.levels.iter().zip(names).take_while(|((level, _), name)| level == *name).count();
        self.levels.truncate(same);
        for name in &names[same..] {
            let parent = self.last();
            let old = self.guest.child(parent, name)?;
            let at = match old {
                None => self.make_parent(parent, name)?,
                Some(at) => match self.guest.type_of(at)? {
                    FileType::Directory => at,
                    FileType::Symlink if self.links.contains(&self.guest.place(at)?) => {
                        self.clear(parent, name, old)?;
                        self.make_parent(parent, name)?
                    }
                    FileType::Symlink => self.follow(name)?,
                    _ => return Err(Kind::NotADirectory.into()),
                },
            };
            self.levels.push((name.clone(), at));
        }
        Ok(self.last())
    }

    fn last(&self) -> At {
        self.levels.last().map_or(self.top, |(_, at)| *at)
    }

    /// The directory that a link in the present directory leads to. The link was there before.
    fn follow(&self, name: &Name) -> Result<At> {
        let path = joined(&self.path, &self.levels);
        let links = &self.links;
        let at = self.guest.walk_path_through(&path.join(name), true, &|place| !links.contains(&place))?.found()?;
        match self.guest.type_of(at)? {
            FileType::Directory => Ok(at),
            _ => Err(Kind::NotADirectory.into()),
        }
    }

    fn make_parent(&mut self, parent: At, name: &Name) -> Result<At> {
        let new = self.guest.new_node(parent, NewKind::Directory, 0o777)?;
        self.make(parent, name, &new)
    }

    /// Makes a node in the present directory.
    fn make(&mut self, parent: At, name: &Name, new: &NewNode) -> Result<At> {
        let (top, levels) = (&self.path, &self.levels);
        let folder = || joined(top, levels);
        self.guest.create_at(&mut self.labels, parent, &folder, name, new)
    }

    /// Removes what has the name, if anything: all but a directory with something in it.
    fn clear(&mut self, parent: At, name: &Name, old: Option<At>) -> Result<()> {
        let Some(at) = old else { return Ok(()) };
        if at.mount != parent.mount {
            return Err(Kind::Busy.into());
        }
        let place = self.guest.place(at)?;
        if self.guest.type_of(at)? == FileType::Directory {
            self.guest.edit(parent)?.rmdir(parent.node, name)?;
            self.times.remove(&(place.fs, place.node.0));
            self.labels.forget();
        } else {
            self.guest.edit(parent)?.unlink(parent.node, name)?;
            self.links.remove(&place);
        }
        Ok(())
    }

    fn create(&mut self, parent: At, name: &Name, entry: &Entry<'_>, kind: NewKind) -> Result<At> {
        let new = if self.keeps_owners(parent)? {
            NewNode { kind, mode: entry.mode & 0o7777, uid: entry.uid, gid: entry.gid }
        } else {
            NewNode { kind, mode: 0o777 & !self.guest.umask, uid: 0, gid: 0 }
        };
        let at = self.make(parent, name, &new)?;
        let own = self.keeps_owners(parent)? && new.kind.file_type() != FileType::Symlink;
        if own && self.guest.fs_of(at)?.metadata(at.node)?.mode != new.mode {
            // A default list of the directory took part of it away; what is unpacked has its own mode all the same.
            let set = SetAttributes { mode: Some(new.mode), ..SetAttributes::default() };
            self.guest.edit(at)?.set_attributes(at.node, &set)?;
        }
        Ok(at)
    }

    fn keeps_owners(&mut self, at: At) -> Result<bool> {
        let fs = self.guest.place(at)?.fs;
        if let Some(answer) = self.owners.get(&fs) {
            return Ok(*answer);
        }
        let answer = self.guest.keeps_owners(at)?;
        self.owners.insert(fs, answer);
        Ok(answer)
    }

    fn set_xattrs(&mut self, at: At, entry: &Entry<'_>) -> Result<()> {
        if self.options.xattrs && !entry.xattrs.is_empty() && self.keeps_owners(at)? {
            for (name, value) in &entry.xattrs {
                self.guest.edit(at)?.set_xattr(at.node, name, Some(value))?;
            }
        }
        Ok(())
    }

    fn put_directory(&mut self, parent: At, name: Name, old: Option<At>, entry: &Entry<'_>) -> Result<()> {
        if let Some(at) = old {
            match self.guest.type_of(at)? {
                FileType::Directory => {
                    self.levels.push((name, at));
                    return self.update_directory(at, entry);
                }
                FileType::Symlink
                    if self.options.keep_directory_links && !self.links.contains(&self.guest.place(at)?) =>
                {
                    // The link stays as it is, and so does what it leads to.
                    match self.follow(&name) {
                        Ok(at) => {
                            self.levels.push((name, at));
                            return Ok(());
                        }
                        Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::Io | Kind::Internal) => return Err(e),
                        Err(_) => self.clear(parent, &name, old)?,
                    }
                }
                _ => self.clear(parent, &name, old)?,
            }
        }
        let at = self.create(parent, &name, entry, NewKind::Directory)?;
        self.levels.push((name, at));
        self.set_xattrs(at, entry)?;
        self.set_times_late(at, entry)
    }

    fn update_directory(&mut self, at: At, entry: &Entry<'_>) -> Result<()> {
        if self.keeps_owners(at)? {
            let (mode, uid, gid) = (Some(entry.mode & 0o7777), Some(entry.uid), Some(entry.gid));
            let set = SetAttributes { mode, uid, gid, ..SetAttributes::default() };
            self.guest.edit(at)?.set_attributes(at.node, &set)?;
        }
        self.set_xattrs(at, entry)?;
        self.set_times_late(at, entry)
    }

    fn set_times_late(&mut self, at: At, entry: &Entry<'_>) -> Result<()> {
        let place = self.guest.place(at)?;
        self.times.insert((place.fs, place.node.0), (at, times_of(entry)));
        Ok(())
    }

    fn put_hard_link(&mut self, parent: At, name: &Name, old: Option<At>, target: &GuestPathBuf) -> Result<()> {
        let mut names = checked(target)?;
        let missing = || Error::new(Kind::NotFound, format!("the link's target '{target}' was not unpacked before"));
        let last = names.pop().ok_or_else(missing)?;
        // The present level is that of the link: its target is found beside it, without touching `levels`.
        let mut dir = self.top;
        for name in &names {
            let at = self.guest.child(dir, name)?.ok_or_else(missing)?;
            dir = match self.guest.type_of(at)? {
                FileType::Directory => at,
                FileType::Symlink if !self.links.contains(&self.guest.place(at)?) => self.link_target(&names, name)?,
                _ => return Err(missing()),
            };
        }
        let node = self.guest.child(dir, &last)?.ok_or_else(missing)?;
        if self.guest.type_of(node)? == FileType::Directory {
            return Err(Error::new(Kind::Denied, format!("the link's target '{target}' is a directory")));
        }
        if node.mount != parent.mount {
            return Err(Kind::CrossDevice.into());
        }
        if old == Some(node) {
            return Ok(());
        }
        self.clear(parent, name, old)?;
        self.guest.edit(parent)?.link(node.node, parent.node, name)
    }

    /// Where the names up to and with `last` lead, through links that were there before.
    fn link_target(&self, names: &[Name], last: &Name) -> Result<At> {
        let mut path = self.path.clone();
        for name in names {
            path = path.join(name);
            if std::ptr::eq(name, last) {
                break;
            }
        }
        let links = &self.links;
        self.guest.walk_path_through(&path, true, &|place| !links.contains(&place))?.found()
    }

    fn finish(mut self) -> Result<Report> {
        for (at, set) in std::mem::take(&mut self.times).into_values() {
            self.guest.edit(at)?.set_attributes(at.node, &set).map_err(|e| e.at(&self.path))?;
        }
        Ok(self.report)
    }
}

fn times_of(entry: &Entry<'_>) -> SetAttributes {
    SetAttributes { accessed: entry.accessed, modified: Some(entry.modified), ..SetAttributes::default() }
}
