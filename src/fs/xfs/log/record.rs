//! Records of the log: one or more sectors of headers, then data. "XFS Algorithms & Data Structures", "Journaling Log".

use crate::base::bytes::{be32, be64, put_be32};
use crate::base::{Error, Result};

use super::SECTOR;

/// First word of a record.
pub const MAGIC: u32 = 0xfeed_babe;
/// Bytes of data that each sector of headers stands for, most bytes of data, and most sectors with the headers.
const HEADER_DATA: u32 = 32768;
const DATA_MAX: u32 = 1 << 18;
pub const RECORD_MAX: u64 = 520;
/// Bytes of the first header that are summed, as kernels of 64 and of 32 bits have it, and of further ones.
const SUMMED: [usize; 2] = [328, 324];
const SUMMED_MORE: usize = 260;
/// Places: the checksum, the first words of the data's sectors (also behind a cycle in further headers).
const CRC: usize = 32;
const WORDS: usize = 44;
/// Words in a header.
const WORDS_MAX: usize = 64;
/// Logs of little-endian machines (`h_fmt`).
const LITTLE_ENDIAN: u32 = 1;

/// The header of a record.
#[derive(Debug, Clone)]
pub struct Header {
    /// The sector of the log that it lies in.
    pub at: u64,
    /// Bytes of data.
    pub len: u32,
    /// Its sequence number: cycle, then sector.
    pub lsn: u64,
    /// The oldest sector that is still needed.
    pub tail: u64,
    /// Operations in its data.
    pub operations: u32,
    /// Sectors of headers.
    pub headers: u64,
    /// Most bytes of data of a record at that time.
    pub size: u32,
    crc: u32,
    uuid: [u8; 16],
    format: u32,
}

impl Header {
    /// The header in a sector, if there is one that can be.
    pub fn parse(sector: &[u8], at: u64) -> Option<Self> {
        let (version, len, size) = (be32(sector, 8), be32(sector, 12), be32(sector, 320));
        if be32(sector, 0) != MAGIC || version & !3 != 0 || len == 0 || len > DATA_MAX || sector.len() < SECTOR {
            return None;
        }
        let headers = if version & 2 != 0 { size.div_ceil(HEADER_DATA).max(1) } else { 1 };
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&sector[304..320]);
        (headers <= DATA_MAX / HEADER_DATA).then(|| Header {
            at,
            len,
            lsn: be64(sector, 16),
            tail: be64(sector, 24) & u64::from(u32::MAX),
            operations: be32(sector, 40),
            headers: headers.into(),
            size,
            crc: u32::from_le_bytes([sector[CRC], sector[CRC + 1], sector[CRC + 2], sector[CRC + 3]]),
            uuid,
            format: be32(sector, 300),
        })
    }

    /// Sectors of headers and data.
    pub fn sectors(&self) -> u64 {
        self.headers + u64::from(self.len).div_ceil(SECTOR as u64)
    }

    /// Whether its sum is right; `bytes` are all its sectors. Old kernels left the sum as zero.
    pub fn sum_is_right(&self, bytes: &[u8], must: bool) -> bool {
        if self.crc == 0 && !must {
            return true;
        }
        let (headers, data) = bytes.split_at((self.headers as usize * SECTOR).min(bytes.len()));
        let data = &data[..data.len().min(self.len as usize)];
        SUMMED.iter().any(|summed| {
            let sum = crc32c::crc32c(&headers[..CRC]);
            let sum = crc32c::crc32c_append(sum, &[0; 4]);
            let sum = crc32c::crc32c_append(sum, &headers[CRC + 4..*summed]);
            let more = headers[SECTOR..].chunks(SECTOR);
            let sum = more.fold(sum, |sum, header| crc32c::crc32c_append(sum, &header[..SUMMED_MORE]));
            crc32c::crc32c_append(sum, data) == self.crc
        })
    }

    /// The data with the first words of its sectors put back.
    ///
    /// # Errors
    /// `Kind::Corrupt`: a log of another file system or of another kind of machine, data without words for it.
    pub fn data(&self, bytes: &[u8], uuid: &[u8; 16]) -> Result<Vec<u8>> {
        let bad = |what: &str| Err(Error::corrupt(format!("the record at sector {} {what}", self.at)));
        if self.uuid != *uuid && self.uuid != [0; 16] {
            return bad("is another file system's");
        }
        if self.format != LITTLE_ENDIAN {
            return bad("was written by a machine of another byte order (h_fmt)");
        }
        let (headers, data) = bytes.split_at((self.headers as usize * SECTOR).min(bytes.len()));
        let mut data = data[..data.len().min(self.len as usize)].to_vec();
        if data.len() > headers.len() / SECTOR * WORDS_MAX * SECTOR {
            return bad("has more data than its headers stand for");
        }
        for (i, sector) in data.chunks_mut(SECTOR).enumerate() {
            let (header, word) = (i / WORDS_MAX, i % WORDS_MAX * 4);
            let first = if header == 0 { WORDS } else { 4 };
            put_be32(sector, 0, be32(headers, header * SECTOR + first + word));
        }
        Ok(data)
    }
}
