//! The sizes and places that follow from a superblock, checked once.

use std::ops::Range;

use super::features::{Compat, Incompat, RoCompat};
use super::superblock::{SUPERBLOCK_OFFSET, Superblock};
use crate::base::{Error, Kind, Result};

/// What a superblock says of sizes and places; every value is in a range that the code can rely on.
#[derive(Debug, Clone)]
pub struct Geometry {
    /// Block size in bytes, 1 KiB to 64 KiB.
    pub block_size: usize,
    /// Blocks of the file system.
    pub blocks: u64,
    /// The block that group 0 begins with.
    pub first_block: u64,
    /// Blocks in a group.
    pub blocks_per_group: u32,
    /// Bits of a block bitmap: blocks, or clusters with bigalloc.
    pub clusters_per_group: u32,
    /// Inodes in a group.
    pub inodes_per_group: u32,
    /// Number of groups.
    pub groups: u32,
    /// Inodes of the file system.
    pub inodes: u32,
    /// First inode that is not reserved.
    pub first_inode: u32,
    /// Bytes of an inode.
    pub inode_size: usize,
    /// Bytes of a group descriptor.
    pub desc_size: usize,
    /// Compatible features.
    pub compat: Compat,
    /// Incompatible features.
    pub incompat: Incompat,
    /// Read-only compatible features.
    pub ro_compat: RoCompat,
    /// What every metadata checksum begins with.
    pub seed: u32,
    reserved_gdt_blocks: u64,
    first_meta_bg: u64,
    backup_groups: [u32; 2],
}

fn corrupt(field: &str, value: impl std::fmt::Display, why: &str) -> Error {
    Error::corrupt(format!("ext4: superblock: {field} is {value}, {why}"))
}

impl Geometry {
    /// Takes and checks the numbers of a superblock on a device of `device_len` bytes.
    ///
    /// # Errors
    /// `Kind::Corrupt` with field and value; `Kind::Invalid` if the device is shorter than the file system.
    pub fn new(sb: &Superblock, device_len: u64) -> Result<Self> {
        let log = sb.log_block_size();
        if log > 6 {
            return Err(corrupt("s_log_block_size", log, "over 6 (64 KiB)"));
        }
        let block_size = 1024usize << log;
        let bits = block_size as u32 * 8;
        let bigalloc = sb.ro_compat().has(RoCompat::BIGALLOC);
        let blocks = sb.blocks();
        let first_block = u64::from(sb.first_data_block());
        if first_block > 1 || blocks <= first_block {
            return Err(corrupt("s_first_data_block", first_block, &format!("with {blocks} blocks")));
        }
        let Some(bytes) = blocks.checked_mul(block_size as u64).filter(|bytes| *bytes < i64::MAX as u64) else {
            return Err(corrupt("s_blocks_count", blocks, "too many for 64-bit byte offsets"));
        };
        if bytes > device_len {
            return Err(Error::new(
                Kind::Invalid,
                format!("ext4: the file system has {bytes} bytes but its device only {device_len}"),
            )
            .hint("the image or the partition was cut short"));
        }
        let blocks_per_group = sb.blocks_per_group();
        let clusters_per_group = if bigalloc { sb.clusters_per_group() } else { blocks_per_group };
        if clusters_per_group == 0 || clusters_per_group > bits || !clusters_per_group.is_multiple_of(8) {
            return Err(corrupt(
                "s_blocks_per_group",
                clusters_per_group,
                &format!("not a multiple of 8 up to {bits}"),
            ));
        }
        if bigalloc {
            let shift = sb.log_cluster_size().wrapping_sub(log);
            if shift > 20 || clusters_per_group.checked_shl(shift) != Some(blocks_per_group) {
                return Err(corrupt("s_log_cluster_size", sb.log_cluster_size(), "does not fit the group size"));
            }
        }
        let inodes_per_group = sb.inodes_per_group();
        if inodes_per_group == 0 || inodes_per_group > bits || !inodes_per_group.is_multiple_of(8) {
            return Err(corrupt("s_inodes_per_group", inodes_per_group, &format!("not a multiple of 8 up to {bits}")));
        }
        let inode_size = sb.inode_size() as usize;
        if !inode_size.is_power_of_two() || !(128..=block_size).contains(&inode_size) {
            return Err(corrupt("s_inode_size", inode_size, "not a power of two from 128 to the block size"));
        }
        let desc_size = if sb.incompat().has(Incompat::BIT64) { usize::from(sb.desc_size()) } else { 32 };
        if !desc_size.is_power_of_two() || !(32..=1024).contains(&desc_size) {
            return Err(corrupt("s_desc_size", desc_size, "not a power of two from 32 to 1024"));
        }
        let groups = (blocks - first_block).div_ceil(u64::from(blocks_per_group));
        let inodes = groups.checked_mul(u64::from(inodes_per_group)).and_then(|n| u32::try_from(n).ok());
        let (Ok(groups), Some(inodes)) = (u32::try_from(groups), inodes) else {
            return Err(corrupt("s_blocks_count", blocks, "too many groups"));
        };
        if sb.inodes() != inodes {
            return Err(corrupt("s_inodes_count", sb.inodes(), &format!("not {groups} groups of {inodes_per_group}")));
        }
        let reserved_gdt_blocks = u64::from(sb.reserved_gdt_blocks());
        if reserved_gdt_blocks > block_size as u64 / 4 {
            return Err(corrupt("s_reserved_gdt_blocks", reserved_gdt_blocks, "over a quarter of the block size"));
        }
        Ok(Geometry {
            block_size,
            blocks,
            first_block,
            blocks_per_group,
            clusters_per_group,
            inodes_per_group,
            groups,
            inodes,
            first_inode: sb.first_inode(),
            inode_size,
            desc_size,
            compat: sb.compat(),
            incompat: sb.incompat(),
            ro_compat: sb.ro_compat(),
            seed: sb.checksum_seed(),
            reserved_gdt_blocks,
            first_meta_bg: u64::from(sb.first_meta_bg()),
            backup_groups: sb.backup_groups(),
        })
    }

