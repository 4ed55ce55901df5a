//! Growing and shrinking: the number of groups changes, and everything that follows from it.
//!
//! The results are those of resize2fs 1.47 in size, counts and copies (`tests/ext4_resize.rs` compares them); where
//! the metadata of new groups lies is our choice.

mod grow;
mod resize_inode;
mod shrink;

use super::Ext4;
use super::geometry::Geometry;
use super::superblock::Superblock;
use crate::base::{Error, Kind, Result};
use crate::fs::Edit;

/// Blocks that must be left in the last group, or it is not made.
const LAST_GROUP_ROOM: u64 = 50;
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
        self.check_copies()?;
        let device = self.base.len();
        let bytes = match bytes {
            None => device / PAGE.max(self.geometry.bs()) * PAGE.max(self.geometry.bs()),
            Some(bytes) if bytes > device => {
                let detail = format!("the device has {device} bytes, fewer than the {bytes} asked for");
                return Err(Error::new(Kind::NoSpace, detail).hint("make the disk or partition larger first"));
            }
            Some(bytes) => bytes,
        };
        let blocks = self.useful(bytes / self.geometry.bs());
        self.sync()?;
        match blocks.cmp(&self.geometry.blocks) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => self.grow(blocks),
            std::cmp::Ordering::Less => self.shrink(blocks),
        }
    }

    /// `blocks` without a last group that its own metadata would fill.
    fn useful(&self, blocks: u64) -> u64 {
        let geometry = &self.geometry;
        let per = u64::from(geometry.blocks_per_group);
        let rest = blocks.saturating_sub(geometry.first_block) % per;
        let groups = blocks.saturating_sub(geometry.first_block) / per;
        let Ok(last) = u32::try_from(groups) else { return blocks };
        let needed = geometry.head_blocks(last) + 2 + geometry.table_blocks() + LAST_GROUP_ROOM;
        if rest > 0 && rest < needed && last > 0 { blocks - rest } else { blocks }
    }

    /// The superblock for another number of blocks, and the geometry that follows; free counts are left.
    fn resized(&self, blocks: u64) -> Result<(Superblock, Geometry)> {
        let old = &self.geometry;
        let mut sb = self.superblock.clone();
        if blocks > u64::from(u32::MAX) && !old.incompat.has(super::features::Incompat::BIT64) {
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
        if before != after {
            // The descriptors take from the blocks kept behind them, or give to them.
            let kept = (u64::from(sb.reserved_gdt_blocks()) + before).checked_sub(after);
            let kept = kept.filter(|_| old.compat.has(super::features::Compat::RESIZE_INODE));
            let Some(kept) = kept else {
                let most = u64::from(sb.reserved_gdt_blocks()) + before;
                let groups_most = most.saturating_mul(old.descs_per_block().into());
                let most = groups_most.saturating_mul(old.blocks_per_group.into()).saturating_mul(old.bs());
                return Err(Error::unsupported(format!(
                    "ext4: no room for the descriptors of {groups} groups (s_reserved_gdt_blocks {})",
                    sb.reserved_gdt_blocks()
                ))
                .hint(format!("this file system can have up to {most} bytes")));
            };
            sb.set_reserved_gdt_blocks(kept.min(old.bs() / 4) as u16);
        }
        let geometry = Geometry::new(&sb, self.base.len())?;
        Ok((sb, geometry))
    }
}
