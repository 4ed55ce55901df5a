//! Extent tree nodes: a header of 12 bytes and entries of 12 bytes.
//!
//! Offsets: kernel documentation, "Extent Tree". The root lies in the inode's 60 bytes of `i_block`.

use crate::base::bytes::{le16, le32, put_le16, put_le32};

/// `eh_magic`.
pub const MAGIC: u16 = 0xf30a;
/// Deepest tree that Linux makes.
pub const MAX_DEPTH: u16 = 5;
/// Longest initialised extent in blocks; unwritten ones are one shorter.
pub const MAX_LEN: u32 = 32768;
/// Entries in the inode.
pub const ROOT_ENTRIES: usize = 4;

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First block of the file.
    pub logical: u64,
    /// Number of blocks.
    pub len: u32,
    /// First block of the device.
    pub physical: u64,
    /// Allocated, but reads as zeros.
    pub unwritten: bool,
}

impl Run {
    /// The block behind the run, of the file.
    pub fn end(&self) -> u64 {
        self.logical + u64::from(self.len)
    }

    /// The block behind the run, of the device.
    pub fn behind(&self) -> u64 {
        self.physical + u64::from(self.len)
    }

    /// The run limited to the file's blocks `from..to`, if anything is left.
    pub fn clip(&self, from: u64, to: u64) -> Option<Run> {
        let (start, end) = (self.logical.max(from), self.end().min(to));
        (start < end).then(|| Run {
            logical: start,
            len: (end - start) as u32,
            physical: self.physical + (start - self.logical),
            unwritten: self.unwritten,
        })
    }
}

/// A node to read: header and entries.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a>(pub &'a [u8]);

impl Node<'_> {
    /// `eh_magic`.
    pub fn magic(self) -> u16 {
        le16(self.0, 0)
    }
    /// Used entries.
    pub fn entries(self) -> u16 {
        le16(self.0, 2)
    }
    /// Room for entries.
    pub fn max(self) -> u16 {
        le16(self.0, 4)
    }
    /// Levels below: 0 for a leaf.
    pub fn depth(self) -> u16 {
        le16(self.0, 6)
    }
    /// First file block of entry `i`, in leaves and in index nodes.
    pub fn key(self, i: usize) -> u32 {
        le32(self.0, 12 + 12 * i)
    }
    /// Entry `i` of a leaf.
    pub fn run(self, i: usize) -> Run {
        let at = 12 + 12 * i;
        let stored = u32::from(le16(self.0, at + 4));
        let unwritten = stored > MAX_LEN;
        Run {
            logical: u64::from(le32(self.0, at)),
            len: if unwritten { stored - MAX_LEN } else { stored },
            physical: u64::from(le32(self.0, at + 8)) | u64::from(le16(self.0, at + 6)) << 32,
            unwritten,
        }
    }
    /// The block of the node below entry `i` of an index node.
    pub fn child(self, i: usize) -> u64 {
        let at = 12 + 12 * i;
        u64::from(le32(self.0, at + 4)) | u64::from(le16(self.0, at + 8)) << 32
    }
}

/// Writes a header; `eh_generation` is kept.
pub fn put_header(node: &mut [u8], entries: u16, max: u16, depth: u16) {
    put_le16(node, 0, MAGIC);
    put_le16(node, 2, entries);
    put_le16(node, 4, max);
    put_le16(node, 6, depth);
}

/// Writes entry `i` of a leaf.
pub fn put_run(node: &mut [u8], i: usize, run: &Run) {
    let at = 12 + 12 * i;
    put_le32(node, at, run.logical as u32);
    put_le16(node, at + 4, (run.len + if run.unwritten { MAX_LEN } else { 0 }) as u16);
    put_le16(node, at + 6, (run.physical >> 32) as u16);
    put_le32(node, at + 8, run.physical as u32);
}

/// Writes entry `i` of an index node.
pub fn put_child(node: &mut [u8], i: usize, key: u64, block: u64) {
    let at = 12 + 12 * i;
    put_le32(node, at, key as u32);
    put_le32(node, at + 4, block as u32);
    put_le16(node, at + 8, (block >> 32) as u16);
    put_le16(node, at + 10, 0);
}
