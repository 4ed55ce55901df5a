//! From the data of records to finished transactions and their items. "XFS Algorithms & Data Structures", "Log Operations".

use std::collections::HashMap;

use crate::base::bytes::{be32, le16, u8_at};
use crate::base::{Error, Result};

/// Bytes of the header of an operation, and of the header that begins a transaction.
const OPERATION: usize = 12;
const HEADER: usize = 16;
/// "TRAN", of a little-endian machine.
const MAGIC: &[u8] = b"NART";
/// Who wrote an operation: transactions, the log itself.
const CLIENTS: [u8; 2] = [0x69, 0xaa];
const START: u8 = 1;
const COMMIT: u8 = 2;
const CONTINUES: u8 = 4;
const CONTINUED: u8 = 8;
const END: u8 = 0x10;
const UNMOUNT: u8 = 0x20;
/// Most regions of an item (XLOG_MAX_REGIONS_IN_ITEM).
const REGIONS: usize = 257;

/// A thing that was logged: what it is, then its parts.
#[derive(Debug, Default)]
pub struct Item {
    /// The first says what the others are.
    pub regions: Vec<Vec<u8>>,
}

impl Item {
    /// Its type: a word that begins each item.
    pub fn kind(&self) -> u16 {
        le16(self.region(0), 0)
    }

    /// A region, empty if it is not there.
    pub fn region(&self, number: usize) -> &[u8] {
        self.regions.get(number).map(Vec::as_slice).unwrap_or_default()
    }

    fn is_whole(&self) -> bool {
        self.regions.len() >= usize::from(le16(self.region(0), 2))
    }
}

/// A finished transaction.
#[derive(Debug, Default)]
pub struct Transaction {
    /// The sequence number of the record in which it begins.
    pub lsn: u64,
    pub items: Vec<Item>,
}

/// A transaction that is not finished yet.
#[derive(Default)]
struct Open {
    transaction: Transaction,
    header: Vec<u8>,
}

/// Takes records in order and makes transactions of them.
#[derive(Default)]
pub struct Reader {
    open: HashMap<u32, Open>,
    /// In the order of their commits.
    pub finished: Vec<Transaction>,
}

impl Reader {
    /// Takes the data of a record with that sequence number and number of operations.
    ///
    /// # Errors
    /// `Kind::Corrupt` says what is wrong with it.
    pub fn take(&mut self, lsn: u64, operations: u32, data: &[u8]) -> Result<()> {
        let bad = |at: usize, what: &str| {
            Err(Error::corrupt(format!("the record at sector {}, operation at byte {at}: {what}", lsn & 0xffff_ffff)))
        };
        let mut at = 0;
        for _ in 0..operations {
            if at >= data.len() {
                break;
            }
            let Some(header) = data.get(at..at + OPERATION) else { return bad(at, "its header is cut off") };
            let (number, len, flags) = (be32(header, 0), be32(header, 4) as usize, u8_at(header, 9));
            let Some(region) = data.get(at + OPERATION..).and_then(|rest| rest.get(..len)) else {
                return bad(at, "it runs out of the record");
            };
            if !CLIENTS.contains(&u8_at(header, 8)) {
                return bad(at, "it is nobody's (oh_clientid)");
            }
            if let Err(what) = self.operation(lsn, number, flags, region) {
                return bad(at, what);
            }
            at += OPERATION + len;
        }
        Ok(())
    }

    fn operation(&mut self, lsn: u64, number: u32, flags: u8, region: &[u8]) -> Result<(), &'static str> {
        let Some(open) = self.open.get_mut(&number) else {
            // Those that began before the tail are finished, and in their places.
            if flags & START != 0 {
                let transaction = Transaction { lsn, items: Vec::new() };
                self.open.insert(number, Open { transaction, header: Vec::new() });
            }
            return Ok(());
        };
        let flags = flags & !END;
        let flags = if flags & CONTINUED != 0 { flags & !CONTINUES } else { flags };
        match flags {
            0 | CONTINUES => open.add(region),
            CONTINUED => open.append(region),
            COMMIT => {
                let open = self.open.remove(&number).unwrap_or_default();
                self.finished.push(open.transaction);
                Ok(())
            }
            UNMOUNT => {
                self.open.remove(&number);
                Ok(())
            }
            _ => Err("its flags cannot be"),
        }
    }
}

impl Open {
    fn add(&mut self, region: &[u8]) -> Result<(), &'static str> {
        if region.is_empty() {
            return Ok(());
        }
        if self.header.len() < HEADER {
            if !self.header.is_empty() || region.len() > HEADER || !region.starts_with(MAGIC) {
                return Err("a transaction without its header");
            }
            self.header = region.to_vec();
            return Ok(());
        }
        let items = &mut self.transaction.items;
        match items.last_mut().filter(|item| !item.is_whole()) {
            Some(item) => item.regions.push(region.to_vec()),
            None => {
                let count = usize::from(le16(region, 2));
                if count == 0 || count > REGIONS {
                    return Err("an item with a number of regions that cannot be");
                }
                items.push(Item { regions: vec![region.to_vec()] });
            }
        }
        Ok(())
    }

    /// Adds to the last region what did not fit into the record before.
    fn append(&mut self, region: &[u8]) -> Result<(), &'static str> {
        if self.header.len() < HEADER {
            self.header.extend_from_slice(region);
            return if self.header.len() > HEADER { Err("a transaction's header is too long") } else { Ok(()) };
        }
        let last = self.transaction.items.last_mut().and_then(|item| item.regions.last_mut());
        last.ok_or("it continues nothing")?.extend_from_slice(region);
        Ok(())
    }
}
