//! From blocks of a fork to blocks of the device: extent lists and trees of extents. "XFS Algorithms & Data Structures",
//! chapter "Data Extents".

use super::inode::{Fork, Format, Inode};
use super::{Sum, Xfs};
use crate::base::bytes::{be16, be32, be64};
use crate::base::{Error, Result};

/// Bytes of an extent, or of a key and a pointer of a tree; of one of these.
pub(super) const RECORD: usize = 16;
pub(super) const WORD: usize = 8;
/// Bytes of the header of a tree's root in an inode.
pub(super) const ROOT_HEADER: usize = 4;
/// Deepest tree (XFS_BM_MAXLEVELS is 9 in the smallest blocks).
const DEEPEST: u16 = 9;
/// Magics of tree blocks of versions 4 and 5, their headers, and in version 5 the places of owner and checksum.
pub(super) const MAGICS: (u32, u32) = (0x424d_4150, 0x424d_4133);
pub(super) const HEADERS: (usize, usize) = (24, 72);
pub(super) const OWNER: usize = 56;
const SUM: Sum = Sum { crc: 64, owner: OWNER, place: 24 };
/// Extents of one file that are kept.
const MOST: usize = 1 << 22;
/// Bytes that a fork can have.
const LONGEST: u64 = 1 << 63;

/// A run of a fork's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First block of the fork, and number of blocks.
    pub logical: u64,
    pub len: u64,
    /// First block of the device, with the group in the high bits.
    pub physical: u64,
    /// Reads as zeros.
    pub unwritten: bool,
}

impl Run {
    fn read(record: &[u8]) -> Self {
        let (high, low) = (be64(record, 0), be64(record, 8));
        Run {
            logical: high >> 9 & ((1 << 54) - 1),
            len: low & ((1 << 21) - 1),
            physical: (high & 0x1ff) << 43 | low >> 21,
            unwritten: high >> 63 == 1,
        }
    }

    /// The block behind the run.
    pub fn end(&self) -> u64 {
        self.logical + self.len
    }
}

/// The pointers of a node of a tree, whose keys begin at `header`; they lie behind the room for all keys.
pub(super) fn pointers(node: &[u8], header: usize, count: usize) -> impl Iterator<Item = u64> {
    let room = node.len().saturating_sub(header) / RECORD;
    (0..count.min(room)).map(move |i| be64(node, header + (room + i) * WORD))
}

impl Xfs {
    /// All runs of a fork, in order, checked.
    pub(super) fn map(&self, inode: &Inode, fork: &Fork<'_>) -> Result<Vec<Run>> {
        let bad = |what: String| Error::corrupt(format!("xfs: inode {}: {what}", inode.number));
        let mut runs = Vec::new();
        match fork.format {
            Format::Extents => {
                let count = usize::try_from(fork.extents).ok().filter(|count| *count <= fork.bytes.len() / RECORD);
                let count = count.ok_or_else(|| bad(format!("{} extents do not fit into it", fork.extents)))?;
                runs.extend(fork.bytes.chunks_exact(RECORD).take(count).map(Run::read));
            }
            Format::Tree => {
                let (level, count) = (be16(fork.bytes, 0), usize::from(be16(fork.bytes, 2)));
                let room = fork.bytes.len().saturating_sub(ROOT_HEADER) / RECORD;
                if level == 0 || level > DEEPEST || count > room {
                    return Err(bad(format!("a tree of level {level} with {count} entries")));
                }
                for pointer in pointers(fork.bytes, ROOT_HEADER, count) {
                    self.collect(inode, pointer, level - 1, &mut runs)?;
                }
            }
            _ => return Err(bad("its content has no blocks".into())),
        }
        self.check_runs(inode, &runs)?;
        Ok(runs)
    }

