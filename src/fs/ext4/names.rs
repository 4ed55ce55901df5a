//! Directories, written: entries put in, taken out, pointed elsewhere.

use super::Ext4;
use super::cache::Role;
use super::dir::Place;
use super::dirent::{self, Entries};
use super::extent::Run;
use super::features::{Compat, Incompat};
use super::inode::{FLAG_INLINE_DATA, Inode, Time};
use crate::base::bytes::put_le32;
use crate::base::{Error, Kind, Result};

/// A name to put into a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Its inode.
    pub inode: u32,
    /// Its type byte; 0 without the feature `filetype`.
    pub kind: u8,
}

/// Puts an entry into the free space of the first record that has enough of it. Answers whether it did.
pub(super) fn put_in_area(area: &mut [u8], has_types: bool, new: &NewEntry<'_>) -> Option<bool> {
    let need = dirent::needed(new.name.len());
    let mut place = None;
    for entry in Entries::new(area, has_types) {
        let entry = entry?;
        if entry.len - entry.used() >= need {
            place = Some((entry.at, entry.used(), entry.len));
            break;
        }
    }
    let Some(place) = place else { return Some(false) };
    put_at(area, place, new);
    Some(true)
}

/// Puts an entry into the record at `at`, behind the `used` bytes of its `len`.
fn put_at(area: &mut [u8], (at, used, len): (usize, usize, usize), new: &NewEntry<'_>) {
    if used > 0 {
        dirent::put_len(area, at, used);
    }
    dirent::put(area, at + used, len - used, new.inode, new.kind, new.name);
}

/// Takes an entry out: the record before it grows, or the first of the area becomes unused. Answers whether it was
/// there.
fn remove_from_area(area: &mut [u8], has_types: bool, at: usize) -> bool {
    let mut before: Option<(usize, usize)> = None;
    for entry in Entries::new(area, has_types).flatten() {
        if entry.at == at {
            let len = entry.len;
            match before {
                Some((before, room)) => dirent::put_len(area, before, room + len),
                None => dirent::put_inode(area, at, 0),
            }
            return true;
        }
        before = Some((entry.at, entry.len));
    }
    false
}

impl Ext4 {
    /// The block of a directory that must be there.
    fn dir_block_at(&self, dir: &Inode, logical: u64) -> Result<(u64, Role)> {
        match self.dir_block(dir, logical)? {
            Some(block) => Ok((block.number, block.role)),
            None => Err(self.broken(dir, &format!("block {logical} is a hole"))),
        }
    }

    /// The entries of a leaf, to be changed.
    pub(super) fn leaf_mut(&mut self, dir: &Inode, logical: u64) -> Result<&mut [u8]> {
        let (number, role) = self.dir_block_at(dir, logical)?;
        let size = self.geometry.leaf_size();
        Ok(&mut self.block_mut(number, role)?[..size])
    }

    /// Tries to put an entry into one leaf.
    pub(super) fn put_in_leaf(&mut self, dir: &Inode, logical: u64, new: &NewEntry<'_>) -> Result<bool> {
        // Looked at before it is changed, so that a full leaf is not written again.
        let block = self.dir_block(dir, logical)?.ok_or_else(|| self.broken(dir, "a leaf is a hole"))?;
        let need = dirent::needed(new.name.len());
        let place = dirent::room(self.entry_area(&block), self.geometry.has_types(), need)
            .map_err(|_| self.broken(dir, &format!("broken entry in block {logical}")))?;
        let (number, role) = (block.number, block.role);
        drop(block);
        let Some(place) = place else { return Ok(false) };
        put_at(self.block_mut(number, role)?, place, new);
        Ok(true)
    }

    /// Adds a block to a directory; the caller fills it. The inode is changed but not stored.
    pub(super) fn grow_dir(&mut self, dir: &mut Inode) -> Result<u64> {
        let logical = self.dir_blocks(dir);
        let bs = self.geometry.bs();
        if dir.size() >= 1 << 31 && !self.geometry.incompat.has(Incompat::LARGE_DIR) {
            return Err(Error::new(Kind::NoSpace, "No space left on device (the directory is at its largest size)"));
        }
        let mut map = self.map(dir)?;
        let goal = map.runs.last().map_or_else(|| self.home_of(dir), |run| run.physical + u64::from(run.len));
        let grant = self.allocate_mapped(&map, logical, 1, goal)?;
        map.runs.push(Run { logical, len: 1, physical: grant.start, unwritten: false });
        self.store_map(dir, &mut map)?;
        dir.set_size((logical + 1) * bs);
        let role = self.dir_role(dir, logical);
        let size = self.geometry.leaf_size();
        let block = self.block_new(grant.start, role)?;
        dirent::put(block, 0, size, 0, 0, b"");
        Ok(logical)
    }

