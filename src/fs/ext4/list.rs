//! Block lists, the maps of ext2 and ext3: twelve pointers in the inode, then one each to a block of pointers, to
//! a block of pointers to such blocks, and to one of a third depth. A pointer of 0 is a hole; nothing has a checksum.
//!
//! Facts: kernel documentation, "Direct/Indirect Block Addressing".

use super::Ext4;
use super::cache::Role;
use super::extent::{MAX_LEN, Run};
use super::features::RoCompat;
use super::inode::Inode;
use super::map::{Map, Span};
use crate::base::bytes::{le32, put_le32};
use crate::base::{Error, Kind, Result};

/// Block pointers in an inode: twelve direct ones, then one each of three depths.
const DIRECT: u64 = 12;
/// More pointer blocks than the largest file of an ext2 or ext3 has.
const MAX_POINTER_BLOCKS: usize = 1 << 22;

/// The pointers of an inode: where each is in the area, and how deep what it points to is.
fn slots() -> impl Iterator<Item = (usize, u32)> {
    (0..15_usize).map(|i| (i * 4, i.saturating_sub(DIRECT as usize - 1) as u32))
}

impl Ext4 {
    /// Pointers in a block.
    fn pointers(&self) -> u64 {
        self.geometry.bs() / 4
    }

    /// Follows a block list: the pointer of `logical`, with the number of blocks for which the answer holds
    /// (more than one only below a missing pointer block, or in a sequence).
    pub(super) fn list_span(&self, inode: &Inode, logical: u64) -> Result<Span> {
        let p = self.pointers();
        let hole = |len: u64| Ok(Span { len: len.max(1), physical: None, unwritten: false });
        let slot = |i: u64| le32(inode.area(), i as usize * 4);
        if logical < DIRECT {
            let slots: Vec<u32> = (0..DIRECT).map(slot).collect();
            return self.list_run(inode, logical, &slots, logical as usize);
        }
        let mut rest = logical - DIRECT;
        for depth in 1..=3u32 {
            let covers = p.pow(depth);
            if rest >= covers {
                rest -= covers;
                continue;
            }
            let mut pointer = slot(DIRECT + u64::from(depth) - 1);
            for level in (0..depth).rev() {
                let below = p.pow(level);
                if pointer == 0 {
                    return hole(p.pow(level + 1) - rest);
                }
                self.check_run(inode, &Run { logical, len: 1, physical: pointer.into(), unwritten: false })?;
                let block = self.block(pointer.into(), Role::Plain)?;
                let index = (rest / below) as usize;
                rest %= below;
                if level == 0 {
                    let slots: Vec<u32> = block.chunks_exact(4).map(|c| le32(c, 0)).collect();
                    return self.list_run(inode, logical, &slots, index);
                }
                pointer = le32(&block, index * 4);
            }
        }
        hole(u64::MAX - logical)
    }

    /// The sequence of pointers that begins at `index`.
    fn list_run(&self, inode: &Inode, logical: u64, slots: &[u32], index: usize) -> Result<Span> {
        let slots = slots.get(index..).unwrap_or_default();
        let Some(first) = slots.first().copied() else {
            return Err(Error::corrupt(format!("ext4: inode {}: no pointer for block {logical}", inode.number())));
        };
        if first == 0 {
            let len = slots.iter().take_while(|s| **s == 0).count() as u64;
            return Ok(Span { len, physical: None, unwritten: false });
        }
        let len = slots.iter().zip(u64::from(first)..).take_while(|(s, want)| u64::from(**s) == *want).count();
        let run = Run { logical, len: len as u32, physical: first.into(), unwritten: false };
        self.check_run(inode, &run)?;
        Ok(Span { len: len as u64, physical: Some(first.into()), unwritten: false })
    }

    /// Adds the whole list of an inode to a map.
    pub(super) fn collect_list(&self, inode: &Inode, map: &mut Map) -> Result<()> {
        let (mut mapped, mut logical) = (0, 0);
        for (slot, depth) in slots() {
            self.collect_pointer(inode, le32(inode.area(), slot), depth, logical, map, &mut mapped)?;
            logical += self.pointers().pow(depth);
        }
        Ok(())
    }

    /// Adds what is below a pointer. A damaged list may name a block again and again, but no file has more
    /// blocks than the file system: `mapped` counts them.
    fn collect_pointer(
        &self,
        inode: &Inode,
        pointer: u32,
        depth: u32,
        logical: u64,
        map: &mut Map,
        mapped: &mut u64,
    ) -> Result<()> {
        if pointer == 0 {
            return Ok(());
        }
        let run = Run { logical, len: 1, physical: pointer.into(), unwritten: false };
        self.check_run(inode, &run)?;
        *mapped += 1;
        if *mapped > self.geometry.blocks || map.nodes.len() > MAX_POINTER_BLOCKS {
            return Err(Error::corrupt(format!("ext4: inode {}: its block list repeats itself", inode.number())));
        }
        if depth == 0 {
            match map.runs.last_mut() {
                Some(last)
                    if last.end() == logical
                        && last.physical + u64::from(last.len) == run.physical
                        && last.len < MAX_LEN =>
                {
                    last.len += 1;
                }
                _ => map.runs.push(run),
            }
            return Ok(());
        }
        map.nodes.push(pointer.into());
        let block = self.block(pointer.into(), Role::Plain)?;
        let below = self.pointers().pow(depth - 1);
        for (i, slot) in (0u64..).zip(block.chunks_exact(4)) {
            self.collect_pointer(inode, le32(slot, 0), depth - 1, logical + i * below, map, mapped)?;
        }
        Ok(())
    }

