//! What an ELF program or library asks of the dynamic linker.

use super::elf::{PT_DYNAMIC, Segment, Words};
use crate::base::{Error, GuestPathBuf, Result, printable};
use crate::guest::Guest;

/// Type of the segments that are loaded.
const PT_LOAD: u32 = 1;
/// Tags of dynamic entries, with the words that `readelf -d` has for them.
const TAGS: &[(u64, &str)] = &[(1, "NEEDED"), (14, "SONAME"), (15, "RPATH"), (29, "RUNPATH")];
const DT_STRTAB: u64 = 5;
/// Most segments, bytes of the dynamic section, and bytes of a string that are read.
const SEGMENTS_MAX: u64 = 1024;
const DYNAMIC_MAX: u64 = 1 << 20;
const STRING_MAX: u64 = 4096;

/// The entries of a file's dynamic section that name libraries and paths: `("NEEDED", "libc.so.6")`. Empty for programs that need no
/// linker; `None` for what is no ELF file.
///
/// # Errors
/// Those of reading; structures that lead out of the file.
pub fn needed(guest: &Guest, path: &GuestPathBuf) -> Result<Option<Vec<(&'static str, String)>>> {
    let head = guest.read_at(path, 0, 64)?;
    let Some(words) = Words::of(&head) else { return Ok(None) };
    let (table, size, count) = words.segments(&head);
    if size < words.segment_size() || count > SEGMENTS_MAX {
        return Err(Error::corrupt(format!("ELF: {count} program headers of {size} bytes")));
    }
    let headers = exactly(guest, path, table, size * count, "program headers")?;
    let segments: Vec<Segment> = headers.chunks_exact(size as usize).map(|bytes| words.segment(bytes)).collect();
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else { return Ok(Some(Vec::new())) };
    let bytes = exactly(guest, path, dynamic.offset, dynamic.len.min(DYNAMIC_MAX), "dynamic section")?;
    let step = if words.wide { 16 } else { 8 };
    let entries = || {
        let pair = |entry: &[u8]| (words.word(entry, 0), words.word(entry, step / 2));
        bytes.chunks_exact(step).map(pair).take_while(|(tag, _)| *tag != 0)
    };
    let Some((_, strings)) = entries().find(|(tag, _)| *tag == DT_STRTAB) else { return Ok(Some(Vec::new())) };
    let mut found = Vec::new();
    for (tag, value) in entries() {
        let Some((_, word)) = TAGS.iter().find(|(known, _)| *known == tag) else { continue };
        let Some(offset) = strings.checked_add(value).and_then(|address| place(&segments, address)) else {
            return Err(Error::corrupt(format!("ELF: {word}: address {strings:#x} + {value:#x} is in no segment")));
        };
        let text = guest.read_at(path, offset, STRING_MAX)?;
        let Some(end) = text.iter().position(|b| *b == 0) else {
            return Err(Error::corrupt(format!("ELF: {word}: string of over {STRING_MAX} bytes")));
        };
        found.push((*word, printable(&text[..end])));
    }
    Ok(Some(found))
}

/// Where in the file an address is.
fn place(segments: &[Segment], address: u64) -> Option<u64> {
    segments
        .iter()
        .filter(|segment| segment.kind == PT_LOAD)
        .find(|segment| address.checked_sub(segment.address).is_some_and(|at| at < segment.len))
        .and_then(|segment| segment.offset.checked_add(address - segment.address))
}

fn exactly(guest: &Guest, path: &GuestPathBuf, offset: u64, len: u64, what: &str) -> Result<Vec<u8>> {
    let bytes = guest.read_at(path, offset, len)?;
    if bytes.len() as u64 != len {
        return Err(Error::corrupt(format!("ELF: {what}: the file ends inside it")));
    }
    Ok(bytes)
}
