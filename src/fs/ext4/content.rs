//! File content, written: into the blocks that a file has, into holes, and whole files at once.

use std::io::{ErrorKind, Read};

use super::Ext4;
use super::alloc::Grant;
use super::extent::Run;
use super::features::RoCompat;
use super::inode::{FLAG_EXTENTS, FLAG_INLINE_DATA, Inode, Time};
use super::map::Map;
use crate::base::bytes::is_zero;
use crate::base::{Error, Kind, Result};

/// Bytes read from a source at a time.
const CHUNK: usize = 1 << 20;
/// A piece of zeros of this many bytes, so aligned, becomes a hole of a sparse file.
const HOLE: usize = 64 << 10;
/// The first file of a session looks for a free run of this many bytes, so that the next ones follow it.
const FIRST_RUN: u64 = 8 << 20;

impl Ext4 {
    /// The size limit of a file, by how it is mapped.
    fn check_size(&mut self, inode: &Inode, size: u64) -> Result<()> {
        let blocks = if inode.has(FLAG_EXTENTS) { u64::from(u32::MAX) } else { self.list_limit() };
        if size > self.geometry.bs() * blocks {
            return Err(Kind::FileTooBig.into());
        }
        if size > 0x7fff_ffff && !self.superblock.ro_compat().has(RoCompat::LARGE_FILE) {
            if self.superblock.revision() == 0 {
                // Revision 0 has no feature bits.
                return Err(Kind::FileTooBig.into());
            }
            self.superblock.add_ro_compat(RoCompat::LARGE_FILE);
            self.superblock_changed = true;
        }
        Ok(())
    }

    /// Where new content of a file goes: behind the run before it, else behind the last file's content.
    fn content_goal(&mut self, inode: &Inode, map: &Map, logical: u64) -> Result<u64> {
        let before = map.runs.partition_point(|run| run.logical < logical);
        if let Some(run) = before.checked_sub(1).and_then(|i| map.runs.get(i)) {
            return Ok(run.physical + (logical - run.logical));
        }
        if let Some(goal) = self.allocator.data_goal {
            return Ok(goal);
        }
        let want = (FIRST_RUN / self.geometry.bs()) as u32;
        self.find_run(self.home_of(inode), want)
    }

    /// Takes up to `want` blocks for content and moves the goal of the next file behind them.
    fn allocate_content(&mut self, inode: &Inode, map: &Map, logical: u64, want: u64) -> Result<Grant> {
        let goal = self.content_goal(inode, map, logical)?;
        let grant = self.allocate_mapped(map, logical, want, goal)?;
        self.allocator.data_goal = Some(grant.start + u64::from(grant.len));
        Ok(grant)
    }

    /// Takes up to `want` blocks, at least one, for what an inode has from block `logical` on, a hole so far. With
    /// bigalloc a block of the file has the same place in its cluster as on the device, so a cluster that the file has
    /// a part of already is gone on with.
    pub(super) fn allocate_mapped(&mut self, map: &Map, logical: u64, want: u64, goal: u64) -> Result<Grant> {
        let ratio = self.geometry.ratio();
        let (skip, cluster) = (logical % ratio, logical / ratio);
        let next = map.runs.partition_point(|run| run.end() <= cluster * ratio);
        let mut want = want;
        if let Some(run) = map.runs.get(next).filter(|_| ratio > 1) {
            if run.logical / ratio <= cluster {
                let inside = run.logical.max(cluster * ratio);
                let start = run.physical + (inside - run.logical) + logical;
                let start = start.checked_sub(inside).filter(|start| start % ratio == skip);
                let start = start.ok_or_else(|| Error::corrupt("ext4: an extent does not keep to its clusters"))?;
                return Ok(Grant { start, len: want.min(ratio - skip) as u32, fresh: false });
            }
            // The cluster that the next run begins in is that run's.
            want = want.min(run.logical / ratio * ratio - logical);
        }
        let grant = self.allocate(goal, u32::try_from(skip + want).unwrap_or(u32::MAX))?;
        let len = want.min(u64::from(grant.len) - skip) as u32;
        Ok(Grant { start: grant.start + skip, len, fresh: grant.fresh })
    }

    /// Writes whole blocks that were just taken.
    fn write_new(&mut self, block: u64, bytes: &[u8], fresh: bool) -> Result<()> {
        let offset = block * self.geometry.bs();
        if fresh { self.fresh.get_mut().add(&self.device, offset, bytes) } else { self.write_over(offset, bytes) }
    }

