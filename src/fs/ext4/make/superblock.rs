//! The superblock of a new file system and its copies.

use super::layout::{self, FIRST_INODE, INODE_SIZE};
use super::{Builder, JOURNAL_INODE};
use crate::base::bytes::{put_le16, put_le32};
use crate::base::{Error, Kind, Result};
use crate::disk::BlockDevice;
use crate::fs::MakeOptions;
use crate::fs::ext4::features::Incompat;
use crate::fs::ext4::journal::JournalSuper;
use crate::fs::ext4::mmp;
use crate::fs::ext4::superblock::{MAGIC, STATE_VALID, SUPERBLOCK_SIZE, Superblock, at};

/// Fields that only a maker writes.
mod also {
    pub const LAST_WRITE: usize = 0x30;
    pub const MAX_MOUNTS: usize = 0x36;
    pub const ERRORS: usize = 0x3c;
    pub const LAST_CHECK: usize = 0x40;
    pub const GROUP: usize = 0x5a;
    pub const JOURNAL_BACKUP_TYPE: usize = 0xfd;
    pub const MOUNT_OPTIONS: usize = 0x100;
    pub const CREATED: usize = 0x108;
    pub const JOURNAL_BACKUP: usize = 0x10c;
    pub const MIN_EXTRA_ISIZE: usize = 0x15c;
    pub const STRIDE: usize = 0x164;
    pub const MMP_INTERVAL: usize = 0x166;
    pub const STRIPE_WIDTH: usize = 0x170;
    pub const ENCRYPT_ALGORITHMS: usize = 0x254;
    pub const LAST_WRITE_HIGH: usize = 0x274;
    pub const CREATED_HIGH: usize = 0x276;
    pub const LAST_CHECK_HIGH: usize = 0x277;
}

/// `s_errors`: carry on.
const ERRORS_CONTINUE: u16 = 1;
/// `s_default_mount_opts`: user_xattr and acl.
const MOUNT_OPTIONS: u32 = 0xc;
/// `s_flags`: hashes take characters as signed, as on the machines most guests run on.
const SIGNED_HASH: u32 = 1;
/// `s_flags`: a file system for tests.
const TEST: u32 = 4;
/// `s_def_hash_version`.
const HALF_MD4: u8 = 1;
/// `s_checksum_type`.
const CRC32C: u8 = 1;
/// `s_encrypt_algos`: AES-256 in XTS and CTS mode.
const ENCRYPT_ALGORITHMS: [u8; 2] = [1, 4];
/// `s_encoding`: Unicode 12.1.
const UTF8_12_1: u16 = 1;
/// Blocks kept for root: one of 20.
const RESERVED_PART: u64 = 20;

/// The superblock of a device that is a journal: sizes, names and times; it has no groups and no inodes.
///
/// # Errors
/// As [`layout::Layout::new`]; `Kind::NoSpace` for fewer blocks than Linux takes for a journal.
pub fn of_journal(device: &dyn BlockDevice, options: &MakeOptions) -> Result<Superblock> {
    let (block_size, blocks) = layout::blocks(device.len(), device.sector(), options)?;
    const MIN_BLOCKS: u32 = JournalSuper::MIN_BLOCKS;
    if blocks < u64::from(MIN_BLOCKS) {
        let detail =
            format!("a journal of {blocks} blocks of {block_size} bytes is too small, {MIN_BLOCKS} are needed");
        return Err(Error::new(Kind::NoSpace, detail).hint("make the partition larger, or choose a smaller block size"));
    }
    let size =
        Sizes { block: block_size, blocks, group: layout::bits_per_block(block_size), cluster: 1, inode: INODE_SIZE };
    let mut b = common(options, &size);
    put_le32(&mut b, at::INCOMPAT, Incompat::JOURNAL_DEV);
    view(&b)
}

fn view(bytes: &[u8]) -> Result<Superblock> {
    Superblock::from_bytes(bytes)
        .ok_or_else(|| Error::corrupt("ext4: the superblock that was made has no magic number"))
}

fn put_wide(b: &mut [u8], lo: usize, hi: usize, value: u64) {
    put_le32(b, lo, value as u32);
    put_le32(b, hi, (value >> 32) as u32);
}

/// What is counted in a file system: bytes of a block, blocks, those of a group and of a cluster, bytes of an inode.
struct Sizes {
    block: u64,
    blocks: u64,
    group: u64,
    cluster: u64,
    inode: u64,
}

