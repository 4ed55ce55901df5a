//! Inodes: 32 or 64 bytes, found by their numbers; behind them attributes, then the end of the data or its map.

use super::Erofs;
use super::superblock::METABOX;
use crate::base::bytes::{le16, le32, le64};
use crate::base::{Error, Result, Timestamp};
use crate::fs::FileType;

/// Bytes of a place for an inode.
const SLOT: u64 = 32;

/// All of a directory's names but `.` are there, or one link to another file, whose number of the first block is longer for it.
const SHORT: u16 = 1 << 4;
/// The number of a block that is a hole.
pub(super) const NULL: u64 = u64::MAX;

/// How an inode's data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One run of blocks.
    Plain,
    /// The last block's bytes lie behind the inode.
    Inline,
    /// Chunks, each with its place.
    Chunks,
    /// Packed, with a map of 8 bytes for a block, or a list.
    PackedFull,
    /// Packed, with a map of 2 or 4 bytes for a block.
    Packed,
}

/// An inode.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub number: u64,
    pub layout: Layout,
    pub file_type: FileType,
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub modified: Timestamp,
    /// First block, or blocks of a packed file; all ones: a hole.
    pub block: u64,
    /// Device number or form of the chunks.
    pub word: u32,
    /// Where its attributes begin, and their bytes.
    pub xattrs: u64,
    pub xattr_len: u64,
}

impl Inode {
    /// The first byte behind inode and attributes.
    pub fn behind(&self) -> u64 {
        self.xattrs + self.xattr_len
    }

    pub fn bad(&self, what: String) -> Error {
        Error::corrupt(format!("erofs: inode {}: {what}", self.number))
    }

    /// Major and minor number of a device node.
    pub fn device(&self) -> (u32, u32) {
        match self.file_type {
            FileType::CharDevice | FileType::BlockDevice => {
                (self.word >> 8 & 0xfff, self.word & 0xff | self.word >> 12 & 0xf_ff00)
            }
            _ => (0, 0),
        }
    }
}

impl Erofs {
    /// # Errors
    /// `Kind::Corrupt` says what is wrong with it.
    pub(super) fn inode(&self, number: u64) -> Result<Inode> {
        let bad = |what: String| Error::corrupt(format!("erofs: inode {number}: {what}"));
        let start = if number & METABOX != 0 { METABOX } else { self.superblock.meta << self.superblock.log };
        let at = (number & !METABOX).checked_mul(SLOT).filter(|at| *at < 1 << 62);
        let at = start + at.ok_or_else(|| bad("its number is too large".into()))?;
        let mut bytes = [0; 64];
        self.metadata(at, &mut bytes[..32])?;
        let form = le16(&bytes, 0);
        let layout = match form >> 1 & 7 {
            0 => Layout::Plain,
            1 => Layout::PackedFull,
            2 => Layout::Inline,
            3 => Layout::Packed,
            4 => Layout::Chunks,
            other => return Err(Error::unsupported(format!("erofs: inode {number}: the layout {other} is not known"))),
        };
        if form >> 5 != 0 {
            return Err(Error::unsupported(format!("erofs: inode {number}: the form {form:#x} is not known")));
        }
        let extended = form & 1 != 0;
        let len: u64 = if extended { 64 } else { 32 };
        if extended {
            self.metadata(at + 32, &mut bytes[32..])?;
        }
        let mode = u32::from(le16(&bytes, 4));
        let file_type = FileType::from_mode(mode).ok_or_else(|| bad(format!("its mode is {mode:#o}")))?;
        let one = form & SHORT != 0 && file_type != FileType::Directory;
        let (uid, gid, links, size, modified) = if extended {
            let seconds = i64::try_from(le64(&bytes, 32)).unwrap_or(i64::MAX);
            let modified = Timestamp { seconds, nanos: le32(&bytes, 40).min(999_999_999) };
            (le32(&bytes, 24), le32(&bytes, 28), le32(&bytes, 44), le64(&bytes, 8), modified)
        } else {
            let (uid, gid) = (le16(&bytes, 24).into(), le16(&bytes, 26).into());
            let links = if one { 1 } else { le16(&bytes, 6).into() };
            let seconds = self.superblock.made.seconds.saturating_add(le32(&bytes, 12).into());
            let modified = Timestamp { seconds, ..self.superblock.made };
            (uid, gid, links, le32(&bytes, 8).into(), modified)
        };
        if size > i64::MAX as u64 {
            return Err(bad(format!("it has {size} bytes")));
        }
        let xattr_len = match u64::from(le16(&bytes, 2)) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        let (word, xattrs) = (le32(&bytes, 16), at + len);
        let (high, bits) = if extended || one { (le16(&bytes, 6), 48) } else { (0, 32) };
        let block = u64::from(word) | u64::from(high) << 32;
        let block = if layout == Layout::Plain && block == (1 << bits) - 1 { NULL } else { block };
        let mode = mode & 0o7777;
        Ok(Inode { number, layout, file_type, mode, links, uid, gid, size, modified, block, word, xattrs, xattr_len })
    }
}
