//! Which blocks and inodes are free: bitmaps, counters, and where new ones go. A bit of a block bitmap is a cluster of
//! blocks with bigalloc, and a block without.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::Ext4;
use super::cache::Role;
use super::features::Compat;
use super::group::{BLOCK_UNINIT, Group, INODE_UNINIT};
use super::inode::{self, Inode};
use crate::base::bytes::{le64, u8_at};
use crate::base::{Error, Kind, Result};

/// A search that begins where the last one ended takes a shorter run there if it has at least this many blocks.
const SHORT_RUN: u32 = 64;

/// Blocks that were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// First block.
    pub start: u64,
    /// Number of blocks, at least one; with bigalloc whole clusters, which may be more than was asked for.
    pub len: u32,
    /// The committed state does not use them and nobody has written them since: they may be written fresh.
    pub fresh: bool,
}

/// What the allocator remembers between operations.
#[derive(Default)]
pub(super) struct Allocator {
    /// Blocks with metadata at fixed places: ascending, without overlap.
    zones: Vec<Range<u64>>,
    /// Blocks of the journal inside the file system: a bitmap that calls them free is wrong.
    journal: Vec<Range<u64>>,
    /// By group: blocks that were taken or given back since the last commit. They are not written fresh
    /// again, not even after a rollback, and are used last.
    touched: HashMap<u32, Vec<u8>>,
    /// By group: no run of untouched free blocks is longer than this.
    longest: HashMap<u32, u32>,
    /// By group: no inode below this index is free.
    first_free_inode: HashMap<u32, u32>,
    /// Bitmaps whose number of free bits was found to be their group's count, by group; `true` for those of blocks.
    counted: HashSet<(u32, bool)>,
    /// While the file system is mended: counts are not looked at, since they are what is mended.
    pub mending: bool,
    /// Where the next file's content goes: behind the last one's.
    pub data_goal: Option<u64>,
    /// While the file system is shrunk: nothing from this block on is given out.
    limit: Option<u64>,
    /// The file system was shrunk to here since the last commit: what lies behind, the committed state may use, though a file
    /// system that grew again does not know it.
    fresh_end: Option<u64>,
    /// Whether fresh writes are allowed: what is free was so in the committed state too.
    takes_fresh: bool,
}

impl Allocator {
    /// `takes_fresh`: what [`BlockDevice::takes_fresh`](crate::disk::BlockDevice::takes_fresh) says when the file system is opened.
    pub fn new(takes_fresh: bool) -> Self {
        Allocator { takes_fresh, ..Allocator::default() }
    }

    /// After a rollback: what is free must be looked up again, but what was touched stays so.
    pub fn forget(&mut self) {
        self.zones.clear();
        self.journal.clear();
        self.longest.clear();
        self.first_free_inode.clear();
        self.counted.clear();
        self.data_goal = None;
        self.limit = None;
    }

    /// Gives out nothing from a block on.
    pub fn set_limit(&mut self, limit: Option<u64>) {
        self.limit = limit;
        self.longest.clear();
        self.data_goal = None;
    }

    /// Metadata at a fixed place goes away.
    pub fn remove_zone(&mut self, gone: Range<u64>) {
        let zones = std::mem::take(&mut self.zones);
        let outside = |zone: Range<u64>| {
            let (before, after) = (zone.start..zone.end.min(gone.start), zone.start.max(gone.end)..zone.end);
            [before, after].into_iter().filter(|part| part.start < part.end)
        };
        self.zones = zones.into_iter().flat_map(outside).collect();
    }

    /// After a commit: what is free now is free in the committed state.
    pub fn committed(&mut self) {
        self.touched.clear();
        self.longest.clear();
        self.fresh_end = None;
        self.takes_fresh = true;
    }

    /// Nothing from a block on is written fresh before the next commit.
    pub fn end_fresh(&mut self, block: u64) {
        self.fresh_end = Some(self.fresh_end.map_or(block, |end| end.min(block)));
    }

