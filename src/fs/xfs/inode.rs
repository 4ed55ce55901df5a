//! Inodes: core and forks. "XFS Algorithms & Data Structures", chapter "On-disk Inode".

use super::superblock::{Superblock, crc_is_good};
use crate::base::bytes::{be16, be32, be64, u8_at};
use crate::base::{Error, Result, Timestamp};
use crate::fs::FileType;

pub(super) const MAGIC: u16 = 0x494e;
/// Place of the checksum of version 3, and bytes of the core of versions 1 and 2, and of 3.
pub(super) const CRC: usize = 100;
pub(super) const CORE: usize = 100;
pub(super) const CORE_3: usize = 176;
/// `flags2`: times of 64 bits, extent counts of 64 bits.
pub(super) const BIGTIME: u64 = 8;
pub(super) const NREXT64: u64 = 16;
/// Times of 64 bits count from here.
const BIGTIME_EPOCH: i64 = 1 << 31;

/// How a fork is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Device,
    Local,
    Extents,
    Tree,
}

/// The data or the attributes of an inode.
#[derive(Debug, Clone, Copy)]
pub struct Fork<'a> {
    pub format: Format,
    pub bytes: &'a [u8],
    /// Extents that it has.
    pub extents: u64,
}

/// An inode's bytes, checked.
#[derive(Debug, Clone)]
pub struct Inode {
    pub number: u64,
    bytes: Vec<u8>,
    version: u8,
    flags2: u64,
}

impl Inode {
    /// Checks magic, number and checksum.
    ///
    /// # Errors
    /// `Kind::Corrupt` says what is wrong with it.
    pub fn new(superblock: &Superblock, number: u64, bytes: Vec<u8>) -> Result<Self> {
        let bad = |what: String| Err(Error::corrupt(format!("xfs: inode {number}: {what}")));
        if be16(&bytes, 0) != MAGIC {
            return bad(format!("its magic is {:#06x}", be16(&bytes, 0)));
        }
        let version = u8_at(&bytes, 4);
        match (superblock.has_sums(), version) {
            (true, 3) => {
                if !crc_is_good(&bytes, CRC) {
                    return bad("its checksum is wrong".into());
                }
                if be64(&bytes, 152) != number || bytes[160..176] != superblock.meta_uuid {
                    return bad("it belongs elsewhere (di_ino or di_uuid)".into());
                }
            }
            (false, 1 | 2) => {}
            _ => return bad(format!("it has version {version}")),
        }
        let flags2 = if version == 3 { be64(&bytes, 120) } else { 0 };
        let inode = Inode { number, bytes, version, flags2 };
        if FileType::from_mode(inode.mode()).is_none() {
            return bad(format!("its mode is {:#o}", inode.mode()));
        }
        if inode.core() + usize::from(u8_at(&inode.bytes, 82)) * 8 > inode.bytes.len() {
            return bad(format!("its forkoff is {}", u8_at(&inode.bytes, 82)));
        }
        Ok(inode)
    }

    /// Whether its content lies on the realtime device (`di_flags`).
    pub fn is_realtime(&self) -> bool {
        be16(&self.bytes, 90) & 1 != 0
    }
    fn core(&self) -> usize {
        if self.version == 3 { CORE_3 } else { CORE }
    }
    pub fn mode(&self) -> u32 {
        be16(&self.bytes, 2).into()
    }
    pub fn file_type(&self) -> FileType {
        // `new` has seen that it has one.
        FileType::from_mode(self.mode()).unwrap_or(FileType::Regular)
    }
    pub fn uid(&self) -> u32 {
        be32(&self.bytes, 8)
    }
    pub fn gid(&self) -> u32 {
        be32(&self.bytes, 12)
    }
    pub fn links(&self) -> u32 {
        if self.version == 1 { be16(&self.bytes, 6).into() } else { be32(&self.bytes, 16) }
    }
    pub fn size(&self) -> u64 {
        be64(&self.bytes, 56)
    }
    pub fn blocks(&self) -> u64 {
        be64(&self.bytes, 64)
    }

    /// `di_flags`.
    pub fn flags(&self) -> u16 {
        be16(&self.bytes, 90)
    }

    fn time(&self, at: usize) -> Timestamp {
        if self.flags2 & BIGTIME != 0 {
            let nanos = be64(&self.bytes, at);
            let seconds = (nanos / 1_000_000_000) as i64 - BIGTIME_EPOCH;
            return Timestamp { seconds, nanos: (nanos % 1_000_000_000) as u32 };
        }
        let (seconds, nanos) = (be32(&self.bytes, at) as i32, be32(&self.bytes, at + 4));
        Timestamp { seconds: seconds.into(), nanos: nanos.min(999_999_999) }
    }
    pub fn accessed(&self) -> Timestamp {
        self.time(32)
    }
    pub fn modified(&self) -> Timestamp {
        self.time(40)
    }
    pub fn changed(&self) -> Timestamp {
        self.time(48)
    }
    pub fn created(&self) -> Option<Timestamp> {
        (self.version == 3).then(|| self.time(144))
    }

    /// Major and minor number of a device node: 14 and 18 bits.
    pub fn device(&self) -> (u32, u32) {
        let number = be32(&self.bytes, self.core());
        (number >> 18 & 0x3fff, number & 0x3_ffff)
    }

    fn format(&self, at: usize) -> Result<Format> {
        Ok(match u8_at(&self.bytes, at) {
            0 => Format::Device,
            1 => Format::Local,
            2 => Format::Extents,
            3 => Format::Tree,
            other => {
                let number = self.number;
                return Err(Error::unsupported(format!("xfs: inode {number}: a fork of format {other} is not read")));
            }
        })
    }

    /// Where the attribute fork begins, behind the core; 0 without one.
    fn fork_offset(&self) -> usize {
        usize::from(u8_at(&self.bytes, 82)) * 8
    }

    /// The data fork.
    pub fn data(&self) -> Result<Fork<'_>> {
        let rest = &self.bytes[self.core()..];
        let bytes = if self.fork_offset() == 0 { rest } else { &rest[..self.fork_offset()] };
        let extents = if self.flags2 & NREXT64 != 0 { be64(&self.bytes, 24) } else { be32(&self.bytes, 76).into() };
        Ok(Fork { format: self.format(5)?, bytes, extents })
    }

    /// The attribute fork, if there is one.
    pub fn attributes(&self) -> Result<Option<Fork<'_>>> {
        if self.fork_offset() == 0 {
            return Ok(None);
        }
        let bytes = &self.bytes[self.core() + self.fork_offset()..];
        let extents = if self.flags2 & NREXT64 != 0 { be32(&self.bytes, 76) } else { be16(&self.bytes, 80).into() };
        Ok(Some(Fork { format: self.format(83)?, bytes, extents: extents.into() }))
    }
}
