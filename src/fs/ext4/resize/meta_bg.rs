//! More descriptors than there is room for behind the first ones: those of new groups lie in these groups (meta_bg).
//!
//! Linux does the same when it grows a mounted file system; resize2fs moves what is in the way instead.

use super::super::Ext4;
use super::super::copies;
use super::super::features::{Compat, Incompat};
use super::resize_inode::{DOUBLE, RESIZE_INODE};
use crate::base::bytes::{le32, put_le32};
use crate::base::{Error, Result};
use crate::fs::{Edit, FileSystem};

impl Ext4 {
    /// Blocks that a file system can have whose descriptors all lie behind its superblock; no limit with meta_bg.
    pub(super) fn room_for_descriptors(&self) -> u64 {
        let geometry = &self.geometry;
        if geometry.incompat.has(Incompat::META_BG) {
            return u64::MAX;
        }
        let kept = if geometry.compat.has(Compat::RESIZE_INODE) {
            u64::from(self.superblock.reserved_gdt_blocks())
        } else {
            0
        };
        let groups = (geometry.desc_blocks() + kept) * u64::from(geometry.descs_per_block());
        geometry.first_block + groups * u64::from(geometry.blocks_per_group)
    }

    /// A file system of revision 0 cannot say where more descriptors lie.
    pub(super) fn check_revision(&self) -> Result<()> {
        if self.superblock.revision() == 0 {
            return Err(Error::unsupported("ext4: no room for more descriptors (revision 0 has no feature 'meta_bg')"));
        }
        Ok(())
    }

    /// Lets the descriptors of groups to come lie in these groups. All the room kept for descriptors is used up; the
    /// inode that kept it goes.
    ///
    /// # Errors
    /// `Kind::Corrupt` if the room is not used up.
    pub(super) fn convert_to_meta_bg(&mut self) -> Result<()> {
        if self.superblock.reserved_gdt_blocks() > 0 {
            let detail =
                format!("ext4: s_reserved_gdt_blocks is {} where 0 must be", self.superblock.reserved_gdt_blocks());
            return Err(Error::corrupt(detail));
        }
        self.begin_edit()?;
        if self.geometry.compat.has(Compat::RESIZE_INODE) {
            let mut inode = self.inode(RESIZE_INODE)?;
            let double = u64::from(le32(inode.area(), DOUBLE));
            self.release(double, 1)?;
            put_le32(inode.area_mut(), DOUBLE, 0);
            inode.set_sectors(0, self.geometry.bs(), false)?;
            self.put_inode(&inode)?;
        }
        self.sync()?;
        let mut sb = self.superblock.clone();
        sb.clear_compat(Compat::RESIZE_INODE);
        sb.add_incompat(Incompat::META_BG);
        sb.set_first_meta_bg(self.geometry.desc_blocks() as u32);
        copies::write_superblocks(self.base.as_ref(), &self.geometry, &sb)?;
        self.reload()
    }
}
