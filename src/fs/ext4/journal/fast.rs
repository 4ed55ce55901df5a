//! Fast commits: short records in the blocks behind the log, written by fsync between two transactions.
//!
//! Forms of records: kernel documentation, "Fast Commits", and `struct ext4_fc_*`; little-endian, unlike the log. Each commit ends
//! with a tail that has the crc32c of its records. A commit without a right tail never ended: it and all behind it do not count.

use super::log::Log;
use crate::base::bytes::{le16, le32};
use crate::base::{Error, Result};
use crate::fs::ext4::checksum::crc32c;
use crate::fs::ext4::extent::Run;

/// Tag and length in front of every record.
const PREFIX: usize = 4;
/// Most bytes of records that are kept.
const MAX_BYTES: usize = 64 << 20;

const ADD_RANGE: u16 = 1;
const DEL_RANGE: u16 = 2;
const CREAT: u16 = 3;
const LINK: u16 = 4;
const UNLINK: u16 = 5;
const INODE: u16 = 6;
const PAD: u16 = 7;
const TAIL: u16 = 8;
const HEAD: u16 = 9;

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A new node got its first name.
    Create,
    /// A node got another name.
    Link,
    /// A name went.
    Unlink,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An inode is now so; its map and names come as other records.
    Inode {
        /// Its number.
        number: u32,
        /// The first bytes of it, as they are on disk.
        bytes: Vec<u8>,
    },
    /// Blocks of a file are now here.
    Add {
        /// The file's inode.
        inode: u32,
        /// Where.
        run: Run,
    },
    /// Blocks of a file are gone.
    Cut {
        /// The file's inode.
        inode: u32,
        /// The first one.
        from: u64,
        /// The one behind the last.
        to: u64,
    },
    /// A name came or went.
    Name {
        /// What happened.
        deed: Deed,
        /// Inode of the directory.
        parent: u32,
        /// Inode of the node.
        inode: u32,
        /// The name.
        name: Vec<u8>,
    },
}

impl Record {
    /// `None` if it is too short or of an unknown kind.
    fn read(tag: u16, value: &[u8]) -> Option<Record> {
        let (first, rest) = (value.first_chunk::<4>()?, value.get(4..)?);
        let inode = u32::from_le_bytes(*first);
        let deed = match tag {
            INODE => return Some(Record::Inode { number: inode, bytes: rest.to_vec() }),
            ADD_RANGE if rest.len() >= 12 => {
                // An extent as in a leaf of a tree.
                let run = crate::fs::ext4::extent::Node(&[&[0; 12], rest].concat()).run(0);
                return Some(Record::Add { inode, run });
            }
            DEL_RANGE if rest.len() >= 8 => {
                let from = u64::from(le32(rest, 0));
                return Some(Record::Cut { inode, from, to: from + u64::from(le32(rest, 4)) });
            }
            CREAT => Deed::Create,
            LINK => Deed::Link,
            UNLINK => Deed::Unlink,
            _ => return None,
        };
        let (second, name) = (rest.first_chunk::<4>()?, rest.get(4..)?);
        Some(Record::Name { deed, parent: inode, inode: u32::from_le_bytes(*second), name: name.to_vec() })
    }
}

/// Ranges of records are read in order until one does not fit.
struct Reader {
    sequence: u32,
    /// Whether the head was seen.
    begun: bool,
    crc: u32,
    pending: Vec<Record>,
    done: Vec<Record>,
    bytes: usize,
}

