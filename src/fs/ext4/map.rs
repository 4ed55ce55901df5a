//! From blocks of a file to blocks of the device: extent trees, and the block lists of ext2 and ext3.

use super::Ext4;
use super::cache::Role;
use super::checksum;
use super::extent::{self, MAX_DEPTH, MAX_LEN, Node, ROOT_ENTRIES, Run};
use super::features::Incompat;
use super::inode::{FLAG_EXTENTS, Inode};
use crate::base::bytes::le32;
use crate::base::{Error, Result};

/// Block pointers in an inode: twelve direct ones, then one each of three depths.
const DIRECT: u64 = 12;

/// What a file has from some block on, up to the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Number of blocks, at least one.
    pub len: u64,
    /// First block on the device; `None` for a hole.
    pub physical: Option<u64>,
    /// Allocated, but reads as zeros.
    pub unwritten: bool,
}

/// The whole map of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Map {
    /// The runs in order of the file's blocks.
    pub runs: Vec<Run>,
    /// Blocks of tree nodes or pointers outside the inode: leaves first, then what is above them.
    pub nodes: Vec<u64>,
}

impl Map {
    /// Number of blocks of the file that are mapped.
    pub fn blocks(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.len)).sum()
    }
}

/// More pointer blocks than the largest file of an ext2 or ext3 has.
const MAX_POINTER_BLOCKS: usize = 1 << 22;

impl Ext4 {
    /// The seed of the checksums of what belongs to an inode.
    pub(super) fn seed_of(&self, inode: &Inode) -> u32 {
        checksum::inode_seed(self.geometry.seed, inode.number(), inode.generation())
    }

    /// Checks a node of an extent tree.
    fn check_node(&self, inode: &Inode, bytes: &[u8], depth: Option<u16>) -> Result<()> {
        let node = Node(bytes);
        let room = (bytes.len() - 12) / 12;
        let bad = |what: String| Err(Error::corrupt(format!("ext4: inode {}: extent {what}", inode.number())));
        if node.magic() != extent::MAGIC {
            return bad(format!("node has magic {:#06x}", node.magic()));
        }
        match depth {
            None if node.depth() > MAX_DEPTH => return bad(format!("depth {} is over {MAX_DEPTH}", node.depth())),
            Some(depth) if node.depth() != depth => return bad(format!("depth is {}, not {depth}", node.depth())),
            _ => {}
        }
        if node.entries() > node.max() || usize::from(node.max()) > room {
            return bad(format!("node has {} entries of {}, room for {room}", node.entries(), node.max()));
        }
        if node.entries() == 0 && (depth.is_some() || node.depth() > 0) {
            return bad("node has no entries".into());
        }
        Ok(())
    }

    /// Checks a run of device blocks.
    fn check_run(&self, inode: &Inode, run: &Run) -> Result<()> {
        let end = run.physical.checked_add(u64::from(run.len));
        if run.len == 0 || run.physical <= self.geometry.first_block || end.is_none_or(|end| end > self.geometry.blocks)
        {
            return Err(Error::corrupt(format!(
                "ext4: inode {}: file block {}: {} blocks at {} are outside the file system of {} blocks",
                inode.number(),
                run.logical,
                run.len,
                run.physical,
                self.geometry.blocks
            )));
        }
        self.check_zones(inode.number(), run.physical, u64::from(run.len))
    }

    /// What the file has from block `logical` on.
    pub(super) fn span_at(&self, inode: &Inode, logical: u64) -> Result<Span> {
        if inode.has(FLAG_EXTENTS) { self.extent_span(inode, logical) } else { self.list_span(inode, logical) }
    }