/// What all superblocks have: the size of blocks and their number, those of a group, names, times and how to behave.
fn common(options: &MakeOptions, size: &Sizes) -> Vec<u8> {
    let mut b = vec![0; SUPERBLOCK_SIZE];
    put_wide(&mut b, at::BLOCKS_LO, at::BLOCKS_HI, size.blocks);
    put_le32(&mut b, at::FIRST_DATA_BLOCK, layout::first_block(size.block, size.cluster) as u32);
    let log = size.block.trailing_zeros() - 10;
    put_le32(&mut b, at::LOG_BLOCK_SIZE, log);
    put_le32(&mut b, at::LOG_CLUSTER_SIZE, log + size.cluster.trailing_zeros());
    put_le32(&mut b, at::BLOCKS_PER_GROUP, size.group as u32);
    put_le32(&mut b, at::CLUSTERS_PER_GROUP, (size.group / size.cluster) as u32);
    put_le16(&mut b, also::MAX_MOUNTS, u16::MAX);
    put_le16(&mut b, at::MAGIC, MAGIC);
    put_le16(&mut b, at::STATE, STATE_VALID);
    put_le16(&mut b, also::ERRORS, ERRORS_CONTINUE);
    let times = [
        (also::LAST_WRITE, also::LAST_WRITE_HIGH),
        (also::LAST_CHECK, also::LAST_CHECK_HIGH),
        (also::CREATED, also::CREATED_HIGH),
    ];
    for (low, high) in times {
        put_le32(&mut b, low, options.now.seconds as u32);
        b[high] = (options.now.seconds >> 32) as u8;
    }
    put_le32(&mut b, at::REVISION, 1);
    put_le32(&mut b, at::FIRST_INODE, FIRST_INODE);
    put_le16(&mut b, at::INODE_SIZE, size.inode as u16);
    b[at::UUID..at::UUID + 16].copy_from_slice(&options.uuid.0);
    let label = options.label.as_deref().unwrap_or_default().as_bytes();
    b[at::LABEL..at::LABEL + label.len()].copy_from_slice(label);
    b[at::HASH_SEED..at::HASH_SEED + 16].copy_from_slice(&options.seed);
    b[at::HASH_VERSION] = HALF_MD4;
    put_le32(&mut b, also::MOUNT_OPTIONS, MOUNT_OPTIONS);
    put_le16(&mut b, also::MIN_EXTRA_ISIZE, layout::extra_size(size.inode));
    put_le16(&mut b, at::WANT_EXTRA_ISIZE, layout::extra_size(size.inode));
    b
}

impl Builder<'_> {
    /// The superblock of group 0, its checksum still to be made.
    pub fn superblock(&self, free_blocks: u64) -> Result<Superblock> {
        let (layout, features) = (&self.layout, &self.features);
        let size = Sizes {
            block: layout.block_size,
            blocks: layout.blocks,
            group: layout.blocks_per_group,
            cluster: layout.cluster,
            inode: layout.inode_size,
        };
        let mut b = common(self.options, &size);
        put_le32(&mut b, at::INODES, layout.inodes());
        put_wide(&mut b, at::RESERVED_LO, at::RESERVED_HI, layout.blocks / RESERVED_PART);
        put_wide(&mut b, at::FREE_BLOCKS_LO, at::FREE_BLOCKS_HI, free_blocks);
        put_le32(&mut b, at::FREE_INODES, layout.inodes() - self.inodes.len() as u32);
        put_le32(&mut b, at::INODES_PER_GROUP, layout.inodes_per_group);
        put_le32(&mut b, at::COMPAT, features.compat.0);
        put_le32(&mut b, at::INCOMPAT, features.incompat.0);
        put_le32(&mut b, at::RO_COMPAT, features.ro_compat.0);
        put_le16(&mut b, at::RESERVED_GDT, layout.reserved_gdt as u16);
        put_le32(&mut b, at::FLAGS, if self.options.ext.test { SIGNED_HASH | TEST } else { SIGNED_HASH });
        put_le16(&mut b, also::STRIDE, self.options.ext.stride.unwrap_or(0));
        put_le32(&mut b, also::STRIPE_WIDTH, self.options.ext.stripe_width.unwrap_or(0));
        if features.has("64bit") {
            put_le16(&mut b, at::DESC_SIZE, layout.desc_size as u16);
        }
        if features.has("flex_bg") {
            b[at::LOG_GROUPS_PER_FLEX] = layout.flex.trailing_zeros() as u8;
        }
        if features.has("metadata_csum") {
            b[at::CHECKSUM_TYPE] = CRC32C;
        }
        if features.has("metadata_csum_seed") {
            put_le32(&mut b, at::CHECKSUM_SEED, self.seed);
        }
        let mut overhead = self.overhead;
        if let Some(blocks) = self.journal {
            put_le32(&mut b, at::JOURNAL_INODE, JOURNAL_INODE);
            b[also::JOURNAL_BACKUP_TYPE] = 1;
            b[also::JOURNAL_BACKUP..also::JOURNAL_BACKUP + 68].copy_from_slice(&self.journal_backup());
            overhead += blocks;
        }
        put_le32(&mut b, at::OVERHEAD, overhead.div_ceil(layout.cluster) as u32);
        put_le32(&mut b, at::ORPHAN_FILE, self.orphan_inode().unwrap_or(0));
        let quota = [at::USER_QUOTA, at::GROUP_QUOTA, at::PROJECT_QUOTA].into_iter().zip(self.quota_inodes());
        quota.for_each(|(at, number)| put_le32(&mut b, at, number));
        if features.has("sparse_super2") {
            let copies = [0, 4].into_iter().zip(layout.two_copies());
            copies.for_each(|(i, group)| put_le32(&mut b, at::BACKUP_GROUPS + i, group));
        }
        if let Some(block) = self.guard {
            put_le32(&mut b, at::MMP_BLOCK, block as u32);
            put_le32(&mut b, at::MMP_BLOCK + 4, (block >> 32) as u32);
            put_le16(&mut b, also::MMP_INTERVAL, mmp::INTERVAL);
        }
        if features.has("encrypt") {
            b[also::ENCRYPT_ALGORITHMS..also::ENCRYPT_ALGORITHMS + 2].copy_from_slice(&ENCRYPT_ALGORITHMS);
        }
        if features.has("casefold") {
            put_le16(&mut b, at::ENCODING, UTF8_12_1);
        }
        view(&b)
    }

    /// The superblock as it stands in a group: its own number, and only the first one says that all is well.
    pub fn copy_for(&self, main: &Superblock, group: u32) -> Superblock {
        let mut b = main.bytes().to_vec();
        put_le16(&mut b, also::GROUP, group as u16);
        if group > 0 {
            put_le16(&mut b, at::STATE, 0);
        }
        let mut copy = Superblock::from_bytes(&b).unwrap_or_else(|| main.clone());
        copy.stamp();
        copy
    }
}
