//! The log: changes that may not be in their places yet. One that was not ended by an unmount is replayed into memory, so that
//! everything is read as Linux shows it after a mount; nothing is written.
//!
//! Facts: "XFS Algorithms & Data Structures", chapter "Journaling Log"; Linux' behaviour on images of its own.

mod overlay;
mod record;
mod replay;
mod transaction;

use std::sync::Arc;

use super::superblock::Superblock;
use crate::base::{Error, Kind, Result};
use crate::disk::Device;
use overlay::Overlay;
use record::{Record, Ring, SECTOR};
use replay::{Gone, Replay};
use transaction::Open;

/// Records that can be on their way at the same time: those in front of the end that may not be whole.
const ON_THEIR_WAY: usize = 9;

/// How a file system is to be read.
pub enum Log {
    /// As it lies there.
    Clean,
    /// Through a replayed log.
    Replayed(Device),
    /// As it lies there, which is older than what its log has: why.
    Left(String),
}

/// Looks at the end of the log and replays it if it must be.
///
/// # Errors
/// Of the device; what is wrong with the log is part of the answer.
pub fn look(device: &Device, superblock: &Superblock) -> Result<Log> {
    if superblock.log_start == 0 {
        return Ok(Log::Left("its log is on another device, and is not looked at".into()));
    }
    let sectors = u64::from(superblock.log_blocks) * (superblock.block / SECTOR) as u64;
    let last = superblock.log_start.checked_add(u64::from(superblock.log_blocks).saturating_sub(1));
    let (Some(start), Some(_)) = (superblock.place(superblock.log_start), last.and_then(|last| superblock.place(last)))
    else {
        return Ok(Log::Left("its log is outside the file system".into()));
    };
    let ring =
        Ring { device: device.as_ref(), start, sectors, has_sums: superblock.has_sums(), uuid: superblock.uuid.0 };
    let replayed = ring.last_record().and_then(|last| match last {
        None => Ok(None),
        Some(last) if last.is_unmount() => Ok(None),
        // Nothing here could be compared with what Linux makes of these.
        Some(_) if !superblock.has_sums() => Err(Error::unsupported("xfs: log: version 4")),
        Some(last) => replay(&ring, &last, superblock, device).map(Some),
    });
    match replayed {
        Ok(None) => Ok(Log::Clean),
        Ok(Some(overlay)) => Ok(Log::Replayed(Arc::new(overlay))),
        Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Unsupported) => {
            let why = error.to_string();
            let why = why.trim_start_matches("xfs: ");
            Ok(Log::Left(format!(
                "its log is not replayed ({why}); what is read is older by it: mount it once to replay it"
            )))
        }
        Err(error) => Err(error),
    }
}

impl Ring<'_> {
    /// The newest record that is whole; `None` in a log that nobody has written.
    fn last_record(&self) -> Result<Option<Record>> {
        if self.sectors < 2 {
            return Err(Error::corrupt("xfs: log: it has less than two sectors"));
        }
        // Sectors of the newest cycle come first, then those of the one before (or none at all).
        let newest = self.cycle(0)?;
        let (mut low, mut high) = (0, self.sectors);
        while low + 1 < high {
            let middle = (low + high) / 2;
            if self.cycle(middle)? == newest { low = middle } else { high = middle }
        }
        if newest == 0 {
            return Ok(None);
        }
        let head = high % self.sectors;
        // A clean log is the usual case, and its end is the very last record.
        if let Some(first) = self.starts_before(head, 1)?.first()
            && let Ok(record) = self.record(*first)
            && record.is_unmount()
            && record.end == head
        {
            return Ok(Some(record));
        }
        let starts = self.starts_before(head, ON_THEIR_WAY)?;
        let mut last: Option<Record> = None;
        for first in starts.into_iter().rev() {
            // What comes behind a record that is not whole was never said to be written.
            if last.as_ref().is_some_and(|last| last.end != first) {
                break;
            }
            match self.record(first) {
                Ok(record) => last = Some(record),
                Err(error) if error.kind() != Kind::Corrupt => return Err(error),
                Err(_) if last.is_none() => {}
                Err(_) => break,
            }
        }
        last.map(Some).ok_or_else(|| Error::corrupt("xfs: log: no record in front of its end is whole"))
    }

    /// Calls `each` for the records from the tail that `last` names up to it.
    fn each_record(&self, last: &Record, mut each: impl FnMut(Record) -> Result<()>) -> Result<()> {
        let mut at = last.tail & 0xffff_ffff;
        let mut left = self.sectors;
        loop {
            if at >= self.sectors {
                return Err(Error::corrupt(format!("xfs: log: its tail is at sector {at} of {}", self.sectors)));
            }
            let record = self.record(at)?;
            let (end, is_last) = (record.end, record.lsn == last.lsn);
            let took = (end + self.sectors - at) % self.sectors;
            if !(last.tail..=last.lsn).contains(&record.lsn) || took == 0 || took > left {
                return Err(Error::corrupt(format!("xfs: log: the record at sector {at} is not before its end")));
            }
            each(record)?;
            if is_last {
                return Ok(());
            }
            (at, left) = (end, left - took);
        }
    }
}

/// Replays from the tail to the last record: first what is gone is looked for, then changes are made.
fn replay(ring: &Ring<'_>, last: &Record, superblock: &Superblock, device: &Device) -> Result<Overlay> {
    let mut gone = Gone::default();
    let mut open = Open::default();
    ring.each_record(last, |record| {
        open.take(&record)?.iter().for_each(|transaction| gone.note(transaction));
        Ok(())
    })?;
    let mut work = Replay::new(superblock, Overlay::new(device.clone()), gone);
    let mut open = Open::default();
    ring.each_record(last, |record| open.take(&record)?.iter().try_for_each(|transaction| work.apply(transaction)))?;
    work.finish()
}
