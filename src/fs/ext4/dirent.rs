//! Directory entries: inode, record length, name length, type, name.
//!
//! Offsets: kernel documentation, "Directory Entries". Records cover a block without gaps; under
//! metadata_csum the last 12 bytes are a false entry with the checksum.

use crate::base::bytes::{le16, le32, put_le16, put_le32, u8_at};
use crate::fs::FileType;

/// Longest name in bytes.
pub const NAME_MAX: usize = 255;
/// Bytes in front of the name.
pub const HEADER: usize = 8;

/// An entry as found in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it begins in the block.
    pub at: usize,
    /// Bytes that it covers, with the free space behind the name.
    pub len: usize,
    /// Its inode, 0 if unused.
    pub inode: u32,
    /// The type byte; 0 if unknown.
    pub kind: u8,
    /// The name.
    pub name: &'a [u8],
}

impl Entry<'_> {
    /// Bytes that it needs: none if unused.
    pub fn used(&self) -> usize {
        if self.inode == 0 { 0 } else { needed(self.name.len()) }
    }
}

/// Bytes that an entry with a name of this length needs.
pub fn needed(name_len: usize) -> usize {
    (HEADER + name_len).next_multiple_of(4)
}

/// Reads a record length; in blocks of 64 KiB, 0 and 65535 stand for 65536.
fn record_len(stored: u16, block_size: usize) -> usize {
    if block_size == 65536 && (stored == 0 || stored == u16::MAX) { 65536 } else { usize::from(stored) }
}

/// The entries of a block or of a part of one, used or not; `None` in place of the first broken one.
pub struct Entries<'a> {
    block: &'a [u8],
    at: usize,
    has_types: bool,
}

impl<'a> Entries<'a> {
    /// Over `block` up to its end; give `&block[..len - 12]` where there is a checksum tail.
    /// `has_types`: the file system has the feature `filetype`.
    pub fn new(block: &'a [u8], has_types: bool) -> Self {
        Entries { block, at: 0, has_types }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Option<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (block, at) = (self.block, self.at);
        if at >= block.len() {
            return None;
        }
        let len = record_len(le16(block, at + 4), block.len());
        let name_len =
            if self.has_types { usize::from(u8_at(block, at + 6)) } else { usize::from(le16(block, at + 6)) };
        let inode = le32(block, at);
        let end = at + len;
        let fits =
            len >= HEADER && len.is_multiple_of(4) && end <= block.len() && (inode == 0 || needed(name_len) <= len);
        let name = block.get(at + HEADER..at + HEADER + name_len.min(len.saturating_sub(HEADER)));
        let (true, Some(name)) = (fits && name_len <= NAME_MAX, name) else {
            self.at = block.len();
            return Some(None);
        };
        self.at = end;
        let kind = if self.has_types { u8_at(block, at + 7) } else { 0 };
        Some(Some(Entry { at, len, inode, kind, name }))
    }
}

/// The lengths and the inode of the entry at `at`.
#[inline]
fn head(block: &[u8], at: usize, has_types: bool) -> Result<(usize, usize, u32), Broken> {
    let Some(head) = block.get(at..).and_then(|rest| rest.first_chunk::<HEADER>()) else { return Err(Broken) };
    let len = record_len(u16::from_le_bytes([head[4], head[5]]), block.len());
    let high = if has_types { 0 } else { usize::from(head[7]) << 8 };
    let name_len = usize::from(head[6]) | high;
    let inode = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let fits = len >= HEADER && len.is_multiple_of(4) && len <= block.len() - at;
    if !fits || name_len > NAME_MAX || inode != 0 && needed(name_len) > len {
        return Err(Broken);
    }
    Ok((len, name_len, inode))
}

/// Where a used entry of this name begins in a block, and its inode; entries behind it are not looked at. The block is as
/// [`Entries::new`] wants it.
///
/// # Errors
/// A broken entry in front of it.
pub fn find(block: &[u8], has_types: bool, name: &[u8]) -> Result<Option<(usize, u32)>, Broken> {
    let mut at = 0;
    while at < block.len() {
        // Names of another length, the most, are passed by their lengths alone.
        let (len, name_len, inode) = head(block, at, has_types)?;
        let here = at + HEADER;
        if inode != 0 && name_len == name.len() && block.get(here..here + name_len) == Some(name) {
            return Ok(Some((at, inode)));
        }
        at += len;
    }
    Ok(None)
}

/// The first entry of a block with room for `need` bytes behind what it uses: where it begins, the bytes that it uses, its length.
///
/// # Errors
/// A broken entry in front of it.
pub fn room(block: &[u8], has_types: bool, need: usize) -> Result<Option<(usize, usize, usize)>, Broken> {
    let mut at = 0;
    while at < block.len() {
        let (len, name_len, inode) = head(block, at, has_types)?;
        let used = if inode == 0 { 0 } else { needed(name_len) };
        if len - used >= need {
            return Ok(Some((at, used, len)));
        }
        at += len;
    }
    Ok(None)
}

/// An entry whose lengths contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Writes an entry of `len` bytes at `at`; the caller has checked that it fits.
pub fn put(block: &mut [u8], at: usize, len: usize, inode: u32, kind: u8, name: &[u8]) {
    put_le32(block, at, inode);
    put_len(block, at, len);
    if let Some(field) = block.get_mut(at + 6..at + 8) {
        field.copy_from_slice(&[name.len() as u8, kind]);
    }
    if let Some(field) = block.get_mut(at + HEADER..at + HEADER + name.len()) {
        field.copy_from_slice(name);
    }
}

/// Changes the length of the record at `at`; 65536 is stored as 65535.
pub fn put_len(block: &mut [u8], at: usize, len: usize) {
    put_le16(block, at + 4, u16::try_from(len).unwrap_or(u16::MAX));
}

/// Changes the inode of the record at `at`.
pub fn put_inode(block: &mut [u8], at: usize, inode: u32) {
    put_le32(block, at, inode);
}

/// Changes the type byte of the record at `at`.
pub fn put_kind(block: &mut [u8], at: usize, kind: u8) {
    if let Some(byte) = block.get_mut(at + 7) {
        *byte = kind;
    }
}

/// The type byte.
pub fn kind_of(file_type: FileType) -> u8 {
    match file_type {
        FileType::Regular => 1,
        FileType::Directory => 2,
        FileType::CharDevice => 3,
        FileType::BlockDevice => 4,
        FileType::Fifo => 5,
        FileType::Socket => 6,
        FileType::Symlink => 7,
    }
}

/// The file type of a type byte.
pub fn type_of(kind: u8) -> Option<FileType> {
    FileType::from_code(kind)
}
