//! The superblock and the tables that it names: entries of directories, targets of links, inodes.

use std::ops::Range;

use super::{BLOCK, MAGIC};
use crate::base::bytes::{le16, le32, le64};
use crate::base::{Error, Kind, Result};
use crate::disk::BlockDevice;
use crate::fs::{FileType, NodeId};

/// Largest tables that are read: hundreds of thousands of files, where real images have some hundred.
const TABLES_MAX: u64 = 16 << 20;
/// Bytes of an inode.
const INODE: usize = 32;
/// Longest name of OSv's `struct dirent`, longest path.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

/// The first block.
pub struct Superblock {
    first_block: u64,
    block_count: u64,
    entries: u64,
    links: u64,
    inodes: u64,
}

impl Superblock {
    /// Reads and checks it.
    pub fn read(device: &dyn BlockDevice) -> Result<Self> {
        let mut block = [0; BLOCK as usize];
        if device.len() < BLOCK {
            return Err(damaged("there is no superblock"));
        }
        device.read_at(0, &mut block)?;
        let word = |index: usize| le64(&block, index * 8);
        if word(0) != MAGIC {
            return Err(damaged("there is no superblock"));
        }
        if word(1) != 1 || word(2) != BLOCK {
            return Err(Error::unsupported(format!("rofs: version {} with blocks of {} bytes", word(1), word(2))));
        }
        let superblock = Superblock {
            first_block: word(3),
            block_count: word(4),
            entries: word(5),
            links: word(6),
            inodes: word(7),
        };
        let end = superblock.first_block.checked_add(superblock.block_count);
        match end.and_then(|end| end.checked_mul(BLOCK)) {
            Some(end) if superblock.first_block > 0 && end <= device.len() => Ok(superblock),
            _ => Err(damaged("its tables lie outside of the device")),
        }
    }

    /// Blocks of the whole file system: the tables come last.
    pub fn blocks(&self) -> u64 {
        self.first_block + self.block_count
    }
}

/// A name in a directory.
pub struct Entry {
    /// Number of its inode, from 1.
    pub inode: u64,
    name: Range<usize>,
}

/// A node.
pub struct Inode {
    /// What it is.
    pub file_type: FileType,
    /// Regular: its first block; directory: its first entry; link: number of its target.
    pub data_offset: u64,
    /// Regular: bytes; directory: entries; link: 1.
    pub count: u64,
}

/// All tables.
pub struct Tables {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    links: Vec<Range<usize>>,
    inodes: Vec<Inode>,
}

impl Tables {
    /// Reads and checks them: after that every number in them leads to something, and directories are a tree.
    pub fn read(device: &dyn BlockDevice, superblock: &Superblock) -> Result<Self> {
        let size = superblock.block_count * BLOCK;
        if size > TABLES_MAX {
            return Err(Error::unsupported(format!("rofs: tables of {size} bytes; at most {TABLES_MAX} are read")));
        }
        let mut bytes = vec![0; size as usize];
        device.read_at(superblock.first_block * BLOCK, &mut bytes)?;
        let mut tables = Tables { bytes, entries: Vec::new(), links: Vec::new(), inodes: Vec::new() };
        let mut at = 0;
        for _ in 0..superblock.entries {
            let inode = tables.bytes.get(at..at + 8).map(|word| le64(word, 0));
            let name = tables.text(at + 8, NAME_MAX);
            let (Some(inode), Some(name)) = (inode, name) else {
                return Err(damaged("its entries of directories do not fit in its tables"));
            };
            at = name.end;
            tables.entries.push(Entry { inode, name });
        }
        for _ in 0..superblock.links {
            let target = tables.text(at, PATH_MAX);
            let target = target.ok_or_else(|| damaged("its links do not fit in its tables"))?;
            at = target.end;
            tables.links.push(target);
        }
        for _ in 0..superblock.inodes {
            let inode = tables.bytes.get(at..at + INODE).and_then(parse_inode);
            tables.inodes.push(inode.ok_or_else(|| damaged(format!("inode {} is none", tables.inodes.len() + 1)))?);
            at += INODE;
        }
        tables.check(superblock.first_block)?;
        Ok(tables)
    }

