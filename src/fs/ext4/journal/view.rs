//! A device as it reads once its journal is replayed; nothing is written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::log::Source;
use super::superblock::MAGIC;
use crate::base::{Error, Kind, Result};
use crate::disk::{BlockDevice, Device, check_bounds};

/// Logged blocks over a device, and over both what the replay of fast commits changed.
pub struct Replayed {
    base: Device,
    /// The device with the journal, mostly the same.
    log: Device,
    block_size: u64,
    blocks: BTreeMap<u64, Source>,
    changed: RwLock<Changed>,
}

#[derive(Default)]
struct Changed {
    /// Whole blocks.
    blocks: BTreeMap<u64, Box<[u8]>>,
    /// Whether more may come.
    open: bool,
}

impl Replayed {
    /// `blocks` of `block_size` bytes, kept on `log`, over `base`.
    pub fn new(base: Device, log: Device, block_size: usize, blocks: BTreeMap<u64, Source>) -> Self {
        Replayed { base, log, block_size: block_size as u64, blocks, changed: RwLock::default() }
    }

    /// Whether writes are taken, into memory.
    pub fn set_open(&self, open: bool) {
        self.change().open = open;
    }

    /// The same log over the same device, without what was changed since.
    pub fn without_changes(&self) -> Self {
        Replayed {
            base: self.base.clone(),
            log: self.log.clone(),
            block_size: self.block_size,
            blocks: self.blocks.clone(),
            changed: RwLock::default(),
        }
    }

    /// The blocks that differ from the device's, ascending.
    pub fn blocks(&self) -> Vec<u64> {
        let changed = self.changed();
        let mut all: Vec<u64> = self.blocks.keys().chain(changed.blocks.keys()).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn changed(&self) -> RwLockReadGuard<'_, Changed> {
        self.changed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Changed> {
        self.changed.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse<T>(&self) -> Result<T> {
        Err(Error::new(Kind::Internal, "ext4: a write into the view of a journal that is not replayed"))
    }

    /// Reads as the log has it.
    fn read_log(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let (mut at, end) = (offset, offset + buf.len() as u64);
        while at < end {
            let block = at / self.block_size;
            let next = self.blocks.range(block..end.div_ceil(self.block_size)).next();
            match next {
                Some((number, source)) if *number == block => {
                    let (skip, stop) = (at % self.block_size, ((block + 1) * self.block_size).min(end));
                    let bytes = &mut buf[(at - offset) as usize..(stop - offset) as usize];
                    self.log.read_at(source.block * self.block_size + skip, bytes)?;
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
        self.read_log(offset, buf)?;
        let (bs, end) = (self.block_size, offset + buf.len() as u64);
        for (number, bytes) in self.changed().blocks.range(offset / bs..end.div_ceil(bs)) {
            let (from, to) = ((number * bs).max(offset), ((number + 1) * bs).min(end));
            let part = &bytes[(from - number * bs) as usize..(to - number * bs) as usize];
            buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        check_bounds(offset, data.len() as u64, self.len())?;
        let mut changed = self.change();
        if !changed.open {
            return self.refuse();
        }
        let (bs, end) = (self.block_size, offset + data.len() as u64);
        for number in offset / bs..end.div_ceil(bs) {
            let (from, to) = ((number * bs).max(offset), ((number + 1) * bs).min(end));
            let mut block = match changed.blocks.remove(&number) {
                Some(block) => block,
                None => {
                    let mut block = vec![0; bs as usize];
                    let inside = (self.len() - number * bs).min(bs) as usize;
                    self.read_log(number * bs, &mut block[..inside])?;
                    block.into_boxed_slice()
                }
            };
            let part = &data[(from - offset) as usize..(to - offset) as usize];
            block[(from - number * bs) as usize..(to - number * bs) as usize].copy_from_slice(part);
            changed.blocks.insert(number, block);
        }
        Ok(())
    }
    fn write_fresh(&self, _: u64, _: &[u8]) -> Result<()> {
        self.refuse()
    }
    fn zero(&self, _: Range<u64>) -> Result<()> {
        self.refuse()
    }
    fn holes(&self) -> bool {
        self.base.holes()
    }
    fn takes_fresh_within(&self, range: Range<u64>) -> bool {
        self.base.takes_fresh_within(range)
    }
}
