//! The sizes of a new file system: blocks, groups, inodes, and where each group's metadata lies.
//!
//! The rules are those that mke2fs 1.47.0 was observed to follow with Debian 12's configuration, over a grid of
//! sizes and options (`tests/ext4_make.rs` keeps comparing them).

use std::ops::Range;

use super::space::Space;
use super::words::Features;
use crate::base::{Error, Kind, Result};
use crate::fs::MakeOptions;

const MIB: u64 = 1 << 20;
/// Sizes are rounded down to a page of the machines that will mount it.
const PAGE: u64 = 4096;
/// Groups whose metadata lies together under flex_bg where nobody asks for others.
const FLEX: u32 = 16;
/// Bytes of an inode where nobody asks for others.
pub const INODE_SIZE: u64 = 256;
/// Inodes that are not for files: 1 to 10; 11 is `lost+found`.
pub const FIRST_INODE: u32 = 11;
/// Blocks of a cluster under bigalloc.
const CLUSTER: u64 = 16;
/// Blocks that must be left in the last group, or it is not made.
const LAST_GROUP_ROOM: u64 = 50;

/// Sizes and counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a block.
    pub block_size: u64,
    /// Blocks of the file system.
    pub blocks: u64,
    /// The block that group 0 begins with.
    pub first: u64,
    /// Blocks that are allocated together, 1 without bigalloc. Groups and the file system are whole clusters.
    pub cluster: u64,
    /// Blocks of a group but the last.
    pub blocks_per_group: u64,
    /// Number of groups.
    pub groups: u32,
    /// Bytes of an inode.
    pub inode_size: u64,
    /// Inodes of a group.
    pub inodes_per_group: u32,
    /// Blocks of a group's inode table.
    pub table_blocks: u64,
    /// Bytes of a group descriptor.
    pub desc_size: u64,
    /// Blocks of all descriptors.
    pub desc_blocks: u64,
    /// Blocks kept behind them.
    pub reserved_gdt: u64,
    /// Groups whose metadata lies together, 1 without flex_bg.
    pub flex: u32,
    /// Blocks that it is to have room for in its descriptors, if that was asked for.
    grows_to: Option<u64>,
    /// Which groups hold copies of the superblock.
    copies: Copies,
    /// Whether small files and directories lie in their inodes.
    inline: bool,
    /// Whether descriptors lie with the groups that they are of (meta_bg), and not all together.
    spread: bool,
}

/// Which groups but the first hold copies of the superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    /// All.
    Every,
    /// 1 and the powers of 3, 5 and 7.
    Few,
    /// 1 and the last one.
    Two,
}

/// Where a group's metadata lies, in blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Places {
    /// Block bitmap.
    pub block_bitmap: u64,
    /// Inode bitmap.
    pub inode_bitmap: u64,
    /// First block of the inode table.
    pub inode_table: u64,
}

/// Block size and bytes per inode, as mke2fs's usage types have them: by the size, or for a purpose.
fn usage(bytes: u64, purpose: Option<&str>) -> Result<(u64, u64)> {
    let by_size = match bytes {
        b if b < 3 * MIB => (1024, 8192),
        b if b < 512 * MIB => (1024, 4096),
        b if b < 4 * MIB * MIB => (4096, 16_384),
        b if b < 16 * MIB * MIB => (4096, 32_768),
        _ => (4096, 65_536),
    };
    Ok(match purpose {
        None => by_size,
        Some("floppy") => (1024, 8192),
        Some("small") => (1024, 4096),
        Some("default") => (4096, 16_384),
        Some("big") => (4096, 32_768),
        Some("huge") => (4096, 65_536),
        Some("news") => (4096, 4096),
        Some("largefile") => (4096, 1_048_576),
        Some("largefile4") => (4096, 4_194_304),
        Some(other) => {
            return Err(Error::new(Kind::Invalid, format!("the usage type {other} is not known"))
                .hint("there are floppy, small, default, big, huge, news, largefile and largefile4"));
        }
    })
}

fn invalid(what: &str, value: u64, wanted: &str) -> Error {
    Error::new(Kind::Invalid, format!("{what} {value}: {wanted}"))
}