    /// Where a text lies that has its length in two bytes in front; at most `max` bytes, none of them NUL.
    fn text(&self, at: usize, max: usize) -> Option<Range<usize>> {
        let len = usize::from(le16(self.bytes.get(at..at + 2)?, 0));
        let range = at + 2..at + 2 + len;
        let good = len > 0 && len <= max && !self.bytes.get(range.clone())?.contains(&0);
        good.then_some(range)
    }

    /// `end` is the block behind the files.
    fn check(&self, end: u64) -> Result<()> {
        if self.inodes.first().is_none_or(|root| root.file_type != FileType::Directory) {
            return Err(damaged("its first inode is no directory"));
        }
        let mut named = vec![false; self.inodes.len()];
        // The root is in no directory, and every other in one: so none lies in itself.
        named[0] = true;
        let mut left = self.entries.len() as u64;
        for (index, inode) in self.inodes.iter().enumerate() {
            let what = |text: &str| damaged(format!("inode {}: {text}", index + 1));
            match inode.file_type {
                FileType::Directory => {
                    left = left.checked_sub(inode.count).ok_or_else(|| what("its entries are another's"))?;
                    for entry in self.entries(inode)? {
                        self.check_entry(entry, &mut named)?;
                    }
                }
                FileType::Symlink if self.target(inode).is_err() => return Err(what("its target is not there")),
                FileType::Regular if inode.count > 0 => {
                    let last = inode.data_offset.checked_add(inode.count.div_ceil(BLOCK));
                    if inode.data_offset == 0 || last.is_none_or(|last| last > end) {
                        return Err(what("its data lies outside of the file system"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_entry(&self, entry: &Entry, named: &mut [bool]) -> Result<()> {
        let name = self.name(entry);
        if name.contains(&b'/') || name == b"." || name == b".." {
            return Err(damaged("a name in a directory is none"));
        }
        let known = usize::try_from(entry.inode).ok().and_then(|number| named.get_mut(number.checked_sub(1)?));
        let known =
            known.ok_or_else(|| damaged(format!("a directory names inode {}, which is not there", entry.inode)))?;
        let again = std::mem::replace(known, true);
        if again && self.inode(NodeId(entry.inode))?.file_type == FileType::Directory {
            return Err(damaged(format!("inode {} is in two directories", entry.inode)));
        }
        Ok(())
    }

    /// The inode of a node.
    pub fn inode(&self, node: NodeId) -> Result<&Inode> {
        let index = usize::try_from(node.0).ok().and_then(|number| number.checked_sub(1));
        index.and_then(|index| self.inodes.get(index)).ok_or_else(|| Kind::NotFound.into())
    }

    /// The entries of a directory.
    pub fn entries(&self, inode: &Inode) -> Result<&[Entry]> {
        inode.file_type.check_directory()?;
        let range = inode.data_offset.checked_add(inode.count).map(|end| inode.data_offset as usize..end as usize);
        let entries = range.and_then(|range| self.entries.get(range));
        entries.ok_or_else(|| damaged("a directory's entries are not there"))
    }

    /// The name of an entry.
    pub fn name(&self, entry: &Entry) -> &[u8] {
        self.bytes.get(entry.name.clone()).unwrap_or_default()
    }

    /// The target of a link.
    pub fn target(&self, inode: &Inode) -> Result<&[u8]> {
        let range = usize::try_from(inode.data_offset).ok().and_then(|number| self.links.get(number));
        range.and_then(|range| self.bytes.get(range.clone())).ok_or_else(|| damaged("a link's target is not there"))
    }
}

/// Directories, regular files and links are all there are.
fn parse_inode(bytes: &[u8]) -> Option<Inode> {
    let file_type = FileType::from_mode(le32(bytes, 0))?;
    let known = matches!(file_type, FileType::Directory | FileType::Regular | FileType::Symlink);
    known.then(|| Inode { file_type, data_offset: le64(bytes, 16), count: le64(bytes, 24) })
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("rofs: {what}"))
}
