//! Directories: blocks, each with entries of 12 bytes and then their names, sorted over all of them.

use std::cmp::Ordering;

use super::Erofs;
use super::inode::Inode;
use crate::base::bytes::{le16, le64, u8_at};
use crate::base::{Error, Name, Result};
use crate::fs::{DirEntry, FileType, NodeId};

const ENTRY: usize = 12;
/// Longest directory in bytes.
const LISTING: u64 = 64 << 20;

impl Erofs {
    fn check_directory(&self, dir: &Inode) -> Result<()> {
        dir.file_type.check_directory()?;
        if dir.size > LISTING {
            let Inode { number, size, .. } = dir;
            return Err(Error::unsupported(format!("erofs: directory {number}: {size} bytes long")));
        }
        Ok(())
    }

    /// The entries of one block of a directory, `.` and `..` with them.
    fn entries(&self, dir: &Inode, block: u64) -> Result<Vec<DirEntry>> {
        let bad = |what: String| dir.bad(format!("block {block} of the directory: {what}"));
        let at = block << self.superblock.log;
        let mut bytes = vec![0; (dir.size - at).min(self.superblock.block()) as usize];
        self.fill(dir, at, &mut bytes)?;
        let first = usize::from(le16(&bytes, 8));
        if first < ENTRY || !first.is_multiple_of(ENTRY) || first > bytes.len() {
            return Err(bad(format!("names begin at byte {first}")));
        }
        let mut entries = Vec::with_capacity(first / ENTRY);
        for at in (0..first).step_by(ENTRY) {
            let start = usize::from(le16(&bytes, at + 8));
            let end = if at + ENTRY < first { le16(&bytes, at + ENTRY + 8).into() } else { bytes.len() };
            let name = bytes.get(start..end).ok_or_else(|| bad(format!("a name from byte {start} to {end}")))?;
            // The last one ends with the block, or at a NUL.
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            if name.is_empty() || name.len() > 255 {
                return Err(bad(format!("a name of {} bytes", name.len())));
            }
            let node = NodeId(le64(&bytes, at));
            entries.push(DirEntry {
                name: Name::from(name),
                node,
                file_type: FileType::from_code(u8_at(&bytes, at + 10)),
            });
        }
        Ok(entries)
    }

    /// The node of a name: the block that would have it is found by the first names of blocks.
    pub(super) fn find(&self, dir: &Inode, wanted: &[u8]) -> Result<Option<NodeId>> {
        self.check_directory(dir)?;
        if matches!(wanted, b"." | b"..") {
            return Ok(None);
        }
        let (mut from, mut to) = (0, dir.size.div_ceil(self.superblock.block()));
        while from < to {
            let middle = from + (to - from) / 2;
            let entries = self.entries(dir, middle)?;
            let [first, .., last] = entries.as_slice() else {
                match entries.first().map(|entry| entry.name.0.as_slice().cmp(wanted)) {
                    Some(Ordering::Equal) => return Ok(entries.first().map(|entry| entry.node)),
                    Some(Ordering::Less) => from = middle + 1,
                    _ => to = middle,
                }
                continue;
            };
            if wanted < first.name.0.as_slice() {
                to = middle;
            } else if wanted > last.name.0.as_slice() {
                from = middle + 1;
            } else {
                return Ok(entries.iter().find(|entry| *entry.name == *wanted).map(|entry| entry.node));
            }
        }
        Ok(None)
    }

    /// All names.
    pub(super) fn list(&self, dir: &Inode) -> Result<Vec<DirEntry>> {
        self.check_directory(dir)?;
        let mut all = Vec::new();
        for block in 0..dir.size.div_ceil(self.superblock.block()) {
            let entries = self.entries(dir, block)?;
            all.extend(entries.into_iter().filter(|entry| !matches!(&*entry.name, b"." | b"..")));
        }
        Ok(all)
    }
}