    /// Blocks that are not to be written fresh before the next commit.
    pub fn touch(&mut self, block_size: usize, group: u32, bits: Range<u32>) {
        let touched = self.touched.entry(group).or_insert_with(|| vec![0; block_size]);
        set_bits(touched, bits, true);
    }
}

/// Whether a bit is set; those past the end are not.
pub(super) fn bit_is_set(bytes: &[u8], bit: u32) -> bool {
    u8_at(bytes, bit as usize / 8) >> (bit % 8) & 1 == 1
}

/// Sets or clears bits.
pub(super) fn set_bits(bytes: &mut [u8], bits: Range<u32>, value: bool) {
    let mut bit = bits.start;
    while bit < bits.end {
        let Some(byte) = bytes.get_mut(bit as usize / 8) else { return };
        if bit.is_multiple_of(8) && bits.end - bit >= 8 {
            *byte = if value { 0xff } else { 0 };
            bit += 8;
        } else {
            let mask = 1 << (bit % 8);
            *byte = if value { *byte | mask } else { *byte & !mask };
            bit += 1;
        }
    }
}

/// The first bit from `from` on that is `value`; `end` if there is none.
pub(super) fn next_bit(word: &impl Fn(u32) -> u64, from: u32, end: u32, value: bool) -> u32 {
    let mut at = from;
    while at < end {
        let bits = word(at / 64);
        let bits = (if value { bits } else { !bits }) >> (at % 64);
        if bits != 0 {
            return (at + bits.trailing_zeros()).min(end);
        }
        at = (at / 64 + 1) * 64;
    }
    end
}

/// The bitmaps of one group that a search looks at: in use, or touched.
struct Usage<'a> {
    used: &'a [u8],
    touched: Option<&'a [u8]>,
    end: u32,
}

impl Usage<'_> {
    fn word(&self, index: u32) -> u64 {
        let at = index as usize * 8;
        le64(self.used, at) | self.touched.map_or(0, |touched| le64(touched, at))
    }

    /// The first run of at least `want` free bits in `range`, else the longest.
    fn run(&self, range: Range<u32>, want: u32) -> Option<Range<u32>> {
        let word = |index| self.word(index);
        let mut best: Option<Range<u32>> = None;
        let mut at = range.start;
        loop {
            let start = next_bit(&word, at, range.end, false);
            if start >= range.end {
                return best;
            }
            let end = next_bit(&word, start, range.end, true);
            if end - start >= want {
                return Some(start..start + want);
            }
            if best.as_ref().is_none_or(|best| best.end - best.start < end - start) {
                best = Some(start..end);
            }
            at = end;
        }
    }
}

