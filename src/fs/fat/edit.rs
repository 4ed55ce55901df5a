//! Changes: entries, files, attributes.

use std::io::{ErrorKind, Read};

use super::boot::{BOOT_BYTES, Boot, SLOT};
use super::directory::{self, Directory};
use super::name;
use super::table::Run;
use super::time;
use super::volume::{Node, ROOT, Volume};
use crate::base::bytes::{is_zero, put_le32, u8_at};
use crate::base::{Error, Kind, Result, Timestamp};
use crate::fs::{Edit, NewKind, NewNode, NodeId, SetAttributes};

/// Bytes that [`Edit::fill`] holds at once.
const CHUNK: usize = 1 << 20;

/// What Linux answers for whatever FAT cannot keep (EPERM).
fn not_permitted(what: &str) -> Error {
    Error::new(Kind::Denied, "Operation not permitted").hint(format!("FAT has no {what}"))
}

impl Volume {
    /// Starts an operation at this time.
    pub fn begin(&mut self, now: Timestamp) {
        self.now = now;
    }

    fn touch(&mut self, id: NodeId) -> Result<()> {
        let now = self.now;
        self.change(id, |entry| time::set_modified(entry, now))
    }

    /// The slot of a name, and its node.
    fn find(&mut self, key: u32, name: &[u8]) -> Result<Option<(usize, NodeId)>> {
        match self.cached(key)?.find(name) {
            Some(slot) => Ok(Some((slot, self.node_id(key, slot)?))),
            None => Ok(None),
        }
    }

    /// Puts a short entry under a new name; of `entry` everything but name and case is used.
    fn add(&mut self, key: u32, name: &[u8], entry: &[u8; SLOT]) -> Result<NodeId> {
        let mut slots = self.cached(key)?.slots_for(name)?;
        let last = slots.len() - SLOT;
        slots[last + 11] = entry[11];
        slots[last + 13..].copy_from_slice(&entry[13..]);
        let room = loop {
            if let Some(room) = self.cached(key)?.room(slots.len() / SLOT) {
                break room;
            }
            self.grow_dir(key)?;
        };
        let slot = self.cached(key)?.insert(room, &slots, name);
        self.node_id(key, slot)
    }

    /// Removes an entry and frees what it has.
    fn remove(&mut self, key: u32, slot: usize, node: &Node) -> Result<()> {
        self.cached(key)?.check_writable()?;
        let runs = self.chain(node.first)?;
        if node.is_dir() {
            self.drop_dir(node.first);
        }
        self.table.cut(&runs, 0)?;
        self.cached(key)?.remove(slot);
        Ok(())
    }

    /// What `..` of a child of this directory names.
    fn as_parent(&self, id: NodeId, key: u32) -> u32 {
        if id == ROOT { 0 } else { key }
    }

    /// Whether the directory that begins at `dir` lies in the one that begins at `above`, or is it.
    fn is_below(&mut self, mut dir: u32, above: u32) -> Result<bool> {
        for _ in 0..directory::MAX_SLOTS {
            if dir == above {
                return Ok(true);
            }
            if dir == 0 || dir == self.boot.root_cluster {
                return Ok(false);
            }
            let parent = match self.dirs.get(&dir) {
                Some(found) => found.parent,
                None if self.boot.has_cluster(dir) => {
                    let mut slots = vec![0; 2 * SLOT];
                    self.device.read_at(self.boot.cluster_at(dir), &mut slots)?;
                    Directory::parse(slots, Vec::new(), self.fat32()).parent
                }
                None => None,
            };
            dir = parent.ok_or_else(|| Error::corrupt(format!("vfat: directory at cluster {dir}: no '..' entry")))?;
        }
        Err(Error::corrupt("vfat: directories nested without end"))
    }

    /// Checks that an empty directory, or a file by a file, may be replaced.
    fn check_replace(&mut self, from: &Node, to: &Node, to_id: NodeId) -> Result<()> {
        match (from.is_dir(), to.is_dir()) {
            (true, false) => Err(Kind::NotADirectory.into()),
            (false, true) => Err(Kind::IsADirectory.into()),
            (false, false) => Ok(()),
            (true, true) => self.check_empty(to_id),
        }
    }