    /// The most blocks that a file may have: by its pointers, by their 32 bits, and by what `i_blocks` can count, the
    /// blocks of pointers with it. Linux has the same limit, to within a few blocks.
    pub(super) fn list_limit(&self) -> u64 {
        let p = self.pointers();
        let pointers = DIRECT + p + p.pow(2) + p.pow(3);
        let counted = if self.geometry.ro_compat.has(RoCompat::HUGE_FILE) {
            (1 << 48) - 1
        } else {
            u64::from(u32::MAX) / (self.geometry.bs() / 512)
        };
        let nodes = counted.div_ceil(p) + counted.div_ceil(p.pow(2)) + 3;
        pointers.min(u64::from(u32::MAX)).min(counted - nodes)
    }

    /// Makes the runs of `map` the block list of an inode: pointer blocks stay where they are, those that are missing
    /// are taken, those with nothing below are given back. Their new list is left in `map`; the inode is changed but
    /// not stored.
    pub(super) fn store_list(&mut self, inode: &mut Inode, map: &mut Map) -> Result<()> {
        if map.runs.last().is_some_and(|run| run.end() > self.list_limit()) {
            return Err(Kind::FileTooBig.into());
        }
        if self.geometry.ratio() > 1 {
            return Err(Error::unsupported(format!(
                "ext4: inode {} is mapped by a block list on a file system with 'bigalloc'",
                inode.number()
            )));
        }
        if map.runs.iter().any(|run| run.physical + u64::from(run.len) > 1 << 32) {
            return Err(Error::new(Kind::NoSpace, "No space left on device (a block list reaches 2^32 blocks)"));
        }
        let mut nodes = Vec::new();
        let mut first = 0;
        for (slot, depth) in slots() {
            let old = le32(inode.area(), slot);
            let new = self.put_pointer(inode, old, depth, first, &map.runs, &mut nodes)?;
            put_le32(inode.area_mut(), slot, new);
            first += self.pointers().pow(depth);
        }
        map.nodes = nodes;
        Ok(())
    }

    /// The pointer of what begins at block `first` of the file, `old` before: a block of the file (`depth` 0) or a
    /// block of pointers, written as the runs are.
    fn put_pointer(
        &mut self,
        inode: &Inode,
        old: u32,
        depth: u32,
        first: u64,
        runs: &[Run],
        nodes: &mut Vec<u64>,
    ) -> Result<u32> {
        let end = first + self.pointers().pow(depth);
        let from = runs.partition_point(|run| run.end() <= first);
        let inside = runs.get(from).filter(|run| run.logical < end);
        if depth == 0 {
            return Ok(inside.map_or(0, |run| (run.physical + (first - run.logical)) as u32));
        }
        if inside.is_none() {
            self.release_pointers(inode, old, depth)?;
            return Ok(0);
        }
        let mut bytes = vec![0; self.geometry.block_size];
        let number = if old == 0 {
            // Behind the content, so that this stays in one piece.
            let goal =
                runs.last().map_or_else(|| self.home_of(inode), Run::behind).max(nodes.last().map_or(0, |n| n + 1));
            let number = self.allocate(goal, 1)?.start;
            let number = u32::try_from(number)
                .map_err(|_| Error::new(Kind::NoSpace, "No space left on device (below block 2^32)"))?;
            self.block_new(number.into(), Role::Plain)?;
            number
        } else {
            bytes.copy_from_slice(&self.block(old.into(), Role::Plain)?);
            old
        };
        nodes.push(number.into());
        if depth == 1 {
            bytes.fill(0);
            for run in runs[from..].iter().map_while(|run| run.clip(first, end)) {
                let at = (run.logical - first) as usize * 4;
                let slots = bytes[at..at + run.len as usize * 4].chunks_exact_mut(4);
                slots.zip(run.physical..).for_each(|(slot, block)| put_le32(slot, 0, block as u32));
            }
        } else {
            let below = self.pointers().pow(depth - 1);
            for at in (0..bytes.len()).step_by(4) {
                let start = first + at as u64 / 4 * below;
                let new = self.put_pointer(inode, le32(&bytes, at), depth - 1, start, runs, nodes)?;
                put_le32(&mut bytes, at, new);
            }
        }
        self.block_put(number.into(), Role::Plain, &bytes)?;
        Ok(number)
    }

    /// Gives back a block of pointers and those below it, not what they point to at last.
    fn release_pointers(&mut self, inode: &Inode, pointer: u32, depth: u32) -> Result<()> {
        if pointer == 0 || depth == 0 {
            return Ok(());
        }
        self.check_run(inode, &Run { logical: 0, len: 1, physical: pointer.into(), unwritten: false })?;
        if depth > 1 {
            let block = self.block(pointer.into(), Role::Plain)?;
            for slot in block.chunks_exact(4) {
                self.release_pointers(inode, le32(slot, 0), depth - 1)?;
            }
        }
        self.release(pointer.into(), 1)
    }
}
