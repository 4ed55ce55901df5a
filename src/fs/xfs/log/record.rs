//! Records of the log: headers, checksums, and the words that cycle numbers stand in for.
//!
//! The log is a ring of sectors of 512 bytes. Each begins with the number of the cycle that it was written in (a header: with its
//! magic); the word that was there stands in the record's header.

use crate::base::bytes::{be32, be64, u8_at};
use crate::base::{Error, Result};
use crate::disk::BlockDevice;

/// Bytes of a sector of the log.
pub const SECTOR: usize = 512;
/// First word of a record.
const MAGIC: u32 = 0xfeed_babe;
/// Bytes of data that one header sector has the words for, and the largest record.
const HEADER_DATA: usize = 32 << 10;
const DATA_MAX: usize = 256 << 10;
/// Fields of a header; of a further header sector the words begin behind the cycle.
const VERSION: usize = 8;
const LEN: usize = 12;
const LSN: usize = 16;
const TAIL: usize = 24;
const SUM: usize = 32;
const OPERATIONS: usize = 40;
const WORDS: usize = 44;
const ORDER: usize = 300;
const UUID: usize = 304;
const SIZE: usize = 320;
const MORE_WORDS: usize = 4;
/// Bytes of a header, and of a further one, that the checksum covers; some kernels of 32 bits took four less of the first.
const SUMMED: [usize; 2] = [328, 324];
const MORE_SUMMED: usize = 260;
/// The byte order of items in records that are read here.
const LITTLE_ENDIAN: u32 = 1;
/// Flag of the operation that ends a clean log.
const UNMOUNT: u8 = 0x20;

/// The ring.
pub struct Ring<'a> {
    pub device: &'a dyn BlockDevice,
    /// First byte on the device.
    pub start: u64,
    pub sectors: u64,
    /// Whether records have checksums.
    pub has_sums: bool,
    /// That of the file system, which each record bears.
    pub uuid: [u8; 16],
}

/// A record whose checksum is right, with its data as it was before it was stamped.
pub struct Record {
    pub lsn: u64,
    /// Cycle and sector of the oldest record that must be replayed.
    pub tail: u64,
    pub operations: u32,
    pub data: Vec<u8>,
    /// Sector behind it.
    pub end: u64,
}

impl Record {
    /// Whether it says that the file system was unmounted.
    pub fn is_unmount(&self) -> bool {
        self.operations == 1 && u8_at(&self.data, 9) & UNMOUNT != 0
    }
}

fn bad<T>(sector: u64, what: &str) -> Result<T> {
    Err(Error::corrupt(format!("xfs: log: the record at sector {sector} {what}")))
}

