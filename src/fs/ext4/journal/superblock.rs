//! The journal's superblock: the first 1024 bytes of its first block, big-endian.
//!
//! Offsets and bits: kernel documentation, "Journal (jbd2)". A journal of version 1 has no feature words.

use crate::base::bytes::{be32, put_be32, u8_at};
use crate::base::{Error, Result, Uuid};
use crate::fs::ext4::checksum::crc32c;

/// First word of every block of the log that is no data.
pub const MAGIC: u32 = 0xc03b_3998;
/// Bytes of the superblock.
const SIZE: usize = 1024;
/// `s_checksum_type`: crc32c.
const CRC32C: u8 = 4;
/// Blocks kept for fast commits where `s_num_fc_blks` is 0.
const FAST_BLOCKS: u32 = 256;
/// `s_nr_users`, the list `s_users` of UUIDs, and how many it takes.
const NR_USERS: usize = 0x40;
const USERS: usize = 0x100;
const MAX_USERS: u32 = 48;

/// `s_feature_compat`: commit blocks hold a crc32 of their transaction.
const CHECKSUM: u32 = 0x1;
/// `s_feature_incompat`: block numbers of 64 bits.
const BIT64: u32 = 0x2;
/// `s_feature_incompat`: tags hold 16 bits of a crc32c.
const CSUM_V2: u32 = 0x8;
/// `s_feature_incompat`: tags hold a whole crc32c.
const CSUM_V3: u32 = 0x10;
/// `s_feature_incompat`: the end of the journal is kept for fast commits.
const FAST_COMMIT: u32 = 0x20;
/// The words for `s_feature_incompat` that can be replayed.
const INCOMPAT: &[(u32, &str)] = &[
    (0x1, "revoke"),
    (BIT64, "64bit"),
    (0x4, "async_commit"),
    (CSUM_V2, "csum_v2"),
    (CSUM_V3, "csum_v3"),
    (FAST_COMMIT, "fast_commit"),
];

/// How the log is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// Not at all.
    None,
    /// A crc32 over each transaction, in its commit block (version 1).
    Commit,
    /// crc32c in every block of the log and 16 bits of it in every tag (version 2).
    Short,
    /// The same with whole sums in tags of another form (version 3).
    Long,
}

/// A journal's superblock whose numbers are in range.
#[derive(Debug, Clone)]
pub struct JournalSuper {
    bytes: Vec<u8>,
    /// First block of the log.
    pub first: u32,
    /// The block behind the log; blocks for fast commits may follow.
    pub last: u32,
    /// Blocks of the journal, those for fast commits included.
    pub len: u32,
    /// Where the oldest transaction begins, 0 for an empty log.
    pub start: u32,
    /// Its sequence number.
    pub sequence: u32,
    /// Error that a kernel has recorded, 0 for none.
    pub errno: i32,
    /// How the log is protected.
    pub sums: Sums,
    /// Block numbers have 64 bits.
    pub wide: bool,
}

fn bad(field: &str, value: impl std::fmt::Display, why: &str) -> Error {
    Error::corrupt(format!("ext4: journal superblock: {field} is {value}, {why}"))
}

impl JournalSuper {
    /// Fewest blocks of a log.
    pub const MIN_BLOCKS: u32 = 1024;

    /// Takes the first block of a journal that has `blocks` blocks.
    ///
    /// # Errors
    /// `Kind::Corrupt` with field and value, `Kind::Unsupported` with the feature's bit.
    pub fn new(block: &[u8], blocks: u64) -> Result<Self> {
        let bytes = block.get(..SIZE).unwrap_or(block).to_vec();
        let word = |at: usize| be32(&bytes, at);
        if word(0) != MAGIC {
            return Err(bad("h_magic", format!("{:#010x}", word(0)), "not 0xc03b3998"));
        }
        let version = word(4);
        if version != 3 && version != 4 {
            return Err(bad("h_blocktype", version, "not that of a superblock (3 or 4)"));
        }
        if word(0x0c) as usize != block.len() {
            return Err(bad("s_blocksize", word(0x0c), &format!("not the file system's {}", block.len())));
        }
        let (compat, incompat) = if version == 4 { (word(0x24), word(0x28)) } else { (0, 0) };
        let known = INCOMPAT.iter().fold(0, |bits, (bit, _)| bits | bit);
        if incompat & !known != 0 {
            let bits = incompat & !known;
            return Err(Error::unsupported(format!("ext4: journal: unknown features (incompat {bits:#x})")));
        }
        if version == 4 && word(0x2c) != 0 {
            let bits = word(0x2c);
            return Err(Error::unsupported(format!("ext4: journal: unknown features (ro_compat {bits:#x})")));
        }
        let sums = match (compat & CHECKSUM, incompat & (CSUM_V2 | CSUM_V3)) {
            (0, 0) => Sums::None,
            (_, 0) => Sums::Commit,
            (0, CSUM_V2) => Sums::Short,
            (0, CSUM_V3) => Sums::Long,
            _ => return Err(bad("s_feature_incompat", format!("{incompat:#x}"), "with two kinds of checksums")),
        };
        let (len, first) = (word(0x10), word(0x14));
        if u64::from(len) > blocks || len < 3 {
            return Err(bad("s_maxlen", len, &format!("but the journal has {blocks} blocks")));
        }
        let mut last = len;
        if incompat & FAST_COMMIT != 0 {
            let fast = if word(0x54) == 0 { FAST_BLOCKS } else { word(0x54) };
            last = len.checked_sub(fast).filter(|log| *log >= Self::MIN_BLOCKS).unwrap_or(len);
        }
        let (start, sequence) = (word(0x1c), word(0x18));
        if first == 0 || first >= last {
            return Err(bad("s_first", first, &format!("not in 1..{last}")));
        }
        if start != 0 && !(first..last).contains(&start) {
            return Err(bad("s_start", start, &format!("not in {first}..{last}")));
        }
        let errno = word(0x20) as i32;
        let found = JournalSuper { first, last, len, start, sequence, errno, sums, wide: incompat & BIT64 != 0, bytes };
        if found.has_block_sums() {
            let kind = u8_at(&found.bytes, 0x50);
            if kind != CRC32C {
                return Err(Error::unsupported(format!("ext4: journal: checksum type {kind} is not crc32c (4)")));
            }
            if be32(&found.bytes, 0xfc) != found.own_sum() {
                return Err(Error::corrupt("ext4: journal superblock: its checksum is wrong"));
            }
        }
        Ok(found)
    }

