//! The superblock: 1024 bytes at byte 1024 of the file system.
//!
//! Offsets: kernel documentation, "ext4 Data Structures and Algorithms", section "Super Block".

use super::checksum;
use super::features::{Compat, Incompat, RoCompat};
use super::inode::Inode;
use crate::base::bytes::{le16, le32, le64, put_le16, put_le32, u8_at};
use crate::base::{Error, Result, Timestamp, Uuid};

/// Where the first superblock begins, in bytes.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// Its size in bytes.
pub const SUPERBLOCK_SIZE: usize = 1024;
/// `s_magic`.
pub const MAGIC: u16 = 0xef53;

/// `s_state`: cleanly unmounted.
pub const STATE_VALID: u16 = 1;
/// `s_state`: errors were detected.
pub const STATE_ERROR: u16 = 2;
/// `s_state`: orphans are being cleaned up.
pub const STATE_ORPHANS: u16 = 4;
/// `s_flags`: directory hashes treat names as unsigned bytes.
pub const FLAG_UNSIGNED_HASH: u32 = 2;

/// Byte offsets of the fields.
pub(super) mod at {
    pub const INODES: usize = 0x00;
    pub const BLOCKS_LO: usize = 0x04;
    pub const RESERVED_LO: usize = 0x08;
    pub const FREE_BLOCKS_LO: usize = 0x0c;
    pub const FREE_INODES: usize = 0x10;
    pub const FIRST_DATA_BLOCK: usize = 0x14;
    pub const LOG_BLOCK_SIZE: usize = 0x18;
    pub const LOG_CLUSTER_SIZE: usize = 0x1c;
    pub const BLOCKS_PER_GROUP: usize = 0x20;
    pub const CLUSTERS_PER_GROUP: usize = 0x24;
    pub const INODES_PER_GROUP: usize = 0x28;
    pub const MOUNTS: usize = 0x34;
    pub const MAGIC: usize = 0x38;
    pub const STATE: usize = 0x3a;
    pub const LAST_CHECK: usize = 0x40;
    pub const CREATOR_OS: usize = 0x48;
    pub const REVISION: usize = 0x4c;
    pub const FIRST_INODE: usize = 0x54;
    pub const INODE_SIZE: usize = 0x58;
    pub const GROUP: usize = 0x5a;
    pub const COMPAT: usize = 0x5c;
    pub const INCOMPAT: usize = 0x60;
    pub const RO_COMPAT: usize = 0x64;
    pub const UUID: usize = 0x68;
    pub const LABEL: usize = 0x78;
    pub const RESERVED_GDT: usize = 0xce;
    pub const JOURNAL_UUID: usize = 0xd0;
    pub const JOURNAL_INODE: usize = 0xe0;
    pub const JOURNAL_DEVICE: usize = 0xe4;
    pub const LAST_ORPHAN: usize = 0xe8;
    pub const HASH_SEED: usize = 0xec;
    pub const HASH_VERSION: usize = 0xfc;
    pub const DESC_SIZE: usize = 0xfe;
    pub const FIRST_META_BG: usize = 0x104;
    pub const JOURNAL_BACKUP: usize = 0x10c;
    pub const BLOCKS_HI: usize = 0x150;
    pub const RESERVED_HI: usize = 0x154;
    pub const FREE_BLOCKS_HI: usize = 0x158;
    pub const WANT_EXTRA_ISIZE: usize = 0x15e;
    pub const FLAGS: usize = 0x160;
    pub const MMP_BLOCK: usize = 0x168;
    pub const LOG_GROUPS_PER_FLEX: usize = 0x174;
    pub const CHECKSUM_TYPE: usize = 0x175;
    pub const ERROR_COUNT: usize = 0x194;
    pub const MOUNT_OPTIONS: usize = 0x200;
    pub const OVERHEAD: usize = 0x248;
    pub const BACKUP_GROUPS: usize = 0x24c;
    pub const CHECKSUM_SEED: usize = 0x270;
    pub const USER_QUOTA: usize = 0x240;
    pub const GROUP_QUOTA: usize = 0x244;
    pub const PROJECT_QUOTA: usize = 0x26c;
    pub const LAST_CHECK_HIGH: usize = 0x277;
    pub const ENCODING: usize = 0x27c;
    pub const ORPHAN_FILE: usize = 0x280;
    pub const CHECKSUM: usize = 0x3fc;
}

/// The superblock's bytes with named fields; what has no name here is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock(Vec<u8>);

