//! Inodes of groups that go get other numbers, and whatever names them follows.

use std::collections::{HashMap, HashSet};

use super::super::Ext4;
use super::super::alloc::bit_is_set;
use super::super::cache::Role;
use super::super::checksum;
use super::super::features::{Incompat, RoCompat};
use super::super::geometry::Geometry;
use super::super::group::{Group, INODE_UNINIT};
use super::super::inode::{FLAG_EA_INODE, FLAG_INLINE_DATA, Inode, ROOT};
use super::super::xattr;
use super::BATCH;
use crate::base::bytes::put_le32;
use crate::base::{Error, Result};

impl Ext4 {
    /// The numbers of the inodes in use from group `from` up to group `to`.
    pub(super) fn used_inodes(&self, from: u32, to: u32) -> Result<Vec<u32>> {
        let per = self.geometry.inodes_per_group;
        let mut used = Vec::new();
        for group in from..to {
            let desc = self.group(group)?;
            if self.geometry.has_group_checksums() && Group(&desc).flags() & INODE_UNINIT != 0 {
                continue;
            }
            let (_, bitmap) = self.bitmap(group, false)?;
            let bits = (0..per).filter(|bit| bit_is_set(&bitmap, *bit));
            used.extend(bits.map(|bit| group * per + bit + 1));
        }
        Ok(used)
    }

    /// Gives the inodes of groups that go numbers in those that stay; answers old and new numbers.
    pub(super) fn move_inodes(&mut self, new: &Geometry) -> Result<HashMap<u32, u32>> {
        let root = self.inode(ROOT)?;
        let mut moved = HashMap::new();
        for number in self.used_inodes(new.groups, self.geometry.groups)? {
            let inode = self.inode(number)?;
            let target = self.allocate_inode(&root, inode.is_dir())?;
            let to = Inode::new(target.number(), inode.bytes());
            self.reown(&inode, checksum::inode_seed(self.geometry.seed, to.number(), to.generation()))?;
            self.put_inode(&to)?;
            if to.is_dir() && !to.has(FLAG_INLINE_DATA) {
                // `.` is the first entry of the first block.
                put_le32(self.leaf_mut(&to, 0)?, 0, to.number());
            }
            if self.geometry.ro_compat.has(RoCompat::QUOTA) {
                // It counts where it is now.
                self.put_inode(&Inode::new(number, &vec![0; self.geometry.inode_size]))?;
            }
            self.release_inode(number, inode.is_dir())?;
            moved.insert(number, to.number());
            if (moved.len() as u32).is_multiple_of(BATCH) {
                self.write_back()?;
            }
        }
        Ok(moved)
    }

    /// Points every name of an inode that has moved, and every attribute whose value it is, to its new number.
    pub(super) fn point_to_moved(&mut self, moved: &HashMap<u32, u32>) -> Result<()> {
        if moved.is_empty() {
            return Ok(());
        }
        let sb = &self.superblock;
        let own = [sb.journal_inode(), sb.orphan_file()].into_iter().chain(sb.quota_files());
        if let Some(number) = own.into_iter().find(|number| moved.contains_key(number)) {
            return Err(Error::unsupported(format!("ext4: inode {number}, which the superblock names, cannot move")));
        }
        let mut attribute_blocks = HashSet::new();
        for (count, number) in (1..).zip(self.used_inodes(0, self.geometry.groups)?) {
            let mut inode = self.inode(number)?;
            if inode.links() == 0 {
                continue;
            }
            let before = inode.clone();
            if self.geometry.incompat.has(Incompat::EA_INODE) {
                self.point_values(&mut inode, moved, &mut attribute_blocks)?;
            }
            match inode.is_dir() {
                true if inode.has(FLAG_INLINE_DATA) => self.point_inline_names(&mut inode, moved)?,
                true => self.point_names(&inode, moved)?,
                false => {}
            }
            if inode != before {
                self.put_inode(&inode)?;
            }
            if u32::is_multiple_of(count, BATCH) {
                self.write_back()?;
            }
        }
        Ok(())
    }

    /// The places of entries in a part of a directory that name inodes which have moved, with their new numbers.
    fn names_of_moved(
        &self,
        dir: &Inode,
        logical: u64,
        area: &[u8],
        moved: &HashMap<u32, u32>,
    ) -> Result<Vec<(usize, u32)>> {
        let mut changes = Vec::new();
        for entry in self.entries_of(dir, logical, area) {
            let entry = entry?;
            if let Some(to) = moved.get(&entry.inode).filter(|_| entry.inode != 0) {
                changes.push((entry.at, *to));
            }
        }
        Ok(changes)
    }

    /// Points the names in the blocks of a directory.
    fn point_names(&mut self, dir: &Inode, moved: &HashMap<u32, u32>) -> Result<()> {
        for logical in 0..self.dir_blocks(dir) {
            let Some(block) = self.dir_block(dir, logical)? else { continue };
            let changes = self.names_of_moved(dir, logical, self.entry_area(&block), moved)?;
            if !changes.is_empty() {
                let bytes = self.block_mut(block.number, block.role)?;
                changes.into_iter().for_each(|(at, to)| put_le32(bytes, at, to));
            }
        }
        Ok(())
    }

    /// Points the names of a directory that is in its inode, and the number of the directory above it.
    fn point_inline_names(&self, dir: &mut Inode, moved: &HashMap<u32, u32>) -> Result<()> {
        if let Some(to) = moved.get(&self.parent_of(dir)?) {
            put_le32(dir.area_mut(), 0, *to);
        }
        for (number, area) in [(0, dir.area()[4..].to_vec()), (1, self.inline_rest(dir)?)] {
            let changes = self.names_of_moved(dir, number, &area, moved)?;
            if !changes.is_empty() {
                self.change_inline_area(dir, number, |bytes| {
                    changes.iter().for_each(|(at, to)| put_le32(bytes, *at, *to));
                })?;
            }
        }
        Ok(())
    }

    /// Points the attributes of an inode whose values are inodes that have moved; `seen` are the attribute blocks that were
    /// looked at before.
    fn point_values(&mut self, inode: &mut Inode, moved: &HashMap<u32, u32>, seen: &mut HashSet<u64>) -> Result<()> {
        if inode.has(FLAG_EA_INODE) && self.users_of_value(inode) == 0 {
            // As Lustre made them: the value names its owner.
            return Err(Error::unsupported(format!(
                "ext4: inode {} is a value without a count of users",
                inode.number()
            )));
        }
        if xattr::point(xattr::in_inode(inode), moved).is_none() {
            return Err(self.bad_attributes(inode, "the inode"));
        }
        let number = inode.xattr_block();
        if number != 0 && seen.insert(number) {
            let before = self.block(number, Role::Attributes)?;
            let mut bytes = before.to_vec();
            if xattr::point(xattr::in_block(&mut bytes), moved).is_none() {
                return Err(self.bad_attributes(inode, &format!("block {number}")));
            }
            if bytes[..] != before[..] {
                self.block_mut(number, Role::Attributes)?.copy_from_slice(&bytes);
            }
        }
        Ok(())
    }
}