    /// Whether every block of the log has a crc32c.
    pub fn has_block_sums(&self) -> bool {
        matches!(self.sums, Sums::Short | Sums::Long)
    }

    /// The blocks for fast commits; empty without the feature. One block between them and the log is unused.
    pub fn fast_blocks(&self) -> std::ops::Range<u32> {
        (self.last + 1).min(self.len)..self.len
    }

    /// The file systems that an external journal is for; `None` if the superblock cannot say.
    pub fn users(&self) -> Option<Vec<Uuid>> {
        let count = be32(&self.bytes, NR_USERS);
        let listed = self.bytes.get(USERS..)?.chunks_exact(16).take(MAX_USERS as usize);
        let uuids = listed.take(count as usize).map(|uuid| Uuid(uuid.try_into().unwrap_or_default()));
        (be32(&self.bytes, 4) == 4 && count <= MAX_USERS).then(|| uuids.collect())
    }

    /// The bytes of the superblock of the same external journal with this file system as its only user.
    pub fn with_user(&self, uuid: Uuid) -> Vec<u8> {
        self.changed(|bytes| {
            put_be32(bytes, NR_USERS, 1);
            bytes[USERS..USERS + 16].copy_from_slice(&uuid.0);
        })
    }

    /// The bytes of the superblock of an empty journal of `blocks` blocks whose log begins at block `first`. `users` counts
    /// file systems: 1 inside of one, which is not listed.
    pub fn empty(block_size: u32, blocks: u32, first: u32, uuid: Uuid, users: u32) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        put_be32(&mut bytes, 0x00, MAGIC);
        put_be32(&mut bytes, 0x04, 4); // Superblock, version 2.
        put_be32(&mut bytes, 0x0c, block_size);
        put_be32(&mut bytes, 0x10, blocks);
        put_be32(&mut bytes, 0x14, first);
        put_be32(&mut bytes, 0x18, 1); // First sequence number.
        bytes[0x30..0x40].copy_from_slice(&uuid.0);
        put_be32(&mut bytes, NR_USERS, users);
        bytes
    }

    /// What the checksums of the log's blocks begin with.
    pub fn seed(&self) -> u32 {
        crc32c(!0, self.bytes.get(0x30..0x40).unwrap_or_default())
    }

    fn own_sum(&self) -> u32 {
        let mut bytes = self.bytes.clone();
        put_be32(&mut bytes, 0xfc, 0);
        crc32c(!0, &bytes)
    }

    /// The journal's UUID.
    pub fn uuid(&self) -> Uuid {
        Uuid(self.bytes.get(0x30..0x40).and_then(|uuid| uuid.try_into().ok()).unwrap_or_default())
    }

    /// Bytes of a tag in a descriptor block, without the UUID that may follow.
    pub fn tag_size(&self) -> usize {
        match (self.sums, self.wide) {
            (Sums::Long, _) => 16,
            (Sums::Short, true) => 14,
            (Sums::Short, false) => 10,
            (Sums::None | Sums::Commit, true) => 12,
            (Sums::None | Sums::Commit, false) => 8,
        }
    }

    /// The bytes of the superblock of the same journal with nothing to replay; `sequence` is the next one's.
    pub fn emptied(&self, sequence: u32) -> Vec<u8> {
        self.with_log(sequence, 0)
    }

    /// The bytes of the superblock of the same journal with transactions from its first block on; `sequence` is the first
    /// one's.
    pub fn started(&self, sequence: u32) -> Vec<u8> {
        self.with_log(sequence, self.first)
    }

    fn with_log(&self, sequence: u32, start: u32) -> Vec<u8> {
        self.changed(|bytes| {
            put_be32(bytes, 0x18, sequence);
            put_be32(bytes, 0x1c, start);
        })
    }

    /// The bytes of the superblock of the same journal, without the error that it recorded.
    pub fn without_error(&self) -> Vec<u8> {
        self.changed(|bytes| put_be32(bytes, 0x20, 0))
    }

    fn changed(&self, change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut changed = self.clone();
        change(&mut changed.bytes);
        if self.has_block_sums() {
            let sum = changed.own_sum();
            put_be32(&mut changed.bytes, 0xfc, sum);
        }
        changed.bytes
    }
}
