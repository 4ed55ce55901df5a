//! The hash index of a directory, written: inserts, splits of leaves and of index blocks, and the change from
//! a directory of one block to an indexed one.

use super::Ext4;
use super::dir::{Path, Step};
use super::dirent::{self, Entries};
use super::features::Incompat;
use super::inode::{FLAG_INDEX, Inode};
use super::names::NewEntry;
use crate::base::bytes::{le16, put_le16, put_le32};
use crate::base::{Error, Kind, Result};

/// Where the entries of a root begin: behind `.`, `..` and a header of 8 bytes.
const ROOT_ENTRIES: usize = 0x20;
/// An insert needs this many splits at most: one of each level of the index, and a leaf is halved until the name fits.
const MAX_SPLITS: usize = 12;

/// An entry taken out of a leaf.
struct Loose {
    hash: u32,
    inode: u32,
    kind: u8,
    name: Vec<u8>,
}

impl Ext4 {
    fn index_limit(&self, entries: usize) -> u16 {
        let tail = if self.geometry.has_checksums() { 8 } else { 0 };
        ((self.geometry.block_size - entries - tail) / 8) as u16
    }

    fn path_to(&self, dir: &Inode, name: &[u8]) -> Result<Path> {
        self.index_path(dir, name)?.ok_or_else(|| {
            Error::unsupported(format!("ext4: directory inode {}: its hash index is of an unknown kind", dir.number()))
        })
    }

    /// Puts a name into an indexed directory.
    pub(super) fn add_indexed(&mut self, dir: &mut Inode, new: &NewEntry<'_>) -> Result<()> {
        for _ in 0..MAX_SPLITS {
            let path = self.path_to(dir, new.name)?;
            if self.put_in_leaf(dir, path.leaf, new)? {
                return Ok(());
            }
            if path.steps.last().is_some_and(|step| step.count >= step.limit) {
                self.split_index(dir, &path)?;
            } else {
                self.split_leaf(dir, &path)?;
            }
        }
        Err(self.broken(dir, &format!("no room for a name of {} bytes after {MAX_SPLITS} splits", new.name.len())))
    }

    /// The used entries of a leaf with their hashes.
    fn take_out(&self, dir: &Inode, logical: u64, version: u8) -> Result<Vec<Loose>> {
        let block = self.dir_block(dir, logical)?.ok_or_else(|| self.broken(dir, "a leaf is a hole"))?;
        let mut loose = Vec::new();
        for entry in self.entries_of(dir, logical, self.entry_area(&block)) {
            let entry = entry?;
            if entry.inode != 0 && entry.name != b"." && entry.name != b".." {
                let hash = self.hash_in(dir, version, entry.name).unwrap_or_default();
                loose.push(Loose { hash, inode: entry.inode, kind: entry.kind, name: entry.name.to_vec() });
            }
        }
        Ok(loose)
    }

    /// Writes entries into a leaf, in place of what is there, without gaps.
    fn put_back(&mut self, dir: &Inode, logical: u64, loose: &[Loose]) -> Result<()> {
        let area = self.leaf_mut(dir, logical)?;
        area.fill(0);
        let mut at = 0;
        for (i, entry) in loose.iter().enumerate() {
            let need = dirent::needed(entry.name.len());
            let len = if i + 1 == loose.len() { area.len() - at } else { need };
            dirent::put(area, at, len, entry.inode, entry.kind, &entry.name);
            at += need;
        }
        if loose.is_empty() {
            let len = area.len();
            dirent::put(area, 0, len, 0, 0, b"");
        }
        Ok(())
    }

    /// Moves the upper half of a full leaf, by hash, into a new one.
    fn split_leaf(&mut self, dir: &mut Inode, path: &Path) -> Result<()> {
        let Some(step) = path.steps.last().copied() else { return Err(self.broken(dir, "an index without a root")) };
        let mut lower = self.take_out(dir, path.leaf, path.version)?;
        lower.sort_by_key(|entry| entry.hash);
        let size = |entry: &Loose| dirent::needed(entry.name.len());
        let total: usize = lower.iter().map(size).sum();
        let mut sum = 0;
        let at = lower.iter().position(|entry| {
            sum += size(entry);
            sum > total / 2
        });
        let at = at.unwrap_or(0).max(1);
        if at >= lower.len() {
            return Err(self.broken(dir, &format!("block {} is full with {} entries", path.leaf, lower.len())));
        }
        let upper = lower.split_off(at);
        // The lowest bit of a key says that the leaf before has names of the same hash.
        let first = upper.first().map_or(0, |entry| entry.hash);
        let continued = lower.last().is_some_and(|entry| entry.hash == first);
        let fresh = self.grow_dir(dir)?;
        self.put_back(dir, fresh, &upper)?;
        self.put_back(dir, path.leaf, &lower)?;
        self.put_key(dir, &step, first | u32::from(continued), fresh)
    }

    /// Adds a key behind the chosen entry of an index block that has room.
    fn put_key(&mut self, dir: &Inode, step: &Step, key: u32, logical: u64) -> Result<()> {
        let block = self.index_block_mut(dir, step.logical)?;
        let at = step.entries + (step.chosen + 1) * 8;
        let end = step.entries + step.count * 8;
        block.copy_within(at..end, at + 8);
        put_le32(block, at, key);
        put_le32(block, at + 4, logical as u32);
        put_le16(block, step.entries + 2, (step.count + 1) as u16);
        Ok(())
    }