impl Reader {
    /// Reads a block; answers whether the next one counts too.
    fn block(&mut self, block: &[u8]) -> Result<bool> {
        let mut at = 0;
        while at + PREFIX <= block.len() {
            let (tag, len) = (le16(block, at), usize::from(le16(block, at + 2)));
            let Some(value) = block.get(at + PREFIX..at + PREFIX + len) else { return Ok(false) };
            let whole = &block[at..at + PREFIX + len];
            match tag {
                HEAD if len >= 8 => {
                    let (features, sequence) = (le32(value, 0), le32(value, 4));
                    if sequence != self.sequence {
                        return Ok(false);
                    }
                    if features != 0 {
                        return Err(Error::unsupported(format!("unknown features {features:#x} in a fast commit")));
                    }
                    self.begun = true;
                }
                _ if !self.begun => return Ok(false),
                TAIL if len >= 8 => {
                    let crc = crc32c(self.crc, &whole[..PREFIX + 4]);
                    if le32(value, 0) != self.sequence || le32(value, 4) != crc {
                        return Ok(false);
                    }
                    self.done.append(&mut self.pending);
                    self.crc = 0;
                    at += PREFIX + len;
                    continue;
                }
                PAD => {}
                tag => match Record::read(tag, value) {
                    Some(record) => self.pending.push(record),
                    None => return Ok(false),
                },
            }
            self.bytes += len + size_of::<Record>();
            if self.bytes > MAX_BYTES {
                return Err(Error::unsupported(format!("fast commits of more than {MAX_BYTES} bytes")));
            }
            self.crc = crc32c(self.crc, whole);
            at += PREFIX + len;
        }
        Ok(true)
    }
}

impl Log<'_> {
    /// The records of the fast commits that follow the log's last transaction, whose successor is `sequence`.
    ///
    /// # Errors
    /// `Kind::Unsupported` for features that are not known.
    pub fn fast_commits(&self, sequence: u32) -> Result<Vec<Record>> {
        let (pending, done) = (Vec::new(), Vec::new());
        let mut reader = Reader { sequence, begun: false, crc: 0, pending, done, bytes: 0 };
        for block in self.fast_blocks() {
            if !reader.block(&self.read(block)?)? {
                break;
            }
        }
        Ok(reader.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(block: &mut Vec<u8>, tag: u16, value: &[u8]) {
        block.extend(tag.to_le_bytes());
        block.extend((value.len() as u16).to_le_bytes());
        block.extend(value);
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// One commit of transaction 7 in a block of 256 bytes: a cut of inode 12.
    fn commit() -> Vec<u8> {
        let mut block = Vec::new();
        put(&mut block, HEAD, &words(&[0, 7]));
        put(&mut block, DEL_RANGE, &words(&[12, 3, 2]));
        let mut tail = words(&[7]);
        let mut summed = block.clone();
        summed.extend(TAIL.to_le_bytes());
        summed.extend(((256 - block.len() - PREFIX) as u16).to_le_bytes());
        summed.extend(&tail);
        tail.extend(crc32c(0, &summed).to_le_bytes());
        tail.resize(256 - block.len() - PREFIX, 0);
        put(&mut block, TAIL, &tail);
        block
    }

    fn read(blocks: &[Vec<u8>]) -> Result<Vec<Record>> {
        let (pending, done) = (Vec::new(), Vec::new());
        let mut reader = Reader { sequence: 7, begun: false, crc: 0, pending, done, bytes: 0 };
        for block in blocks {
            if !reader.block(block)? {
                break;
            }
        }
        Ok(reader.done)
    }

    #[test]
    fn commits_count_up_to_the_first_bad_tail() {
        let cut = Record::Cut { inode: 12, from: 3, to: 5 };
        assert_eq!(read(&[commit()]).unwrap(), std::slice::from_ref(&cut));
        for at in [4, 8, 17, 21, 38] {
            let mut torn = commit();
            torn[at] ^= 1;
            assert_eq!(read(&[torn]).map_or(0, |records| records.len()), 0, "byte {at}");
        }
        let mut second = commit();
        second[16] ^= 1;
        assert_eq!(read(&[commit(), second]).unwrap(), [cut], "the second one is torn");
        assert_eq!(read(&[vec![0; 256]]).unwrap(), []);
    }
}
