//! The log of a file system that was not unmounted: its finished transactions are laid over the device, in memory, for reading.
//!
//! "XFS Algorithms & Data Structures", chapter "Journaling Log".

mod buffer;
mod inode;
mod intents;
mod overlay;
mod owner;
mod record;
mod replay;
mod ring;
mod transaction;

use std::sync::Arc;

pub use self::intents::MapChange;

use self::intents::{Pending, pending};
use self::overlay::Overlay;
use self::record::{Header, MAGIC};
use self::replay::Replay;
use self::ring::{End, IN_FLIGHT, Ring};
use self::transaction::{Reader, Transaction};
use super::superblock::Superblock;
use crate::base::bytes::be32;
use crate::base::{Error, Kind, Result};
use crate::disk::Device;

/// Bytes of a sector of the log.
const SECTOR: usize = 512;
/// Largest log (XFS_MAX_LOG_BYTES).
const LOG_MAX: u64 = 1 << 31;
/// Sectors that a replay may change for each of the log's: what is logged is small, and new inodes are smaller.
const CHANGED_MAX: u64 = 4;

/// Features of the log that are known (`log_incompat`): promises to change attributes.
const LOG_FEATURES: u32 = 1;

/// What became of the log.
pub enum Outcome {
    /// It had nothing to replay.
    Clean,
    /// The device and its superblock as they read after the replay, and what is left to do.
    Replayed(Device, Box<Superblock>, Pending),
    /// Why it is not replayed.
    Left(String),
}

/// Looks at the log, and replays it in memory if the file system was not unmounted. Nothing is written.
///
/// # Errors
/// Whatever the device answers; damage is `Outcome::Left`.
pub fn recover(device: &Device, superblock: &Superblock) -> Result<Outcome> {
    let left = |why: String| Ok(Outcome::Left(why));
    if superblock.log_start == 0 {
        return left("its log is on another device, and is not looked at".into());
    }
    let bytes = u64::from(superblock.log_blocks) * superblock.block as u64;
    let last = superblock.log_start.checked_add(u64::from(superblock.log_blocks).saturating_sub(1));
    let (Some(start), Some(_)) = (superblock.place(superblock.log_start), last.and_then(|l| superblock.place(l)))
    else {
        return left("its log is outside the file system".into());
    };
    let sectors = bytes.min(LOG_MAX) / SECTOR as u64;
    match replay(device, superblock, &Ring::new(device.as_ref(), start, sectors)) {
        Ok(outcome) => Ok(outcome),
        Err(error) if error.kind() == Kind::Corrupt => left(format!(
            "its log is not replayed ({}); what is read is older by it: mount it once to replay it",
            error.to_string().trim_start_matches("xfs: ")
        )),
        Err(error) => Err(error),
    }
}

fn replay(device: &Device, superblock: &Superblock, ring: &Ring<'_>) -> Result<Outcome> {
    let End::Dirty(head, last) = ring.end()? else { return Ok(Outcome::Clean) };
    let unknown = superblock.log_features & !LOG_FEATURES;
    if unknown != 0 {
        return Err(Error::corrupt(format!("unknown features, log_incompat {unknown:#x}")));
    }
    let transactions = read(superblock, ring, head, last)?;
    let pending = pending(&transactions)?;
    let limit = ring.sectors.saturating_mul(CHANGED_MAX) as usize;
    let overlay = Overlay::new(device.clone(), limit);
    let view: Device = Arc::new(Replay::new(superblock, overlay).run(&transactions)?);
    // The log may have made the file system larger, and nothing else.
    let after = Superblock::open(view.as_ref()).map_err(|error| Error::corrupt(error.to_string()))?;
    if !after.is_like(superblock) {
        return Err(Error::corrupt("it changes the superblock's geometry"));
    }
    Ok(Outcome::Replayed(view, Box::new(after), pending))
}

/// A record whose sum is wrong, or that is none: where, and what.
enum Fault {
    Record(u64, Error),
    Other(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Other(error)
    }
}

/// The finished transactions of the live part of the log. Records that were being written when the machine stopped are its end.
fn read(superblock: &Superblock, ring: &Ring<'_>, mut head: u64, mut last: Header) -> Result<Vec<Transaction>> {
    let mut tail = last.tail;
    let mut turns = 0;
    loop {
        let (at, error) = match read_between(superblock, ring, tail, head) {
            Ok(transactions) => return Ok(transactions),
            Err(Fault::Record(at, error)) => (at, error),
            Err(Fault::Other(error)) => return Err(error),
        };
        turns += 1;
        if turns > IN_FLIGHT {
            return Err(error);
        }
        if ring.records(at, ring.distance(at, head))?.len() <= IN_FLIGHT && at != tail {
            last = ring.last_record(at)?.ok_or(error)?;
            (head, tail) = (at, last.tail);
        } else {
            tail = behind_overwritten(ring, &last, at, head)?.ok_or(error)?;
        }
    }
}

/// Records in flight at the head may have overwritten the tail: the next record behind the broken one, if that can be.
fn behind_overwritten(ring: &Ring<'_>, last: &Header, at: u64, head: u64) -> Result<Option<u64>> {
    let reach = IN_FLIGHT as u64 * u64::from(last.size) / SECTOR as u64;
    if ring.distance(head, at) > reach {
        return Ok(None);
    }
    let ahead = ring.distance(at, head);
    Ok(ring.records(at + 1, ahead.saturating_sub(1).min(reach + 1))?.first().copied())
}

fn read_between(
    superblock: &Superblock,
    ring: &Ring<'_>,
    tail: u64,
    head: u64,
) -> std::result::Result<Vec<Transaction>, Fault> {
    let mut reader = Reader::default();
    let mut at = tail;
    if tail >= ring.sectors {
        return Err(Error::corrupt(format!("its tail, sector {tail}, is outside")).into());
    }
    while at != head {
        let fault = |what: &str| Fault::Record(at, Error::corrupt(format!("the record at sector {at} {what}")));
        let first = ring.read(at, 1)?;
        let Some(header) = Header::parse(&first, at) else {
            return Err(fault(if be32(&first, 0) == MAGIC { "has a header that cannot be" } else { "is not there" }));
        };
        if header.sectors() > ring.distance(at, head) {
            return Err(fault("runs over the log's end"));
        }
        let mut bytes = first;
        bytes.extend_from_slice(&ring.read(at + 1, header.sectors() - 1)?);
        if !header.sum_is_right(&bytes, superblock.has_sums()) {
            return Err(fault("has a wrong checksum"));
        }
        let data = header.data(&bytes, &superblock.uuid.0)?;
        reader.take(header.lsn, header.operations, &data)?;
        at = (at + header.sectors()) % ring.sectors;
    }
    Ok(reader.finished)
}