impl Ring<'_> {
    /// Reads sectors, round the end.
    fn sectors(&self, first: u64, count: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count as usize * SECTOR];
        let first = first % self.sectors;
        let straight = (self.sectors - first).min(count) as usize * SECTOR;
        self.device.read_at(self.start + first * SECTOR as u64, &mut bytes[..straight])?;
        if straight < bytes.len() {
            self.device.read_at(self.start, &mut bytes[straight..])?;
        }
        Ok(bytes)
    }

    /// The cycle that a sector was written in.
    pub fn cycle(&self, number: u64) -> Result<u32> {
        let sector = self.sectors(number, 1)?;
        Ok(if be32(&sector, 0) == MAGIC { be32(&sector, 4) } else { be32(&sector, 0) })
    }

    /// The record that begins at a sector.
    ///
    /// # Errors
    /// `Kind::Corrupt` says why there is none.
    pub fn record(&self, first: u64) -> Result<Record> {
        let header = self.sectors(first, 1)?;
        let cycle = be32(&header, 4);
        let lsn = be64(&header, LSN);
        if be32(&header, 0) != MAGIC {
            return bad(first, "has no header");
        }
        if lsn != u64::from(cycle) << 32 | first {
            return bad(first, "belongs elsewhere (h_lsn)");
        }
        if be32(&header, ORDER) != LITTLE_ENDIAN || header[UUID..UUID + 16] != self.uuid {
            return bad(first, "is of a machine with another byte order, or of another file system (h_fmt, h_fs_uuid)");
        }
        let len = be32(&header, LEN) as usize;
        let size = if be32(&header, VERSION) & 2 != 0 { be32(&header, SIZE) as usize } else { HEADER_DATA };
        if len == 0 || len > DATA_MAX || size > DATA_MAX {
            return bad(first, &format!("has {len} bytes (h_size {size})"));
        }
        let headers = size.div_ceil(HEADER_DATA).max(1) as u64;
        let count = headers + len.div_ceil(SECTOR) as u64;
        if count > self.sectors || len.div_ceil(SECTOR) as u64 > headers * (HEADER_DATA / SECTOR) as u64 {
            return bad(first, "is longer than its headers or the log");
        }
        let all = self.sectors(first, count)?;
        let (heads, data) = all.split_at(headers as usize * SECTOR);
        for (index, sector) in all.chunks_exact(SECTOR).enumerate().skip(1) {
            // Behind the end of the ring the next cycle begins.
            let wrapped = first + index as u64 >= self.sectors;
            if be32(sector, 0) != cycle.wrapping_add(wrapped.into()) {
                return bad(first, "is not whole (cycle numbers)");
            }
        }
        let stored = u32::from_le_bytes(header[SUM..SUM + 4].try_into().unwrap_or_default());
        if (self.has_sums || stored != 0) && !SUMMED.iter().any(|summed| sum(heads, data, len, *summed) == stored) {
            return bad(first, "has a wrong checksum");
        }
        let mut data = data.to_vec();
        for (index, sector) in data.chunks_exact_mut(SECTOR).enumerate() {
            let (head, word) = (index / (HEADER_DATA / SECTOR), index % (HEADER_DATA / SECTOR) * 4);
            let at = head * SECTOR + word + if head == 0 { WORDS } else { MORE_WORDS };
            sector[..4].copy_from_slice(heads.get(at..at + 4).unwrap_or(&[0; 4]));
        }
        data.truncate(len);
        let end = (first + count) % self.sectors;
        Ok(Record { lsn, tail: be64(&header, TAIL), operations: be32(&header, OPERATIONS), data, end })
    }

    /// The sectors in front of `head`, nearest first, at which a record may begin; at most `most` records and as many
    /// sectors as they can have.
    pub fn starts_before(&self, head: u64, most: usize) -> Result<Vec<u64>> {
        let mut starts = Vec::new();
        let mut back = 0;
        let mut step = 8;
        let reach = (most as u64 * ((DATA_MAX + HEADER_DATA) / SECTOR) as u64).min(self.sectors);
        while back < reach && starts.len() < most {
            let count = step.min(reach - back);
            let first = (head + self.sectors - back - count) % self.sectors;
            let bytes = self.sectors(first, count)?;
            for (index, sector) in bytes.chunks_exact(SECTOR).enumerate().rev() {
                let number = (first + index as u64) % self.sectors;
                if be32(sector, 0) == MAGIC && be64(sector, LSN) & 0xffff_ffff == number {
                    starts.push(number);
                }
            }
            back += count;
            step = 256;
        }
        starts.truncate(most);
        Ok(starts)
    }
}

/// The crc32c of a record: its headers, whose own field counts as zero, and its data as it lies there.
fn sum(heads: &[u8], data: &[u8], len: usize, summed: usize) -> u32 {
    let mut crc = crc32c::crc32c(&heads[..SUM]);
    crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc = crc32c::crc32c_append(crc, &heads[SUM + 4..summed]);
    for more in heads.chunks_exact(SECTOR).skip(1) {
        crc = crc32c::crc32c_append(crc, &more[..MORE_SUMMED]);
    }
    crc32c::crc32c_append(crc, data.get(..len).unwrap_or(data))
}