    /// Whether all metadata has crc32c checksums.
    pub fn has_checksums(&self) -> bool {
        self.ro_compat.has(RoCompat::METADATA_CSUM)
    }
    /// Whether descriptors have a checksum and with it the flags for parts that are not initialised.
    pub fn has_group_checksums(&self) -> bool {
        self.has_checksums() || self.ro_compat.has(RoCompat::GDT_CSUM)
    }
    /// Whether directory entries hold the file type.
    pub fn has_types(&self) -> bool {
        self.incompat.has(Incompat::FILETYPE)
    }
    /// Bytes of a directory leaf that hold entries.
    pub fn leaf_size(&self) -> usize {
        self.block_size - if self.has_checksums() { super::checksum::LEAF_TAIL } else { 0 }
    }
    /// Block size as a 64-bit number.
    pub fn bs(&self) -> u64 {
        self.block_size as u64
    }

    /// Descriptors in a block.
    pub fn descs_per_block(&self) -> u32 {
        (self.block_size / self.desc_size) as u32
    }
    /// Blocks of descriptors.
    pub fn desc_blocks(&self) -> u64 {
        u64::from(self.groups.div_ceil(self.descs_per_block()))
    }
    /// Blocks of an inode table.
    pub fn table_blocks(&self) -> u64 {
        (u64::from(self.inodes_per_group) * self.inode_size as u64).div_ceil(self.bs())
    }

    /// Groups whose metadata may lie together, from the superblock's log2 of it: 1 without flex_bg.
    pub fn groups_per_flex(&self, log: u8) -> u32 {
        if self.incompat.has(Incompat::FLEX_BG) { 1u32.checked_shl(log.into()).unwrap_or(1) } else { 1 }
    }

    /// First block of a group.
    pub fn group_start(&self, group: u32) -> u64 {
        self.first_block + u64::from(group) * u64::from(self.blocks_per_group)
    }
    /// The blocks of a group; the last one may be short.
    pub fn group_range(&self, group: u32) -> Range<u64> {
        let start = self.group_start(group);
        start..(start + u64::from(self.blocks_per_group)).min(self.blocks)
    }
    /// The group of a block and its number in there.
    pub fn place(&self, block: u64) -> (u32, u32) {
        let rest = block.saturating_sub(self.first_block);
        let per = u64::from(self.blocks_per_group);
        ((rest / per) as u32, (rest % per) as u32)
    }

