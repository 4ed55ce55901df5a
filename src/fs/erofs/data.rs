//! Data that is not packed: one run of blocks, with the end behind the inode, or chunks.

use super::Erofs;
use super::inode::{Inode, Layout, NULL};
use crate::base::bytes::{le16, le32};
use crate::base::{Error, Result};
use crate::fs::{Segment, Stored};

/// The form of chunks: bits of the logarithm of their blocks, and an index with devices.
const CHUNK_BITS: u32 = 0x1f;
const CHUNK_INDEXES: u32 = 0x20;
/// Numbers of blocks have 48 bits.
const CHUNK_WIDE: u32 = 0x40;
/// Places of chunks that are read at once.
const STEP: u64 = 512;

/// A run of a file on the device; `None` for a hole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub at: u64,
    pub len: u64,
    pub place: Option<u64>,
}

impl Erofs {
    /// Where the part of a plain or inline file that lies behind its inode begins.
    fn tail(&self, inode: &Inode) -> u64 {
        let blocks = inode.size.div_ceil(self.superblock.block());
        (blocks - u64::from(inode.layout == Layout::Inline && blocks > 0)) << self.superblock.log
    }

    /// Fills `buf` from a plain or inline file, directory or link; all of it lies inside.
    pub(super) fn read_flat(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        let tail = self.tail(inode);
        let (run, rest) = buf.split_at_mut(tail.saturating_sub(offset).min(buf.len() as u64) as usize);
        if inode.block == NULL {
            run.fill(0);
        } else if !run.is_empty() {
            let place = (inode.block << self.superblock.log).checked_add(offset);
            self.stored(place.ok_or_else(|| inode.bad("its data is outside".into()))?, run)?;
        }
        if !rest.is_empty() {
            self.metadata(inode.behind().saturating_add(offset.max(tail) - tail), rest)?;
        }
        Ok(())
    }

    /// Where a plain or inline file is.
    pub(super) fn flat_segments(&self, inode: &Inode) -> Vec<Segment> {
        let tail = self.tail(inode).min(inode.size);
        let (block, stored) = match inode.block {
            NULL => (None, Stored::Hole),
            block => (Some(block), Stored::Data(block << self.superblock.log)),
        };
        let run = Segment { offset: 0, len: tail, block, stored };
        let rest = Segment { offset: tail, len: inode.size - tail, block: None, stored: Stored::Inline };
        [run, rest].into_iter().filter(|segment| segment.len > 0).collect()
    }

    /// Calls `each` for the chunks of a file from the one on that holds byte `from`, joined where they follow each other, until
    /// it answers that it has enough.
    pub(super) fn chunks(&self, inode: &Inode, from: u64, each: &mut dyn FnMut(Run) -> Result<bool>) -> Result<()> {
        let number = inode.number;
        let log = self.superblock.log + (inode.word & CHUNK_BITS);
        if inode.word & !(CHUNK_BITS | CHUNK_INDEXES | CHUNK_WIDE) != 0 || log > 62 {
            return Err(Error::unsupported(format!("erofs: inode {number}: chunks of the form {:#x}", inode.word)));
        }
        let unit: u64 = if inode.word & CHUNK_INDEXES != 0 { 8 } else { 4 };
        let wide = unit == 8 && inode.word & CHUNK_WIDE != 0;
        let list = inode.behind().next_multiple_of(unit);
        let count = inode.size.div_ceil(1 << log);
        let mut chunk = from >> log;
        let mut entries = vec![0; (STEP * unit) as usize];
        let mut pending: Option<Run> = None;
        while chunk < count {
            let some = (count - chunk).min(STEP);
            let entries = &mut entries[..(some * unit) as usize];
            self.metadata(list.saturating_add(chunk * unit), entries)?;
            for entry in entries.chunks_exact(unit as usize) {
                let mut block = u64::from(le32(entry, if unit == 8 { 4 } else { 0 }));
                if wide {
                    block |= u64::from(le16(entry, 0)) << 32;
                }
                let hole = block == if wide { (1 << 48) - 1 } else { u32::MAX.into() };
                if unit == 8 && !hole && le16(entry, 2) != 0 {
                    return Err(Error::unsupported(format!(
                        "erofs: inode {number}: its data is on another device (number {}, feature device_table)",
                        le16(entry, 2)
                    )));
                }
                let at = chunk << log;
                let place = (!hole).then_some(block << self.superblock.log);
                let run = Run { at, len: (inode.size - at).min(1 << log), place };
                match &mut pending {
                    Some(last) if last.place.map(|place| place + last.len) == place => last.len += run.len,
                    _ => {
                        if let Some(done) = pending.replace(run)
                            && each(done)?
                        {
                            return Ok(());
                        }
                    }
                }
                chunk += 1;
            }
        }
        if let Some(last) = pending {
            each(last)?;
        }
        Ok(())
    }

    /// Fills `buf` from a file of chunks; all of it lies inside.
    pub(super) fn read_chunks(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset + buf.len() as u64;
        self.chunks(inode, offset, &mut |run| {
            let (from, to) = (offset.max(run.at), end.min(run.at + run.len));
            if from < to {
                let part = &mut buf[(from - offset) as usize..(to - offset) as usize];
                match run.place {
                    Some(place) => self.stored(place.saturating_add(from - run.at), part)?,
                    None => part.fill(0),
                }
            }
            Ok(run.at + run.len >= end)
        })
    }
}
