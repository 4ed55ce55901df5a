//! The table `Packages` of an SQLite database, with what its write-ahead log has since.
//!
//! Pages, cells and records: SQLite's documentation, "Database File Format", with section 4 on the log.

use std::collections::HashMap;

use super::{File, HEADER_MAX, Words};
use crate::base::bytes::{be16, be32, u8_at};
use crate::base::{Error, Result};

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Types of pages.
const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0d;
/// Deepest tree that is followed.
const DEEPEST: u32 = 20;
/// The log: magics for sums over little-endian and big-endian words, bytes of its header and of a frame's.
const LOG_MAGICS: [u32; 2] = [0x377f_0682, 0x377f_0683];
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Text encodings keep ASCII as it is, but for UTF-16.
const UTF8: u32 = 1;

struct Database<'a> {
    file: &'a File<'a>,
    log: Option<&'a File<'a>>,
    page: usize,
    /// Bytes of a page that are used.
    usable: usize,
    /// Pages that the log has: place in it.
    newer: HashMap<u32, u64>,
    /// Pages in all, and how many of trees may still be read: a tree that goes round is found out.
    pages: u32,
    left: u64,
}

/// Gives the blob of each row of `Packages`.
pub(super) fn blobs(file: &File<'_>, log: Option<&File<'_>>, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let newer = match log {
        Some(log) => read_log(log)?,
        None => HashMap::new(),
    };
    // The log may hold the first page, of a database that is empty itself.
    let head = match (newer.get(&1), log) {
        (Some(at), Some(log)) => log.read(*at, 100)?,
        _ => file.read(0, 100)?,
    };
    let page = match be16(&head, 16) {
        1 => 65536,
        size => usize::from(size),
    };
    let usable = page.saturating_sub(u8_at(&head, 20).into());
    if !head.starts_with(MAGIC) || !page.is_power_of_two() || page < 512 || usable < 480 {
        return Err(file.bad("this is no SQLite database"));
    }
    if !matches!(be32(&head, 56), 0 | UTF8) {
        return Err(Error::unsupported("package database: its texts are UTF-16").at(&file.path));
    }
    let highest = newer.keys().copied().max().unwrap_or(0);
    let pages = u32::try_from(file.len / page as u64).unwrap_or(u32::MAX).max(highest);
    let mut database = Database { file, log, page, usable, newer, pages, left: 0 };
    let mut root = None;
    database.table(1, &mut |row| {
        let columns = columns(row);
        if let [Some(kind), Some(name), _, Some(page), ..] = columns.as_slice()
            && (kind, name) == (&&b"table"[..], &&b"Packages"[..])
        {
            root = Some(page.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)));
        }
        Ok(())
    })?;
    let root = root.ok_or_else(|| file.bad("it has no table Packages"))?;
    database.table(root, &mut |row| match columns(row).get(1) {
        Some(Some(blob)) => each(blob),
        _ => Err(file.bad("a row of Packages has no header")),
    })
}

/// The pages of the committed transactions in a log: place of the newest copy.
fn read_log(log: &File<'_>) -> Result<HashMap<u32, u64>> {
    let mut newer = HashMap::new();
    if log.len < LOG_HEADER as u64 {
        return Ok(newer);
    }
    let head = log.read(0, LOG_HEADER)?;
    let Some(order) = LOG_MAGICS.iter().position(|magic| *magic == be32(&head, 0)) else { return Ok(newer) };
    let words = Words { big: order == 1 };
    let page = be32(&head, 8) as usize;
    if !page.is_power_of_two() || !(512..=65536).contains(&page) {
        return Ok(newer);
    }
    let mut sums = (0, 0);
    add(words, &mut sums, &head[..24]);
    if sums != (be32(&head, 24), be32(&head, 28)) {
        return Ok(newer);
    }
    let mut pending = Vec::new();
    let mut at = LOG_HEADER as u64;
    while at + (FRAME_HEADER + page) as u64 <= log.len {
        let frame = log.read(at, FRAME_HEADER + page)?;
        add(words, &mut sums, &frame[..8]);
        add(words, &mut sums, &frame[FRAME_HEADER..]);
        // What is left over from before the last reset has other salts.
        if frame[8..16] != head[16..24] || sums != (be32(&frame, 16), be32(&frame, 20)) {
            break;
        }
        pending.push((be32(&frame, 0), at + FRAME_HEADER as u64));
        if be32(&frame, 4) != 0 {
            newer.extend(pending.drain(..));
        }
        at += (FRAME_HEADER + page) as u64;
    }
    Ok(newer)
}