fn too_small(bytes: u64) -> Error {
    Error::new(Kind::NoSpace, format!("a device of {bytes} bytes is too small for this file system"))
        .hint("make the partition larger, or choose a smaller block size")
}

/// Size and number of the blocks for a device of `bytes` bytes in sectors of `sector` bytes: Linux mounts no smaller blocks.
///
/// # Errors
/// `Kind::Invalid` for blocks smaller than a sector, `Kind::Unsupported` for sizes that are not handled.
pub fn blocks(bytes: u64, sector: u32, options: &MakeOptions) -> Result<(u64, u64)> {
    let usual = usage(bytes, options.ext.usage.as_deref())?.0.max(sector.into());
    let block_size = options.block_size.map_or(usual, u64::from);
    if !matches!(block_size, 1024 | 2048 | 4096) {
        return Err(Error::unsupported(format!("block size {block_size}: it must be 1024, 2048 or 4096")));
    }
    if block_size < sector.into() {
        let detail = format!("block size {block_size} is smaller than the device's sectors of {sector} bytes");
        return Err(Error::new(Kind::Invalid, detail).hint(format!("choose the block size {sector}")));
    }
    let blocks = (bytes / PAGE * PAGE / block_size).max(1);
    if blocks > u64::from(u32::MAX) {
        let detail = format!("{blocks} blocks of {block_size} bytes: more than 2^32 blocks cannot be laid out");
        return Err(Error::unsupported(detail).hint("choose a larger block size or a smaller device"));
    }
    Ok((block_size, blocks))
}

/// The block that group 0 begins with.
pub fn first_block(block_size: u64, cluster: u64) -> u64 {
    u64::from(block_size == 1024 && cluster == 1)
}

/// Blocks or clusters of a group, or inodes at most: one block of its bitmap tells of them.
pub fn bits_per_block(block_size: u64) -> u64 {
    block_size * 8
}

/// Bytes that new inodes use behind the first 128.
pub fn extra_size(inode_size: u64) -> u16 {
    if inode_size > 128 { 32 } else { 0 }
}