    /// Checks that runs ascend and lie inside the file system.
    pub(super) fn check_runs(&self, inode: &Inode, runs: &[Run]) -> Result<()> {
        let bad = |what: String| Error::corrupt(format!("xfs: inode {}: {what}", inode.number));
        let mut end = 0;
        for run in runs {
            let last = run.physical.checked_add(run.len.wrapping_sub(1)).and_then(|last| self.superblock.place(last));
            let first = self.superblock.place(run.physical);
            let together = run.physical >> self.superblock.group_log
                == (run.physical + run.len.max(1) - 1) >> self.superblock.group_log;
            if run.len == 0
                || run.end() > LONGEST / self.superblock.block as u64
                || run.logical < end
                || first.is_none()
                || last.is_none()
                || !together
            {
                return Err(bad(format!(
                    "extent of {} blocks for block {} at {:#x}",
                    run.len, run.logical, run.physical
                )));
            }
            end = run.end();
        }
        Ok(())
    }

    /// The runs of a directory or of attributes, which share no blocks: there are not more than the file system has.
    pub(super) fn own_map(&self, inode: &Inode, fork: &Fork<'_>) -> Result<Vec<Run>> {
        let runs = self.map(inode, fork)?;
        let blocks = runs.iter().fold(0_u64, |sum, run| sum.saturating_add(run.len));
        if blocks > self.superblock.blocks {
            let number = inode.number;
            return Err(Error::corrupt(format!("xfs: inode {number}: {blocks} blocks, more than the file system has")));
        }
        Ok(runs)
    }

    /// Adds the runs below a tree block. Runs must ascend, so a tree that goes round is found out.
    fn collect(&self, inode: &Inode, number: u64, level: u16, runs: &mut Vec<Run>) -> Result<()> {
        let bad = |what: String| Error::corrupt(format!("xfs: inode {}: tree block {number:#x}: {what}", inode.number));
        let block = self.block(number)?;
        let (magic, header) = match self.superblock.has_sums() {
            true => (MAGICS.1, HEADERS.1),
            false => (MAGICS.0, HEADERS.0),
        };
        let (found, count) = (be16(&block, 4), usize::from(be16(&block, 6)));
        let room = (block.len() - header) / RECORD;
        if be32(&block, 0) != magic || found != level || count == 0 || count > room {
            return Err(bad(format!("magic {:#x}, level {found} for {level}, {count} entries", be32(&block, 0))));
        }
        self.check_sum(&block, SUM, inode.number, self.superblock.place(number)).map_err(|what| bad(what.into()))?;
        if level > 0 {
            return pointers(&block, header, count).try_for_each(|pointer| {
                let before = runs.len();
                self.collect(inode, pointer, level - 1, runs)?;
                match runs.len() > before {
                    true => Ok(()),
                    false => Err(bad("an empty block below".into())),
                }
            });
        }
        for record in block[header..].chunks_exact(RECORD).take(count) {
            let run = Run::read(record);
            if run.len == 0 || runs.last().is_some_and(|last| last.end() > run.logical) || runs.len() >= MOST {
                return Err(bad(format!("extent for block {} is out of order", run.logical)));
            }
            runs.push(run);
        }
        Ok(())
    }

    /// Where a byte of a fork lies on the device; `None` in a hole.
    pub(super) fn place_in(&self, runs: &[Run], offset: u64) -> Option<u64> {
        let bs = self.superblock.block as u64;
        let number = offset / bs;
        let run = runs.get(runs.partition_point(|run| run.end() <= number)).filter(|run| run.logical <= number)?;
        Some(self.superblock.place(run.physical + (number - run.logical))? + offset % bs)
    }

    /// Reads the blocks of a fork from a byte on; holes and unwritten runs are zeros.
    pub(super) fn read_runs(&self, runs: &[Run], offset: u64, buf: &mut [u8]) -> Result<()> {
        buf.fill(0);
        let bs = self.superblock.block as u64;
        let end = offset.saturating_add(buf.len() as u64);
        let first = runs.partition_point(|run| run.end().saturating_mul(bs) <= offset);
        for run in runs[first..].iter().take_while(|run| run.logical.saturating_mul(bs) < end) {
            if run.unwritten {
                continue;
            }
            let (from, to) = ((run.logical * bs).max(offset), (run.end() * bs).min(end));
            let Some(place) = self.superblock.place(run.physical) else { continue };
            let part = &mut buf[(from - offset) as usize..(to - offset) as usize];
            self.device.read_at(place + (from - run.logical * bs), part)?;
        }
        Ok(())
    }
}
