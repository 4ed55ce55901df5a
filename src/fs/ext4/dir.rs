//! Directories, read: blocks of entries, and the hash index as a shortcut.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Ext4;
use super::cache::{Role, index_entries};
use super::dirent::{self, Entries, Entry};
use super::features::Compat;
use super::fold;
use super::inode::{FLAG_CASEFOLD, FLAG_INDEX, FLAG_INLINE_DATA, Inode};
use super::superblock::FLAG_UNSIGNED_HASH;
use crate::base::bytes::{le16, le32, u8_at};
use crate::base::{Error, Kind, Name, Result};
use crate::fs::{DirEntry, NodeId};

/// Deepest index: root and two levels, three with large_dir.
const MAX_LEVELS: u8 = 3;

/// A block of a directory.
pub(super) struct DirBlock {
    /// Block of the device.
    pub number: u64,
    /// What it is to the cache.
    pub role: Role,
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
}

/// One step from the root of an index to a leaf.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Block of the directory that holds the index entries.
    pub logical: u64,
    /// Where its limit and count fields are.
    pub entries: usize,
    /// Number of entries.
    pub count: usize,
    /// Room for entries.
    pub limit: usize,
    /// The entry that was followed.
    pub chosen: usize,
}

/// Where an index says that a name is.
#[derive(Debug, Clone)]
pub(super) struct Path {
    /// The name's hash.
    pub hash: u32,
    /// The hash's kind, with the signedness of characters.
    pub version: u8,
    /// From the root down.
    pub steps: Vec<Step>,
    /// The leaf: a block of the directory.
    pub leaf: u64,
}

/// Where an entry was found.
pub(super) struct Place {
    /// Block of the directory; of an inline one, the area.
    pub logical: u64,
    /// Where the entry begins in it.
    pub at: usize,
    /// Its inode.
    pub inode: u32,
}

impl Ext4 {
    /// Refuses what is no directory, or one whose names cannot be read.
    pub(super) fn check_dir(&self, dir: &Inode) -> Result<()> {
        if !dir.is_dir() {
            return Err(Kind::NotADirectory.into());
        }
        self.check_readable(dir)
    }

    /// Number of blocks of a directory.
    pub(super) fn dir_blocks(&self, dir: &Inode) -> u64 {
        dir.size() / self.geometry.bs()
    }

    /// A block of a directory; `None` for a hole.
    pub(super) fn dir_block(&self, dir: &Inode, logical: u64) -> Result<Option<DirBlock>> {
        let span = self.span_at(dir, logical)?;
        let Some(number) = span.physical.filter(|_| !span.unwritten) else { return Ok(None) };
        let role = self.dir_role(dir, logical);
        Ok(Some(DirBlock { number, role, bytes: self.block(number, role)? }))
    }

    /// The role of a directory's block.
    pub(super) fn dir_role(&self, dir: &Inode, logical: u64) -> Role {
        Role::Directory { seed: self.seed_of(dir), root: logical == 0 && self.is_indexed(dir) }
    }

    /// Whether a directory has an index that counts.
    pub(super) fn is_indexed(&self, dir: &Inode) -> bool {
        dir.has(FLAG_INDEX) && self.geometry.compat.has(Compat::DIR_INDEX)
    }