impl Superblock {
    /// Takes 1024 bytes read from [`SUPERBLOCK_OFFSET`]. `None` unless the magic number is there.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == SUPERBLOCK_SIZE && le16(bytes, at::MAGIC) == MAGIC).then(|| Superblock(bytes.to_vec()))
    }

    /// The bytes, as they go to the device.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn wide(&self, lo: usize, hi: usize) -> u64 {
        let high = if self.incompat().has(Incompat::BIT64) { le32(&self.0, hi) } else { 0 };
        u64::from(le32(&self.0, lo)) | u64::from(high) << 32
    }

    /// Number of inodes.
    pub fn inodes(&self) -> u32 {
        le32(&self.0, at::INODES)
    }
    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.wide(at::BLOCKS_LO, at::BLOCKS_HI)
    }
    /// Blocks that only root may take.
    pub fn reserved_blocks(&self) -> u64 {
        self.wide(at::RESERVED_LO, at::RESERVED_HI)
    }
    /// Free blocks; not clusters, even with bigalloc.
    pub fn free_blocks(&self) -> u64 {
        self.wide(at::FREE_BLOCKS_LO, at::FREE_BLOCKS_HI)
    }
    fn put_wide(&mut self, lo: usize, hi: usize, value: u64) {
        put_le32(&mut self.0, lo, value as u32);
        if self.incompat().has(Incompat::BIT64) {
            put_le32(&mut self.0, hi, (value >> 32) as u32);
        }
    }
    /// Sets the number of blocks.
    pub fn set_blocks(&mut self, count: u64) {
        self.put_wide(at::BLOCKS_LO, at::BLOCKS_HI, count);
    }
    /// Sets the number of inodes.
    pub fn set_inodes(&mut self, count: u32) {
        put_le32(&mut self.0, at::INODES, count);
    }
    /// Sets the number of blocks that only root may take.
    pub fn set_reserved_blocks(&mut self, count: u64) {
        self.put_wide(at::RESERVED_LO, at::RESERVED_HI, count);
    }
    /// Sets the number of blocks kept behind each copy of the descriptors.
    pub fn set_reserved_gdt_blocks(&mut self, count: u16) {
        put_le16(&mut self.0, at::RESERVED_GDT, count);
    }
    /// Sets the count of metadata blocks; 0 for not counted.
    pub fn set_overhead(&mut self, count: u32) {
        put_le32(&mut self.0, at::OVERHEAD, count);
    }
    /// Sets the number of the group that a copy stands in.
    pub fn set_group(&mut self, group: u32) {
        put_le16(&mut self.0, at::GROUP, group as u16);
    }
    /// Sets the number of free blocks.
    pub fn set_free_blocks(&mut self, count: u64) {
        self.put_wide(at::FREE_BLOCKS_LO, at::FREE_BLOCKS_HI, count);
    }
    /// Free inodes.
    pub fn free_inodes(&self) -> u32 {
        le32(&self.0, at::FREE_INODES)
    }
    /// Sets the number of free inodes.
    pub fn set_free_inodes(&mut self, count: u32) {
        put_le32(&mut self.0, at::FREE_INODES, count);
    }
    /// The block that group 0 begins with: 1 for 1 KiB blocks, else 0.
    pub fn first_data_block(&self) -> u32 {
        le32(&self.0, at::FIRST_DATA_BLOCK)
    }
    /// log2 of the block size minus 10.
    pub fn log_block_size(&self) -> u32 {
        le32(&self.0, at::LOG_BLOCK_SIZE)
    }
    /// log2 of the cluster size minus 10 (bigalloc).
    pub fn log_cluster_size(&self) -> u32 {
        le32(&self.0, at::LOG_CLUSTER_SIZE)
    }
    /// Blocks in a group.
    pub fn blocks_per_group(&self) -> u32 {
        le32(&self.0, at::BLOCKS_PER_GROUP)
    }
    /// Clusters in a group; equals the blocks without bigalloc.
    pub fn clusters_per_group(&self) -> u32 {
        le32(&self.0, at::CLUSTERS_PER_GROUP)
    }
    /// Inodes in a group.
    pub fn inodes_per_group(&self) -> u32 {
        le32(&self.0, at::INODES_PER_GROUP)
    }
    /// [`STATE_VALID`], [`STATE_ERROR`].
    pub fn state(&self) -> u16 {
        le16(&self.0, at::STATE)
    }
    /// Sets the state.
    pub fn set_state(&mut self, state: u16) {
        put_le16(&mut self.0, at::STATE, state);
    }
    /// Marks the file system as checked and found good: mounts are counted anew, recorded errors are forgotten.
    pub fn set_checked(&mut self, now: Timestamp) {
        self.set_state(self.state() & !STATE_ERROR | STATE_VALID);
        put_le16(&mut self.0, at::MOUNTS, 0);
        put_le32(&mut self.0, at::LAST_CHECK, now.seconds as u32);
        self.0[at::LAST_CHECK_HIGH] = (now.seconds >> 32) as u8;
        // What the first and the last error were lies between.
        self.0[at::ERROR_COUNT..at::MOUNT_OPTIONS].fill(0);
    }
    /// 0 for Linux.
    pub fn creator_os(&self) -> u32 {
        le32(&self.0, at::CREATOR_OS)
    }
    /// 0 for the original format, 1 with features.
    pub fn revision(&self) -> u32 {
        le32(&self.0, at::REVISION)
    }
    /// First inode that is not reserved.
    pub fn first_inode(&self) -> u32 {
        if self.revision() == 0 { 11 } else { le32(&self.0, at::FIRST_INODE) }
    }
    /// Bytes of an inode.
    pub fn inode_size(&self) -> u32 {
        if self.revision() == 0 { 128 } else { u32::from(le16(&self.0, at::INODE_SIZE)) }
    }
    /// Compatible features.
    pub fn compat(&self) -> Compat {
        Compat(if self.revision() == 0 { 0 } else { le32(&self.0, at::COMPAT) })
    }
    /// Incompatible features.
    pub fn incompat(&self) -> Incompat {
        Incompat(if self.revision() == 0 { 0 } else { le32(&self.0, at::INCOMPAT) })
    }
    /// Features that forbid writing to those who do not know them.
    pub fn ro_compat(&self) -> RoCompat {
        RoCompat(if self.revision() == 0 { 0 } else { le32(&self.0, at::RO_COMPAT) })
    }
    /// Adds bits to `s_feature_compat`.
    pub fn add_compat(&mut self, bits: u32) {
        let now = self.compat().0;
        put_le32(&mut self.0, at::COMPAT, now | bits);
    }
    /// Takes bits from `s_feature_compat`.
    pub fn clear_compat(&mut self, bits: u32) {
        let now = self.compat().0;
        put_le32(&mut self.0, at::COMPAT, now & !bits);
    }
    /// Adds bits to `s_feature_ro_compat`.
    pub fn add_ro_compat(&mut self, bits: u32) {
        let now = self.ro_compat().0;
        put_le32(&mut self.0, at::RO_COMPAT, now | bits);
    }
    /// Sets incompatible features. Not for a file system of revision 0, which has none.
    pub fn add_incompat(&mut self, bits: u32) {
        let all = self.incompat().0 | bits;
        put_le32(&mut self.0, at::INCOMPAT, all);
    }
    /// Takes bits from `s_feature_incompat`.
    pub fn clear_incompat(&mut self, bits: u32) {
        let now = self.incompat().0;
        put_le32(&mut self.0, at::INCOMPAT, now & !bits);
    }
    /// Takes bits from `s_feature_ro_compat`.
    pub fn clear_ro_compat(&mut self, bits: u32) {
        let now = self.ro_compat().0;
        put_le32(&mut self.0, at::RO_COMPAT, now & !bits);
    }
    /// The file system's UUID.
    pub fn uuid(&self) -> Uuid {
        Uuid(self.0[at::UUID..at::UUID + 16].try_into().unwrap_or_default())
    }
    /// The label without padding.
    pub fn label(&self) -> &[u8] {
        let field = &self.0[at::LABEL..at::LABEL + 16];
        field.split(|b| *b == 0).next().unwrap_or_default()
    }
    /// Sets the UUID.
    pub fn set_uuid(&mut self, uuid: Uuid) {
        self.0[at::UUID..at::UUID + 16].copy_from_slice(&uuid.0);
    }
    /// Sets the label; what is longer than 16 bytes is cut off.
    pub fn set_label(&mut self, label: &[u8]) {
        let field = &mut self.0[at::LABEL..at::LABEL + 16];
        field.fill(0);
        field.iter_mut().zip(label).for_each(|(to, from)| *to = *from);
    }
    /// Sets the mounts since the last check.
    pub fn set_mounts(&mut self, count: u16) {
        put_le16(&mut self.0, 0x34, count);
    }
    /// Sets the mounts after which it is checked; 0xffff for never.
    pub fn set_max_mounts(&mut self, count: u16) {
        put_le16(&mut self.0, 0x36, count);
    }
    /// Sets what a kernel does on errors: 1 carries on, 2 remounts read-only, 3 panics.
    pub fn set_on_errors(&mut self, what: u16) {
        put_le16(&mut self.0, 0x3c, what);
    }
    /// Sets the seconds between checks, 0 for none.
    pub fn set_check_interval(&mut self, seconds: u32) {
        put_le32(&mut self.0, 0x44, seconds);
    }
    /// Sets the user who may take reserved blocks.
    pub fn set_reserved_user(&mut self, user: u16) {
        put_le16(&mut self.0, 0x50, user);
    }
    /// Sets the group that may take reserved blocks.
    pub fn set_reserved_group(&mut self, group: u16) {
        put_le16(&mut self.0, 0x52, group);
    }
    /// Sets where it was mounted last; what is longer than 63 bytes is cut off.
    pub fn set_last_mounted(&mut self, path: &[u8]) {
        let field = &mut self.0[0x88..0xc8];
        field.fill(0);
        field[..63].iter_mut().zip(path).for_each(|(to, from)| *to = *from);
    }
    /// Blocks kept behind each copy of the group descriptors for growth.
    pub fn reserved_gdt_blocks(&self) -> u16 {
        le16(&self.0, at::RESERVED_GDT)
    }
    /// The journal's inode, 0 without one.
    pub fn journal_inode(&self) -> u32 {
        le32(&self.0, at::JOURNAL_INODE)
    }
    /// The UUID of an external journal, nil without one.
    pub fn journal_uuid(&self) -> Uuid {
        Uuid(self.0[at::JOURNAL_UUID..at::JOURNAL_UUID + 16].try_into().unwrap_or_default())
    }
    /// Sets the journal to one on a device with this UUID and this number, as Linux packs it.
    pub fn set_external_journal(&mut self, uuid: Uuid, device: u32) {
        self.0[at::JOURNAL_UUID..at::JOURNAL_UUID + 16].copy_from_slice(&uuid.0);
        put_le32(&mut self.0, at::JOURNAL_INODE, 0);
        put_le32(&mut self.0, at::JOURNAL_DEVICE, device);
        self.add_compat(Compat::HAS_JOURNAL);
    }
    /// The device number of an external journal, 0 without one.
    pub fn journal_device(&self) -> u32 {
        le32(&self.0, at::JOURNAL_DEVICE)
    }
    /// Head of the list of inodes to clean up after a crash, 0 if empty.
    pub fn last_orphan(&self) -> u32 {
        le32(&self.0, at::LAST_ORPHAN)
    }
    /// Sets the head of that list.
    pub fn set_last_orphan(&mut self, inode: u32) {
        put_le32(&mut self.0, at::LAST_ORPHAN, inode);
    }
    /// Keeps a copy of where the journal lies: its `i_block` and size.
    pub fn set_journal_backup(&mut self, journal: &Inode) {
        let at = at::JOURNAL_BACKUP;
        self.0[at..at + 60].copy_from_slice(journal.area());
        put_le32(&mut self.0, at + 60, (journal.size() >> 32) as u32);
        put_le32(&mut self.0, at + 64, journal.size() as u32);
    }
    /// Seed of directory hashes.
    pub fn hash_seed(&self) -> [u32; 4] {
        [0, 4, 8, 12].map(|i| le32(&self.0, at::HASH_SEED + i))
    }
    /// Hash of new directories: 0 legacy, 1 half MD4, 2 TEA.
    pub fn hash_version(&self) -> u8 {
        u8_at(&self.0, at::HASH_VERSION)
    }
    /// Bytes of a group descriptor as stored; meaningful with 64bit only.
    pub fn desc_size(&self) -> u16 {
        le16(&self.0, at::DESC_SIZE)
    }
    /// First descriptor block that lies in its own meta group (meta_bg).
    pub fn first_meta_bg(&self) -> u32 {
        le32(&self.0, at::FIRST_META_BG)
    }
    /// Sets the first descriptor block that lies in its own meta group.
    pub fn set_first_meta_bg(&mut self, block: u32) {
        put_le32(&mut self.0, at::FIRST_META_BG, block);
    }
    /// Extra bytes that new inodes should have behind the first 128.
    pub fn want_extra_isize(&self) -> u16 {
        le16(&self.0, at::WANT_EXTRA_ISIZE)
    }
    /// Miscellaneous flags: [`FLAG_UNSIGNED_HASH`].
    pub fn flags(&self) -> u32 {
        le32(&self.0, at::FLAGS)
    }
    /// The block that guards against two mounts (mmp).
    pub fn mmp_block(&self) -> u64 {
        le64(&self.0, at::MMP_BLOCK)
    }
    /// Sets that block.
    pub fn set_mmp_block(&mut self, block: u64) {
        put_le32(&mut self.0, at::MMP_BLOCK, block as u32);
        put_le32(&mut self.0, at::MMP_BLOCK + 4, (block >> 32) as u32);
    }
    /// log2 of the number of groups whose metadata lies together (flex_bg).
    pub fn log_groups_per_flex(&self) -> u8 {
        u8_at(&self.0, at::LOG_GROUPS_PER_FLEX)
    }
    /// 1 for crc32c.
    pub fn checksum_type(&self) -> u8 {
        u8_at(&self.0, at::CHECKSUM_TYPE)
    }
    /// Number of errors that a kernel has recorded.
    pub fn error_count(&self) -> u32 {
        le32(&self.0, at::ERROR_COUNT)
    }
    /// Blocks of metadata as mke2fs or the kernel counted them, 0 if nobody did.
    pub fn overhead(&self) -> u32 {
        le32(&self.0, at::OVERHEAD)
    }
    /// The two groups with a copy of the superblock (sparse_super2).
    pub fn backup_groups(&self) -> [u32; 2] {
        [le32(&self.0, at::BACKUP_GROUPS), le32(&self.0, at::BACKUP_GROUPS + 4)]
    }
    /// Sets these groups, 0 for none.
    pub fn set_backup_groups(&mut self, groups: [u32; 2]) {
        groups.iter().enumerate().for_each(|(i, group)| put_le32(&mut self.0, at::BACKUP_GROUPS + 4 * i, *group));
    }
    /// Inodes of the quota files of users, groups and projects, each 0 without one.
    pub fn quota_files(&self) -> [u32; 3] {
        [at::USER_QUOTA, at::GROUP_QUOTA, at::PROJECT_QUOTA].map(|at| le32(&self.0, at))
    }
    /// Encoding of names in directories that ignore case: 1 for UTF-8 as of Unicode 12.1.
    pub fn encoding(&self) -> u16 {
        le16(&self.0, at::ENCODING)
    }
    /// Inode of the orphan file.
    pub fn orphan_file(&self) -> u32 {
        le32(&self.0, at::ORPHAN_FILE)
    }
    /// Last mount (0), last write (1), creation (2): seconds with the high byte of the 34-bit form.
    pub fn time(&self, which: usize) -> Timestamp {
        const LOW: [usize; 3] = [0x2c, 0x30, 0x108];
        const HIGH: [usize; 3] = [0x275, 0x274, 0x276];
        match (LOW.get(which), HIGH.get(which)) {
            (Some(lo), Some(hi)) => {
                Timestamp::from_seconds(i64::from(le32(&self.0, *lo)) | i64::from(u8_at(&self.0, *hi)) << 32)
            }
            _ => Timestamp::default(),
        }
    }

    /// What all metadata checksums begin with: crc32c of the UUID, or the stored seed.
    pub fn checksum_seed(&self) -> u32 {
        if self.incompat().has(Incompat::CSUM_SEED) {
            le32(&self.0, at::CHECKSUM_SEED)
        } else {
            checksum::crc32c(!0, &self.uuid().0)
        }
    }

    /// Checks `s_checksum` and its type if the file system has metadata checksums.
    ///
    /// # Errors
    /// `Kind::Corrupt` with both values; `Kind::Unsupported` for a checksum type other than crc32c.
    pub fn verify(&self) -> Result<()> {
        if !self.ro_compat().has(RoCompat::METADATA_CSUM) {
            return Ok(());
        }
        if self.checksum_type() != 1 {
            let kind = self.checksum_type();
            return Err(Error::unsupported(format!("ext4: superblock: checksum type {kind} is not crc32c (1)")));
        }
        let (stored, computed) = (le32(&self.0, at::CHECKSUM), checksum::crc32c(!0, &self.0[..at::CHECKSUM]));
        if stored != computed {
            return Err(Error::corrupt(format!(
                "ext4: superblock: checksum is {stored:#010x}, its bytes give {computed:#010x}"
            )));
        }
        Ok(())
    }

    /// Computes `s_checksum` anew.
    pub fn stamp(&mut self) {
        if self.ro_compat().has(RoCompat::METADATA_CSUM) {
            let sum = checksum::crc32c(!0, &self.0[..at::CHECKSUM]);
            put_le32(&mut self.0, at::CHECKSUM, sum);
        }
    }
}
