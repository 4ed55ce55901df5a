//! A device as it reads once its journal is replayed; nothing is written.

use std::collections::BTreeMap;
use std::ops::Range;

use super::log::Source;
use super::superblock::MAGIC;
use crate::base::{Error, Kind, Result};
use crate::disk::{BlockDevice, Device, check_bounds};

/// Logged blocks over a device.
pub struct Replayed {
    base: Device,
    block_size: u64,
    blocks: BTreeMap<u64, Source>,
}

impl Replayed {
    /// `blocks` of `block_size` bytes over `base`.
    pub fn new(base: Device, block_size: usize, blocks: BTreeMap<u64, Source>) -> Self {
        Replayed { base, block_size: block_size as u64, blocks }
    }

    /// The blocks that differ from the device's, ascending.
    pub fn blocks(&self) -> impl Iterator<Item = u64> {
        self.blocks.keys().copied()
    }

    fn refuse<T>(&self) -> Result<T> {
        Err(Error::new(Kind::Internal, "ext4: a write into the view of a journal that is not replayed"))
    }
}

impl BlockDevice for Replayed {
    fn len(&self) -> u64 {
        self.base.len()
    }
    fn sector(&self) -> u32 {
        self.base.sector()
    }
    fn read_only(&self) -> bool {
        self.base.read_only()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_bounds(offset, buf.len() as u64, self.len())?;
        let (mut at, end) = (offset, offset + buf.len() as u64);
        while at < end {
            let block = at / self.block_size;
            let next = self.blocks.range(block..end.div_ceil(self.block_size)).next();
            match next {
                Some((number, source)) if *number == block => {
                    let (skip, stop) = (at % self.block_size, ((block + 1) * self.block_size).min(end));
                    let bytes = &mut buf[(at - offset) as usize..(stop - offset) as usize];
                    self.base.read_at(source.block * self.block_size + skip, bytes)?;
                    if source.escaped {
                        let magic = MAGIC.to_be_bytes();
                        let magic = magic.get(skip as usize..).unwrap_or_default();
                        bytes.iter_mut().zip(magic).for_each(|(byte, magic)| *byte = *magic);
                    }
                    at = stop;
                }
                next => {
                    let stop = next.map_or(end, |(number, _)| number * self.block_size);
                    self.base.read_at(at, &mut buf[(at - offset) as usize..(stop - offset) as usize])?;
                    at = stop;
                }
            }
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        self.refuse()
    }
    fn write_fresh(&self, _: u64, _: &[u8]) -> Result<()> {
        self.refuse()
    }
    fn zero(&self, _: Range<u64>) -> Result<()> {
        self.refuse()
    }
    fn pristine_range(&self, range: Range<u64>) -> bool {
        self.base.pristine_range(range)
    }
}
