//! A hash database of Berkeley DB: the pages that hold pairs, and the chains of pages that large values lie in.
//!
//! Pages: Berkeley DB's `db_page.h` as its documentation and other readers describe it. All pages are looked at once, in order, so that
//! buckets and their order do not matter.

use super::{File, HEADER_MAX, Words};
use crate::base::bytes::{be32, u8_at};
use crate::base::{Error, Result};

const MAGIC: u32 = 0x0006_1561;
/// Bytes of the first page that matter, and of a page's header.
const META: usize = 512;
const HEADER: usize = 26;
/// Types of pages: hash (two forms), value that goes over pages.
const HASH: [u8; 2] = [2, 13];
const OVERFLOW: u8 = 7;
/// Types of items: in the page, in a chain of pages.
const IN_PAGE: u8 = 1;
const OFF_PAGE: u8 = 3;
/// Bytes of an item that names a chain.
const OFF_PAGE_SIZE: usize = 12;

/// Gives the value of each pair but the one that counts the packages.
pub(super) fn blobs(file: &File<'_>, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let meta = file.read(0, META)?;
    let words = match (be32(&meta, 12), be32(&meta, 12).swap_bytes()) {
        (MAGIC, _) => Words { big: true },
        (_, MAGIC) => Words { big: false },
        _ => return Err(file.bad("this is no hash database of Berkeley DB")),
    };
    let page = words.u32(&meta, 20) as usize;
    if !page.is_power_of_two() || !(512..=65536).contains(&page) {
        return Err(file.bad(format!("its pages have {page} bytes")));
    }
    if u8_at(&meta, 24) != 0 {
        return Err(Error::unsupported("package database: it is encrypted").at(&file.path));
    }
    let pages = (file.len / page as u64).min(u32::MAX.into()) as u32;
    if words.u32(&meta, 32) >= pages {
        return Err(file.bad(format!("it has {pages} pages of {}", u64::from(words.u32(&meta, 32)) + 1)));
    }
    for number in 1..pages {
        let bytes = file.read(u64::from(number) * page as u64, page)?;
        if !HASH.contains(&u8_at(&bytes, 25)) {
            continue;
        }
        let count = words.u16(&bytes, 20);
        if count % 2 != 0 || HEADER + count * 2 > page {
            return Err(file.bad(format!("page {number}: {count} items")));
        }
        let mut end = page;
        for i in 0..count {
            let at = words.u16(&bytes, HEADER + i * 2);
            if at < HEADER + count * 2 || at >= end {
                return Err(file.bad(format!("page {number}: item {i} lies outside of it")));
            }
            let item = &bytes[at..end];
            end = at;
            if i % 2 == 0 {
                continue;
            }
            match item[0] {
                // The counter has four bytes.
                IN_PAGE if item.len() <= 5 => {}
                IN_PAGE => each(&item[1..])?,
                OFF_PAGE if item.len() >= OFF_PAGE_SIZE => {
                    let (first, len) = (words.u32(item, 4), words.u32(item, 8) as usize);
                    each(&chain(file, words, (page, pages), first, len)?)?;
                }
                other => return Err(file.bad(format!("page {number}: item {i} has type {other}"))),
            }
        }
    }
    Ok(())
}

/// The value in a chain of pages.
fn chain(file: &File<'_>, words: Words, (page, pages): (usize, u32), first: u32, len: usize) -> Result<Vec<u8>> {
    if len > HEADER_MAX {
        return Err(file.bad(format!("a value of {len} bytes")));
    }
    let mut value = Vec::new();
    let mut number = first;
    while value.len() < len {
        if number == 0 || number >= pages {
            return Err(file.bad(format!("a value goes on in page {number} of {pages}")));
        }
        let bytes = file.read(u64::from(number) * page as u64, page)?;
        let count = words.u16(&bytes, 22);
        // A page that gives nothing would let a chain go round for ever.
        if u8_at(&bytes, 25) != OVERFLOW || count == 0 || HEADER + count > page {
            return Err(file.bad(format!("page {number}: {count} bytes of a value, type {}", u8_at(&bytes, 25))));
        }
        value.extend_from_slice(&bytes[HEADER..HEADER + count]);
        number = words.u32(&bytes, 16);
    }
    value.truncate(len);
    Ok(value)
}