    /// Blocks in a cluster: what a bit of a block bitmap stands for; 1 without bigalloc.
    pub fn ratio(&self) -> u64 {
        u64::from(self.blocks_per_group / self.clusters_per_group)
    }
    /// The group of a block and the bit of its cluster in the group's bitmap.
    pub fn bit_place(&self, block: u64) -> (u32, u32) {
        let (group, number) = self.place(block);
        (group, number / self.ratio() as u32)
    }
    /// Bits of a group's bitmap that stand for something; the last cluster may be short.
    pub fn group_bits(&self, group: u32) -> u32 {
        let range = self.group_range(group);
        (range.end - range.start).div_ceil(self.ratio()) as u32
    }
    /// The block that a bit of a group's bitmap begins with.
    pub fn bit_block(&self, group: u32, bit: u32) -> u64 {
        self.group_start(group) + u64::from(bit) * self.ratio()
    }

    /// Whether a group begins with a copy of the superblock.
    pub fn has_superblock(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat.has(Compat::SPARSE_SUPER2) {
            return self.backup_groups.contains(&group);
        }
        if !self.ro_compat.has(RoCompat::SPARSE_SUPER) || group == 1 {
            return true;
        }
        let is_power_of = |base: u32| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        is_power_of(3) || is_power_of(5) || is_power_of(7)
    }

    /// The block of the device that holds descriptor block `n` (the first copy).
    pub fn desc_block(&self, n: u64) -> u64 {
        let after_superblock = SUPERBLOCK_OFFSET / self.bs() + 1;
        if !self.incompat.has(Incompat::META_BG) || n < self.first_meta_bg {
            return after_superblock + n;
        }
        let group = (n * u64::from(self.descs_per_block())) as u32;
        if group == 0 {
            return after_superblock;
        }
        self.group_start(group) + u64::from(self.has_superblock(group))
    }

    /// Groups from the first one that have descriptors behind their superblock, if they have one: all, or with meta_bg
    /// those before the first meta group.
    fn groups_with_table(&self) -> u64 {
        let per = u64::from(self.descs_per_block());
        if self.incompat.has(Incompat::META_BG) { self.first_meta_bg.saturating_mul(per) } else { u64::MAX }
    }

    /// The blocks of the device that hold copies of descriptor block `n`: in the groups with a superblock, or with
    /// meta_bg in the second and the last group of the meta group.
    pub fn desc_copies(&self, n: u64) -> Vec<u64> {
        if self.incompat.has(Incompat::META_BG) && n >= self.first_meta_bg {
            let per = u64::from(self.descs_per_block());
            let groups = [n * per + 1, n * per + per - 1].into_iter().filter(|group| *group < self.groups.into());
            return groups.map(|g| self.group_start(g as u32) + u64::from(self.has_superblock(g as u32))).collect();
        }
        let with_table = (1..self.groups).take_while(|group| u64::from(*group) < self.groups_with_table());
        let copies = with_table.filter(|group| self.has_superblock(*group));
        copies.map(|group| self.group_start(group) + 1 + n).collect()
    }

    /// Blocks at the start of a group for superblock, descriptors and the room kept for more of them.
    pub fn head_blocks(&self, group: u32) -> u64 {
        let copy = u64::from(self.has_superblock(group));
        let per = self.descs_per_block();
        if u64::from(group) >= self.groups_with_table() {
            // The first, the second and the last group of a meta group have its descriptor block.
            let place = group % per;
            return copy + u64::from(place == 0 || place == 1 || place == per - 1);
        }
        let descs = if self.incompat.has(Incompat::META_BG) {
            self.first_meta_bg.min(self.desc_blocks())
        } else {
            self.desc_blocks()
        };
        copy * (1 + descs + self.reserved_gdt_blocks)
    }

    /// The group of an inode and its number in there.
    ///
    /// # Errors
    /// `Kind::Corrupt` for 0 and for numbers past the last inode.
    pub fn inode_place(&self, inode: u32) -> Result<(u32, u32)> {
        if inode == 0 || inode > self.inodes {
            return Err(Error::corrupt(format!("ext4: inode number {inode} is not in 1..={}", self.inodes)));
        }
        Ok(((inode - 1) / self.inodes_per_group, (inode - 1) % self.inodes_per_group))
    }
}