    fn index_block_mut(&mut self, dir: &Inode, logical: u64) -> Result<&mut [u8]> {
        match self.dir_block(dir, logical)? {
            Some(block) => {
                let (number, role) = (block.number, block.role);
                drop(block);
                self.block_mut(number, role)
            }
            None => Err(self.broken(dir, &format!("index block {logical} is a hole"))),
        }
    }

    /// Makes the block just added an index block with these entries.
    fn put_node(&mut self, dir: &Inode, logical: u64, entries: &[u8]) -> Result<()> {
        let limit = self.index_limit(dirent::HEADER);
        let whole = self.geometry.block_size;
        let block = self.index_block_mut(dir, logical)?;
        block.fill(0);
        dirent::put_len(block, 0, whole);
        if let Some(place) = block.get_mut(dirent::HEADER..dirent::HEADER + entries.len()) {
            place.copy_from_slice(entries);
        }
        // Limit and count lie where entry 0, which needs no key, has its hash.
        put_le16(block, dirent::HEADER, limit);
        put_le16(block, dirent::HEADER + 2, (entries.len() / 8) as u16);
        Ok(())
    }

    /// Levels of index blocks that Linux reads.
    fn index_levels(&self) -> usize {
        if self.geometry.incompat.has(Incompat::LARGE_DIR) { 3 } else { 2 }
    }

    /// Makes room in a full index block: the highest full block below one that has room is halved; if all are full
    /// up to the root, its entries move one level down.
    fn split_index(&mut self, dir: &mut Inode, path: &Path) -> Result<()> {
        let full = |step: &&Step| step.count >= step.limit;
        let count = path.steps.iter().rev().take_while(full).count();
        let at = path.steps.len() - count;
        let Some(step) = path.steps.get(at) else { return Err(self.broken(dir, "an index without a root")) };
        let Some(above) = at.checked_sub(1).and_then(|above| path.steps.get(above)) else {
            if path.steps.len() >= self.index_levels() {
                let what = "No space left on device (the index of the directory is full)";
                return Err(Error::new(Kind::NoSpace, what));
            }
            let entries = self.index_bytes(dir, step, 0)?;
            let fresh = self.grow_dir(dir)?;
            self.put_node(dir, fresh, &entries)?;
            let block = self.index_block_mut(dir, 0)?;
            put_le16(block, step.entries + 2, 1);
            put_le32(block, step.entries + 4, fresh as u32);
            block[0x1e] = path.steps.len() as u8;
            return Ok(());
        };
        let middle = step.count / 2;
        let upper = self.index_bytes(dir, step, middle)?;
        let key = crate::base::bytes::le32(&upper, 0);
        let fresh = self.grow_dir(dir)?;
        self.put_node(dir, fresh, &upper)?;
        let block = self.index_block_mut(dir, step.logical)?;
        put_le16(block, step.entries + 2, middle as u16);
        self.put_key(dir, above, key, fresh)
    }

    /// The entries of an index block from number `from` on.
    fn index_bytes(&self, dir: &Inode, step: &Step, from: usize) -> Result<Vec<u8>> {
        let block = self.dir_block(dir, step.logical)?.ok_or_else(|| self.broken(dir, "an index block is a hole"))?;
        let range = step.entries + from * 8..step.entries + step.count * 8;
        block.bytes.get(range).map(<[u8]>::to_vec).ok_or_else(|| self.broken(dir, "an index block is too short"))
    }

    /// Turns a directory of one full block into an indexed one: its names move to a second block.
    pub(super) fn make_index(&mut self, dir: &mut Inode) -> Result<()> {
        let parent = self.parent_of(dir)?;
        let version = match self.superblock.hash_version() {
            version @ 0..=2 => version,
            // Half MD4, as Linux takes for a default that it does not know.
            _ => 1,
        };
        let loose = self.take_out(dir, 0, version)?;
        let fresh = self.grow_dir(dir)?;
        self.put_back(dir, fresh, &loose)?;
        dir.set_flags(dir.flags() | FLAG_INDEX);
        let number = dir.number();
        let limit = self.index_limit(ROOT_ENTRIES);
        let kind = if self.geometry.has_types() { 2 } else { 0 };
        let role = self.dir_role(dir, 0);
        let span = self.span_at(dir, 0)?;
        let Some(block) = span.physical else { return Err(self.broken(dir, "block 0 is a hole")) };
        let block = self.block_mut(block, role)?;
        let whole = block.len();
        block.fill(0);
        dirent::put(block, 0, 12, number, kind, b".");
        dirent::put(block, 12, whole - 12, parent, kind, b"..");
        block[0x1c] = version;
        block[0x1d] = 8;
        put_le16(block, ROOT_ENTRIES, limit);
        put_le16(block, ROOT_ENTRIES + 2, 1);
        put_le32(block, ROOT_ENTRIES + 4, fresh as u32);
        debug_assert_eq!(le16(block, 4), 12);
        debug_assert!(Entries::new(block, true).all(|entry| entry.is_some()));
        Ok(())
    }
}
