//! Growing and shrinking: the number of groups changes, and everything that follows from it.
//!
//! The results are those of resize2fs 1.47 in size, counts and copies (`tests/ext4_resize.rs` compares them); where
//! the metadata of new groups lies is our choice.

mod grow;
mod meta_bg;
mod renumber;
mod resize_inode;
mod shrink;

use super::Ext4;
use super::features::{Compat, Incompat, RoCompat};
use super::geometry::Geometry;
use super::superblock::Superblock;
use crate::base::{Error, Kind, Result};
use crate::fs::Edit;

/// Blocks that must be left in the last group, or it is not made.
const LAST_GROUP_ROOM: u64 = 50;
/// Changed metadata is written after so many inodes.
const BATCH: u32 = 4096;
/// Without a size, the device's is rounded down to a page of the machines that mount it.
const PAGE: u64 = 4096;

impl Ext4 {
    /// Makes the file system `bytes` long, or as long as its device. What does not fill a last group of useful size
    /// is left out.
    ///
    /// # Errors
    /// `Kind::NoSpace` if the device is too short, or the content does not fit; `Kind::Unsupported` names the
    /// feature that is not handled.
    pub fn set_size(&mut self, bytes: Option<u64>) -> Result<()> {
        self.begin_edit()?;
        let wanted = self.wanted_blocks(bytes)?;
        self.set_blocks(wanted)
    }

    /// [`Ext4::set_size`] of a file system that is mounted: it only grows, as in Linux.
    ///
    /// # Errors
    /// Those of [`Ext4::set_size`]; `Kind::Busy` if it would shrink.
    pub fn grow_mounted(&mut self, bytes: Option<u64>) -> Result<()> {
        self.begin_edit()?;
        let wanted = self.wanted_blocks(bytes)?;
        if self.useful(wanted) < self.geometry.blocks {
            return Err(Error::new(Kind::Busy, "On-line shrinking not supported").hint("umount it first"));
        }
        self.set_blocks(wanted)
    }

    /// Blocks that fit into so many bytes, or on the device.
    fn wanted_blocks(&self, bytes: Option<u64>) -> Result<u64> {
        let device = self.base.len();
        let bytes = match bytes {
            None => device / PAGE.max(self.geometry.bs()) * PAGE.max(self.geometry.bs()),
            Some(bytes) if bytes > device => {
                let detail = format!("the device has {device} bytes, fewer than the {bytes} asked for");
                return Err(Error::new(Kind::NoSpace, detail).hint("make the disk or partition larger first"));
            }
            Some(bytes) => bytes,
        };
        Ok(bytes / self.geometry.bs())
    }