    fn extent_span(&self, inode: &Inode, logical: u64) -> Result<Span> {
        let seed = self.seed_of(inode);
        let mut bytes = None;
        let mut depth = None;
        let mut bound = 1u64 << 32;
        if logical >= bound {
            return Ok(Span { len: u64::MAX - logical, physical: None, unwritten: false });
        }
        loop {
            let block: &[u8] = match &bytes {
                None => inode.area(),
                Some(block) => block as &std::sync::Arc<Vec<u8>>,
            };
            self.check_node(inode, block, depth)?;
            let node = Node(block);
            let count = usize::from(node.entries());
            // The last entry that begins at or before the block.
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = (low + high) / 2;
                if u64::from(node.key(middle)) <= logical { low = middle + 1 } else { high = middle }
            }
            if low < count {
                bound = bound.min(u64::from(node.key(low)));
            }
            let hole = Span { len: bound.saturating_sub(logical).max(1), physical: None, unwritten: false };
            if low == 0 {
                return Ok(hole);
            }
            if node.depth() == 0 {
                let run = node.run(low - 1);
                if run.end() <= logical {
                    return Ok(hole);
                }
                self.check_run(inode, &run)?;
                let skip = logical - run.logical;
                return Ok(Span {
                    len: u64::from(run.len) - skip,
                    physical: Some(run.physical + skip),
                    unwritten: run.unwritten,
                });
            }
            depth = Some(node.depth() - 1);
            let child = node.child(low - 1);
            bytes = Some(self.block(child, Role::Extents(seed))?);
        }
    }

    /// Pointers in a block.
    fn pointers(&self) -> u64 {
        self.geometry.bs() / 4
    }

    /// Follows a block list: the pointer of `logical`, with the number of blocks for which the answer holds
    /// (more than one only below a missing pointer block, or in a sequence).
    fn list_span(&self, inode: &Inode, logical: u64) -> Result<Span> {
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

    /// The whole map of a file, checked for order and bounds.
    pub(super) fn map(&self, inode: &Inode) -> Result<Map> {
        let mut map = Map::default();
        if inode.has(FLAG_EXTENTS) {
            let mut upper = Vec::new();
            self.collect_extents(inode, inode.area(), None, 0, 1 << 32, &mut map, &mut upper)?;
            map.nodes.append(&mut upper);
        } else {
            let mut mapped = 0;
            let mut logical = 0;
            for i in 0..DIRECT + 3 {
                let pointer = le32(inode.area(), i as usize * 4);
                let depth = i.saturating_sub(DIRECT - 1) as u32;
                self.collect_pointer(inode, pointer, depth, logical, &mut map, &mut mapped)?;
                logical += self.pointers().pow(depth);
            }
        }
        Ok(map)
    }

    /// Adds the runs below a node. Keys must ascend and stay inside `low..high`: so no node is seen twice.
    #[allow(clippy::too_many_arguments)]
    fn collect_extents(
        &self,
        inode: &Inode,
        bytes: &[u8],
        depth: Option<u16>,
        low: u64,
        high: u64,
        map: &mut Map,
        upper: &mut Vec<u64>,
    ) -> Result<()> {
        self.check_node(inode, bytes, depth)?;
        let node = Node(bytes);
        let mut from = low;
        for i in 0..usize::from(node.entries()) {
            let key = u64::from(node.key(i));
            let next = if i + 1 < usize::from(node.entries()) { u64::from(node.key(i + 1)) } else { high };
            if key < from || next <= key || next > high {
                return Err(Error::corrupt(format!(
                    "ext4: inode {}: extent key {key} is out of order (after {from}, before {next})",
                    inode.number()
                )));
            }
            if node.depth() == 0 {
                let run = node.run(i);
                self.check_run(inode, &run)?;
                if run.end() > next {
                    return Err(Error::corrupt(format!("ext4: inode {}: extents overlap at {next}", inode.number())));
                }
                from = run.end();
                map.runs.push(run);
            } else {
                let child = node.child(i);
                let block = self.block(child, Role::Extents(self.seed_of(inode)))?;
                if node.depth() == 1 {
                    map.nodes.push(child)
                } else {
                    upper.push(child)
                }
                self.collect_extents(inode, &block, Some(node.depth() - 1), key, next, map, upper)?;
                from = next;
            }
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

    /// Makes the 60 bytes of a new inode an empty map.
    pub(super) fn init_map(&self, inode: &mut Inode) {
        inode.area_mut().fill(0);
        if self.geometry.incompat.has(Incompat::EXTENTS) {
            inode.set_flags(inode.flags() | FLAG_EXTENTS);
            extent::put_header(inode.area_mut(), 0, ROOT_ENTRIES as u16, 0);
        }
    }
}
