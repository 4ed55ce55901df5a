//! Directories: runs of up to 256 names, sorted, whose inodes lie in one metadata block; long ones have an index of runs.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::Squash;
use super::inode::{Content, DOTS, Inode};
use super::metadata::{BLOCK, Cursor};
use crate::base::bytes::{le16, le32};
use crate::base::{Error, Kind, Name, Result};
use crate::fs::{DirEntry, FileType, NodeId};

/// Most names of a run, and most bytes of a name.
const RUN: u32 = 256;
/// Longest listing in bytes: five million names of four letters.
const LISTING: u64 = 64 << 20;

/// The type that a directory has for a name: that of the short form.
fn file_type(word: u16) -> Option<FileType> {
    Some(match word {
        1 => FileType::Directory,
        2 => FileType::Regular,
        3 => FileType::Symlink,
        4 => FileType::BlockDevice,
        5 => FileType::CharDevice,
        6 => FileType::Fifo,
        7 => FileType::Socket,
        _ => return None,
    })
}

impl Squash {
    /// Calls `each` for the names of a directory; from the run on in which `wanted` would be, if that is given.
    fn visit(
        &self,
        dir: &Inode,
        wanted: Option<&[u8]>,
        each: &mut dyn FnMut(DirEntry) -> ControlFlow<()>,
    ) -> Result<()> {
        let Content::Directory { listing, index, indexed } = dir.content else {
            return Err(Kind::NotADirectory.into());
        };
        let bad = |what: String| Error::corrupt(format!("squashfs: directory {}: {what}", dir.number));
        if dir.size > LISTING {
            let size = dir.size;
            return Err(Error::unsupported(format!("squashfs: directory {}: a listing of {size} bytes", dir.number)));
        }
        let (mut cursor, mut left) = (listing, dir.size.saturating_sub(DOTS));
        if let Some(wanted) = wanted {
            let mut at = index;
            for _ in 0..indexed {
                let head: [u8; 12] = self.take_array(&mut at)?;
                let len = le32(&head, 8).saturating_add(1);
                if len > RUN {
                    return Err(bad(format!("its index has a name of {len} bytes")));
                }
                let mut name = vec![0; len as usize];
                self.take(&mut at, &mut name)?;
                if name.as_slice() > wanted {
                    break;
                }
                // The index has the place in the listing; of the place in its block only the block.
                let place = u64::from(le32(&head, 0));
                let offset = (listing.offset as u64 + place) % BLOCK as u64;
                let reference = u64::from(le32(&head, 4)) << 16 | offset;
                cursor = Cursor::from_reference(self.superblock.directory_table, reference)?;
                left = dir.size.saturating_sub(DOTS).saturating_sub(place);
            }
        }
        while left > 0 {
            let head: [u8; 12] = self.take_array(&mut cursor)?;
            let (count, block, base) = (le32(&head, 0).wrapping_add(1), le32(&head, 4), le32(&head, 8));
            if !(1..=RUN).contains(&count) {
                return Err(bad(format!("a run of {count} names")));
            }
            let mut take = |len: usize| match left.checked_sub(len as u64) {
                Some(rest) => {
                    left = rest;
                    Ok(())
                }
                None => Err(bad("a name behind its end".into())),
            };
            take(head.len())?;
            for _ in 0..count {
                let entry: [u8; 8] = self.take_array(&mut cursor)?;
                let mut name = vec![0; usize::from(le16(&entry, 6)) + 1];
                take(entry.len() + name.len())?;
                self.take(&mut cursor, &mut name)?;
                let (offset, kind) = (le16(&entry, 0), le16(&entry, 4));
                let number = base.wrapping_add_signed((le16(&entry, 2) as i16).into());
                if name.len() > RUN as usize || file_type(kind).is_none() {
                    return Err(bad(format!("inode {number} has the type {kind} and a name of {} bytes", name.len())));
                }
                let node = NodeId(u64::from(block) << 16 | u64::from(offset));
                let entry = DirEntry { name: Name(name), node, file_type: file_type(kind) };
                if each(entry).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The node of a name.
    pub(super) fn find(&self, dir: &Inode, wanted: &[u8]) -> Result<Option<NodeId>> {
        let mut found = None;
        self.visit(dir, Some(wanted), &mut |entry| match entry.name.0.as_slice().cmp(wanted) {
            Ordering::Less => ControlFlow::Continue(()),
            Ordering::Equal => {
                found = Some(entry.node);
                ControlFlow::Break(())
            }
            Ordering::Greater => ControlFlow::Break(()),
        })?;
        Ok(found)
    }

    /// All names.
    pub(super) fn list(&self, dir: &Inode) -> Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        self.visit(dir, None, &mut |entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }
}
