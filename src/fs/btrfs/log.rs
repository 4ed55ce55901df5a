//! The log that fsync leaves, put over the trees in memory, as Linux does it at a mount: nothing is written.
//!
//! A log is a tree for each subvolume with copies of items. Which of them count, and what they replace, is what the kernel does
//! in fs/btrfs/tree-log.c (btrfs_recover_log_trees): inodes with the removal of names and attributes that the log does not have, then names of logged
//! directories, then attributes, references and extents, at last the number of names of each inode that was touched.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::items::{
    DIR_INDEX, DIR_ITEM, EXTENT_DATA, INODE_EXTREF, INODE_ITEM, INODE_REF, ROOT_ITEM, Reference, XATTR_ITEM, entries,
    name_hash, names, references, root_item,
};
use super::superblock::Root;
use super::tree::{Key, Trees};
use crate::base::bytes::{le32, le64, put_le32, put_le64, u8_at};
use crate::base::{Error, Result};
use crate::fs::FileType;

/// Object id of all logs in the tree of logs, and of a range of a directory that was logged (key type).
const LOGS: u64 = u64::MAX - 5;
const DIR_LOG_INDEX: u8 = 72;
/// Feature bit: gaps between extents need no items.
const NO_HOLES: u64 = 0x200;
/// Bytes of a log that are replayed, and items that are looked at meanwhile. Linux' own logs are smaller: the log is committed when
/// it gets long.
const BYTES_MAX: usize = 64 << 20;
const STEPS_MAX: usize = 1 << 23;
/// Fields of an inode item.
const GENERATION: usize = 0;
const SIZE: usize = 16;
const BYTES: usize = 24;
const LINKS: usize = 40;
const MODE: usize = 52;
/// Fields of an extent item.
const UNPACKED: usize = 8;
const KIND: usize = 20;
const ADDRESS: usize = 21;
const SKIP: usize = 37;
const LENGTH: usize = 45;
const EXTENT: usize = 53;

fn bad(what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("btrfs: log: {what}"))
}

/// Puts all logs over the trees of their subvolumes.
///
/// # Errors
/// Damage; a log that is longer than any that Linux writes. The trees are then as they were.
pub fn replay(trees: &mut Trees, logs: Root) -> Result<()> {
    let result = replay_all(trees, logs);
    if result.is_err() {
        trees.forget();
    }
    result
}

fn replay_all(trees: &mut Trees, logs: Root) -> Result<()> {
    let mut found = Vec::new();
    trees.items(logs, Key::first(LOGS, ROOT_ITEM), |key, item| {
        if (key.object, key.kind) != (LOGS, ROOT_ITEM) {
            return Ok(ControlFlow::Break(()));
        }
        let (log, _) = root_item(item).ok_or_else(|| bad(format_args!("of subvolume {}: no root", key.offset)))?;
        found.push((key.offset, log));
        Ok(ControlFlow::Continue(()))
    })?;
    let mut steps = 0;
    for (id, log) in found {
        let last = Key { object: id, kind: ROOT_ITEM, offset: u64::MAX };
        // The subvolume may be gone.
        let Some((_, item)) = trees.last_up_to(trees.superblock().root, last)? else { continue };
        let (root, _) = root_item(&item).ok_or_else(|| bad(format_args!("subvolume {id} has no root")))?;
        let mut replay = Replay { trees, root, log, steps, touched: BTreeSet::new(), counted: BTreeSet::new() };
        replay.run()?;
        steps = replay.steps;
    }
    Ok(())
}

/// One subvolume and its log.
struct Replay<'a> {
    trees: &'a mut Trees,
    root: Root,
    log: Root,
    steps: usize,
    /// Inodes whose number of names is to be counted.
    touched: BTreeSet<u64>,
    /// Files whose bytes are to be counted.
    counted: BTreeSet<u64>,
}

