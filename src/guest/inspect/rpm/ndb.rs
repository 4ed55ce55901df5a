//! The database of SUSE, `Packages.db`: slots that name the place of each package's header, and the headers between a head and a tail.
//!
//! Facts: rpm's `lib/backend/ndb/rpmpkg.c`. All words are little-endian; places and lengths count blocks of 16 bytes. The file begins with
//! 32 bytes (`RpmP`, version, generation, pages of slots, next package) in place of the first two slots. A slot is `Slot`, package, first
//! block (0: a free slot), blocks. A package is `BlbS`, package, time, length; its bytes and zeros; then Adler-32 (RFC 1950) of all before,
//! length, `BlbE`, which end its last block.

use super::{File, HEADER_MAX, Words};
use crate::base::{Error, Result};

const LITTLE: Words = Words { big: false };
const BLOCK: u64 = 16;
const PAGE: usize = 4096;
/// Bytes of a slot, of the file's head and of a package's head and tail.
const SLOT: usize = 16;
const FILE_HEAD: usize = 32;
const HEAD: usize = 16;
const TAIL: usize = 12;
/// Most pages of slots: half a million packages.
const PAGES_MAX: u32 = 2048;

/// Where a package lies, in blocks.
struct Slot {
    package: u32,
    first: u64,
    blocks: u64,
}

/// Gives each package's header, in their order in the file.
pub(super) fn blobs(file: &File<'_>, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    for slot in slots(file)? {
        let bytes = package(file, &slot)?;
        each(&bytes)?;
    }
    Ok(())
}

/// The used slots by place. None overlaps another, so that no more bytes are read than the file has.
fn slots(file: &File<'_>) -> Result<Vec<Slot>> {
    let head = file.read(0, FILE_HEAD)?;
    if !head.starts_with(b"RpmP") {
        return Err(file.bad("this is no database of the form ndb"));
    }
    let version = LITTLE.u32(&head, 4);
    if version != 0 {
        return Err(Error::unsupported(format!("package database: version {version} of ndb")).at(&file.path));
    }
    let pages = LITTLE.u32(&head, 12);
    if pages == 0 || pages > PAGES_MAX {
        return Err(file.bad(format!("it has {pages} pages of slots")));
    }
    let mut found = Vec::new();
    for page in 0..pages {
        let bytes = file.read(u64::from(page) * PAGE as u64, PAGE)?;
        let skipped = if page == 0 { FILE_HEAD } else { 0 };
        for slot in bytes[skipped..].chunks_exact(SLOT) {
            if !slot.starts_with(b"Slot") {
                return Err(file.bad(format!("page {page} has a slot without its magic word")));
            }
            let word = |at| LITTLE.u32(slot, at);
            if word(8) != 0 {
                found.push(Slot { package: word(4), first: word(8).into(), blocks: word(12).into() });
            }
        }
    }
    found.sort_unstable_by_key(|slot| slot.first);
    check(file, &found, u64::from(pages) * PAGE as u64 / BLOCK)?;
    Ok(found)
}

/// Slots lie one behind the other, from block `from` to the end of the file, and no package has two.
fn check(file: &File<'_>, slots: &[Slot], from: u64) -> Result<()> {
    let mut end = from;
    for slot in slots {
        if slot.first < end {
            return Err(file.bad(format!("package {} begins in block {}, which is in use", slot.package, slot.first)));
        }
        end = slot.first + slot.blocks;
    }
    if end > file.len / BLOCK {
        return Err(file.bad(format!("it ends before block {end}")));
    }
    let mut packages: Vec<u32> = slots.iter().map(|slot| slot.package).collect();
    packages.sort_unstable();
    if packages.first() == Some(&0) || packages.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(file.bad("two slots are of one package"));
    }
    Ok(())
}

/// The header of a package.
fn package(file: &File<'_>, slot: &Slot) -> Result<Vec<u8>> {
    let damaged = |what: &str| file.bad(format!("package {}, block {}: {what}", slot.package, slot.first));
    let size = usize::try_from(slot.blocks * BLOCK).unwrap_or(usize::MAX);
    if !(HEAD + TAIL..=HEADER_MAX).contains(&size) {
        return Err(damaged(&format!("it has {} blocks", slot.blocks)));
    }
    let mut bytes = file.read(slot.first * BLOCK, size)?;
    let (body, tail) = bytes.split_at(size - TAIL);
    if !body.starts_with(b"BlbS") || !tail.ends_with(b"BlbE") || LITTLE.u32(body, 4) != slot.package {
        return Err(damaged("its head or tail is another's"));
    }
    let len = LITTLE.u32(body, 12) as usize;
    if len != LITTLE.u32(tail, 4) as usize
        || (HEAD + TAIL).checked_add(len).map(|all| all.next_multiple_of(16)) != Some(size)
    {
        return Err(damaged(&format!("{len} bytes do not fill {} blocks", slot.blocks)));
    }
    if adler2::adler32_slice(body) != LITTLE.u32(tail, 0) {
        return Err(damaged("its checksum is wrong"));
    }
    bytes.truncate(HEAD + len);
    bytes.drain(..HEAD);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use adler2::adler32_slice as adler32;

    #[test]
    fn checksums() {
        // Of RFC 1950's description: 1 for nothing; "Wikipedia" is everybody's example.
        assert_eq!(adler32(b""), 1);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        // Sums of a mebibyte of 255 stay within 32 bits.
        assert_eq!(adler32(&[0xff; 1 << 20]), {
            let (mut low, mut high) = (1_u64, 0_u64);
            for _ in 0..1 << 20 {
                low = (low + 255) % 65521;
                high = (high + low) % 65521;
            }
            (high << 16 | low) as u32
        });
    }
}