    fn check_empty(&mut self, id: NodeId) -> Result<()> {
        let key = self.dir(id)?;
        if self.cached(key)?.is_empty() { Ok(()) } else { Err(Kind::NotEmpty.into()) }
    }

    /// Sets first cluster, size and time of a file.
    fn set_content(&mut self, id: NodeId, runs: &[Run], size: u32) -> Result<()> {
        let (first, now, fat32) = (runs.first().map_or(0, |run| run.start), self.now, self.fat32());
        self.change(id, |entry| {
            directory::set_first_cluster(entry, first, fat32);
            put_le32(entry, 28, size);
            entry[11] |= directory::ARCHIVE;
            time::set_modified(entry, now);
        })
    }

    /// Makes a chain long enough for `size` bytes.
    fn extend(&mut self, runs: &mut Vec<Run>, size: u64) -> Result<()> {
        let have = runs.last().map_or(0, |run| run.index + run.len);
        let need = self.boot.clusters_for(size).saturating_sub(u64::from(have));
        if need == 0 {
            return Ok(());
        }
        let more = self.table.allocate(u32::try_from(need).map_err(|_| Kind::NoSpace)?)?;
        if let (Some(last), Some(first)) = (runs.last(), more.first()) {
            self.table.join(last.start + last.len - 1, first.start)?;
        }
        for run in more {
            match runs.last_mut() {
                Some(last) if last.start + last.len == run.start => last.len += run.len,
                _ => runs.push(Run { index: have + run.index, ..run }),
            }
        }
        Ok(())
    }

    /// Tells the table that these bytes are written now; whether they may go ahead of the commit.
    fn take_fresh(&mut self, at: u64, len: u64) -> bool {
        let cluster = u64::from(self.boot.cluster);
        let (Some(first), Some(last)) = (self.boot.cluster_of(at), self.boot.cluster_of(at + len - 1)) else {
            return false;
        };
        let whole = (at - self.boot.data_at).is_multiple_of(cluster) && len.is_multiple_of(cluster);
        self.table.take_fresh(first, last - first + 1) && whole
    }

    fn write_data(&mut self, runs: &[Run], offset: u64, data: &[u8]) -> Result<()> {
        let mut rest = data;
        for (at, len) in self.places(runs, offset, data.len() as u64) {
            let Some((piece, after)) = rest.split_at_checked(len as usize) else { break };
            if self.take_fresh(at, len) {
                self.device.write_fresh(at, piece)?;
            } else {
                self.device.write_at(at, piece)?;
            }
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(Error::corrupt("vfat: a chain is shorter than its file")) }
    }

    fn zero_data(&mut self, runs: &[Run], offset: u64, len: u64) -> Result<()> {
        for (at, len) in self.places(runs, offset, len) {
            self.take_fresh(at, len);
            self.device.zero(at..at + len)?;
        }
        Ok(())
    }
}

/// A size that FAT can keep: 4 GiB less one byte.
fn size32(size: u64) -> Result<u32> {
    u32::try_from(size).map_err(|_| Kind::FileTooBig.into())
}

