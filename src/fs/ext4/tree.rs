//! Extent trees, written: the runs of a file are laid out anew over the nodes that it has; nodes whose bytes
//! stay the same are not written.

use super::Ext4;
use super::cache::Role;
use super::extent::{self, MAX_LEN, ROOT_ENTRIES, Run};
use super::features::RoCompat;
use super::inode::{FLAG_EXTENTS, Inode};
use super::map::Map;
use crate::base::{Error, Result};

/// Bytes of a node's header and of an entry.
const HEADER: usize = 12;
const ENTRY: usize = 12;

/// Joins neighbours that can be one extent.
fn merge(runs: &mut Vec<Run>) {
    let mut merged: Vec<Run> = Vec::with_capacity(runs.len());
    for mut run in runs.drain(..) {
        if let Some(last) = merged.last_mut() {
            let adjoins = last.end() == run.logical
                && last.physical + u64::from(last.len) == run.physical
                && last.unwritten == run.unwritten;
            if adjoins {
                let limit = if run.unwritten { MAX_LEN - 1 } else { MAX_LEN };
                let moved = run.len.min(limit.saturating_sub(last.len));
                last.len += moved;
                run.logical += u64::from(moved);
                run.physical += u64::from(moved);
                run.len -= moved;
            }
        }
        if run.len > 0 {
            merged.push(run);
        }
    }
    *runs = merged;
}

impl Ext4 {
    /// Makes `map` the map of an inode, of the kind that it has: takes or gives back tree nodes, sets the space that
    /// it uses. The inode is changed but not stored.
    pub(super) fn store_map(&mut self, inode: &mut Inode, map: &mut Map) -> Result<()> {
        if !inode.has(FLAG_EXTENTS) {
            self.store_list(inode, map)?;
            return self.count_space(inode, map);
        }
        merge(&mut map.runs);
        let room = (self.geometry.block_size - HEADER) / ENTRY;
        // Nodes of each level from the leaves up, until the rest fits the inode.
        let mut levels = Vec::new();
        let mut count = map.runs.len();
        while count > ROOT_ENTRIES {
            count = count.div_ceil(room);
            levels.push(count);
        }
        if levels.len() > usize::from(extent::MAX_DEPTH) {
            return Err(Error::new(crate::base::Kind::FileTooBig, "ext4: a file has too many extents"));
        }
        let wanted: usize = levels.iter().sum();
        while map.nodes.len() > wanted {
            if let Some(node) = map.nodes.pop() {
                self.release(node, 1)?;
            }
        }
        while map.nodes.len() < wanted {
            let goal = map.nodes.last().map_or_else(|| self.home_of(inode), |node| node + 1);
            map.nodes.push(self.allocate(goal, 1)?.start);
        }

        let role = Role::Extents(self.seed_of(inode));
        let mut nodes = map.nodes.iter().copied();
        let mut children: Vec<(u64, u64)> = Vec::new();
        for (depth, count) in (0u16..).zip(&levels) {
            let below = std::mem::take(&mut children);
            let total = if depth == 0 { map.runs.len() } else { below.len() };
            for i in 0..*count {
                let part = i * room..((i + 1) * room).min(total);
                let mut bytes = vec![0; self.geometry.block_size];
                extent::put_header(&mut bytes, part.len() as u16, room as u16, depth);
                let key = if depth == 0 {
                    let runs = &map.runs[part];
                    runs.iter().enumerate().for_each(|(slot, run)| extent::put_run(&mut bytes, slot, run));
                    runs.first().map_or(0, |run| run.logical)
                } else {
                    let below = &below[part];
                    (0..).zip(below).for_each(|(slot, (key, node))| extent::put_child(&mut bytes, slot, *key, *node));
                    below.first().map_or(0, |(key, _)| *key)
                };
                let number =
                    nodes.next().ok_or_else(|| Error::new(crate::base::Kind::Internal, "ext4: too few nodes"))?;
                if self.geometry.has_checksums() {
                    super::checksum::stamp_extent(self.seed_of(inode), &mut bytes);
                }
                self.block_put(number, role, &bytes)?;
                children.push((key, number));
            }
        }
        let area = inode.area_mut();
        area[HEADER..].fill(0);
        let depth = levels.len() as u16;
        let used = if depth == 0 { map.runs.len() } else { children.len() };
        extent::put_header(area, used as u16, ROOT_ENTRIES as u16, depth);
        if depth == 0 {
            map.runs.iter().enumerate().for_each(|(slot, run)| extent::put_run(area, slot, run));
        } else {
            (0..).zip(&children).for_each(|(slot, (key, node))| extent::put_child(area, slot, *key, *node));
        }
        self.count_space(inode, map)
    }

    /// Sets `i_blocks` from the map and the attribute block.
    fn count_space(&self, inode: &mut Inode, map: &Map) -> Result<()> {
        let ratio = self.geometry.ratio();
        let clusters = map.clusters(ratio)
            + map.nodes.len() as u64
            + u64::from(inode.xattr_block() != 0)
            + self.all_value_clusters(inode)?;
        let huge = self.geometry.ro_compat.has(RoCompat::HUGE_FILE);
        inode.set_sectors(clusters * ratio * (self.geometry.bs() / 512), self.geometry.bs(), huge)
    }

    /// Where the metadata of an inode should go: into its group.
    pub(super) fn home_of(&self, inode: &Inode) -> u64 {
        let group = (inode.number().saturating_sub(1)) / self.geometry.inodes_per_group;
        self.geometry.group_start(group)
    }

    /// Stores an inode with its checksum.
    pub(super) fn put_inode(&mut self, inode: &Inode) -> Result<()> {
        let (block, range) = self.inode_slot(inode.number())?;
        if self.geometry.ro_compat.has(RoCompat::QUOTA) {
            let old = self.block(block, Role::Inodes)?;
            self.note_usage(old.get(range.clone()).unwrap_or_default(), inode)?;
        }
        let checksums = self.geometry.has_checksums();
        let seed = self.geometry.seed;
        let slot = self.inode_mut(block, range)?;
        slot.copy_from_slice(inode.bytes());
        if checksums {
            super::checksum::stamp_inode(seed, inode.number(), slot);
        }
        Ok(())
    }

    /// Frees everything that an inode holds from file block `from` on and stores the shortened map.
    pub(super) fn cut_map(&mut self, inode: &mut Inode, from: u64) -> Result<Map> {
        let mut map = self.map(inode)?;
        let keep = map.runs.partition_point(|run| run.logical < from);
        let mut freed: Vec<Run> = map.runs.drain(keep..).collect();
        if let Some(last) = map.runs.last_mut()
            && let Some(part) = last.clip(from, u64::MAX)
        {
            last.len -= part.len;
            freed.insert(0, part);
        }
        let mut kept = map.runs.last().copied();
        for run in freed {
            self.release_run(&run, kept.as_ref())?;
            kept = Some(run);
        }
        self.store_map(inode, &mut map)?;
        Ok(map)
    }

    /// Gives back the blocks of a run; not the cluster that it begins in if the run before it lies there too, which
    /// keeps it or gave it back.
    fn release_run(&mut self, run: &Run, before: Option<&Run>) -> Result<()> {
        let ratio = self.geometry.ratio();
        let mut start = run.physical;
        if start % ratio != run.logical % ratio {
            return Err(Error::corrupt(format!("ext4: the extent at block {start} does not keep to its clusters")));
        }
        if before.is_some_and(|before| (before.end() - 1) / ratio == run.logical / ratio) {
            start = start.next_multiple_of(ratio);
        }
        if start < run.behind() { self.release(start, run.behind() - start) } else { Ok(()) }
    }
}