    /// Writes into blocks that a file had before.
    fn write_over(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.fresh.get_mut().flush_at(&self.device, offset, bytes.len())?;
        self.device.write_at(offset, bytes)
    }

    /// Makes what the block of the last byte has behind it zeros.
    pub(super) fn zero_tail(&mut self, inode: &Inode, size: u64) -> Result<()> {
        let bs = self.geometry.bs();
        let skip = size % bs;
        if skip == 0 {
            return Ok(());
        }
        let span = self.span_at(inode, size / bs)?;
        match span.physical {
            Some(block) if !span.unwritten => self.write_over(block * bs + skip, &vec![0; (bs - skip) as usize]),
            _ => Ok(()),
        }
    }

    /// See [`crate::fs::Edit::write`]; the inode is changed but not stored.
    pub(super) fn write_content(&mut self, inode: &mut Inode, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or_else(|| Error::from(Kind::FileTooBig))?;
        self.check_size(inode, end)?;
        if data.is_empty() {
            return Ok(());
        }
        if inode.has(FLAG_INLINE_DATA) {
            let (from, to) = (offset as usize, end as usize);
            if self.change_inline(inode, inode.size().max(end), |bytes| bytes[from..to].copy_from_slice(data))? {
                return Ok(());
            }
            self.move_content_out(inode, u64::MAX)?;
        }
        if end > inode.size() {
            self.zero_tail(inode, inode.size())?;
        }
        let bs = self.geometry.bs();
        let mut map = self.map(inode)?;
        let mut changed = false;
        let mut at = offset;
        while at < end {
            let logical = at / bs;
            let last = (end - 1) / bs;
            let index = map.runs.partition_point(|run| run.end() <= logical);
            let run = map.runs.get(index).copied();
            match run.filter(|run| run.logical <= logical) {
                Some(run) if !run.unwritten => {
                    let stop = end.min(run.end() * bs);
                    let place = (run.physical + (logical - run.logical)) * bs + at % bs;
                    self.write_over(place, &data[(at - offset) as usize..(stop - offset) as usize])?;
                    at = stop;
                    continue;
                }
                Some(run) => {
                    // Unwritten blocks: written whole, and the run is split around them.
                    let stop = (last + 1).min(run.end());
                    let written = Run { unwritten: false, ..run }.clip(logical, stop);
                    let parts = [run.clip(0, logical), written, run.clip(stop, run.end())];
                    let block = run.physical + (logical - run.logical);
                    let bytes = whole_blocks(bs, logical, stop, offset, data);
                    self.write_over(block * bs, &bytes)?;
                    map.runs.splice(index..=index, parts.into_iter().flatten());
                    at = (stop * bs).min(end);
                }
                None => {
                    let stop = run.map_or(last + 1, |next| next.logical.min(last + 1));
                    let grant = self.allocate_content(inode, &map, logical, stop - logical)?;
                    let stop = logical + u64::from(grant.len);
                    let bytes = whole_blocks(bs, logical, stop, offset, data);
                    self.write_new(grant.start, &bytes, grant.fresh)?;
                    let run = Run { logical, len: grant.len, physical: grant.start, unwritten: false };
                    map.runs.insert(index, run);
                    at = (stop * bs).min(end);
                }
            }
            changed = true;
        }
        if changed {
            self.store_map(inode, &mut map)?;
        }
        inode.set_size(inode.size().max(end));
        Ok(())
    }

    /// See [`crate::fs::Edit::resize`]; the inode is changed but not stored.
    pub(super) fn resize_content(&mut self, inode: &mut Inode, size: u64) -> Result<()> {
        self.check_size(inode, size)?;
        if inode.has(FLAG_INLINE_DATA) {
            if self.change_inline(inode, size, |_| ())? {
                return Ok(());
            }
            self.move_content_out(inode, size)?;
        }
        if size < inode.size() {
            self.cut_map(inode, size.div_ceil(self.geometry.bs()))?;
            self.zero_tail(inode, size)?;
        } else if size > inode.size() {
            self.zero_tail(inode, inode.size())?;
        }
        inode.set_size(size);
        Ok(())
    }

