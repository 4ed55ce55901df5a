//! The log as a ring of sectors: where its newest record ends (head), and where the oldest that is needed begins (tail).
//!
//! The first word of each sector is the number of the round (cycle) it was written in, or the magic of a record.

use super::SECTOR;
use super::record::{Header, MAGIC, RECORD_MAX};
use crate::base::bytes::{be32, u8_at};
use crate::base::{Error, Result};
use crate::disk::BlockDevice;

/// Records that may be in flight at once (XLOG_MAX_ICLOGS), and the sectors that they can have.
pub const IN_FLIGHT: usize = 8;
const IN_FLIGHT_SECTORS: u64 = 4096;
/// Sectors that are read at once on the way back to a header.
const STEP: u64 = 32;
/// Flag of the operation that ends a clean log.
const UNMOUNT: u8 = 0x20;

/// The sectors of a log.
pub struct Ring<'a> {
    device: &'a dyn BlockDevice,
    /// First byte.
    start: u64,
    /// Number of sectors.
    pub sectors: u64,
}

/// The end of a log.
pub enum End {
    /// Nothing is to be replayed.
    Clean,
    /// The sector behind the newest record, and that record.
    Dirty(u64, Header),
}

impl<'a> Ring<'a> {
    /// `sectors` of 512 bytes from byte `start` of the device on.
    pub fn new(device: &'a dyn BlockDevice, start: u64, sectors: u64) -> Self {
        Ring { device, start, sectors }
    }

    /// Reads sectors, round the end.
    pub fn read(&self, at: u64, count: u64) -> Result<Vec<u8>> {
        let at = at % self.sectors;
        let count = count.min(self.sectors);
        let mut bytes = vec![0; count as usize * SECTOR];
        let (first, rest) = bytes.split_at_mut(count.min(self.sectors - at) as usize * SECTOR);
        self.device.read_at(self.start + at * SECTOR as u64, first)?;
        if !rest.is_empty() {
            self.device.read_at(self.start, rest)?;
        }
        Ok(bytes)
    }

    /// Sectors from `from` forward to `to`.
    pub fn distance(&self, from: u64, to: u64) -> u64 {
        (to + self.sectors - from) % self.sectors
    }

    fn cycle(&self, at: u64) -> Result<u32> {
        Ok(cycle_of(&self.read(at, 1)?))
    }

    /// Finds the end.
    ///
    /// # Errors
    /// `Kind::Corrupt` if no record lies before it.
    pub fn end(&self) -> Result<End> {
        if self.sectors < 2 {
            return Err(Error::corrupt("it has no room for a record"));
        }
        let newest = self.cycle(0)?;
        if newest == 0 {
            // A file system that was made and never mounted may have zeros.
            return Ok(End::Clean);
        }
        let mut head = self.border(newest)?;
        // One that was unmounted costs these few reads only.
        if let Some(last) = self.last_record(head)?
            && self.is_clean(head, &last)?
        {
            return Ok(End::Clean);
        }
        head = self.first_hole(head, newest)? % self.sectors;
        let mut last = self.last_record(head)?.ok_or_else(|| self.no_record(head))?;
        if (last.at + last.sectors()) % self.sectors != head {
            head = last.at;
            last = self.last_record(head)?.ok_or_else(|| self.no_record(head))?;
        }
        Ok(if self.is_clean(head, &last)? { End::Clean } else { End::Dirty(head, last) })
    }

    fn no_record(&self, head: u64) -> Error {
        Error::corrupt(format!("no record lies before its end at sector {head}"))
    }

    /// Sectors of the newest cycle come first, then those of the one before (or none at all): the first of these.
    fn border(&self, newest: u32) -> Result<u64> {
        let (mut low, mut high) = (0, self.sectors);
        if self.cycle(high - 1)? == newest {
            return Ok(high);
        }
        while low + 1 < high {
            let middle = (low + high) / 2;
            if self.cycle(middle)? == newest { low = middle } else { high = middle }
        }
        Ok(high)
    }

    /// Records in flight may have come to the disk out of order: the first sector of the last ones that is an older cycle's.
    fn first_hole(&self, head: u64, newest: u32) -> Result<u64> {
        let window = IN_FLIGHT_SECTORS.min(self.sectors);
        let before = window.saturating_sub(head);
        if before > 0 && self.cycle(self.sectors - 1)? != 0 {
            let bytes = self.read(self.sectors - before, before)?;
            let old = newest.wrapping_sub(2);
            if let Some(hole) = bytes.chunks(SECTOR).position(|sector| cycle_of(sector) == old) {
                return Ok(self.sectors - before + hole as u64);
            }
        }
        let from = head.saturating_sub(window);
        let bytes = self.read(from, head - from)?;
        let hole = bytes.chunks(SECTOR).position(|sector| cycle_of(sector) == newest.wrapping_sub(1));
        Ok(hole.map_or(head, |hole| from + hole as u64))
    }

    /// The last record before a sector.
    pub fn last_record(&self, head: u64) -> Result<Option<Header>> {
        let most = RECORD_MAX.max(IN_FLIGHT_SECTORS).min(self.sectors);
        let mut back = 0;
        while back < most {
            let count = STEP.min(most - back);
            let from = (head + 2 * self.sectors - back - count) % self.sectors;
            let bytes = self.read(from, count)?;
            for (i, sector) in bytes.chunks(SECTOR).enumerate().rev() {
                if be32(sector, 0) == MAGIC {
                    return Ok(Header::parse(sector, (from + i as u64) % self.sectors));
                }
            }
            back += count;
        }
        Ok(None)
    }

    /// The sectors with magics of records in a range.
    pub fn records(&self, from: u64, count: u64) -> Result<Vec<u64>> {
        let bytes = self.read(from, count)?;
        let magics = bytes.chunks(SECTOR).enumerate().filter(|(_, sector)| be32(sector, 0) == MAGIC);
        Ok(magics.map(|(i, _)| (from + i as u64) % self.sectors).collect())
    }

    /// Whether the last record says that the file system was unmounted.
    fn is_clean(&self, head: u64, last: &Header) -> Result<bool> {
        if last.operations != 1 || (last.at + last.sectors()) % self.sectors != head % self.sectors {
            return Ok(false);
        }
        Ok(u8_at(&self.read(last.at + last.headers, 1)?, 9) & UNMOUNT != 0)
    }
}

/// The cycle that a sector was written in.
fn cycle_of(sector: &[u8]) -> u32 {
    if be32(sector, 0) == MAGIC { be32(sector, 4) } else { be32(sector, 0) }
}
