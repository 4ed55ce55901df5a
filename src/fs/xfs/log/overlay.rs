//! A device as it reads once the log is replayed; nothing is written.

use std::collections::BTreeMap;
use std::ops::Range;

use super::SECTOR;
use crate::base::{Error, Kind, Result};
use crate::disk::{BlockDevice, Device, check_bounds};

type Sector = Box<[u8; SECTOR]>;

/// Sectors that the log changed, over a device.
pub struct Overlay {
    base: Device,
    sectors: BTreeMap<u64, Sector>,
    /// Most sectors that may be kept.
    limit: usize,
}

impl Overlay {
    /// Nothing over `base` yet; at most `limit` sectors of 512 bytes will be.
    pub fn new(base: Device, limit: usize) -> Self {
        Overlay { base, sectors: BTreeMap::new(), limit }
    }

    /// `len` bytes from byte `offset` on.
    ///
    /// # Errors
    /// A range outside the device (`Kind::Corrupt`), whatever the device answers.
    pub fn bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.inside(offset, len)?;
        let mut bytes = vec![0; len];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Lays `data` over byte `offset`.
    ///
    /// # Errors
    /// A range outside the device, more than the limit (both `Kind::Corrupt`), whatever the device answers.
    pub fn put(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.inside(offset, data.len())?;
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let (number, skip) = (at / SECTOR as u64, (at % SECTOR as u64) as usize);
            let (part, behind) = rest.split_at(rest.len().min(SECTOR - skip));
            self.put_part(number, skip, part)?;
            at += part.len() as u64;
            rest = behind;
        }
        Ok(())
    }

    fn inside(&self, offset: u64, len: usize) -> Result<()> {
        let outside = |_| Error::corrupt(format!("{len} bytes at {offset} are outside the device"));
        check_bounds(offset, len as u64, self.len()).map_err(outside)
    }

    fn put_part(&mut self, number: u64, skip: usize, part: &[u8]) -> Result<()> {
        if let Some(sector) = self.sectors.get_mut(&number) {
            sector[skip..skip + part.len()].copy_from_slice(part);
            return Ok(());
        }
        let start = number * SECTOR as u64;
        let mut sector: Sector = Box::new([0; SECTOR]);
        let inside = (self.base.len() - start).min(SECTOR as u64) as usize;
        self.base.read_at(start, &mut sector[..inside])?;
        if sector[skip..skip + part.len()] == *part {
            return Ok(());
        }
        if self.sectors.len() >= self.limit {
            return Err(Error::corrupt(format!("it changes more than {} sectors", self.limit)));
        }
        sector[skip..skip + part.len()].copy_from_slice(part);
        self.sectors.insert(number, sector);
        Ok(())
    }

    fn refuse<T>() -> Result<T> {
        Err(Error::new(Kind::Internal, "xfs: a write into the view of a log that is replayed in memory"))
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
        self.base.read_at(offset, buf)?;
        let (size, end) = (SECTOR as u64, offset + buf.len() as u64);
        for (number, bytes) in self.sectors.range(offset / size..end.div_ceil(size)) {
            let (from, to) = ((number * size).max(offset), ((number + 1) * size).min(end));
            let part = &bytes[(from - number * size) as usize..(to - number * size) as usize];
            buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        Self::refuse()
    }
    fn write_fresh(&self, _: u64, _: &[u8]) -> Result<()> {
        Self::refuse()
    }
    fn zero(&self, _: Range<u64>) -> Result<()> {
        Self::refuse()
    }
    fn holes(&self) -> bool {
        self.base.holes()
    }
    fn takes_fresh_within(&self, range: Range<u64>) -> bool {
        self.base.takes_fresh_within(range)
    }
}