    /// See [`crate::fs::Edit::fill`]; the inode is changed but not stored.
    pub(super) fn fill_content(
        &mut self,
        inode: &mut Inode,
        size: u64,
        source: &mut dyn Read,
        sparse: bool,
    ) -> Result<()> {
        self.check_size(inode, size)?;
        if inode.has(FLAG_INLINE_DATA) {
            self.move_content_out(inode, 0)?;
        }
        let bs = self.geometry.bs();
        if size == 0 || inode.size() > 0 || inode.sectors(bs) > 0 {
            self.cut_map(inode, 0)?;
            inode.set_size(0);
        }
        let blocks = size.div_ceil(bs);
        if !sparse && blocks > self.superblock.free_blocks() {
            return Err(Kind::NoSpace.into());
        }
        let mut map = Map { runs: Vec::new(), nodes: self.map(inode)?.nodes };
        let fresh = if sparse { Vec::new() } else { self.allocate_all(inode, &mut map, blocks)? };
        let mut buffer = vec![0; CHUNK.min((blocks * bs) as usize)];
        let mut at = 0;
        while at < size {
            let count = (size - at).min(buffer.len() as u64) as usize;
            read_exactly(source, &mut buffer[..count])?;
            let padded = count.next_multiple_of(bs as usize);
            buffer[count..padded].fill(0);
            if sparse {
                self.add_sparse(inode, &mut map, at, &buffer[..padded])?;
            } else {
                self.write_runs(&map, &fresh, at / bs, &buffer[..padded])?;
            }
            at += count as u64;
        }
        self.store_map(inode, &mut map)?;
        inode.set_size(size);
        Ok(())
    }

    /// Takes all blocks of a new file, in as few runs as possible; answers which of them are fresh.
    fn allocate_all(&mut self, inode: &Inode, map: &mut Map, blocks: u64) -> Result<Vec<bool>> {
        let mut fresh = Vec::new();
        let mut logical = 0;
        while logical < blocks {
            let grant = self.allocate_content(inode, map, logical, blocks - logical)?;
            map.runs.push(Run { logical, len: grant.len, physical: grant.start, unwritten: false });
            fresh.push(grant.fresh);
            logical += u64::from(grant.len);
        }
        Ok(fresh)
    }

    /// Writes blocks from `logical` on to the runs that were taken for them.
    fn write_runs(&mut self, map: &Map, fresh: &[bool], logical: u64, bytes: &[u8]) -> Result<()> {
        let bs = self.geometry.bs();
        let end = logical + bytes.len() as u64 / bs;
        let first = map.runs.partition_point(|run| run.end() <= logical);
        for (run, fresh) in map.runs.iter().zip(fresh).skip(first) {
            let Some(part) = run.clip(logical, end) else { break };
            let from = ((part.logical - logical) * bs) as usize;
            let to = from + part.len as usize * self.geometry.block_size;
            self.write_new(part.physical, &bytes[from..to], *fresh)?;
        }
        Ok(())
    }

    /// Takes and writes blocks for the pieces of a chunk that are not zeros.
    fn add_sparse(&mut self, inode: &Inode, map: &mut Map, offset: u64, bytes: &[u8]) -> Result<()> {
        let bs = self.geometry.bs();
        let mut from = 0;
        while from < bytes.len() {
            let piece = |at: usize| &bytes[at..(at + HOLE).min(bytes.len())];
            if is_zero(piece(from)) {
                from += HOLE;
                continue;
            }
            let mut to = from;
            while to < bytes.len() && !is_zero(piece(to)) {
                to = (to + HOLE).min(bytes.len());
            }
            let mut at = from;
            while at < to {
                let logical = (offset + at as u64) / bs;
                let grant = self.allocate_content(inode, map, logical, (to - at) as u64 / bs)?;
                let stop = at + grant.len as usize * self.geometry.block_size;
                self.write_new(grant.start, &bytes[at..stop], grant.fresh)?;
                map.runs.push(Run { logical, len: grant.len, physical: grant.start, unwritten: false });
                at = stop;
            }
            from = to;
        }
        Ok(())
    }

    /// Sets the times that a change of content sets.
    pub(super) fn touch_content(&self, inode: &mut Inode) {
        inode.set_time(Time::Modify, self.now);
        inode.set_time(Time::Change, self.now);
    }
}

/// The bytes of file blocks `from..to`: `data`, which begins at byte `offset` of the file, and zeros around it.
fn whole_blocks(bs: u64, from: u64, to: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    let (start, end) = (from * bs, to * bs);
    let (first, last) = (offset.max(start), (offset + data.len() as u64).min(end));
    let mut bytes = vec![0; (end - start) as usize];
    bytes[(first - start) as usize..(last - start) as usize]
        .copy_from_slice(&data[(first - offset) as usize..(last - offset) as usize]);
    bytes
}

fn read_exactly(source: &mut dyn Read, mut buffer: &mut [u8]) -> Result<()> {
    while !buffer.is_empty() {
        match source.read(buffer) {
            Ok(0) => return Err(Error::new(Kind::Io, "the source ended before its size")),
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
