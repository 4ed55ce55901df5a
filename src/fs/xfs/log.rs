//! The log, looked at only: whether its last record says that the file system was unmounted. "XFS Algorithms & Data Structures",
//! chapter "Journaling Log".

use super::Xfs;
use crate::base::Result;
use crate::base::bytes::{be32, u8_at};

/// Bytes of a block of the log.
const SECTOR: u64 = 512;
/// First word of a record.
const MAGIC: u32 = 0xfeed_babe;
/// Most blocks of a record with its headers, and bytes of data that each header block stands for.
const RECORD_MAX: u64 = 520;
const HEADER_DATA: u32 = 32768;
/// Flag of the operation that ends a clean log.
const UNMOUNT: u8 = 0x20;

impl Xfs {
    fn log_sector(&self, start: u64, number: u64) -> Result<Vec<u8>> {
        let mut sector = vec![0; SECTOR as usize];
        self.device.read_at(start + number * SECTOR, &mut sector)?;
        Ok(sector)
    }

    /// The cycle that a block of the log was written in.
    fn cycle(&self, start: u64, number: u64) -> Result<u32> {
        let sector = self.log_sector(start, number)?;
        Ok(if be32(&sector, 0) == MAGIC { be32(&sector, 4) } else { be32(&sector, 0) })
    }

    /// Says so if the log may have something that is not in its place yet.
    pub(super) fn log_notice(&self) -> Result<Option<String>> {
        let not_clean = "its log is not replayed; what is read is older by it: mount it once to replay it";
        let superblock = &self.superblock;
        if superblock.log_start == 0 {
            return Ok(Some("its log is on another device, and is not looked at".into()));
        }
        let sectors = u64::from(superblock.log_blocks) * (superblock.block as u64 / SECTOR);
        let last = superblock.log_start.checked_add(u64::from(superblock.log_blocks).saturating_sub(1));
        let (Some(start), Some(_)) = (superblock.place(superblock.log_start), last.and_then(|l| superblock.place(l)))
        else {
            return Ok(Some("its log is outside the file system".into()));
        };
        if sectors < 2 {
            return Ok(Some(not_clean.into()));
        }
        // Blocks of the newest cycle come first, then those of the one before (or none at all).
        let newest = self.cycle(start, 0)?;
        let (mut low, mut high) = (0, sectors);
        while low + 1 < high {
            let middle = (low + high) / 2;
            if self.cycle(start, middle)? == newest { low = middle } else { high = middle }
        }
        let head = high;
        for back in 1..=RECORD_MAX.min(head) {
            let sector = self.log_sector(start, head - back)?;
            if be32(&sector, 0) != MAGIC {
                continue;
            }
            let headers = be32(&sector, 320).div_ceil(HEADER_DATA).max(1);
            let operations = be32(&sector, 40);
            if operations != 1 || u64::from(headers) >= back {
                break;
            }
            let data = self.log_sector(start, head - back + u64::from(headers))?;
            return Ok((u8_at(&data, 9) & UNMOUNT == 0).then(|| not_clean.into()));
        }
        // A file system that was made and never mounted has zeros.
        Ok((newest != 0).then(|| not_clean.into()))
    }
}