impl Layout {
    /// The layout for a device of `bytes` bytes in sectors of `sector` bytes.
    ///
    /// # Errors
    /// `Kind::NoSpace` if it is too small, `Kind::Invalid` for impossible sizes in the options,
    /// `Kind::Unsupported` for sizes that are not handled.
    pub fn new(bytes: u64, sector: u32, options: &MakeOptions, features: &Features) -> Result<Self> {
        let ext = &options.ext;
        let (block_size, blocks) = blocks(bytes, sector, options)?;
        let inode_size = options.inode_size.map_or(INODE_SIZE, u64::from);
        if !inode_size.is_power_of_two() || inode_size < 128 || inode_size > block_size {
            let detail = format!("inode size {inode_size} is no power of two from 128 to the block size {block_size}");
            return Err(Error::new(Kind::Invalid, detail));
        }
        // Both keep something behind the first 128 bytes.
        if let Some(word) = ["project", "inline_data"].into_iter().find(|word| inode_size == 128 && features.has(word))
        {
            let detail = format!("inodes of 128 bytes are too small for the feature '{word}'");
            return Err(Error::new(Kind::Invalid, detail).hint("choose inodes of 256 bytes"));
        }
        let cluster = if features.has("bigalloc") { CLUSTER } else { 1 };
        let blocks = blocks / cluster * cluster;
        let bits = bits_per_block(block_size);
        let (step, least, most) = (8 * cluster, 256 * cluster, bits * cluster);
        let blocks_per_group = ext.blocks_per_group.map_or(most, u64::from);
        if !blocks_per_group.is_multiple_of(step) || !(least..=most).contains(&blocks_per_group) {
            return Err(invalid(
                "blocks per group",
                blocks_per_group,
                &format!("a multiple of {step} from {least} to {most} is needed"),
            ));
        }
        if ext.flex_groups.is_some_and(|groups| !groups.is_power_of_two() || groups > 1 << 30) {
            return Err(invalid(
                "groups with their metadata together",
                ext.flex_groups.unwrap_or(0).into(),
                "a power of two is needed",
            ));
        }
        if ext.flex_groups.is_some() && !features.has("flex_bg") {
            return Err(Error::new(Kind::Invalid, "groups with their metadata together need the feature flex_bg"));
        }
        let mut layout = Layout {
            block_size,
            blocks,
            first: first_block(block_size, cluster),
            cluster,
            blocks_per_group,
            groups: 0,
            inode_size,
            inodes_per_group: 0,
            table_blocks: 0,
            desc_size: if features.has("64bit") { 64 } else { 32 },
            desc_blocks: 0,
            reserved_gdt: 0,
            flex: if features.has("flex_bg") { ext.flex_groups.unwrap_or(FLEX) } else { 1 },
            grows_to: ext.grows_to.filter(|_| features.has("resize_inode")),
            copies: match (features.has("sparse_super2"), features.has("sparse_super")) {
                (true, _) => Copies::Two,
                (_, true) => Copies::Few,
                _ => Copies::Every,
            },
            inline: features.has("inline_data"),
            spread: features.has("meta_bg"),
        };
        if layout.grows_to.is_some_and(|most| most <= blocks) {
            let detail = format!("{blocks} blocks cannot grow to {}", ext.grows_to.unwrap_or(0));
            return Err(Error::new(Kind::Invalid, detail));
        }
        let inodes = layout.wanted_inodes(bytes, options)?;
        loop {
            // A bitmap of inodes is one block: more of them need smaller groups.
            let groups = layout.blocks.saturating_sub(layout.first).div_ceil(layout.blocks_per_group).max(1);
            if inodes.div_ceil(groups) > bits && layout.blocks_per_group > least {
                (layout.blocks, layout.blocks_per_group) = (blocks, layout.blocks_per_group - step);
                continue;
            }
            layout.divide(inodes, features.has("resize_inode")).ok_or_else(|| too_small(bytes))?;
            let last = layout.groups - 1;
            let (room, needed) = (layout.group(last), layout.overhead(last));
            let room = room.end - room.start;
            if room >= needed + LAST_GROUP_ROOM || room == layout.blocks_per_group {
                break;
            }
            if last == 0 {
                if room >= needed {
                    break;
                }
                return Err(too_small(bytes));
            }
            layout.blocks -= room;
        }
        if layout.inodes() <= FIRST_INODE + 1 {
            return Err(too_small(bytes));
        }
        if layout.overhead(0) > layout.blocks_per_group {
            let detail = format!("block size {block_size} is too small for a device of {bytes} bytes");
            return Err(Error::unsupported(detail).hint("choose a larger block size"));
        }
        Ok(layout)
    }

    /// The inodes that are asked for, or usual for the size and purpose.
    fn wanted_inodes(&self, bytes: u64, options: &MakeOptions) -> Result<u64> {
        let all = self.blocks * self.block_size;
        if let Some(inodes) = options.ext.inodes.map(u64::from) {
            let most = (all / self.inode_size).min(self.blocks.div_ceil(256) * self.block_size * 8);
            if inodes == 0 || inodes >= most {
                return Err(invalid("inodes", inodes, &format!("there is room for less than {most}")));
            }
            return Ok(inodes);
        }
        let ratio = match options.ext.bytes_per_inode.map(u64::from) {
            Some(ratio) if !(1024..=64 * MIB).contains(&ratio) => {
                return Err(invalid("bytes per inode", ratio, "1024 to 67108864 are possible"));
            }
            Some(ratio) => ratio,
            None => usage(bytes, options.ext.usage.as_deref())?.1.max(self.block_size * self.cluster),
        };
        Ok(all / ratio)
    }

