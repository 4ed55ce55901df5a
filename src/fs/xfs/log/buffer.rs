//! Buffers in the log: pieces of 128 bytes of a few sectors. "XFS Algorithms & Data Structures", "Buffer Log Item".

use super::SECTOR;
use super::replay::Replay;
use super::transaction::Item;
use crate::base::bytes::{be16, be64, le16, le32, le64};
use crate::base::{Error, Result};

/// Bytes that a bit of the map stands for.
const CHUNK: usize = 128;
/// The map's first byte in the item.
const MAP: usize = 20;
/// Flags: inodes' buffer, the buffer was freed, quotas'.
const INODES: u16 = 1;
const CANCEL: u16 = 2;
const QUOTAS: u16 = 0x4 | 0x8 | 0x10;
/// Largest buffer in sectors: a directory block of 64 KiB.
const SECTORS_MAX: u16 = 128;
/// What the buffer is: bits in the flags, and types that have no sequence number.
const TYPE: u16 = 11;
const REALTIME: [u16; 2] = [19, 20];
/// Place of `di_next_unlinked`.
const NEXT_UNLINKED: usize = 96;

/// Places of the fields that each kind of block of version 5 has: magic, then checksum, sequence number, UUID.
const KINDS: &[(&[u8; 4], [usize; 3])] = &[
    (b"AB3B", [52, 24, 32]),
    (b"AB3C", [52, 24, 32]),
    (b"IAB3", [52, 24, 32]),
    (b"FIB3", [52, 24, 32]),
    (b"RMB3", [52, 24, 32]),
    (b"R3FC", [52, 24, 32]),
    (b"BMA3", [64, 32, 40]),
    (b"XAGF", [216, 208, 64]),
    (b"XAGI", [312, 320, 296]),
    (b"XAFL", [32, 24, 8]),
    (b"XSLM", [12, 48, 16]),
    (b"XDB3", [4, 16, 24]),
    (b"XDD3", [4, 16, 24]),
    (b"XDF3", [4, 16, 24]),
];
const SUPERBLOCK: &[u8] = b"XFSB";
const SUPERBLOCK_PLACES: [usize; 2] = [224, 240];
/// The same for index blocks and attributes, whose magic of 16 bits is at byte 8.
const INDEX_MAGICS: [u16; 4] = [0x3df1, 0x3dff, 0x3bee, 0x3ebe];
const INDEX_PLACES: [usize; 3] = [12, 24, 32];

/// A buffer's place: sector of the device, and number of sectors.
pub type Place = (u64, u16);

/// What an item of a buffer says.
pub struct Buffer<'a> {
    item: &'a Item,
    flags: u16,
    pub place: Place,
}

impl<'a> Buffer<'a> {
    /// Reads the item's first region.
    pub fn new(item: &'a Item) -> Self {
        let head = item.region(0);
        Buffer { item, flags: le16(head, 4), place: (le64(head, 8), le16(head, 6)) }
    }

    /// Whether it only says that the buffer was freed.
    pub fn is_cancel(&self) -> bool {
        self.flags & CANCEL != 0
    }

    /// Whether it holds inodes, of which only the list of unlinked ones is replayed.
    pub fn is_inodes(&self) -> bool {
        self.flags & INODES != 0
    }

    fn bad<T>(&self, what: &str) -> Result<T> {
        Err(Error::corrupt(format!("the buffer of {} sectors at sector {} {what}", self.place.1, self.place.0)))
    }

    /// The pieces: byte in the buffer, bytes.
    fn pieces(&self) -> Result<Vec<(usize, &'a [u8])>> {
        let (head, len) = (self.item.region(0), usize::from(self.place.1) * SECTOR);
        let bits = (le32(head, 16) as usize).saturating_mul(32).min(head.len().saturating_sub(MAP) * 8);
        let is_set = |bit: usize| head[MAP + bit / 8] >> (bit % 8) & 1 != 0;
        let mut pieces = Vec::new();
        let (mut bit, mut region) = (0, 1);
        while let Some(first) = (bit..bits).find(|bit| is_set(*bit)) {
            let set = (first..bits).take_while(|bit| is_set(*bit)).count();
            let bytes = self.item.region(region);
            let count = set.min(bytes.len() / CHUNK);
            if count == 0 || (first + count) * CHUNK > len {
                return self.bad("has a map that does not fit it");
            }
            pieces.push((first * CHUNK, &bytes[..count * CHUNK]));
            (bit, region) = (first + count, region + 1);
        }
        Ok(pieces)
    }
}

/// Place of the checksum of a block of version 5, and of sequence number and UUID, by its magic.
pub fn places(block: &[u8]) -> Option<(usize, usize, Option<usize>)> {
    if block.starts_with(SUPERBLOCK) {
        return Some((SUPERBLOCK_PLACES[0], SUPERBLOCK_PLACES[1], None));
    }
    let known = KINDS.iter().find(|(magic, _)| block.starts_with(*magic)).map(|(_, places)| *places);
    let [sum, lsn, uuid] = known.or_else(|| INDEX_MAGICS.contains(&be16(block, 8)).then_some(INDEX_PLACES))?;
    Some((sum, lsn, Some(uuid)))
}

impl Replay<'_> {
    /// Replays a buffer of a transaction with that sequence number.
    pub fn buffer(&mut self, buffer: &Buffer<'_>, lsn: u64) -> Result<()> {
        let (sector, count) = buffer.place;
        if self.is_cancelled(buffer.place) || buffer.flags & QUOTAS != 0 {
            return Ok(());
        }
        let at = sector.checked_mul(SECTOR as u64);
        let Some(at) = at.filter(|_| (1..=SECTORS_MAX).contains(&count)) else {
            return buffer.bad("cannot be");
        };
        let len = usize::from(count) * SECTOR;
        let outside = |_| Error::corrupt(format!("the buffer of {count} sectors at sector {sector} is outside"));
        let head = self.overlay.bytes(at, SECTOR).map_err(outside)?;
        crate::disk::check_bounds(at, len as u64, self.end()).map_err(outside)?;
        if !REALTIME.contains(&(buffer.flags >> TYPE)) && self.is_newer(&head, lsn) {
            return Ok(());
        }
        let pieces = buffer.pieces()?;
        if buffer.is_inodes() {
            return self.unlinked(at, len, &pieces);
        }
        for (offset, bytes) in pieces {
            self.overlay.put(at + offset as u64, bytes)?;
        }
        self.sums.insert(at, len);
        Ok(())
    }

    /// Whether a block on the device has what a transaction says already.
    fn is_newer(&self, head: &[u8], lsn: u64) -> bool {
        if !self.superblock.has_sums() {
            return false;
        }
        let Some((_, place, uuid)) = places(head) else { return false };
        let ours = uuid.is_none_or(|uuid| head.get(uuid..uuid + 16) == Some(&self.superblock.meta_uuid[..]));
        let found = be64(head, place);
        ours && found != 0 && found != u64::MAX && found >= lsn
    }

    /// The next unlinked inode of each inode in a buffer.
    fn unlinked(&mut self, at: u64, len: usize, pieces: &[(usize, &[u8])]) -> Result<()> {
        for inode in (0..len).step_by(self.superblock.inode) {
            let field = inode + NEXT_UNLINKED;
            let piece = pieces.iter().find(|(from, bytes)| *from <= field && field + 4 <= from + bytes.len());
            if let Some((from, bytes)) = piece {
                self.overlay.put(at + field as u64, &bytes[field - from..field - from + 4])?;
                self.inodes.insert(at + inode as u64);
            }
        }
        Ok(())
    }
}