    /// The part of a directory block that holds entries. The root of an index shows `.` and `..` only, a
    /// lower index block one unused entry.
    pub(super) fn entry_area<'a>(&self, block: &'a DirBlock) -> &'a [u8] {
        let Role::Directory { root, .. } = block.role else { return &block.bytes };
        match index_entries(&block.bytes, root) {
            Some(_) => &block.bytes,
            None => &block.bytes[..self.geometry.leaf_size()],
        }
    }

    pub(super) fn broken(&self, dir: &Inode, what: &str) -> Error {
        Error::corrupt(format!("ext4: directory inode {}: {what}", dir.number()))
    }

    /// The entries in one block, broken ones as errors.
    pub(super) fn entries_of<'a>(
        &'a self,
        dir: &'a Inode,
        logical: u64,
        area: &'a [u8],
    ) -> impl Iterator<Item = Result<Entry<'a>>> {
        Entries::new(area, self.geometry.has_types())
            .map(move |entry| entry.ok_or_else(|| self.broken(dir, &format!("broken entry in block {logical}"))))
    }

    /// Calls `each` with every used entry, `.` and `..` with them, until it breaks.
    pub(super) fn scan(&self, dir: &Inode, mut each: impl FnMut(u64, &Entry<'_>) -> ControlFlow<()>) -> Result<()> {
        if dir.has(FLAG_INLINE_DATA) {
            return self.scan_inline(dir, each);
        }
        let blocks = self.dir_blocks(dir);
        let mut logical = 0;
        while logical < blocks {
            let Some(block) = self.dir_block(dir, logical)? else {
                logical = logical.saturating_add(self.span_at(dir, logical)?.len);
                continue;
            };
            for entry in self.entries_of(dir, logical, self.entry_area(&block)) {
                let entry = entry?;
                if entry.inode != 0 && each(logical, &entry).is_break() {
                    return Ok(());
                }
            }
            logical += 1;
        }
        Ok(())
    }

    /// An inline directory: the parent's number, then entries in the inode (area 0) and in the attribute (area 1).
    fn scan_inline(&self, dir: &Inode, mut each: impl FnMut(u64, &Entry<'_>) -> ControlFlow<()>) -> Result<()> {
        let rest = self.inline_rest(dir)?;
        for (number, area) in [(0, &dir.area()[4..]), (1, &rest)] {
            for entry in self.entries_of(dir, number, area) {
                let entry = entry?;
                if entry.inode != 0 && each(number, &entry).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The number of the directory above.
    pub(super) fn parent_of(&self, dir: &Inode) -> Result<u32> {
        if dir.has(FLAG_INLINE_DATA) {
            return Ok(le32(dir.area(), 0));
        }
        let block = self.dir_block(dir, 0)?.ok_or_else(|| self.broken(dir, "block 0 is a hole"))?;
        let mut entries = self.entries_of(dir, 0, self.entry_area(&block));
        let (_, second) = (entries.next(), entries.next());
        match second {
            Some(Ok(entry)) if entry.name == b".." && entry.inode != 0 => Ok(entry.inode),
            _ => Err(self.broken(dir, "the second entry is not '..'")),
        }
    }

    /// See [`crate::fs::FileSystem::read_dir`].
    pub(super) fn list_dir(&self, dir: &Inode) -> Result<Vec<DirEntry>> {
        self.check_dir(dir)?;
        let mut list = Vec::new();
        self.scan(dir, |_, entry| {
            if entry.name != b"." && entry.name != b".." {
                let node = NodeId(entry.inode.into());
                list.push(DirEntry { name: Name(entry.name.to_vec()), node, file_type: dirent::type_of(entry.kind) });
            }
            ControlFlow::Continue(())
        })?;
        Ok(list)
    }

    /// Whether a directory has no entry but `.` and `..`.
    pub(super) fn is_empty_dir(&self, dir: &Inode) -> Result<bool> {
        let mut empty = true;
        self.scan(dir, |_, entry| {
            if entry.name == b"." || entry.name == b".." {
                return ControlFlow::Continue(());
            }
            empty = false;
            ControlFlow::Break(())
        })?;
        Ok(empty)
    }

    /// Finds a name.
    pub(super) fn find(&self, dir: &Inode, name: &[u8]) -> Result<Option<Place>> {
        // A command that makes a name asks three times whether it is there.
        if self.missing.borrow().as_ref().is_some_and(|(of, missing)| *of == dir.number() && missing == name) {
            return Ok(None);
        }
        let found = self.search_dir(dir, name)?;
        if found.is_none() {
            self.missing.replace(Some((dir.number(), name.to_vec())));
        }
        Ok(found)
    }

    fn search_dir(&self, dir: &Inode, name: &[u8]) -> Result<Option<Place>> {
        if name.len() > dirent::NAME_MAX {
            return Err(Kind::NameTooLong.into());
        }
        if self.is_indexed(dir)
            && !dir.has(FLAG_INLINE_DATA | FLAG_CASEFOLD)
            && let Some(mut path) = self.index_path(dir, name)?
        {
            loop {
                if let Some(place) = self.find_in(dir, path.leaf, name)? {
                    return Ok(Some(place));
                }
                if !self.next_leaf(dir, &mut path)? {
                    return Ok(None);
                }
            }
        }
        let mut place = None;
        let folds = dir.has(FLAG_CASEFOLD);
        self.scan(dir, |logical, entry| {
            if entry.name != name && !(folds && fold::same(entry.name, name)) {
                return ControlFlow::Continue(());
            }
            place = Some(Place { logical, at: entry.at, inode: entry.inode });
            ControlFlow::Break(())
        })?;
        Ok(place)
    }

    /// Finds a name in one block.
    fn find_in(&self, dir: &Inode, logical: u64, name: &[u8]) -> Result<Option<Place>> {
        let Some(block) = self.dir_block(dir, logical)? else {
            return Err(self.broken(dir, &format!("index names block {logical}, a hole")));
        };
        dirent::find(self.entry_area(&block), self.geometry.has_types(), name)
            .map(|found| found.map(|(at, inode)| Place { logical, at, inode }))
            .map_err(|_| self.broken(dir, &format!("broken entry in block {logical}")))
    }

    /// The limit and count of an index block, checked.
    fn index_step(&self, dir: &Inode, logical: u64, block: &DirBlock) -> Result<Step> {
        let Role::Directory { root, .. } = block.role else { return Err(self.broken(dir, "no directory block")) };
        let bad = |what: String| Err(self.broken(dir, &format!("index block {logical}: {what}")));
        let Some(entries) = index_entries(&block.bytes, root) else {
            return bad("is a leaf".into());
        };
        let (limit, count) = (usize::from(le16(&block.bytes, entries)), usize::from(le16(&block.bytes, entries + 2)));
        let tail = if self.geometry.has_checksums() { 8 } else { 0 };
        let room = (self.geometry.block_size - tail).saturating_sub(entries) / 8;
        if count == 0 || count > limit || limit != room {
            return bad(format!("{count} entries of {limit}, room for {room}"));
        }
        Ok(Step { logical, entries, count, limit, chosen: 0 })
    }

    /// The way through the index to a name's leaf. `None` if the index is of a kind that is not known, so
    /// that the caller looks at every block.
    ///
    /// # Errors
    /// `Kind::Corrupt` if the index contradicts itself.
    pub(super) fn index_path(&self, dir: &Inode, name: &[u8]) -> Result<Option<Path>> {
        let Some(root) = self.dir_block(dir, 0)? else { return Err(self.broken(dir, "block 0 is a hole")) };
        let (zero, version, length) = (le32(&root.bytes, 0x18), u8_at(&root.bytes, 0x1c), u8_at(&root.bytes, 0x1d));
        let levels = u8_at(&root.bytes, 0x1e);
        if zero != 0 || length != 8 || version > 2 || levels > MAX_LEVELS {
            return Ok(None);
        }
        let unsigned = self.superblock.flags() & FLAG_UNSIGNED_HASH != 0;
        let version = version + if unsigned { 3 } else { 0 };
        let Some(hash) = self.hash_in(dir, version, name) else { return Ok(None) };
        let mut path = Path { hash, version, steps: Vec::new(), leaf: 0 };
        let mut block = root;
        let mut logical = 0;
        for level in 0..=levels {
            let mut step = self.index_step(dir, logical, &block)?;
            // Entry 0 stands for everything below entry 1; of the others the last at or below the hash counts.
            let key = |i: usize| le32(&block.bytes, step.entries + i * 8);
            let (mut low, mut high) = (1, step.count);
            while low < high {
                let middle = (low + high) / 2;
                if key(middle) <= hash { low = middle + 1 } else { high = middle }
            }
            step.chosen = low - 1;
            path.steps.push(step);
            logical = self.index_child(dir, &block, &step)?;
            if level < levels {
                block = self
                    .dir_block(dir, logical)?
                    .ok_or_else(|| self.broken(dir, &format!("index names block {logical}, a hole")))?;
            }
        }
        path.leaf = logical;
        Ok(Some(path))
    }

    /// The block that the chosen entry of an index block names.
    fn index_child(&self, dir: &Inode, block: &DirBlock, step: &Step) -> Result<u64> {
        let child = u64::from(le32(&block.bytes, step.entries + step.chosen * 8 + 4) & 0x0fff_ffff);
        if child == 0 || child >= self.dir_blocks(dir) {
            let blocks = self.dir_blocks(dir);
            return Err(self.broken(dir, &format!("index names block {child} of {blocks}")));
        }
        Ok(child)
    }

    /// Goes on to the next leaf if it continues the same hash (its key has the lowest bit set).
    fn next_leaf(&self, dir: &Inode, path: &mut Path) -> Result<bool> {
        let mut depth = path.steps.len();
        // Up to the first step that has an entry to the right.
        loop {
            depth = match depth.checked_sub(1) {
                Some(depth) => depth,
                None => return Ok(false),
            };
            match path.steps.get_mut(depth) {
                Some(step) if step.chosen + 1 < step.count => {
                    step.chosen += 1;
                    break;
                }
                _ => {}
            }
        }
        let mut first = true;
        for level in depth..path.steps.len() {
            let Some(step) = path.steps.get(level).copied() else { return Ok(false) };
            let Some(block) = self.dir_block(dir, step.logical)? else { return Ok(false) };
            if first && le32(&block.bytes, step.entries + step.chosen * 8) != path.hash | 1 {
                return Ok(false);
            }
            first = false;
            let child = self.index_child(dir, &block, &step)?;
            if level + 1 == path.steps.len() {
                path.leaf = child;
            } else {
                let below = self.dir_block(dir, child)?.ok_or_else(|| self.broken(dir, "index names a hole"))?;
                path.steps[level + 1] = self.index_step(dir, child, &below)?;
            }
        }
        Ok(true)
    }
}