    /// Divides blocks, and at least so many inodes, into groups.
    fn divide(&mut self, inodes: u64, resizable: bool) -> Option<()> {
        let groups = self.blocks.checked_sub(self.first)?.div_ceil(self.blocks_per_group);
        self.groups = u32::try_from(groups).ok().filter(|groups| *groups > 0)?;
        // Whole blocks of inodes, and whole bytes of the bitmap; all inodes of the first files fit into group 0.
        let wanted = inodes.div_ceil(groups).clamp(1, self.block_size * 8);
        let filled = (wanted * self.inode_size).div_ceil(self.block_size) * self.block_size / self.inode_size;
        let per_group = (filled.max(16) & !7).min(self.block_size * 8);
        self.inodes_per_group = per_group as u32;
        self.table_blocks = (per_group * self.inode_size).div_ceil(self.block_size);
        let per_block = self.block_size / self.desc_size;
        self.desc_blocks = groups.div_ceil(per_block);
        self.reserved_gdt = if resizable {
            // Room to grow by 1024, as far as 32 bits and one indirect block reach.
            let most = self.blocks.saturating_mul(1024).min(u64::from(u32::MAX)) - self.first;
            let reserved = |most: u64| {
                let descriptors = most.div_ceil(self.blocks_per_group).div_ceil(per_block);
                descriptors.saturating_sub(self.desc_blocks).min(self.block_size / 4)
            };
            // A size that needs no more descriptors than there are asks for nothing.
            self.grows_to.map(reserved).filter(|blocks| *blocks > 0).unwrap_or_else(|| reserved(most))
        } else {
            0
        };
        Some(())
    }

    /// Number of inodes.
    pub fn inodes(&self) -> u32 {
        self.inodes_per_group.saturating_mul(self.groups)
    }

    /// The blocks of a group.
    pub fn group(&self, group: u32) -> Range<u64> {
        let start = self.first + u64::from(group) * self.blocks_per_group;
        start..(start + self.blocks_per_group).min(self.blocks)
    }

    /// Whether a group begins with the superblock or a copy of it.
    pub fn has_super(&self, group: u32) -> bool {
        let power_of = |base: u32| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        match self.copies {
            Copies::Every => true,
            Copies::Few => group <= 1 || power_of(3) || power_of(5) || power_of(7),
            Copies::Two => group == 0 || self.two_copies().contains(&group),
        }
    }

    /// The groups with copies where there are two at most, as the superblock names them: 0 for none.
    pub fn two_copies(&self) -> [u32; 2] {
        match self.groups {
            0 | 1 => [0, 0],
            2 => [0, 1],
            groups => [1, groups - 1],
        }
    }

    /// The blocks of descriptors that a group has behind its superblock or its copy, if it has one: with meta_bg the first, the
    /// second and the last group of those that a block of descriptors is of have that block.
    pub fn descriptors(&self, group: u32) -> Range<u64> {
        if !self.spread {
            return if self.has_super(group) { 0..self.desc_blocks } else { 0..0 };
        }
        let per_block = (self.block_size / self.desc_size) as u32;
        let block = u64::from(group / per_block);
        let place = group % per_block;
        block..block + u64::from(place <= 1 || place == per_block - 1)
    }

    /// Superblock, descriptors and the blocks reserved for them in a group that has any of these, else nothing.
    pub fn head(&self, group: u32) -> Range<u64> {
        let (start, descriptors) = (self.group(group).start, self.descriptors(group));
        let copy = if self.has_super(group) { self.boot() + 1 + self.reserved_gdt } else { 0 };
        start..start + copy + (descriptors.end - descriptors.start)
    }

    /// Blocks in front of the superblock in group 0: one where blocks of 1024 bytes are counted from 0. The resize inode
    /// looks for twins of its blocks as far from the starts of their groups, so these have such a block, too.
    pub fn boot(&self) -> u64 {
        u64::from(self.block_size == 1024) - self.first
    }

    /// The first block of descriptors that a group has.
    pub fn descriptors_at(&self, group: u32) -> u64 {
        let before = if group == 0 { self.boot() } else { 0 };
        self.group(group).start + before + u64::from(self.has_super(group))
    }

    /// Blocks that a group needs for itself if its metadata lies in it.
    fn overhead(&self, group: u32) -> u64 {
        let head = self.head(group);
        head.end - head.start + 2 + self.table_blocks
    }

    /// Finds a place for everything that each group needs.
    ///
    /// # Errors
    /// `Kind::NoSpace`.
    pub fn place(&self, space: &mut Space) -> Result<Vec<Places>> {
        for group in 0..self.groups {
            let head = self.head(group);
            if head.end > self.blocks {
                return Err(too_small(self.blocks * self.block_size));
            }
            if head.start < head.end {
                space.take(head);
            }
        }
        let mut places = vec![Places::default(); self.groups as usize];
        for (chunk, places) in places.chunks_mut(self.flex as usize).enumerate() {
            let from = self.group(chunk as u32 * self.flex).start;
            let many = places.len() as u64;
            let block_bitmaps = self.find(space, from, 1, many)?;
            let inode_bitmaps = self.find(space, from, 1, many)?;
            let tables = self.find(space, from, self.table_blocks, many)?;
            for (i, place) in places.iter_mut().enumerate() {
                place.block_bitmap = block_bitmaps[i];
                place.inode_bitmap = inode_bitmaps[i];
                place.inode_table = tables[i];
            }
        }
        Ok(places)
    }

