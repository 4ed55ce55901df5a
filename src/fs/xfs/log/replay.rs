//! Lays finished transactions over the device: buffers that were freed later are left out, then what is left in order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::buffer::{Buffer, Place, places};
use super::overlay::Overlay;
use super::transaction::{Item, Transaction};
use crate::base::Result;
use crate::base::bytes::{put_le32, u8_at};
use crate::disk::BlockDevice;
use crate::fs::xfs::inode;
use crate::fs::xfs::superblock::Superblock;

/// Types of items.
const INODE: u16 = 0x123b;
const BUFFER: u16 = 0x123c;
const NEW_INODES: u16 = 0x123f;

/// Place of an inode's version.
const INODE_VERSION: usize = 4;

/// A replay on its way.
pub struct Replay<'a> {
    pub superblock: &'a Superblock,
    pub overlay: Overlay,
    /// Buffers that are freed further on, and how often.
    cancelled: BTreeMap<Place, u32>,
    /// Buffers (first byte and length) and inodes (first byte) whose sums are to be made right.
    pub sums: BTreeMap<u64, usize>,
    pub inodes: BTreeSet<u64>,
    /// Inodes whose trees became theirs: number, first byte, data (0) or attributes (1).
    pub owners: BTreeSet<(u64, u64, usize)>,
}

impl<'a> Replay<'a> {
    /// Nothing yet, over `overlay`.
    pub fn new(superblock: &'a Superblock, overlay: Overlay) -> Self {
        Replay {
            superblock,
            overlay,
            cancelled: BTreeMap::new(),
            sums: BTreeMap::new(),
            inodes: BTreeSet::new(),
            owners: BTreeSet::new(),
        }
    }

    /// Replays all and makes the sums right.
    ///
    /// # Errors
    /// `Kind::Corrupt` for what does not fit, whatever the device answers.
    pub fn run(mut self, transactions: &[Transaction]) -> Result<Overlay> {
        for item in transactions.iter().flat_map(|transaction| &transaction.items).filter(|i| i.kind() == BUFFER) {
            let buffer = Buffer::new(item);
            if buffer.is_cancel() {
                *self.cancelled.entry(buffer.place).or_default() += 1;
            }
        }
        for transaction in transactions {
            self.transaction(transaction)?;
        }
        self.seal()?;
        Ok(self.overlay)
    }

    /// Buffers first, then inodes, then the unlinked ones; what frees a buffer last.
    fn transaction(&mut self, transaction: &Transaction) -> Result<()> {
        let lsn = transaction.lsn;
        let buffers = |item: &&Item| item.kind() == BUFFER;
        for item in &transaction.items {
            match item.kind() {
                NEW_INODES => self.chunk(item)?,
                BUFFER => {
                    let buffer = Buffer::new(item);
                    if !buffer.is_cancel() && !buffer.is_inodes() {
                        self.buffer(&buffer, lsn)?;
                    }
                }
                _ => {}
            }
        }
        for item in transaction.items.iter().filter(|item| item.kind() == INODE) {
            self.inode(item, lsn)?;
        }
        let buffers: Vec<Buffer<'_>> = transaction.items.iter().filter(buffers).map(Buffer::new).collect();
        for buffer in buffers.iter().filter(|buffer| buffer.is_inodes() && !buffer.is_cancel()) {
            self.buffer(buffer, lsn)?;
        }
        for buffer in buffers.iter().filter(|buffer| buffer.is_cancel()) {
            if let Some(count) = self.cancelled.get_mut(&buffer.place) {
                *count -= 1;
                if *count == 0 {
                    self.cancelled.remove(&buffer.place);
                }
            }
        }
        Ok(())
    }

    /// Whether a buffer is freed further on.
    pub fn is_cancelled(&self, place: Place) -> bool {
        self.cancelled.contains_key(&place)
    }

    /// Whether a buffer that begins in a range of sectors is freed further on.
    pub fn is_cancelled_in(&self, sectors: Range<u64>) -> bool {
        self.cancelled.range((sectors.start, 0)..(sectors.end, 0)).next().is_some()
    }

    /// Bytes of the device.
    pub fn end(&self) -> u64 {
        self.overlay.len()
    }

    /// Makes the sums of all that was replayed right.
    fn seal(&mut self) -> Result<()> {
        if !self.superblock.has_sums() {
            return Ok(());
        }
        for at in std::mem::take(&mut self.inodes) {
            let inode = self.overlay.bytes(at, self.superblock.inode)?;
            if u8_at(&inode, INODE_VERSION) == 3 {
                self.stamp(at, inode, inode::CRC)?;
            }
        }
        self.owners()?;
        for (at, len) in std::mem::take(&mut self.sums) {
            let block = self.overlay.bytes(at, len)?;
            if let Some((sum, ..)) = places(&block) {
                self.stamp(at, block, sum)?;
            }
        }
        Ok(())
    }

    fn stamp(&mut self, at: u64, mut block: Vec<u8>, sum: usize) -> Result<()> {
        put_le32(&mut block, sum, 0);
        let crc = crc32c::crc32c(&block);
        self.overlay.put(at + sum as u64, &crc.to_le_bytes())
    }
}