impl Ext4 {
    /// Lists the blocks of fixed metadata. Needed before anything is taken or given back.
    pub(super) fn load_zones(&mut self) -> Result<()> {
        if !self.allocator.zones.is_empty() {
            return Ok(());
        }
        let mut zones: Vec<Range<u64>> = Vec::new();
        for group in 0..self.geometry.groups {
            let start = self.geometry.group_start(group);
            // Block 0 of a file system with blocks of 1 KiB is the boot block, before group 0.
            let from = if group == 0 { 0 } else { start };
            zones.push(from..start + self.geometry.head_blocks(group));
            let desc = self.group(group)?;
            let desc = Group(&desc);
            for (first, len) in
                [(desc.block_bitmap(), 1), (desc.inode_bitmap(), 1), (desc.inode_table(), self.geometry.table_blocks())]
            {
                let end = first.checked_add(len).filter(|end| *end <= self.geometry.blocks);
                let Some(end) = end.filter(|_| first > self.geometry.first_block) else {
                    return Err(Error::corrupt(format!(
                        "ext4: group {group}: its bitmap or table at block {first} is outside the file system"
                    )));
                };
                zones.push(first..end);
            }
        }
        zones.retain(|zone| !zone.is_empty());
        zones.sort_by_key(|zone| zone.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for zone in zones {
            match merged.last_mut() {
                Some(last) if last.end > zone.start => {
                    return Err(Error::corrupt(format!("ext4: block {} is metadata of two kinds", zone.start)));
                }
                Some(last) if last.end == zone.start => last.end = zone.end,
                _ => merged.push(zone),
            }
        }
        self.allocator.zones = merged;
        let journal = self.superblock.journal_inode();
        if self.superblock.compat().has(Compat::HAS_JOURNAL) && journal != 0 {
            // A journal that cannot be mapped is told where it is used.
            let map = self.inode(journal).and_then(|inode| self.map(&inode));
            let runs = map.map(|map| map.runs).unwrap_or_default();
            self.allocator.journal = runs.iter().map(|run| run.physical..run.physical + u64::from(run.len)).collect();
        }
        Ok(())
    }

    /// Refuses free blocks that are the journal's.
    pub(super) fn check_journal(&self, free: &Range<u64>) -> Result<()> {
        match self.allocator.journal.iter().find(|run| run.start < free.end && free.start < run.end) {
            Some(run) => Err(Error::corrupt(format!(
                "ext4: blocks {}..{} are the journal's but marked free",
                run.start.max(free.start),
                run.end.min(free.end)
            ))
            .hint("run e2fsck on it first")),
            None => Ok(()),
        }
    }

    /// The zones that touch a range of blocks.
    pub(super) fn zones_in(&self, range: Range<u64>) -> impl Iterator<Item = &Range<u64>> {
        let first = self.allocator.zones.partition_point(|zone| zone.end <= range.start);
        self.allocator.zones[first..].iter().take_while(move |zone| zone.start < range.end)
    }

    /// Refuses a file's claim on blocks of fixed metadata. Zones are known once the file system is edited.
    pub(super) fn check_zones(&self, inode: u32, start: u64, len: u64) -> Result<()> {
        match self.zones_in(start..start.saturating_add(len)).next() {
            Some(zone) => Err(Error::corrupt(format!(
                "ext4: inode {inode}: its blocks at {start} ({len}) overlap metadata at {}..{}",
                zone.start, zone.end
            ))),
            None => Ok(()),
        }
    }

    /// A group's block bitmap; made from the zones if it is not initialised.
    pub(super) fn usage(&self, group: u32) -> Result<Vec<u8>> {
        let desc = self.group(group)?;
        if !self.is_uninit(&desc, BLOCK_UNINIT) {
            return Ok(self.bitmap(group, true)?.1.to_vec());
        }
        Ok(self.zone_bits(group))
    }

    /// A block bitmap with nothing but the metadata at fixed places, and what is past the group's end.
    pub(super) fn zone_bits(&self, group: u32) -> Vec<u8> {
        let mut bits = vec![0; self.geometry.block_size];
        let range = self.geometry.group_range(group);
        let ratio = self.geometry.ratio();
        for zone in self.zones_in(range.clone()) {
            let (from, to) = (zone.start.max(range.start) - range.start, zone.end.min(range.end) - range.start);
            set_bits(&mut bits, (from / ratio) as u32..to.div_ceil(ratio) as u32, true);
        }
        set_bits(&mut bits, self.geometry.group_bits(group)..self.geometry.block_size as u32 * 8, true);
        bits
    }

    /// Whether a descriptor says that a part of its group is not initialised.
    pub(super) fn is_uninit(&self, desc: &[u8], flag: u16) -> bool {
        self.geometry.has_group_checksums() && Group(desc).flags() & flag != 0
    }

    /// Refuses a group whose bitmap (of blocks, or of inodes) has another number of free bits than its descriptor says: one of
    /// the two is wrong, and what the bitmap calls free may be in use. Linux does not use such a group either. Looked at once.
    pub(super) fn check_count(&mut self, group: u32, of_blocks: bool) -> Result<()> {
        let desc = self.group(group)?;
        let uninit = if of_blocks { BLOCK_UNINIT } else { INODE_UNINIT };
        if self.allocator.mending
            || self.allocator.counted.contains(&(group, of_blocks))
            || self.is_uninit(&desc, uninit)
        {
            return Ok(());
        }
        let (what, bits, said) = match of_blocks {
            true => ("blocks", self.geometry.group_bits(group), Group(&desc).free_blocks()),
            false => ("inodes", self.geometry.inodes_per_group, Group(&desc).free_inodes()),
        };
        let bitmap = self.bitmap(group, of_blocks)?.1;
        let used: u32 = (0..bits.div_ceil(64))
            .map(|index| (le64(&bitmap, index as usize * 8) & !0 >> (64 - (bits - index * 64).min(64))).count_ones())
            .sum();
        if bits - used != said {
            let found = bits - used;
            let detail = format!("ext4: group {group}: its bitmap has {found} free {what}, its descriptor says {said}");
            return Err(Error::corrupt(detail).hint("run e2fsck on it first: what is marked free may be in use"));
        }
        self.allocator.counted.insert((group, of_blocks));
        Ok(())
    }

    /// Writes the bitmap of a group that had none.
    pub(super) fn init_block_bitmap(&mut self, group: u32) -> Result<()> {
        let desc = self.group(group)?;
        if self.is_uninit(&desc, BLOCK_UNINIT) {
            let bits = self.usage(group)?;
            self.block_new(Group(&desc).block_bitmap(), Role::BlockBitmap(group))?.copy_from_slice(&bits);
            self.group_mut(group)?.set_flags(Group(&desc).flags() & !BLOCK_UNINIT);
        }
        Ok(())
    }

    /// Takes up to `want` blocks in one run, at `goal` or as near behind it as possible.
    ///
    /// # Errors
    /// `Kind::NoSpace` if no block is free.
    pub(super) fn allocate(&mut self, goal: u64, want: u32) -> Result<Grant> {
        let want = want.clamp(1, self.geometry.blocks_per_group).div_ceil(self.geometry.ratio() as u32);
        for fresh in [true, false] {
            if let Some((group, bits)) = self.search(goal, want, fresh)? {
                return self.take(group, bits, fresh);
            }
        }
        Err(Kind::NoSpace.into())
    }

    /// Where a free run of up to `want` blocks begins, at or behind `goal`; nothing is taken.
    pub(super) fn find_run(&mut self, goal: u64, want: u32) -> Result<u64> {
        let found = self.search(goal, want.div_ceil(self.geometry.ratio() as u32), true)?;
        Ok(found.map_or(goal, |(group, bits)| self.geometry.bit_block(group, bits.start)))
    }

    /// Looks for a run of `want` free bits; of untouched ones only if `fresh`.
    fn search(&mut self, goal: u64, want: u32, fresh: bool) -> Result<Option<(u32, Range<u32>)>> {
        let limit = self.allocator.limit.unwrap_or(self.geometry.blocks);
        let goal = if goal < limit { goal } else { self.geometry.first_block };
        let (goal_group, goal_bit) = self.geometry.bit_place(goal);
        let groups = self.groups_to_use();
        let mut best: Option<(u32, Range<u32>)> = None;
        for group in (goal_group..groups).chain(0..goal_group) {
            let found = best.as_ref().map_or(0, |(_, bits)| bits.end - bits.start);
            let free = Group(&self.group(group)?).free_blocks();
            let longest = if fresh { self.allocator.longest.get(&group).copied() } else { None };
            if free == 0 || longest.is_some_and(|longest| longest <= found) {
                continue;
            }
            self.check_count(group, true)?;
            let shared;
            let made;
            let used: &[u8] = if self.is_uninit(&self.group(group)?, BLOCK_UNINIT) {
                made = self.usage(group)?;
                &made
            } else {
                shared = self.bitmap(group, true)?.1;
                &shared
            };
            let touched = if fresh { self.allocator.touched.get(&group).map(Vec::as_slice) } else { None };
            let below = limit.saturating_sub(self.geometry.group_start(group)).div_ceil(self.geometry.ratio());
            let end = self.geometry.group_bits(group).min(u32::try_from(below).unwrap_or(u32::MAX));
            let usage = Usage { used, touched, end };
            let from = if group == goal_group { goal_bit } else { 0 };
            if group == goal_group {
                let end = next_bit(&|index| usage.word(index), from, (from + want).min(usage.end), true);
                if end - from >= want.min(SHORT_RUN) {
                    return Ok(Some((group, from..end)));
                }
            }
            let runs = [usage.run(from..usage.end, want), usage.run(0..from, want)];
            let longer = |run: &Range<u32>| run.end - run.start;
            let Some(run) = runs.into_iter().flatten().reduce(|a, b| if longer(&b) > longer(&a) { b } else { a })
            else {
                if fresh {
                    self.allocator.longest.insert(group, 0);
                }
                continue;
            };
            if longer(&run) >= want {
                return Ok(Some((group, run)));
            }
            if fresh {
                self.allocator.longest.insert(group, longer(&run));
            }
            if longer(&run) > found {
                best = Some((group, run));
            }
        }
        Ok(best)
    }

    /// Marks free blocks as used.
    fn take(&mut self, group: u32, bits: Range<u32>, untouched: bool) -> Result<Grant> {
        let start = self.geometry.bit_block(group, bits.start);
        let clusters = bits.end - bits.start;
        let end = self.geometry.bit_block(group, bits.end).min(self.geometry.group_range(group).end);
        let len = (end - start) as u32;
        if self.zones_in(start..start + u64::from(len)).next().is_some() {
            return Err(Error::corrupt(format!("ext4: group {group}: block {start} is metadata but marked free")));
        }
        self.check_journal(&(start..end))?;
        self.init_block_bitmap(group)?;
        let (number, _) = self.bitmap(group, true)?;
        set_bits(self.block_mut(number, Role::BlockBitmap(group))?, bits.clone(), true);
        self.count_blocks(group, -i64::from(clusters))?;
        self.allocator.touch(self.geometry.block_size, group, bits);
        let known = self.allocator.fresh_end.is_none_or(|known| end <= known);
        Ok(Grant { start, len, fresh: untouched && known && self.allocator.takes_fresh })
    }

    /// Marks these very blocks as used.
    ///
    /// # Errors
    /// `Kind::Corrupt` if one of them is in use already, or fixed metadata.
    pub(super) fn claim_blocks(&mut self, start: u64, len: u64) -> Result<()> {
        let end = start.saturating_add(len);
        if end > self.geometry.blocks
            || start <= self.geometry.first_block
            || self.zones_in(start..end).next().is_some()
        {
            return Err(Error::corrupt(format!("ext4: {len} blocks at {start} cannot be used: no place for content")));
        }
        let mut at = start;
        while at < end {
            let (group, first) = self.geometry.bit_place(at);
            let stop = self.geometry.group_range(group).end.min(end);
            let bits = first..self.geometry.bit_place(stop - 1).1 + 1;
            self.check_count(group, true)?;
            self.init_block_bitmap(group)?;
            let (number, bitmap) = self.bitmap(group, true)?;
            if next_bit(&|index| le64(&bitmap, index as usize * 8), bits.start, bits.end, true) != bits.end {
                return Err(Error::corrupt(format!("ext4: group {group}: blocks at {at} are used twice")));
            }
            drop(bitmap);
            set_bits(self.block_mut(number, Role::BlockBitmap(group))?, bits.clone(), true);
            self.count_blocks(group, -i64::from(bits.end - bits.start))?;
            self.allocator.touch(self.geometry.block_size, group, bits);
            at = stop;
        }
        Ok(())
    }

    /// Marks those of these blocks as used that are free; answers which they were. Without bigalloc only.
    pub(super) fn claim_free(&mut self, blocks: Range<u64>) -> Result<Vec<Range<u64>>> {
        let mut taken = Vec::new();
        let mut at = blocks.start;
        while at < blocks.end {
            let (group, mut bit) = self.geometry.bit_place(at);
            let stop = self.geometry.group_range(group).end.min(blocks.end);
            let end = self.geometry.bit_place(stop - 1).1 + 1;
            let bitmap = self.usage(group)?;
            let word = |index: u32| le64(&bitmap, index as usize * 8);
            loop {
                let free = next_bit(&word, bit, end, false);
                bit = next_bit(&word, free, end, true);
                if free >= end {
                    break;
                }
                let start = self.geometry.bit_block(group, free);
                taken.push(start..start + u64::from(bit - free));
            }
            at = stop;
        }
        taken.iter().try_for_each(|run| self.claim_blocks(run.start, run.end - run.start))?;
        Ok(taken)
    }

    /// Gives blocks back, with bigalloc all of their clusters. What the cache has of them is forgotten.
    ///
    /// # Errors
    /// `Kind::Corrupt` if one of them is free already, or fixed metadata.
    pub(super) fn release(&mut self, start: u64, len: u64) -> Result<()> {
        let end =
            start.checked_add(len).filter(|end| *end <= self.geometry.blocks && start > self.geometry.first_block);
        let Some(end) = end.filter(|_| self.zones_in(start..start.saturating_add(len)).next().is_none()) else {
            return Err(Error::corrupt(format!("ext4: {len} blocks at {start} cannot be freed: no place for content")));
        };
        let mut at = start;
        while at < end {
            let (group, first) = self.geometry.bit_place(at);
            let stop = self.geometry.group_range(group).end.min(end);
            let bits = first..self.geometry.bit_place(stop - 1).1 + 1;
            let word = |bytes: &[u8], index: u32| le64(bytes, index as usize * 8);
            self.check_count(group, true)?;
            let uninit = self.is_uninit(&self.group(group)?, BLOCK_UNINIT);
            let (number, bitmap) = if uninit { (0, Default::default()) } else { self.bitmap(group, true)? };
            if uninit || next_bit(&|index| word(&bitmap, index), bits.start, bits.end, false) != bits.end {
                return Err(Error::corrupt(format!("ext4: group {group}: blocks at {at} are in use but marked free")));
            }
            drop(bitmap);
            set_bits(self.block_mut(number, Role::BlockBitmap(group))?, bits.clone(), false);
            self.count_blocks(group, i64::from(bits.end - bits.start))?;
            self.allocator.touch(self.geometry.block_size, group, bits);
            at = stop;
        }
        self.forget(start, len);
        Ok(())
    }

    /// Groups that may give something out.
    fn groups_to_use(&self) -> u32 {
        match self.allocator.limit {
            Some(limit) => self.geometry.place(limit.saturating_sub(1)).0 + 1,
            None => self.geometry.groups,
        }
    }

    /// Blocks that the committed state uses are no longer in use: they are not written fresh.
    pub(super) fn touch_blocks(&mut self, start: u64, len: u64) {
        let mut at = start;
        while at < start + len {
            let (group, first) = self.geometry.place(at);
            let stop = self.geometry.group_range(group).end.min(start + len);
            if stop <= at {
                return;
            }
            self.allocator.touch(self.geometry.block_size, group, first..first + (stop - at) as u32);
            at = stop;
        }
    }

    /// Changes the free counts of a group, in clusters, and of the file system, in blocks.
    pub(super) fn count_blocks(&mut self, group: u32, change: i64) -> Result<()> {
        let bad = |what: &str| Error::corrupt(format!("ext4: {what}: its count of free blocks is wrong"));
        let free = i64::from(Group(&self.group(group)?).free_blocks()) + change;
        let free = u32::try_from(free).ok().filter(|free| *free <= self.geometry.clusters_per_group);
        let free = free.ok_or_else(|| bad(&format!("group {group}")))?;
        self.group_mut(group)?.set_free_blocks(free);
        let change = change * self.geometry.ratio() as i64;
        let total = self.superblock.free_blocks().checked_add_signed(change).ok_or_else(|| bad("superblock"))?;
        self.superblock.set_free_blocks(total);
        self.superblock_changed = true;
        Ok(())
    }

    /// The group for a new inode: files near their directory; directories in the root spread out over
    /// groups with more than the average of free inodes and blocks.
    fn inode_group(&self, parent: &Inode, is_dir: bool) -> Result<u32> {
        let groups = self.groups_to_use();
        let (home, _) = self.geometry.inode_place(parent.number())?;
        let home = home.min(groups - 1);
        if is_dir && parent.number() == inode::ROOT {
            let inodes = self.superblock.free_inodes() / groups;
            let blocks = (self.superblock.free_blocks() / u64::from(groups)) as u32;
            let mut best = None;
            for group in 0..groups {
                let desc = self.group(group)?;
                let desc = Group(&desc);
                if desc.free_inodes() > 0 && desc.free_inodes() >= inodes && desc.free_blocks() >= blocks {
                    let dirs = desc.used_dirs();
                    if best.is_none_or(|(fewest, _)| dirs < fewest) {
                        best = Some((dirs, group));
                    }
                }
            }
            if let Some((_, group)) = best {
                return Ok(group);
            }
        }
        for group in (home..groups).chain(0..home) {
            if Group(&self.group(group)?).free_inodes() > 0 {
                return Ok(group);
            }
        }
        Err(Error::new(Kind::NoSpace, "No space left on device (no inode is free)"))
    }

    /// Takes an inode for a new node and clears its bytes.
    ///
    /// # Errors
    /// `Kind::NoSpace` if there is none.
    pub(super) fn allocate_inode(&mut self, parent: &Inode, is_dir: bool) -> Result<Inode> {
        let group = self.inode_group(parent, is_dir)?;
        let per = self.geometry.inodes_per_group;
        self.check_count(group, false)?;
        self.init_inode_bitmap(group)?;
        let (number, bitmap) = self.bitmap(group, false)?;
        let reserved = if group == 0 { self.geometry.first_inode.saturating_sub(1) } else { 0 };
        let from = self.allocator.first_free_inode.get(&group).copied().unwrap_or(0).max(reserved);
        let index = next_bit(&|index| le64(&bitmap, index as usize * 8), from, per, false);
        drop(bitmap);
        if index >= per {
            return Err(Error::corrupt(format!("ext4: group {group}: its count of free inodes is wrong")));
        }
        set_bits(self.block_mut(number, Role::InodeBitmap(group))?, index..index + 1, true);
        self.allocator.first_free_inode.insert(group, index + 1);
        self.extend_table(group, index)?;
        self.count_inodes(group, -1, is_dir)?;
        let inode = Inode::new(group * per + index + 1, &vec![0; self.geometry.inode_size]);
        self.put_inode(&inode)?;
        Ok(inode)
    }

    /// Marks this very inode as used. Its bytes are the caller's to write.
    ///
    /// # Errors
    /// `Kind::Corrupt` if it is in use already.
    pub(super) fn claim_inode(&mut self, inode: u32, is_dir: bool) -> Result<()> {
        let (group, index) = self.geometry.inode_place(inode)?;
        self.check_count(group, false)?;
        self.init_inode_bitmap(group)?;
        let (number, bitmap) = self.bitmap(group, false)?;
        if bitmap.get(index as usize / 8).is_none_or(|byte| byte >> (index % 8) & 1 == 1) {
            return Err(Error::corrupt(format!("ext4: inode {inode} is used twice")));
        }
        drop(bitmap);
        set_bits(self.block_mut(number, Role::InodeBitmap(group))?, index..index + 1, true);
        self.extend_table(group, index)?;
        self.count_inodes(group, -1, is_dir)
    }

    /// Writes the inode bitmap of a group that had none; Linux then wants a block bitmap too.
    fn init_inode_bitmap(&mut self, group: u32) -> Result<()> {
        let desc = self.group(group)?;
        if self.is_uninit(&desc, INODE_UNINIT) {
            let bits = self.geometry.block_size as u32 * 8;
            let per = self.geometry.inodes_per_group;
            let bitmap = self.block_new(Group(&desc).inode_bitmap(), Role::InodeBitmap(group))?;
            set_bits(bitmap, per..bits, true);
            self.group_mut(group)?.set_flags(Group(&desc).flags() & !INODE_UNINIT);
        }
        self.init_block_bitmap(group)
    }

    /// Moves the border of the inode table's used part behind `index`; slots that come into it are zeroed,
    /// for nobody has written them yet.
    fn extend_table(&mut self, group: u32, index: u32) -> Result<()> {
        if !self.geometry.has_group_checksums() {
            return Ok(());
        }
        let desc = self.group(group)?;
        let per = self.geometry.inodes_per_group;
        let border = per.saturating_sub(Group(&desc).itable_unused());
        if index < border {
            return Ok(());
        }
        let slots = (self.geometry.block_size / self.geometry.inode_size) as u32;
        let table = Group(&desc).inode_table();
        for block in border / slots..=index / slots {
            let number = table + u64::from(block);
            let first = block * slots;
            if first >= border {
                self.block_new(number, Role::Inodes)?;
            } else {
                let from = (border - first) as usize * self.geometry.inode_size;
                self.block_mut(number, Role::Inodes)?[from..].fill(0);
            }
        }
        self.group_mut(group)?.set_itable_unused(per - (index + 1));
        Ok(())
    }

    /// Whether an inode is marked as used.
    pub(super) fn inode_is_used(&self, inode: u32) -> Result<bool> {
        let (group, index) = self.geometry.inode_place(inode)?;
        if self.is_uninit(&self.group(group)?, INODE_UNINIT) {
            return Ok(false);
        }
        let (_, bitmap) = self.bitmap(group, false)?;
        Ok(bit_is_set(&bitmap, index))
    }

    /// Gives an inode back.
    pub(super) fn release_inode(&mut self, inode: u32, is_dir: bool) -> Result<()> {
        let (group, index) = self.geometry.inode_place(inode)?;
        self.check_count(group, false)?;
        let uninit = self.is_uninit(&self.group(group)?, INODE_UNINIT);
        let (number, bitmap) = if uninit { (0, Default::default()) } else { self.bitmap(group, false)? };
        let used = bit_is_set(&bitmap, index);
        if !used || inode < self.geometry.first_inode {
            return Err(Error::corrupt(format!("ext4: inode {inode} is in use but reserved or marked free")));
        }
        drop(bitmap);
        set_bits(self.block_mut(number, Role::InodeBitmap(group))?, index..index + 1, false);
        self.allocator.first_free_inode.entry(group).and_modify(|first| *first = (*first).min(index));
        self.count_inodes(group, 1, is_dir)
    }

    /// Changes the counts of free inodes and of directories.
    fn count_inodes(&mut self, group: u32, change: i64, is_dir: bool) -> Result<()> {
        let bad = || Error::corrupt(format!("ext4: group {group}: its count of inodes or directories is wrong"));
        let add = |count: u32, change: i64| u32::try_from(i64::from(count) + change).map_err(|_| bad());
        let desc = self.group(group)?;
        let free = add(Group(&desc).free_inodes(), change)?;
        let dirs = add(Group(&desc).used_dirs(), if is_dir { -change } else { 0 })?;
        let total = add(self.superblock.free_inodes(), change)?;
        let mut desc = self.group_mut(group)?;
        desc.set_free_inodes(free);
        desc.set_used_dirs(dirs);
        self.superblock.set_free_inodes(total);
        self.superblock_changed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_in_bitmaps() {
        let mut used = vec![0u8; 128];
        set_bits(&mut used, 0..70, true);
        set_bits(&mut used, 75..200, true);
        set_bits(&mut used, 210..1000, true);
        let usage = Usage { used: &used, touched: None, end: 1024 };
        assert_eq!(usage.run(0..1024, 5), Some(70..75));
        assert_eq!(usage.run(0..1024, 6), Some(200..206));
        assert_eq!(usage.run(0..1024, 24), Some(1000..1024));
        assert_eq!(usage.run(0..1000, 24), Some(200..210));
        assert_eq!(usage.run(0..70, 1), None);
        set_bits(&mut used, 69..70, false);
        assert_eq!(next_bit(&|i| le64(&used, i as usize * 8), 0, 1024, false), 69);
    }
}