    /// Places `many` runs of `len` blocks: side by side if there is room, else each where it fits.
    fn find(&self, space: &mut Space, from: u64, len: u64, many: u64) -> Result<Vec<u64>> {
        let near = from..self.blocks.min(from + u64::from(self.flex) * self.blocks_per_group);
        if let Some(start) = space.first_fit(near.clone(), len * many) {
            return Ok((0..many).map(|i| start + i * len).collect());
        }
        let mut one = || space.first_fit(near.clone(), len).or_else(|| space.first_fit(self.first..self.blocks, len));
        (0..many).map(|_| one().ok_or_else(|| too_small(self.blocks * self.block_size))).collect()
    }

    /// Blocks of the journal, `None` if there is no room for one.
    pub fn journal_blocks(&self) -> Option<u64> {
        const KI: u64 = 1024;
        Some(match self.blocks {
            b if b < 2 * KI => return None,
            b if b < 32 * KI => KI,
            b if b < 256 * KI => 4 * KI,
            b if b < 512 * KI => 8 * KI,
            b if b < 4096 * KI => 16 * KI,
            b if b < 8192 * KI => 32 * KI,
            b if b < 16_384 * KI => 64 * KI,
            b if b < 32_768 * KI => 128 * KI,
            _ => 256 * KI,
        })
    }

    /// Blocks of a journal of `size` MiB.
    ///
    /// # Errors
    /// `Kind::Invalid` for a size that no journal may have, `Kind::NoSpace` for more than half of what is free.
    pub fn journal_of(&self, size: u32) -> Result<u64> {
        let blocks = u64::from(size) * MIB / self.block_size;
        if !(1024..=10_240_000).contains(&blocks) {
            return Err(invalid("journal of MiB", size.into(), "1024 to 10240000 blocks are possible"));
        }
        let own: u64 = (0..self.groups).map(|group| self.overhead(group)).sum();
        if blocks > self.blocks.saturating_sub(own) / 2 {
            return Err(Error::new(
                Kind::NoSpace,
                format!("a journal of {size} MiB takes more than half of the file system"),
            ));
        }
        Ok(blocks)
    }

    /// Blocks of the orphan file.
    pub fn orphan_blocks(&self) -> u64 {
        self.whole((self.blocks / 4096).clamp(32, 512))
    }

    /// The blocks of the clusters that so many blocks need.
    pub fn whole(&self, blocks: u64) -> u64 {
        blocks.next_multiple_of(self.cluster)
    }

    /// Where to look first for the journal: the emptiest group around the middle, so that it is near everything.
    pub fn journal_goal(&self, space: &Space) -> u64 {
        let middle = ((self.blocks - self.first) / 2).saturating_sub(self.first) / self.blocks_per_group;
        let (middle, last) = (middle as u32, self.groups - 1);
        let free = |group: u32| {
            let blocks = self.group(group);
            blocks.end - blocks.start - space.count(blocks)
        };
        let around = if self.flex > 1 && middle > self.flex {
            // The metadata of the middle groups lies together; the journal goes right behind it.
            let front = (middle - middle % self.flex..self.groups).find(|group| free(*group) > 0).unwrap_or(0);
            front..=(front + 1).min(last)
        } else {
            middle.saturating_sub(1)..=(middle + 1).min(last)
        };
        let best = around.reduce(|best, group| if free(group) > free(best) { group } else { best });
        self.group(best.unwrap_or_default()).start
    }

    /// Blocks of `lost+found`: 16 KiB, at least two, at most what an inode maps directly.
    pub fn lost_found_blocks(&self) -> u64 {
        let blocks = (16_384 / self.block_size).clamp(2, 12);
        // mke2fs begins with an empty one that has no block and lets it grow as often as one that has.
        if self.inline { blocks - 1 } else { blocks }
    }
}