/// Goes on with the sums of a log.
fn add(words: Words, sums: &mut (u32, u32), bytes: &[u8]) {
    for pair in bytes.chunks_exact(8) {
        sums.0 = sums.0.wrapping_add(words.u32(pair, 0)).wrapping_add(sums.1);
        sums.1 = sums.1.wrapping_add(words.u32(pair, 4)).wrapping_add(sums.0);
    }
}

/// A number of one to nine bytes, and the place behind it.
fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for i in 0..9 {
        let byte = *bytes.get(at)?;
        at += 1;
        if i == 8 {
            return Some((value << 8 | u64::from(byte), at));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some((value, at))
}

/// The bytes of a record's columns; `None` for one without bytes.
fn columns(record: &[u8]) -> Vec<Option<&[u8]>> {
    let mut found = Vec::new();
    let Some((size, mut at)) = varint(record, 0) else { return found };
    let header = usize::try_from(size).unwrap_or(usize::MAX).min(record.len());
    let mut from = header;
    while at < header {
        let Some((kind, next)) = varint(record, at) else { break };
        at = next;
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            _ => kind.saturating_sub(12) / 2,
        };
        let end = usize::try_from(len).ok().and_then(|len| from.checked_add(len));
        let Some(bytes) = end.and_then(|end| record.get(from..end)) else { break };
        found.push((kind != 0).then_some(bytes));
        from += bytes.len();
    }
    found
}

impl Database<'_> {
    fn page(&self, number: u32) -> Result<Vec<u8>> {
        match (self.newer.get(&number), self.log) {
            (Some(at), Some(log)) => log.read(*at, self.page),
            _ => match number.checked_sub(1) {
                Some(before) if number <= self.pages => self.file.read(u64::from(before) * self.page as u64, self.page),
                _ => Err(self.file.bad(format!("page {number} of {}", self.pages))),
            },
        }
    }

    /// Gives the record of each row of a table.
    fn table(&mut self, root: u32, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.left = self.pages.into();
        self.tree(root, 0, each)
    }

    fn tree(&mut self, number: u32, depth: u32, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let bad = |what: &str| self.file.bad(format!("page {number}: {what}"));
        let left = self.left.checked_sub(1).filter(|_| depth <= DEEPEST);
        self.left = left.ok_or_else(|| bad("its tree goes round in a circle"))?;
        let page = self.page(number)?;
        let head = if number == 1 { 100 } else { 0 };
        let (kind, count) = (u8_at(&page, head), usize::from(be16(&page, head + 3)));
        let pointers = match kind {
            INTERIOR => head + 12,
            LEAF => head + 8,
            _ => return Err(bad("it is no page of a table")),
        };
        for i in 0..count {
            let at = usize::from(be16(&page, pointers + i * 2));
            if at < pointers || at + 4 > page.len() {
                return Err(bad("a cell lies outside of it"));
            }
            match kind {
                INTERIOR => self.tree(be32(&page, at), depth + 1, each)?,
                _ => {
                    let record = self.record(&page, at)?;
                    each(&record)?;
                }
            }
        }
        if kind == INTERIOR {
            self.tree(be32(&page, head + 8), depth + 1, each)?;
        }
        Ok(())
    }

    /// The record of a cell, with the pages that it goes on in.
    fn record(&self, page: &[u8], at: usize) -> Result<Vec<u8>> {
        let bad = |what: &str| self.file.bad(format!("a row: {what}"));
        let short = || bad("it runs out of its page");
        let (size, at) = varint(page, at).ok_or_else(short)?;
        let (_, at) = varint(page, at).ok_or_else(short)?;
        let size =
            usize::try_from(size).ok().filter(|size| *size <= HEADER_MAX).ok_or_else(|| bad("it is too long"))?;
        // How much of it is in the page: section 1.6.
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let local = match size {
            size if size <= most => size,
            size => {
                let kept = least + (size - least) % (self.usable - 4);
                if kept <= most { kept } else { least }
            }
        };
        let mut record = page.get(at..at + local).ok_or_else(short)?.to_vec();
        let mut next = if local < size { be32(page, at + local) } else { 0 };
        while record.len() < size {
            let page = self.page(next)?;
            let count = (size - record.len()).min(self.usable - 4);
            record.extend_from_slice(&page[4..4 + count]);
            next = be32(&page, 0);
        }
        Ok(record)
    }
}