/// Fills the buffer from the source.
fn read_full(source: &mut dyn Read, buffer: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match source.read(&mut buffer[done..]) {
            Ok(0) => return Err(Error::new(Kind::Io, "the source ended early")),
            Ok(n) => done += n.min(buffer.len() - done),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

impl Edit for Volume {
    fn create(&mut self, dir: NodeId, name: &[u8], new: &NewNode) -> Result<NodeId> {
        self.trim()?;
        let attributes = match new.kind {
            NewKind::Regular => directory::ARCHIVE,
            NewKind::Directory => directory::DIRECTORY,
            NewKind::Symlink(_) => return Err(not_permitted("symbolic links")),
            _ => return Err(not_permitted("device nodes, pipes and sockets")),
        };
        let key = self.dir(dir)?;
        let mut entry = [0; SLOT];
        entry[11] = attributes;
        time::set_all(&mut entry, self.now);
        if attributes == directory::DIRECTORY {
            self.cached(key)?.slots_for(name)?;
            let first = self.table.allocate(1)?.first().map_or(0, |run| run.start);
            directory::set_first_cluster(&mut entry, first, self.fat32());
            let dots = directory::dots(first, self.as_parent(dir, key), &entry, self.fat32());
            let mut made = Directory::default();
            made.grow(first, self.boot.cluster as usize);
            made.put_dots(&dots, self.as_parent(dir, key));
            self.keep_dir(first, made);
        }
        let id = self.add(key, name, &entry)?;
        self.touch(dir)?;
        Ok(id)
    }

    fn link(&mut self, node: NodeId, _dir: NodeId, _name: &[u8]) -> Result<()> {
        self.node(node)?;
        Err(not_permitted("hard links"))
    }

    fn unlink(&mut self, dir: NodeId, name: &[u8]) -> Result<()> {
        self.trim()?;
        let key = self.dir(dir)?;
        let (slot, id) = self.find(key, name)?.ok_or(Kind::NotFound)?;
        let node = self.file(id)?;
        self.remove(key, slot, &node)?;
        self.touch(dir)
    }

    fn rmdir(&mut self, dir: NodeId, name: &[u8]) -> Result<()> {
        self.trim()?;
        let key = self.dir(dir)?;
        let (slot, id) = self.find(key, name)?.ok_or(Kind::NotFound)?;
        self.check_empty(id)?;
        let node = self.node(id)?;
        self.remove(key, slot, &node)?;
        self.touch(dir)
    }

    fn set_label(&mut self, label: &[u8]) -> Result<()> {
        self.trim()?;
        let label = name::label(label)?;
        let mut entry = [0; SLOT];
        entry[..11].copy_from_slice(&label);
        entry[11] = directory::VOLUME;
        time::set_all(&mut entry, self.now);
        let root = self.dir(ROOT)?;
        self.cached(root)?.check_writable()?;
        while !self.cached(root)?.put_label(&entry) {
            self.grow_dir(root)?;
        }
        let Some(label_at) = self.boot.label_at else { return Ok(()) };
        self.device.write_at(label_at, &label)?;
        if let Some(copy_at) = self.boot.copy_at {
            // A sector that is no copy is left alone.
            let mut copy = [0; BOOT_BYTES];
            self.device.read_at(copy_at, &mut copy)?;
            if Boot::looks_like(&copy) && Boot::parse(&copy).is_ok_and(|copy| copy.label_at == Some(label_at)) {
                self.device.write_at(copy_at + label_at, &label)?;
            }
        }
        Ok(())
    }

    fn rename(&mut self, from_dir: NodeId, from: &[u8], to_dir: NodeId, to: &[u8]) -> Result<()> {
        self.trim()?;
        let (from_key, to_key) = (self.dir(from_dir)?, self.dir(to_dir)?);
        let (slot, id) = self.find(from_key, from)?.ok_or(Kind::NotFound)?;
        let node = self.node(id)?;
        name::check(to)?;
        if node.is_dir() && self.is_below(to_key, node.first)? {
            return Err(Kind::Invalid.into());
        }
        self.cached(from_key)?.check_writable()?;
        if let Some((target_slot, target_id)) = self.find(to_key, to)? {
            if target_id != id {
                let target = self.node(target_id)?;
                self.check_replace(&node, &target, target_id)?;
                self.remove(to_key, target_slot, &target)?;
            } else if self.cached(to_key)?.entries.get(&slot).is_some_and(|entry| entry.name == to) {
                // The name that it has. The same letters in another case are a new name.
                return Ok(());
            }
        }
        self.cached(from_key)?.remove(slot);
        let moved = self.add(to_key, to, &node.entry)?;
        if node.is_dir() && from_key != to_key {
            let (own, parent, fat32) = (self.dir(moved)?, self.as_parent(to_dir, to_key), self.fat32());
            self.cached(own)?.set_parent(parent, fat32);
        }
        self.touch(from_dir)?;
        self.touch(to_dir)
    }

    fn write(&mut self, id: NodeId, offset: u64, data: &[u8]) -> Result<()> {
        self.trim()?;
        let node = self.file(id)?;
        let size = u64::from(node.size);
        let end = offset.checked_add(data.len() as u64).ok_or(Kind::FileTooBig)?;
        let new_size = size32(size.max(end))?;
        if data.is_empty() {
            return Ok(());
        }
        let mut runs = self.chain(node.first)?;
        self.extend(&mut runs, end)?;
        if offset > size {
            self.zero_data(&runs, size, offset - size)?;
        }
        self.write_data(&runs, offset, data)?;
        self.set_content(id, &runs, new_size)?;
        self.keep_chain(runs);
        Ok(())
    }

    fn resize(&mut self, id: NodeId, size: u64) -> Result<()> {
        self.trim()?;
        let node = self.file(id)?;
        let (old, new) = (u64::from(node.size), size32(size)?);
        let mut runs = self.chain(node.first)?;
        if size > old {
            self.extend(&mut runs, size)?;
            self.zero_data(&runs, old, size - old)?;
        } else {
            let keep = self.boot.clusters_for(size) as u32;
            self.table.cut(&runs, keep)?;
            runs.retain(|run| run.index < keep);
            if let Some(last) = runs.last_mut() {
                last.len = last.len.min(keep - last.index);
            }
        }
        self.set_content(id, &runs, new)?;
        self.keep_chain(runs);
        Ok(())
    }

    fn fill(&mut self, id: NodeId, size: u64, source: &mut dyn Read, sparse: bool) -> Result<()> {
        self.resize(id, 0)?;
        let new = size32(size)?;
        let mut runs = Vec::new();
        self.extend(&mut runs, size)?;
        let cluster = self.boot.cluster as usize;
        let mut buffer = vec![0; CHUNK.max(cluster).min((size as usize).next_multiple_of(cluster))];
        let mut offset = 0;
        while offset < size {
            let len = buffer.len().min((size - offset) as usize);
            read_full(source, &mut buffer[..len])?;
            // The rest of the last cluster is written too, as zeros: whole clusters may go ahead of the commit.
            let whole = len.next_multiple_of(cluster);
            buffer[len..whole].fill(0);
            if sparse && is_zero(&buffer[..whole]) {
                self.zero_data(&runs, offset, whole as u64)?;
            } else {
                self.write_data(&runs, offset, &buffer[..whole])?;
            }
            offset += len as u64;
        }
        self.set_content(id, &runs, new)?;
        self.keep_chain(runs);
        Ok(())
    }

    fn set_attributes(&mut self, id: NodeId, set: &SetAttributes) -> Result<()> {
        let node = self.node(id)?;
        if set.uid.is_some_and(|uid| uid != 0) || set.gid.is_some_and(|gid| gid != 0) {
            return Err(not_permitted("owners"));
        }
        if set.mode.is_some_and(|mode| mode & 0o7000 != 0) {
            return Err(not_permitted("set-id and sticky bits"));
        }
        let locked = match set.mode {
            // As Linux's vfat (fs/fat/file.c, fat_setattr): a mode of other than 0755 and 0555, less the mount's umask of
            // 022, is ignored, and 'read only' is for files.
            Some(mode) if !node.is_dir() && matches!(mode & 0o755, 0o755 | 0o555) => mode & 0o200 == 0,
            _ => u8_at(&node.entry, 11) & directory::READ_ONLY != 0,
        };
        let set = set.clone();
        self.change(id, |entry| {
            entry[11] = entry[11] & !directory::READ_ONLY | if locked { directory::READ_ONLY } else { 0 };
            if let Some(moment) = set.accessed {
                time::set_accessed(entry, moment);
            }
            if let Some(moment) = set.modified {
                time::set_modified(entry, moment);
            }
        })
    }

    fn set_xattr(&mut self, id: NodeId, _name: &[u8], _value: Option<&[u8]>) -> Result<()> {
        self.node(id)?;
        Err(Kind::Unsupported.into())
    }

    fn sync(&mut self) -> Result<()> {
        self.flush_dirs()?;
        self.table.flush()
    }
}
