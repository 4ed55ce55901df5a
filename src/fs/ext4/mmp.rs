//! Multiple mount protection: a block that says whether somebody has the file system mounted.
//!
//! Offsets: kernel documentation, "Multi-mount Protection". It is honoured, not taken: a commit changes the image at
//! once and the image file is locked, so nothing of ours lasts that another mount would have to be kept from.

use super::Ext4;
use super::cache::Role;
use super::checksum;
use super::features::Incompat;
use crate::base::bytes::{le32, put_le16, put_le32, put_le64};
use crate::base::{Result, Timestamp};

/// First word of the block.
const MAGIC: u32 = 0x004d_4d50;
/// `mmp_seq`: nobody uses the file system.
const CLEAN: u32 = 0xff4d_4d50;
/// `mmp_seq`: e2fsck is at work.
const FSCK: u32 = 0xe24d_4d50;
/// Who used it last.
const NODE: usize = 16;
const CHECK_INTERVAL: usize = 0x70;
/// Where the checksum of the structure lies.
const CHECKSUM: usize = 0x3fc;

/// Seconds between two looks at the block, where nobody asks for others.
pub(super) const INTERVAL: u16 = 5;

/// The block of a file system that nobody uses; with `seed` it has a checksum.
pub(super) fn clean(block_size: usize, now: Timestamp, seed: Option<u32>) -> Vec<u8> {
    let mut block = vec![0; block_size];
    put_le32(&mut block, 0, MAGIC);
    put_le32(&mut block, 4, CLEAN);
    put_le64(&mut block, 8, now.seconds as u64);
    block[NODE..NODE + 5].copy_from_slice(b"imgsh");
    put_le16(&mut block, CHECK_INTERVAL, INTERVAL);
    if let Some(seed) = seed {
        let crc = checksum::crc32c(seed, &block[..CHECKSUM]);
        put_le32(&mut block, CHECKSUM, crc);
    }
    block
}

impl Ext4 {
    /// Why the protection forbids writing, if it does.
    pub(super) fn mmp_trouble(&self) -> Result<Option<String>> {
        if !self.geometry.incompat.has(Incompat::MMP) {
            return Ok(None);
        }
        let number = self.superblock.mmp_block();
        let block = self.block(number, Role::Plain)?;
        if le32(&block, 0) != MAGIC {
            return Ok(Some(format!("mmp: block {number} has magic {:#010x}", le32(&block, 0))));
        }
        let crc = checksum::crc32c(self.geometry.seed, &block[..CHECKSUM]);
        if self.geometry.has_checksums() && le32(&block, CHECKSUM) != crc {
            return Ok(Some(format!("mmp: block {number}: its checksum is wrong")));
        }
        let name = block[NODE..NODE + 64].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = crate::base::printable(name);
        Ok(match le32(&block, 4) {
            CLEAN => None,
            FSCK => Some(format!("mmp: e2fsck is at work on it, or was stopped ({name})")),
            sequence => Some(format!("mmp: it is mounted by {name}, or was not unmounted (sequence {sequence:#x})")),
        })
    }
}