impl Replay<'_> {
    fn run(&mut self) -> Result<()> {
        let mut items = Vec::new();
        let mut bytes = 0;
        self.trees.items(self.log, Key::first(0, 0), |key, item| {
            bytes += item.len() + size_of::<(Key, Vec<u8>)>();
            if bytes > BYTES_MAX {
                return Err(Error::unsupported(format!("btrfs: a log of more than {BYTES_MAX} bytes")));
            }
            items.push((key, item.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        // Files that were never given a name, or lost the last one, are not logged by newer kernels.
        let nameless = |(key, item): &(Key, Vec<u8>)| key.kind == INODE_ITEM && le32(item, LINKS) == 0;
        let ignored: BTreeSet<u64> = items.iter().filter(|entry| nameless(entry)).map(|(key, _)| key.object).collect();
        items.retain(|(key, _)| !ignored.contains(&key.object));
        for (key, item) in items.iter().filter(|(key, _)| key.kind == INODE_ITEM) {
            self.inode(*key, item)?;
        }
        for (key, item) in items.iter().filter(|(key, _)| key.kind == DIR_INDEX) {
            self.name(*key, item)?;
        }
        for (key, item) in &items {
            match key.kind {
                XATTR_ITEM => self.put(*key, Some(item.clone())),
                INODE_REF | INODE_EXTREF => self.references(*key, item)?,
                EXTENT_DATA => self.extent(*key, item)?,
                _ => {}
            }
        }
        self.count_names()?;
        self.count_bytes()
    }

    fn step(&mut self, count: usize) -> Result<()> {
        self.steps += count;
        match self.steps <= STEPS_MAX {
            true => Ok(()),
            false => Err(Error::unsupported("btrfs: the log needs more work than any that Linux writes")),
        }
    }

    fn put(&mut self, key: Key, item: Option<Vec<u8>>) {
        self.trees.put(self.root, key, item);
    }

    fn item(&mut self, key: Key) -> Result<Option<Vec<u8>>> {
        self.step(1)?;
        self.trees.item(self.root, key)
    }

    /// All items of an object and kind in a tree, from an offset up to another one.
    fn all(&mut self, tree: Root, from: Key, to: u64) -> Result<Vec<(Key, Vec<u8>)>> {
        let left = STEPS_MAX - self.steps.min(STEPS_MAX);
        let mut found = Vec::new();
        self.trees.items(tree, from, |key, item| {
            if (key.object, key.kind) != (from.object, from.kind) || key.offset > to || found.len() > left {
                return Ok(ControlFlow::Break(()));
            }
            found.push((key, item.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        self.step(found.len() + 1)?;
        Ok(found)
    }

    /// An inode item of the subvolume.
    fn node(&mut self, inode: u64) -> Result<Option<Vec<u8>>> {
        self.item(Key::first(inode, INODE_ITEM))
    }

    fn is_directory(item: &[u8]) -> bool {
        FileType::from_mode(le32(item, MODE)) == Some(FileType::Directory)
    }

    fn is_regular(item: &[u8]) -> bool {
        FileType::from_mode(le32(item, MODE)) == Some(FileType::Regular)
    }

    /// A logged inode: what the log does not have any more goes, then the inode itself.
    fn inode(&mut self, key: Key, item: &[u8]) -> Result<()> {
        self.remove_attributes(key.object)?;
        if Self::is_directory(item) {
            self.remove_names(key.object, false)?;
        }
        let mut new = item.to_vec();
        match self.node(key.object)? {
            Some(mut old) if le64(item, GENERATION) == 0 => {
                // Logged only because it is there: of a file the size counts.
                if Self::is_regular(item) && Self::is_regular(&old) && le64(item, SIZE) != 0 {
                    put_le64(&mut old, SIZE, le64(item, SIZE));
                }
                new = old;
            }
            Some(old) => {
                put_le64(&mut new, BYTES, le64(&old, BYTES));
                if Self::is_directory(item) {
                    put_le64(&mut new, SIZE, if Self::is_directory(&old) { le64(&old, SIZE) } else { 0 });
                }
            }
            None => {
                put_le64(&mut new, BYTES, 0);
                if Self::is_directory(item) {
                    put_le64(&mut new, SIZE, 0);
                }
            }
        }
        let sector = u64::from(self.trees.superblock().sector);
        let end = le64(&new, SIZE).checked_next_multiple_of(sector);
        let regular = Self::is_regular(&new);
        self.put(key, Some(new));
        if let Some(end) = end.filter(|_| regular) {
            self.drop_extents(key.object, end, u64::MAX)?;
        }
        self.touched.insert(key.object);
        Ok(())
    }

    /// Removes the attributes of an inode that its log does not have.
    fn remove_attributes(&mut self, inode: u64) -> Result<()> {
        for (key, item) in self.all(self.root, Key::first(inode, XATTR_ITEM), u64::MAX)? {
            self.step(1)?;
            let logged = self.trees.item(self.log, key)?.unwrap_or_default();
            let logged: Vec<&[u8]> = names(&logged)?.iter().map(|named| named.name).collect();
            let mut kept = Vec::new();
            for (entry, named) in entries(&item)? {
                if logged.contains(&named.name) {
                    kept.extend_from_slice(entry);
                }
            }
            self.put(key, (!kept.is_empty()).then_some(kept));
        }
        Ok(())
    }

    /// Removes the names of a directory, of the ranges that were logged, that the log does not have; or all.
    fn remove_names(&mut self, dir: u64, all: bool) -> Result<()> {
        if self.node(dir)?.is_none() {
            return Ok(());
        }
        let ranges: Vec<(u64, u64)> = match all {
            true => vec![(0, u64::MAX)],
            false => {
                let ranges = self.all(self.log, Key::first(dir, DIR_LOG_INDEX), u64::MAX)?;
                ranges.iter().map(|(key, item)| (key.offset, le64(item, 0))).collect()
            }
        };
        for (from, to) in ranges {
            for (key, item) in self.all(self.root, Key { object: dir, kind: DIR_INDEX, offset: from }, to)? {
                self.step(1)?;
                let logged = if all { None } else { self.trees.item(self.log, key)? }.unwrap_or_default();
                for named in names(&item)? {
                    if !names(&logged)?.iter().any(|other| other.name == named.name)
                        && named.location.kind == INODE_ITEM
                    {
                        self.unlink(dir, named.name, named.location.object)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The references of an inode to a directory, in both kinds of items.
    fn reference_items(&mut self, tree: Root, inode: u64, dir: u64) -> Result<Vec<(Key, Vec<u8>)>> {
        let mut found = Vec::new();
        let key = Key { object: inode, kind: INODE_REF, offset: dir };
        self.step(1)?;
        if let Some(item) = self.trees.item(tree, key)? {
            found.push((key, item));
        }
        for (key, item) in self.all(tree, Key::first(inode, INODE_EXTREF), u64::MAX)? {
            if references(key, &item)?.iter().any(|reference| reference.dir == dir) {
                found.push((key, item));
            }
        }
        Ok(found)
    }

    /// Whether a tree has this name of an inode in a directory as a reference.
    fn has_reference(&mut self, tree: Root, inode: u64, dir: u64, name: &[u8]) -> Result<bool> {
        for (key, item) in self.reference_items(tree, inode, dir)? {
            if references(key, &item)?.iter().any(|found| found.dir == dir && found.name == name) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a name, its places in the directory and the inode's reference.
    fn unlink(&mut self, dir: u64, name: &[u8], inode: u64) -> Result<()> {
        let mut index = None;
        for (key, item) in self.reference_items(self.root, inode, dir)? {
            let mut kept = Vec::new();
            for reference in references(key, &item)? {
                if reference.dir == dir && reference.name == name {
                    index = Some(reference.index);
                } else {
                    kept.extend_from_slice(reference.bytes);
                }
            }
            self.put(key, (!kept.is_empty()).then_some(kept));
        }
        self.remove_entry(Key { object: dir, kind: DIR_ITEM, offset: name_hash(name) }, name)?;
        if let Some(index) = index {
            self.remove_entry(Key { object: dir, kind: DIR_INDEX, offset: index }, name)?;
        }
        self.grow(dir, name, false)?;
        self.touched.insert(inode);
        Ok(())
    }

    fn remove_entry(&mut self, key: Key, name: &[u8]) -> Result<()> {
        let Some(item) = self.item(key)? else { return Ok(()) };
        let kept: Vec<&[u8]> =
            entries(&item)?.into_iter().filter(|(_, named)| named.name != name).map(|(entry, _)| entry).collect();
        self.put(key, (!kept.is_empty()).then(|| kept.concat()));
        Ok(())
    }

    /// The size of a directory is twice the length of its names.
    fn grow(&mut self, dir: u64, name: &[u8], more: bool) -> Result<()> {
        let Some(mut item) = self.node(dir)? else { return Ok(()) };
        let (size, change) = (le64(&item, SIZE), name.len() as u64 * 2);
        put_le64(&mut item, SIZE, if more { size.saturating_add(change) } else { size.saturating_sub(change) });
        self.put(Key::first(dir, INODE_ITEM), Some(item));
        Ok(())
    }

    /// Adds a name to a directory, at an index; the inode's reference is not made here.
    fn link(&mut self, dir: u64, index: u64, entry: &[u8], name: &[u8]) -> Result<()> {
        let key = Key { object: dir, kind: DIR_ITEM, offset: name_hash(name) };
        let old = self.item(key)?.unwrap_or_default();
        self.put(key, Some([&old, entry].concat()));
        self.put(Key { object: dir, kind: DIR_INDEX, offset: index }, Some(entry.to_vec()));
        self.grow(dir, name, true)
    }

    /// The inode or subvolume that an entry of a directory names.
    fn entry(&mut self, kind: u8, dir: u64, offset: u64, name: &[u8]) -> Result<Option<Key>> {
        let item = self.item(Key { object: dir, kind, offset })?.unwrap_or_default();
        Ok(names(&item)?.iter().find(|named| named.name == name).map(|named| named.location))
    }

    /// The entry of an index, whatever its name is.
    fn at_index(&mut self, dir: u64, index: u64) -> Result<Option<(Vec<u8>, Key)>> {
        let item = self.item(Key { object: dir, kind: DIR_INDEX, offset: index })?.unwrap_or_default();
        Ok(names(&item)?.first().map(|named| (named.name.to_vec(), named.location)))
    }

    /// A logged name of a directory.
    fn name(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let dir = key.object;
        for (entry, named) in entries(item)? {
            let (name, target) = (named.name, named.location);
            if target.kind != INODE_ITEM {
                continue;
            }
            let exists = self.node(target.object)?;
            let by_name = self.entry(DIR_ITEM, dir, name_hash(name), name)?;
            let by_index = self.entry(DIR_INDEX, dir, key.offset, name)?;
            if by_name == Some(target) && by_index == Some(target) {
                continue;
            }
            if exists.is_some()
                && let Some(other) = by_name.or(by_index).filter(|other| *other != target)
            {
                self.unlink(dir, name, other.object)?;
            }
            // With a reference in the log, the name is added by it.
            if self.has_reference(self.log, target.object, dir, name)? {
                continue;
            }
            let taken = self.entry(DIR_ITEM, dir, name_hash(name), name)?.is_some();
            let taken = taken || self.at_index(dir, key.offset)?.is_some();
            let (Some(inode), Some(_), false) = (exists, self.node(dir)?, taken) else { continue };
            self.link(dir, key.offset, entry, name)?;
            self.add_reference(target.object, dir, key.offset, name)?;
            if !Self::is_directory(&inode) {
                self.touched.insert(target.object);
            }
        }
        Ok(())
    }

    fn add_reference(&mut self, inode: u64, dir: u64, index: u64, name: &[u8]) -> Result<()> {
        let key = Key { object: inode, kind: INODE_REF, offset: dir };
        let old = self.item(key)?.unwrap_or_default();
        let len = u16::try_from(name.len()).map_err(|_| bad("a name that cannot be"))?;
        self.put(key, Some([&old, &index.to_le_bytes()[..], &len.to_le_bytes(), name].concat()));
        Ok(())
    }

    /// The logged references of an inode: its names are as they say.
    fn references(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let inode = key.object;
        let logged = references(key, item)?;
        let Some(node) = self.node(inode)? else { return Err(bad(format_args!("inode {inode} is not there"))) };
        for Reference { dir, index, name, .. } in &logged {
            // The top of a subvolume is its own directory. Directories that are not there were not logged.
            if *dir == inode {
                continue;
            }
            if self.node(*dir)?.is_none() {
                return Ok(());
            }
            let target = Key::first(inode, INODE_ITEM);
            if self.entry(DIR_ITEM, *dir, name_hash(name), name)? == Some(target)
                && self.entry(DIR_INDEX, *dir, *index, name)? == Some(target)
            {
                continue;
            }
            // Names that the inode has in this directory and not in the log.
            for (old, item) in self.reference_items(self.root, inode, *dir)? {
                for other in references(old, &item)?.iter().filter(|other| other.dir == *dir) {
                    if !self.has_reference(self.log, inode, *dir, other.name)? {
                        self.unlink(*dir, other.name, inode)?;
                    }
                }
            }
            // What has the place or the name now.
            if let Some((other, location)) = self.at_index(*dir, *index)?
                && location.kind == INODE_ITEM
            {
                self.unlink(*dir, &other, location.object)?;
                self.remove_entry(Key { object: *dir, kind: DIR_INDEX, offset: *index }, &other)?;
            }
            if let Some(other) = self.entry(DIR_ITEM, *dir, name_hash(name), name)? {
                if other.kind != INODE_ITEM {
                    return Err(bad(format_args!("inode {inode} has the name of a subvolume")));
                }
                self.unlink(*dir, name, other.object)?;
            }
            let entry = new_entry(inode, &node, name)?;
            self.link(*dir, *index, &entry, name)?;
        }
        // Names of the old item that the new one does not have.
        if let Some(old) = self.item(key)? {
            for other in references(key, &old)? {
                let same = |new: &Reference<'_>| new.dir == other.dir && new.name == other.name;
                if !logged.iter().any(same) && other.dir != inode {
                    self.unlink(other.dir, other.name, inode)?;
                }
            }
        }
        self.put(key, Some(item.to_vec()));
        self.touched.insert(inode);
        Ok(())
    }

    /// A logged extent takes the place of what its file has there.
    fn extent(&mut self, key: Key, item: &[u8]) -> Result<()> {
        if self.node(key.object)?.is_none() {
            return Err(bad(format_args!("inode {} is not there", key.object)));
        }
        let end = self.extent_end(key, item)?;
        self.drop_extents(key.object, key.offset, end)?;
        let hole = u8_at(item, KIND) != 0 && le64(item, ADDRESS) == 0;
        if !(hole && self.trees.superblock().incompat & NO_HOLES != 0) {
            self.put(key, Some(item.to_vec()));
        }
        self.counted.insert(key.object);
        Ok(())
    }

    /// The first byte of the file behind an extent.
    fn extent_end(&self, key: Key, item: &[u8]) -> Result<u64> {
        let sector = u64::from(self.trees.superblock().sector);
        let end = match u8_at(item, KIND) {
            0 => key.offset.checked_add(le64(item, UNPACKED)).and_then(|end| end.checked_next_multiple_of(sector)),
            _ if item.len() < EXTENT => None,
            _ => key.offset.checked_add(le64(item, LENGTH)),
        };
        end.filter(|end| *end > key.offset)
            .ok_or_else(|| bad(format_args!("inode {}: extent at {} has no length", key.object, key.offset)))
    }

    /// Takes bytes `from..to` out of the extents of a file.
    fn drop_extents(&mut self, inode: u64, from: u64, to: u64) -> Result<()> {
        let before = Key { object: inode, kind: EXTENT_DATA, offset: from };
        self.step(1)?;
        let first = self.trees.last_up_to(self.root, before)?.map_or(0, |(key, _)| key.offset);
        for (key, item) in self.all(self.root, Key { offset: first, ..before }, to - 1)? {
            let end = self.extent_end(key, &item)?;
            if end <= from {
                continue;
            }
            self.counted.insert(inode);
            self.put(key, None);
            if u8_at(&item, KIND) == 0 {
                if key.offset < from || end > to {
                    return Err(bad(format_args!("inode {inode}: a part of an inline extent is replaced")));
                }
                continue;
            }
            if key.offset < from {
                let mut left = item.clone();
                put_le64(&mut left, LENGTH, from - key.offset);
                self.put(key, Some(left));
            }
            if end > to {
                let mut right = item;
                let skip = le64(&right, SKIP).saturating_add(to - key.offset);
                put_le64(&mut right, SKIP, skip);
                put_le64(&mut right, LENGTH, end - to);
                self.put(Key { offset: to, ..key }, Some(right));
            }
        }
        Ok(())
    }

    /// Gives every inode that was touched the number of its names; a directory without one loses its names.
    fn count_names(&mut self) -> Result<()> {
        while let Some(inode) = self.touched.pop_first() {
            let Some(mut item) = self.node(inode)? else { continue };
            let mut links = 0;
            for kind in [INODE_REF, INODE_EXTREF] {
                for (key, item) in self.all(self.root, Key::first(inode, kind), u64::MAX)? {
                    links += references(key, &item)?.len();
                }
            }
            put_le32(&mut item, LINKS, u32::try_from(links).unwrap_or(u32::MAX));
            let lost = links == 0 && Self::is_directory(&item);
            self.put(Key::first(inode, INODE_ITEM), Some(item));
            if lost {
                self.remove_names(inode, true)?;
            }
        }
        Ok(())
    }

    /// Gives every file whose extents changed the number of its bytes.
    fn count_bytes(&mut self) -> Result<()> {
        for inode in std::mem::take(&mut self.counted) {
            let Some(mut item) = self.node(inode)? else { continue };
            let mut bytes = 0u64;
            for (_, extent) in self.all(self.root, Key::first(inode, EXTENT_DATA), u64::MAX)? {
                bytes = bytes.saturating_add(match u8_at(&extent, KIND) {
                    0 => le64(&extent, UNPACKED),
                    _ if le64(&extent, ADDRESS) == 0 => 0,
                    _ => le64(&extent, LENGTH),
                });
            }
            put_le64(&mut item, BYTES, bytes);
            self.put(Key::first(inode, INODE_ITEM), Some(item));
        }
        Ok(())
    }
}

/// A directory entry for an inode.
fn new_entry(inode: u64, node: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    let kind = match FileType::from_mode(le32(node, MODE)) {
        Some(FileType::Regular) => 1,
        Some(FileType::Directory) => 2,
        Some(FileType::CharDevice) => 3,
        Some(FileType::BlockDevice) => 4,
        Some(FileType::Fifo) => 5,
        Some(FileType::Socket) => 6,
        Some(FileType::Symlink) => 7,
        None => return Err(bad(format_args!("inode {inode}: its mode is that of no file"))),
    };
    let len = u16::try_from(name.len()).map_err(|_| bad("a name that cannot be"))?;
    let mut entry = inode.to_le_bytes().to_vec();
    entry.push(INODE_ITEM);
    // Offset of the key, generation, length of a value.
    entry.extend([0; 18]);
    entry.extend(len.to_le_bytes());
    entry.push(kind);
    entry.extend(name);
    Ok(entry)
}
