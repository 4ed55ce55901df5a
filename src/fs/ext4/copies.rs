//! Superblock and group descriptors with their copies in other groups, written at once.

use super::Ext4;
use super::checksum;
use super::features::{Incompat, RoCompat};
use super::geometry::Geometry;
use super::group::GroupMut;
use super::superblock::{STATE_VALID, SUPERBLOCK_OFFSET, Superblock};
use crate::base::Result;
use crate::disk::BlockDevice;

/// Computes the checksum of a group's descriptor, by whichever feature is on.
pub(super) fn stamp_descriptor(geometry: &Geometry, uuid: &[u8; 16], group: u32, desc: &mut [u8]) {
    if geometry.has_group_checksums() {
        let sum = if geometry.has_checksums() {
            checksum::group_crc32c(geometry.seed, group, desc)
        } else {
            checksum::group_crc16(uuid, group, desc)
        };
        GroupMut(desc).set_checksum(sum);
    }
}

/// The superblock as it stands in a group: with its number, and only the first one says that all is well.
fn copy_for(main: &Superblock, group: u32) -> Superblock {
    let mut copy = main.clone();
    copy.set_group(group);
    if group > 0 {
        copy.set_state(copy.state() & !STATE_VALID);
        copy.clear_incompat(Incompat::RECOVER);
        copy.clear_ro_compat(RoCompat::ORPHAN_PRESENT);
    }
    copy.stamp();
    copy
}

/// Writes a superblock and its copies.
pub(super) fn write_superblocks(device: &dyn BlockDevice, geometry: &Geometry, main: &Superblock) -> Result<()> {
    for group in (0..geometry.groups).filter(|group| geometry.has_superblock(*group)) {
        let at = if group == 0 { SUPERBLOCK_OFFSET } else { geometry.group_start(group) * geometry.bs() };
        device.write_at(at, copy_for(main, group).bytes())?;
    }
    Ok(())
}

/// Writes all descriptors and their copies; `descs` holds whole blocks, stamped.
pub(super) fn write_descriptors(device: &dyn BlockDevice, geometry: &Geometry, descs: &[u8]) -> Result<()> {
    let bs = geometry.bs();
    for (n, block) in (0..).zip(descs.chunks(geometry.block_size)) {
        device.write_at(geometry.desc_block(n) * bs, block)?;
        for copy in geometry.desc_copies(n) {
            device.write_at(copy * bs, block)?;
        }
    }
    Ok(())
}

impl Ext4 {
    /// All descriptors in whole blocks of a table for `geometry`'s groups; those past the present last are zero.
    pub(super) fn descriptors(&self, geometry: &Geometry) -> Result<Vec<u8>> {
        let size = geometry.desc_size;
        let mut table = vec![0; geometry.desc_blocks() as usize * geometry.block_size];
        for (number, place) in (0..self.geometry.groups.min(geometry.groups)).zip(table.chunks_exact_mut(size)) {
            place.copy_from_slice(&self.group(number)?);
        }
        Ok(table)
    }
}
