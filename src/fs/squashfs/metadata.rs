//! Metadata: blocks of up to 8 KiB, each with its length in front, read as a stream from any place in one of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::Squash;
use crate::base::bytes::{le16, le64};
use crate::base::{Error, Result};

/// Most bytes of an unpacked block.
pub(super) const BLOCK: usize = 8192;
/// The block is stored as it is.
const PLAIN: u16 = 0x8000;
/// Unpacked blocks that are kept.
const KEPT: usize = 1024;

/// A place in the metadata: the byte of the device where a block begins, and the place in what it unpacks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub block: u64,
    pub offset: usize,
}

impl Cursor {
    /// From a reference: block, relative to a table, and place in it.
    ///
    /// # Errors
    /// Places that cannot be.
    pub fn from_reference(table: u64, reference: u64) -> Result<Self> {
        let (block, offset) = (reference >> 16, (reference & 0xffff) as usize);
        match table.checked_add(block) {
            Some(block) if offset < BLOCK => Ok(Cursor { block, offset }),
            _ => Err(Error::corrupt(format!("squashfs: the reference {reference:#x} is outside"))),
        }
    }
}

/// An unpacked block and where the next one begins.
type Block = (Arc<Vec<u8>>, u64);

/// Unpacked blocks by their places.
#[derive(Default)]
pub(super) struct Cache(RefCell<HashMap<u64, Block>>);

impl Squash {
    /// Reads bytes of the device, inside of what the superblock says is the file system.
    pub(super) fn stored(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        match at.checked_add(buf.len() as u64) {
            Some(end) if end <= self.superblock.end => self.device.read_at(at, buf),
            _ => Err(Error::corrupt(format!("squashfs: {} bytes at byte {at} are outside", buf.len()))),
        }
    }

    fn block_at(&self, at: u64) -> Result<Block> {
        if let Some(found) = self.metadata.0.borrow().get(&at) {
            return Ok(found.clone());
        }
        let bad = |what: &str| Error::corrupt(format!("squashfs: the metadata at byte {at}: {what}"));
        let mut word = [0; 2];
        self.stored(at, &mut word)?;
        let word = le16(&word, 0);
        let len = match usize::from(word & !PLAIN) {
            0 => usize::from(PLAIN),
            len => len,
        };
        if len > BLOCK {
            return Err(bad(&format!("it has {len} bytes")));
        }
        let mut packed = vec![0; len];
        self.stored(at + 2, &mut packed)?;
        let plain = if word & PLAIN != 0 {
            packed
        } else {
            let mut plain = vec![0; BLOCK];
            let len = self.superblock.codec.unpack(&packed, &mut plain);
            plain.truncate(len.ok_or_else(|| bad("it cannot be unpacked"))?);
            plain
        };
        if plain.is_empty() {
            return Err(bad("it is empty"));
        }
        let block = (Arc::new(plain), at + 2 + len as u64);
        let mut kept = self.metadata.0.borrow_mut();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(at, block.clone());
        Ok(block)
    }

    /// Fills `buf` and moves the cursor on. Every block lies behind the one before, so this ends.
    pub(super) fn take(&self, cursor: &mut Cursor, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let (block, next) = self.block_at(cursor.block)?;
            let Some(rest) = block.get(cursor.offset..).filter(|rest| !rest.is_empty()) else {
                if cursor.offset > block.len() {
                    let Cursor { block, offset } = *cursor;
                    return Err(Error::corrupt(format!("squashfs: the metadata at byte {block} ends before {offset}")));
                }
                *cursor = Cursor { block: next, offset: 0 };
                continue;
            };
            let count = rest.len().min(buf.len());
            buf[..count].copy_from_slice(&rest[..count]);
            buf = &mut buf[count..];
            cursor.offset += count;
        }
        Ok(())
    }

    /// [`Squash::take`] of a fixed number of bytes.
    pub(super) fn take_array<const N: usize>(&self, cursor: &mut Cursor) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.take(cursor, &mut bytes)?;
        Ok(bytes)
    }

    /// An entry of a table that is found through a list of the places of its blocks: ids, fragments, attributes.
    pub(super) fn table_entry<const N: usize>(&self, list: u64, number: u64) -> Result<[u8; N]> {
        let per_block = (BLOCK / N) as u64;
        let mut place = [0; 8];
        self.stored(list.saturating_add(number / per_block * 8), &mut place)?;
        let offset = (number % per_block) as usize * N;
        self.take_array(&mut Cursor { block: le64(&place, 0), offset })
    }
}