    /// Makes the file system as many blocks long as are useful of the `wanted` ones.
    fn set_blocks(&mut self, wanted: u64) -> Result<()> {
        let mut blocks = self.useful(wanted);
        let room = self.room_for_descriptors();
        self.check_layout()?;
        if blocks > room {
            self.check_revision()?;
        }
        self.sync()?;
        if blocks > room {
            // As Linux does with a mounted file system: all the room is used first.
            if room > self.geometry.blocks {
                self.grow(room)?;
            }
            self.convert_to_meta_bg()?;
            blocks = self.useful(wanted);
        }
        match blocks.cmp(&self.geometry.blocks) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => self.grow(blocks),
            std::cmp::Ordering::Less => self.shrink(blocks),
        }
    }

    /// Refuses layouts whose copies are not written here.
    fn check_layout(&self) -> Result<()> {
        let geometry = &self.geometry;
        let refuse = |what: &str| Err(Error::unsupported(format!("ext4: {what} cannot be resized yet")));
        if geometry.incompat.has(Incompat::META_BG)
            && (u64::from(self.superblock.first_meta_bg()) > geometry.desc_blocks()
                || self.superblock.reserved_gdt_blocks() > 0)
        {
            return refuse("a file system with feature 'meta_bg' (incompat 0x10) and room kept for descriptors");
        }
        if geometry.ro_compat.has(RoCompat::BIGALLOC) {
            // resize2fs does not either, unless it is forced to.
            return refuse("a file system with feature 'bigalloc' (ro_compat 0x200)");
        }
        Ok(())
    }

    /// `blocks` without a last group that its own metadata would fill.
    fn useful(&self, blocks: u64) -> u64 {
        let geometry = &self.geometry;
        let per = u64::from(geometry.blocks_per_group);
        let rest = blocks.saturating_sub(geometry.first_block) % per;
        let groups = blocks.saturating_sub(geometry.first_block) / per;
        let Ok(last) = u32::try_from(groups) else { return blocks };
        // Under sparse_super2 a copy of the superblock follows the last group.
        let group = if geometry.compat.has(Compat::SPARSE_SUPER2) { 0 } else { last };
        let needed = geometry.head_blocks(group) + 2 + geometry.table_blocks() + LAST_GROUP_ROOM;
        if rest > 0 && rest < needed && last > 0 { blocks - rest } else { blocks }
    }

    /// The groups that copies of the superblock stand in under sparse_super2, if the last group is `last`: what stood in the
    /// last one moves with it, as resize2fs does it. Where there was one group, the second and the last one get copies.
    fn backup_groups(&self, last: u32) -> [u32; 2] {
        let (old, old_last) = (self.superblock.backup_groups(), self.geometry.groups - 1);
        let follow = |group: u32| if group == old_last && group > 1 { last } else { group };
        let new = if old_last == 0 { [1, last] } else { old.map(follow) };
        let [first, second] = new.map(|group| if group > last { 0 } else { group });
        [first, if second == first { 0 } else { second }]
    }

    /// The superblock for another number of blocks, and the geometry that follows; free counts are left. `backups` are the
    /// groups with copies of the superblock under sparse_super2.
    fn resized(&self, blocks: u64, backups: Option<[u32; 2]>) -> Result<(Superblock, Geometry)> {
        let old = &self.geometry;
        let mut sb = self.superblock.clone();
        if blocks > u64::from(u32::MAX) && !old.incompat.has(Incompat::BIT64) {
            return Err(Error::unsupported(format!("ext4: {blocks} blocks need feature '64bit' (incompat 0x80)")));
        }
        let groups = (blocks - old.first_block).div_ceil(old.blocks_per_group.into());
        let inodes = groups.checked_mul(old.inodes_per_group.into()).and_then(|n| u32::try_from(n).ok());
        let Some(inodes) = inodes else {
            return Err(Error::unsupported(format!("ext4: {groups} groups would have more than 2^32 inodes")));
        };
        let reserved = u128::from(sb.reserved_blocks()) * u128::from(blocks) / u128::from(old.blocks);
        sb.set_blocks(blocks);
        sb.set_inodes(inodes);
        sb.set_reserved_blocks(reserved as u64);
        // Whoever needs it counts it anew.
        sb.set_overhead(0);
        let (before, after) = (old.desc_blocks(), groups.div_ceil(old.descs_per_block().into()));
        if before != after && old.compat.has(Compat::RESIZE_INODE) {
            // The descriptors take from the blocks kept behind them, or give to them.
            let kept = (u64::from(sb.reserved_gdt_blocks()) + before).saturating_sub(after);
            sb.set_reserved_gdt_blocks(kept.min(old.bs() / 4) as u16);
        }
        if old.incompat.has(Incompat::META_BG) && u64::from(sb.first_meta_bg()) > after {
            // All descriptors that are left lie behind the superblock.
            sb.clear_incompat(Incompat::META_BG);
            sb.set_first_meta_bg(0);
        }
        if old.compat.has(Compat::SPARSE_SUPER2) {
            sb.set_backup_groups(backups.unwrap_or_else(|| self.backup_groups(groups as u32 - 1)));
        }
        let geometry = Geometry::new(&sb, self.base.len())?;
        Ok((sb, geometry))
    }
}