    /// Puts a name, which the caller knows to be new, into a directory. The inode is changed but not stored.
    pub(super) fn add_entry(&mut self, dir: &mut Inode, new: &NewEntry<'_>) -> Result<()> {
        let new = &NewEntry { kind: if self.geometry.has_types() { new.kind } else { 0 }, ..*new };
        self.check_folding(dir, new.name)?;
        self.missing.take();
        dir.set_time(Time::Modify, self.now);
        dir.set_time(Time::Change, self.now);
        if dir.has(FLAG_INLINE_DATA) {
            if self.add_inline_entry(dir, new)? {
                return Ok(());
            }
            self.move_names_out(dir)?;
        }
        if self.is_indexed(dir) {
            return self.add_indexed(dir, new);
        }
        let blocks = self.dir_blocks(dir);
        let from = self.linear_hints.get(&dir.number()).copied().unwrap_or(0).min(blocks);
        for logical in from..blocks {
            if self.put_in_leaf(dir, logical, new)? {
                // Blocks before this one had no room even for this name, or only for shorter ones.
                self.linear_hints.insert(dir.number(), logical);
                return Ok(());
            }
        }
        if blocks == 1 && self.geometry.compat.has(Compat::DIR_INDEX) {
            self.make_index(dir)?;
            return self.add_indexed(dir, new);
        }
        let logical = self.grow_dir(dir)?;
        self.linear_hints.insert(dir.number(), logical);
        if self.put_in_leaf(dir, logical, new)? { Ok(()) } else { Err(Kind::NoSpace.into()) }
    }

    /// Takes a name out of a directory. The inode is changed but not stored.
    pub(super) fn remove_entry(&mut self, dir: &mut Inode, place: &Place) -> Result<()> {
        dir.set_time(Time::Modify, self.now);
        dir.set_time(Time::Change, self.now);
        self.linear_hints.remove(&dir.number());
        let has_types = self.geometry.has_types();
        let removed = if dir.has(FLAG_INLINE_DATA) {
            self.change_inline_area(dir, place.logical, |area| remove_from_area(area, has_types, place.at))?
        } else {
            remove_from_area(self.leaf_mut(dir, place.logical)?, has_types, place.at)
        };
        if removed { Ok(()) } else { Err(self.broken(dir, "an entry moved while it was removed")) }
    }

    /// Points a name at another inode. The directory's inode is changed but not stored.
    pub(super) fn replace_entry(&mut self, dir: &mut Inode, place: &Place, inode: u32, kind: u8) -> Result<()> {
        dir.set_time(Time::Modify, self.now);
        dir.set_time(Time::Change, self.now);
        self.point_entry(dir, place, inode, Some(kind))
    }

    fn point_entry(&mut self, dir: &mut Inode, place: &Place, inode: u32, kind: Option<u8>) -> Result<()> {
        let kind = kind.filter(|_| self.geometry.has_types());
        let point = |area: &mut [u8]| {
            dirent::put_inode(area, place.at, inode);
            if let Some(kind) = kind {
                dirent::put_kind(area, place.at, kind);
            }
        };
        if dir.has(FLAG_INLINE_DATA) {
            return self.change_inline_area(dir, place.logical, point);
        }
        let (number, role) = self.dir_block_at(dir, place.logical)?;
        point(self.block_mut(number, role)?);
        Ok(())
    }

    /// Writes the first block of a new directory.
    pub(super) fn init_dir(&mut self, dir: &mut Inode, parent: u32) -> Result<()> {
        let logical = self.grow_dir(dir)?;
        let number = dir.number();
        let kind = if self.geometry.has_types() { 2 } else { 0 };
        let area = self.leaf_mut(dir, logical)?;
        let rest = area.len() - 12;
        dirent::put(area, 0, 12, number, kind, b".");
        dirent::put(area, 12, rest, parent, kind, b"..");
        Ok(())
    }

    /// Points `..` of a directory at another one. The directory's inode may be changed but is not stored.
    pub(super) fn set_parent(&mut self, dir: &mut Inode, parent: u32) -> Result<()> {
        if dir.has(FLAG_INLINE_DATA) {
            put_le32(dir.area_mut(), 0, parent);
            return Ok(());
        }
        self.parent_of(dir)?;
        // `parent_of` has seen that the second entry is `..`; the first has 12 bytes in every directory.
        let place = Place { logical: 0, at: 12, inode: 0 };
        self.point_entry(dir, &place, parent, None)
    }
}
