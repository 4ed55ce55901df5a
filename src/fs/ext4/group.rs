//! Block group descriptors: where a group's bitmaps and inode table are, and what is free in it.
//!
//! Offsets: kernel documentation, "Block Group Descriptors". 32 bytes, 64 or more with 64bit.

use crate::base::bytes::{le16, le32, put_le16, put_le32};

/// `bg_flags`: the inode bitmap and table are not initialised.
pub const INODE_UNINIT: u16 = 1;
/// `bg_flags`: the block bitmap is not initialised.
pub const BLOCK_UNINIT: u16 = 2;
/// `bg_flags`: the inode table is zeroed.
pub const INODE_ZEROED: u16 = 4;

/// Bytes of a descriptor that have a meaning (`struct ext4_group_desc`); longer ones end in reserve.
const MEANING: usize = 64;

/// A copy of a descriptor, of what has a meaning in it.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    bytes: [u8; MEANING],
    len: usize,
}

impl Descriptor {
    /// From its bytes, of which at most 64 are kept.
    pub fn new(from: &[u8]) -> Self {
        let len = from.len().min(MEANING);
        let mut bytes = [0; MEANING];
        bytes[..len].copy_from_slice(&from[..len]);
        Descriptor { bytes, len }
    }
}

impl std::ops::Deref for Descriptor {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A descriptor to read; `bytes` holds exactly one.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a>(pub &'a [u8]);

impl Group<'_> {
    fn wide_block(self, lo: usize, hi: usize) -> u64 {
        u64::from(le32(self.0, lo)) | u64::from(le32(self.0, hi)) << 32
    }
    fn wide_count(self, lo: usize, hi: usize) -> u32 {
        u32::from(le16(self.0, lo)) | u32::from(le16(self.0, hi)) << 16
    }

    /// Block of the block bitmap.
    pub fn block_bitmap(self) -> u64 {
        self.wide_block(0x00, 0x20)
    }
    /// Block of the inode bitmap.
    pub fn inode_bitmap(self) -> u64 {
        self.wide_block(0x04, 0x24)
    }
    /// First block of the inode table.
    pub fn inode_table(self) -> u64 {
        self.wide_block(0x08, 0x28)
    }
    /// Free blocks (clusters, with bigalloc).
    pub fn free_blocks(self) -> u32 {
        self.wide_count(0x0c, 0x2c)
    }
    /// Free inodes.
    pub fn free_inodes(self) -> u32 {
        self.wide_count(0x0e, 0x2e)
    }
    /// Directories.
    pub fn used_dirs(self) -> u32 {
        self.wide_count(0x10, 0x30)
    }
    /// [`INODE_UNINIT`], [`BLOCK_UNINIT`], [`INODE_ZEROED`].
    pub fn flags(self) -> u16 {
        le16(self.0, 0x12)
    }
    /// Inodes at the end of the table that were never used.
    pub fn itable_unused(self) -> u32 {
        self.wide_count(0x1c, 0x32)
    }
    /// Checksum of the descriptor.
    pub fn checksum(self) -> u16 {
        le16(self.0, 0x1e)
    }
    /// Checksum of the block bitmap; 16 bits unless the descriptor has room for the high half.
    pub fn block_bitmap_checksum(self) -> u32 {
        self.wide_count(0x18, 0x38)
    }
    /// Checksum of the inode bitmap.
    pub fn inode_bitmap_checksum(self) -> u32 {
        self.wide_count(0x1a, 0x3a)
    }
    /// The bits of a bitmap checksum that this descriptor can store.
    pub fn checksum_mask(self) -> u32 {
        if self.0.len() >= 0x3c { !0 } else { 0xffff }
    }
}

/// A descriptor to write.
#[derive(Debug)]
pub struct GroupMut<'a>(pub &'a mut [u8]);

impl GroupMut<'_> {
    // The field writers do nothing past the end, so the high halves vanish in short descriptors.
    fn put_block(&mut self, lo: usize, hi: usize, value: u64) {
        put_le32(self.0, lo, value as u32);
        put_le32(self.0, hi, (value >> 32) as u32);
    }
    fn put_count(&mut self, lo: usize, hi: usize, value: u32) {
        put_le16(self.0, lo, value as u16);
        put_le16(self.0, hi, (value >> 16) as u16);
    }

    /// Sets the block of the block bitmap.
    pub fn set_block_bitmap(&mut self, block: u64) {
        self.put_block(0x00, 0x20, block);
    }
    /// Sets the block of the inode bitmap.
    pub fn set_inode_bitmap(&mut self, block: u64) {
        self.put_block(0x04, 0x24, block);
    }
    /// Sets the first block of the inode table.
    pub fn set_inode_table(&mut self, block: u64) {
        self.put_block(0x08, 0x28, block);
    }
    /// Sets the number of free blocks.
    pub fn set_free_blocks(&mut self, count: u32) {
        self.put_count(0x0c, 0x2c, count);
    }
    /// Sets the number of free inodes.
    pub fn set_free_inodes(&mut self, count: u32) {
        self.put_count(0x0e, 0x2e, count);
    }
    /// Sets the number of directories.
    pub fn set_used_dirs(&mut self, count: u32) {
        self.put_count(0x10, 0x30, count);
    }
    /// Sets the flags.
    pub fn set_flags(&mut self, flags: u16) {
        put_le16(self.0, 0x12, flags);
    }
    /// Sets the number of never used inodes.
    pub fn set_itable_unused(&mut self, count: u32) {
        self.put_count(0x1c, 0x32, count);
    }
    /// Sets the descriptor's checksum.
    pub fn set_checksum(&mut self, sum: u16) {
        put_le16(self.0, 0x1e, sum);
    }
    /// Sets the block bitmap's checksum.
    pub fn set_block_bitmap_checksum(&mut self, sum: u32) {
        self.put_count(0x18, 0x38, sum);
    }
    /// Sets the inode bitmap's checksum.
    pub fn set_inode_bitmap_checksum(&mut self, sum: u32) {
        self.put_count(0x1a, 0x3a, sum);
    }
}
