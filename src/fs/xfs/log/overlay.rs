//! Changed pages in memory over a device that is only read.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::base::{Error, Kind, Result};
use crate::disk::{BlockDevice, Device, DiskPiece, check_bounds};

const PAGE: u64 = 4096;
/// Most bytes that are kept: a log of the usual size whose blocks are all different.
const LIMIT: usize = 256 << 20;

/// A device as it reads once its log is replayed.
pub struct Overlay {
    base: Device,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl Overlay {
    /// Over `base`, with nothing changed.
    pub fn new(base: Device) -> Self {
        Overlay { base, pages: BTreeMap::new() }
    }

    /// Changes bytes in memory.
    ///
    /// # Errors
    /// `Kind::Io` outside the device; `Kind::Unsupported` for too much of it.
    pub fn patch(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        check_bounds(offset, data.len() as u64, self.base.len())?;
        let end = offset + data.len() as u64;
        for number in offset / PAGE..end.div_ceil(PAGE) {
            let (start, stop) = ((number * PAGE).max(offset), ((number + 1) * PAGE).min(end));
            if !self.pages.contains_key(&number) {
                if (self.pages.len() + 1) * PAGE as usize > LIMIT {
                    return Err(Error::unsupported(format!("xfs: its log changes more than {} MiB", LIMIT >> 20)));
                }
                let mut page = Box::new([0; PAGE as usize]);
                let inside = (self.base.len() - number * PAGE).min(PAGE) as usize;
                self.base.read_at(number * PAGE, &mut page[..inside])?;
                self.pages.insert(number, page);
            }
            if let Some(page) = self.pages.get_mut(&number) {
                let part = &data[(start - offset) as usize..(stop - offset) as usize];
                page[(start - number * PAGE) as usize..(stop - number * PAGE) as usize].copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn refuse<T>(&self) -> Result<T> {
        Err(Error::new(Kind::Internal, "xfs: a write into the view of a replayed log"))
    }
}

impl BlockDevice for Overlay {
    fn len(&self) -> u64 {
        self.base.len()
    }
    fn sector(&self) -> u32 {
        self.base.sector()
    }
    fn read_only(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_bounds(offset, buf.len() as u64, self.len())?;
        let end = offset + buf.len() as u64;
        let mut at = offset;
        for (number, page) in self.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let (start, stop) = ((number * PAGE).max(offset), ((number + 1) * PAGE).min(end));
            if at < start {
                self.base.read_at(at, &mut buf[(at - offset) as usize..(start - offset) as usize])?;
            }
            let part = &page[(start - number * PAGE) as usize..(stop - number * PAGE) as usize];
            buf[(start - offset) as usize..(stop - offset) as usize].copy_from_slice(part);
            at = stop;
        }
        if at < end { self.base.read_at(at, &mut buf[(at - offset) as usize..]) } else { Ok(()) }
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
    fn holes(&self) -> bool {
        self.base.holes()
    }
    fn pristine_range(&self, range: Range<u64>) -> bool {
        self.base.pristine_range(range)
    }
    fn pieces(&self, range: Range<u64>, each: &mut dyn FnMut(DiskPiece) -> Result<()>) -> Result<()> {
        self.base.pieces(range, each)
    }
}
