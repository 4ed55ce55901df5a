//! Inode 7, which maps every block that is kept for more descriptors: its double indirect block lists those of the
//! first group, each of which lists its twins in the groups with copies (as observed in images of mke2fs).

use super::super::Ext4;
use super::super::features::Compat;
use crate::base::bytes::{le32, put_le32};
use crate::base::{Error, Result};

/// Its number.
pub(super) const RESIZE_INODE: u32 = 7;
/// The double indirect block's place in `i_block`, in bytes.
pub(super) const DOUBLE: usize = 13 * 4;

impl Ext4 {
    /// Writes the lists for the present geometry.
    pub(super) fn write_resize_inode(&mut self) -> Result<()> {
        if !self.geometry.compat.has(Compat::RESIZE_INODE) {
            return Ok(());
        }
        let geometry = self.geometry.clone();
        let mut inode = self.inode(RESIZE_INODE)?;
        let double = u64::from(le32(inode.area(), DOUBLE));
        if double <= geometry.first_block || double >= geometry.blocks {
            return Err(Error::corrupt(format!("ext4: resize inode: its double indirect block is {double}")));
        }
        let words = geometry.bs() / 4;
        let (used, kept) = (geometry.desc_blocks(), u64::from(self.superblock.reserved_gdt_blocks()));
        let copies: Vec<u64> = (1..geometry.groups).filter(|g| geometry.has_superblock(*g)).map(u64::from).collect();
        let mut list = vec![0; geometry.block_size];
        let mut twins = vec![0; geometry.block_size];
        for i in used..used + kept {
            let block = geometry.first_block + 1 + i;
            put_le32(&mut list, (i % words) as usize * 4, block as u32);
            twins.fill(0);
            for (slot, group) in copies.iter().enumerate() {
                let twin = block + group * u64::from(geometry.blocks_per_group);
                put_le32(&mut twins, slot * 4, twin as u32);
            }
            self.base.write_at(block * geometry.bs(), &twins)?;
        }
        self.base.write_at(double * geometry.bs(), &list)?;
        inode.set_sectors((1 + kept * (1 + copies.len() as u64)) * (geometry.bs() / 512), geometry.bs(), false)?;
        self.put_inode(&inode)
    }
}
