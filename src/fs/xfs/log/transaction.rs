//! Transactions: their operations lie scattered over records, their items over operations.

use std::collections::HashMap;

use super::record::Record;
use crate::base::bytes::{be32, le16, le32, u8_at};
use crate::base::{Error, Result};

/// Bytes of an operation's header: transaction, length, client, flags.
const OPERATION: usize = 12;
const START: u8 = 0x1;
const COMMIT: u8 = 0x2;
const CONTINUED: u8 = 0x4;
const CONTINUES: u8 = 0x8;
const UNMOUNT: u8 = 0x20;
/// Flag of the end of a transaction that goes on elsewhere; says nothing to a reader.
const END: u8 = 0x10;
/// What a transaction begins with, and its bytes.
const MAGIC: u32 = 0x5452_414e;
const HEADER: usize = 16;
/// Most regions of an item: a buffer of 64 KiB in pieces of 128 bytes, every second of them changed.
const REGIONS_MAX: usize = 1024;
/// Bytes that transactions without an end may have, and their number.
const OPEN_MAX: usize = 128 << 20;
const OPEN_COUNT: usize = 4096;

/// Something that a transaction changed: regions of bytes, the first of which says what.
#[derive(Debug, Default)]
pub struct Item {
    total: usize,
    pub regions: Vec<Vec<u8>>,
}

impl Item {
    /// What it is, two letters in ASCII or beyond.
    pub fn kind(&self) -> u16 {
        le16(self.region(0), 0)
    }

    /// A region, empty if there is none.
    pub fn region(&self, index: usize) -> &[u8] {
        self.regions.get(index).map_or(&[], Vec::as_slice)
    }
}

/// A transaction.
#[derive(Debug, Default)]
pub struct Transaction {
    /// That of the record that it begins in.
    pub lsn: u64,
    header: Vec<u8>,
    pub items: Vec<Item>,
}

/// Those that have begun and not ended.
#[derive(Default)]
pub struct Open {
    by_id: HashMap<u32, Transaction>,
    bytes: usize,
}

fn bad<T>(what: &str) -> Result<T> {
    Err(Error::corrupt(format!("xfs: log: {what}")))
}

impl Open {
    /// Reads the operations of a record; answers the transactions that end in it.
    ///
    /// # Errors
    /// `Kind::Corrupt` for operations that make no sense, `Kind::Unsupported` for too many without an end.
    pub fn take(&mut self, record: &Record) -> Result<Vec<Transaction>> {
        let mut ended = Vec::new();
        let mut rest = &record.data[..];
        for _ in 0..record.operations {
            let Some((header, after)) = rest.split_at_checked(OPERATION) else {
                return bad("an operation out of its record");
            };
            let (id, len, flags) = (be32(header, 0), be32(header, 4) as usize, u8_at(header, 9));
            let Some((bytes, after)) = after.split_at_checked(len) else {
                return bad("an operation out of its record");
            };
            rest = after;
            let flags = flags & !END;
            let flags = if flags & CONTINUES != 0 { flags & !CONTINUED } else { flags };
            if flags & START != 0 {
                if len != 0 || self.by_id.len() >= OPEN_COUNT {
                    return bad("a transaction begins with data, or too many have begun");
                }
                self.by_id.insert(id, Transaction { lsn: record.lsn, ..Transaction::default() });
                continue;
            }
            // The end of one that began before the tail.
            let Some(transaction) = self.by_id.get_mut(&id) else { continue };
            self.bytes += len;
            if self.bytes > OPEN_MAX {
                return Err(Error::unsupported("xfs: log: transactions of more than 128 MiB"));
            }
            match flags {
                0 | CONTINUED => transaction.add(bytes)?,
                CONTINUES => transaction.append(bytes)?,
                COMMIT => {
                    if let Some(transaction) = self.by_id.remove(&id) {
                        self.bytes -= transaction.bytes().min(self.bytes);
                        ended.push(transaction);
                    }
                }
                UNMOUNT => drop(self.by_id.remove(&id)),
                other => return bad(&format!("an operation with flags {other:#x}")),
            }
        }
        Ok(ended)
    }
}

impl Transaction {
    fn bytes(&self) -> usize {
        self.header.len() + self.items.iter().flat_map(|item| &item.regions).map(Vec::len).sum::<usize>()
    }

    /// A new region.
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.header.len() < HEADER {
            if le32(bytes, 0) != MAGIC || bytes.len() > HEADER || !self.header.is_empty() {
                return bad("a transaction without its header");
            }
            self.header.extend_from_slice(bytes);
            return Ok(());
        }
        if self.items.last().is_none_or(|item| item.regions.len() == item.total) {
            let total = usize::from(le16(bytes, 2));
            if total == 0 || total > REGIONS_MAX {
                return bad(&format!("an item of {total} regions"));
            }
            self.items.push(Item { total, regions: Vec::new() });
        }
        if let Some(item) = self.items.last_mut() {
            item.regions.push(bytes.to_vec());
        }
        Ok(())
    }

    /// More of the last region.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match self.items.last_mut().and_then(|item| item.regions.last_mut()) {
            Some(region) => region.extend_from_slice(bytes),
            None if self.header.len() + bytes.len() <= HEADER => self.header.extend_from_slice(bytes),
            None => return bad("a region goes on that has not begun"),
        }
        Ok(())
    }
}
