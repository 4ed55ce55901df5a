//! From blocks of a file to blocks of the device: extent trees, read; block lists have a file of their own (`list`).

use super::Ext4;
use super::cache::Role;
use super::checksum;
use super::extent::{self, MAX_DEPTH, Node, ROOT_ENTRIES, Run};
use super::features::Incompat;
use super::inode::{FLAG_EXTENTS, Inode};
use crate::base::{Error, Result};

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
    /// Blocks of tree nodes outside the inode, leaves first, then what is above them; or of pointers.
    pub nodes: Vec<u64>,
}

impl Map {
    /// Number of clusters of the file, of `ratio` blocks each, that have mapped blocks.
    pub fn clusters(&self, ratio: u64) -> u64 {
        let mut next = 0;
        let mut count = 0;
        for run in &self.runs {
            let (first, end) = ((run.logical / ratio).max(next), run.end().div_ceil(ratio));
            count += end.saturating_sub(first);
            next = next.max(end);
        }
        count
    }
}

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
    pub(super) fn check_run(&self, inode: &Inode, run: &Run) -> Result<()> {
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

    /// The whole map of a file, checked for order and bounds.
    pub(super) fn map(&self, inode: &Inode) -> Result<Map> {
        let mut map = Map::default();
        if inode.has(FLAG_EXTENTS) {
            let mut upper = Vec::new();
            self.collect_extents(inode, inode.area(), None, 0, 1 << 32, &mut map, &mut upper)?;
            map.nodes.append(&mut upper);
        } else {
            self.collect_list(inode, &mut map)?;
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

    /// Makes the 60 bytes of a new inode an empty map.
    pub(super) fn init_map(&self, inode: &mut Inode) {
        inode.area_mut().fill(0);
        if self.geometry.incompat.has(Incompat::EXTENTS) {
            inode.set_flags(inode.flags() | FLAG_EXTENTS);
            extent::put_header(inode.area_mut(), 0, ROOT_ENTRIES as u16, 0);
        }
    }
}
