//! Inodes: 128 bytes, and what `i_extra_isize` adds in larger ones.
//!
//! Offsets: kernel documentation, "Index Nodes". The struct is a copy of the bytes; fields are patched
//! in place and everything else stays.

use std::ops::RangeInclusive;

use crate::base::bytes::{le16, le32, put_le16, put_le32};
use crate::base::{Error, Result, Timestamp};
use crate::fs::FileType;

/// The root directory.
pub const ROOT: u32 = 2;

/// `i_flags`: may not be changed.
pub const FLAG_IMMUTABLE: u32 = 0x10;
/// `i_flags`: may only grow.
pub const FLAG_APPEND: u32 = 0x20;
/// `i_flags`: is encrypted.
pub const FLAG_ENCRYPT: u32 = 0x800;
/// `i_flags`: the directory has a hash index.
pub const FLAG_INDEX: u32 = 0x1000;
/// `i_flags`: `i_blocks` counts file system blocks.
pub const FLAG_HUGE_FILE: u32 = 0x4_0000;
/// `i_flags`: mapped by extents.
pub const FLAG_EXTENTS: u32 = 0x8_0000;
/// `i_flags`: protected by a hash tree.
pub const FLAG_VERITY: u32 = 0x10_0000;
/// `i_flags`: holds the value of an attribute.
pub const FLAG_EA_INODE: u32 = 0x20_0000;
/// `i_flags`: the content is in the inode.
pub const FLAG_INLINE_DATA: u32 = 0x1000_0000;
/// `i_flags`: new nodes in the directory take its project.
pub const FLAG_PROJINHERIT: u32 = 0x2000_0000;
/// `i_flags`: the directory's names are compared without case.
pub const FLAG_CASEFOLD: u32 = 0x4000_0000;
/// `i_flags` that a new node takes from its directory: secrm, unrm, compr, sync, nodump, noatime, nocomp,
/// journal-data, notail, dirsync, projinherit, casefold.
pub const FLAGS_INHERITED: u32 =
    0x1 | 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x400 | 0x4000 | 0x8000 | FLAG_DIRSYNC | FLAG_PROJINHERIT | FLAG_CASEFOLD;
/// `i_flags`: directories only, every change is written at once.
pub const FLAG_DIRSYNC: u32 = 0x1_0000;
/// Of [`FLAGS_INHERITED`], what nodes other than files and directories take: nodump, noatime.
pub const FLAGS_OTHER: u32 = 0x40 | 0x80;

/// Which time of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// Last read.
    Access,
    /// Last change of the node.
    Change,
    /// Last change of the content.
    Modify,
    /// Creation.
    Create,
}

impl Time {
    /// Offsets of the seconds and of the extra word (epoch bits and nanoseconds).
    fn at(self) -> (usize, usize) {
        match self {
            Time::Access => (0x08, 0x8c),
            Time::Change => (0x0c, 0x84),
            Time::Modify => (0x10, 0x88),
            Time::Create => (0x90, 0x94),
        }
    }
}

/// An inode: its number and a copy of its bytes (`s_inode_size` of them).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    number: u32,
    bytes: Vec<u8>,
}

impl Inode {
    /// From its bytes, at least 128.
    pub fn new(number: u32, bytes: &[u8]) -> Self {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().max(128), 0);
        Inode { number, bytes }
    }

    /// The inode's number.
    pub fn number(&self) -> u32 {
        self.number
    }
    /// The bytes as they are on disk, but for the checksum.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// `st_mode`: type and permissions.
    pub fn mode(&self) -> u16 {
        le16(&self.bytes, 0x00)
    }
    /// Sets `st_mode`.
    pub fn set_mode(&mut self, mode: u16) {
        put_le16(&mut self.bytes, 0x00, mode);
    }
    /// The type, if the mode holds a known one.
    pub fn file_type(&self) -> Option<FileType> {
        FileType::from_mode(u32::from(self.mode()))
    }
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == Some(FileType::Directory)
    }
    /// Owner.
    pub fn uid(&self) -> u32 {
        u32::from(le16(&self.bytes, 0x02)) | u32::from(le16(&self.bytes, 0x78)) << 16
    }
    /// Sets the owner.
    pub fn set_uid(&mut self, uid: u32) {
        put_le16(&mut self.bytes, 0x02, uid as u16);
        put_le16(&mut self.bytes, 0x78, (uid >> 16) as u16);
    }
    /// Group.
    pub fn gid(&self) -> u32 {
        u32::from(le16(&self.bytes, 0x18)) | u32::from(le16(&self.bytes, 0x7a)) << 16
    }
    /// Sets the group.
    pub fn set_gid(&mut self, gid: u32) {
        put_le16(&mut self.bytes, 0x18, gid as u16);
        put_le16(&mut self.bytes, 0x7a, (gid >> 16) as u16);
    }
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        u64::from(le32(&self.bytes, 0x04)) | u64::from(le32(&self.bytes, 0x6c)) << 32
    }
    /// Sets the size.
    pub fn set_size(&mut self, size: u64) {
        put_le32(&mut self.bytes, 0x04, size as u32);
        put_le32(&mut self.bytes, 0x6c, (size >> 32) as u32);
    }
    /// Deletion time in seconds; of an orphan the next one's number.
    pub fn dtime(&self) -> u32 {
        le32(&self.bytes, 0x14)
    }
    /// Sets the deletion time in seconds.
    pub fn set_dtime(&mut self, seconds: u32) {
        put_le32(&mut self.bytes, 0x14, seconds);
    }
    /// Number of names.
    pub fn links(&self) -> u16 {
        le16(&self.bytes, 0x1a)
    }
    /// Sets the number of names.
    pub fn set_links(&mut self, links: u16) {
        put_le16(&mut self.bytes, 0x1a, links);
    }
    /// Flags, `FLAG_*`.
    pub fn flags(&self) -> u32 {
        le32(&self.bytes, 0x20)
    }
    /// Sets the flags.
    pub fn set_flags(&mut self, flags: u32) {
        put_le32(&mut self.bytes, 0x20, flags);
    }
    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }
    /// Generation (the version of a reused inode).
    pub fn generation(&self) -> u32 {
        le32(&self.bytes, 0x64)
    }
    /// Sets the generation.
    pub fn set_generation(&mut self, generation: u32) {
        put_le32(&mut self.bytes, 0x64, generation);
    }
    /// The project, 0 where the inode has no room for one.
    pub fn project(&self) -> u32 {
        if self.reaches(0x9c, 4) { le32(&self.bytes, 0x9c) } else { 0 }
    }
    /// Sets the project if the inode has room for it.
    pub fn set_project(&mut self, project: u32) {
        if self.reaches(0x9c, 4) {
            put_le32(&mut self.bytes, 0x9c, project);
        }
    }
    /// The attribute block, 0 if there is none.
    pub fn xattr_block(&self) -> u64 {
        u64::from(le32(&self.bytes, 0x68)) | u64::from(le16(&self.bytes, 0x76)) << 32
    }
    /// Sets the attribute block.
    pub fn set_xattr_block(&mut self, block: u64) {
        put_le32(&mut self.bytes, 0x68, block as u32);
        put_le16(&mut self.bytes, 0x76, (block >> 32) as u16);
    }
    /// The 60 bytes of `i_block`: block map, extent root, short link target, device number, content.
    pub fn area(&self) -> &[u8] {
        &self.bytes[0x28..0x64]
    }
    /// The same, to be changed.
    pub fn area_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[0x28..0x64]
    }

    /// Space in units of 512 bytes.
    pub fn sectors(&self, block_size: u64) -> u64 {
        let stored = u64::from(le32(&self.bytes, 0x1c)) | u64::from(le16(&self.bytes, 0x74)) << 32;
        if self.has(FLAG_HUGE_FILE) { stored.saturating_mul(block_size / 512) } else { stored }
    }

    /// Sets the space; files of 2^48 sectors and more are counted in blocks.
    ///
    /// # Errors
    /// `Kind::FileTooBig` if the file needs the feature `huge_file` and it is off.
    pub fn set_sectors(&mut self, sectors: u64, block_size: u64, huge_file: bool) -> Result<()> {
        let limit = if huge_file { 1 << 48 } else { 1 << 32 };
        let mut stored = sectors;
        let mut flags = self.flags() & !FLAG_HUGE_FILE;
        if sectors >= limit {
            if !huge_file {
                return Err(Error::from(crate::base::Kind::FileTooBig));
            }
            stored = sectors / (block_size / 512);
            flags |= FLAG_HUGE_FILE;
        }
        self.set_flags(flags);
        put_le32(&mut self.bytes, 0x1c, stored as u32);
        put_le16(&mut self.bytes, 0x74, (stored >> 32) as u16);
        Ok(())
    }

    /// Bytes in use behind the first 128, as the inode says, if they fit.
    pub fn extra_size(&self) -> usize {
        if self.bytes.len() <= 128 {
            return 0;
        }
        let extra = usize::from(le16(&self.bytes, 0x80));
        if extra % 4 == 0 && 128 + extra <= self.bytes.len() { extra } else { 0 }
    }
    /// Sets `i_extra_isize`.
    pub fn set_extra_size(&mut self, size: u16) {
        if self.bytes.len() > 128 {
            put_le16(&mut self.bytes, 0x80, size);
        }
    }

    /// Whether a field of `len` bytes at `at` lies in the inode.
    fn reaches(&self, at: usize, len: usize) -> bool {
        at + len <= 128 + self.extra_size()
    }

    /// A time; `None` for a creation time that the inode has no room for.
    pub fn time(&self, which: Time) -> Option<Timestamp> {
        let (seconds, extra) = which.at();
        if seconds >= 0x80 && !self.reaches(seconds, 4) {
            return None;
        }
        let base = i64::from(le32(&self.bytes, seconds) as i32);
        if !self.reaches(extra, 4) {
            return Some(Timestamp::from_seconds(base));
        }
        // Two epoch bits above the signed 32 bits of seconds, then 30 bits of nanoseconds.
        let word = le32(&self.bytes, extra);
        let nanos = (word >> 2).min(999_999_999);
        Some(Timestamp { seconds: base + (i64::from(word & 3) << 32), nanos })
    }

    /// The seconds that a time can hold: signed 32 bits, and up to 2446 where there is room for the epoch.
    pub fn time_range(&self, which: Time) -> RangeInclusive<i64> {
        let top = if self.reaches(which.at().1, 4) { 3 << 32 } else { 0 };
        i64::from(i32::MIN)..=i64::from(i32::MAX) + top
    }

    /// Sets a time; what does not fit is cut to the nearest that does, as Linux does.
    pub fn set_time(&mut self, which: Time, time: Timestamp) {
        let (seconds, extra) = which.at();
        if seconds >= 0x80 && !self.reaches(seconds, 4) {
            return;
        }
        let range = self.time_range(which);
        let value = time.seconds.clamp(*range.start(), *range.end());
        put_le32(&mut self.bytes, seconds, value as u32);
        if self.reaches(extra, 4) {
            let epoch = ((value - i64::from(value as i32)) >> 32) as u32 & 3;
            let nanos = if value == time.seconds { time.nanos } else { 0 };
            put_le32(&mut self.bytes, extra, epoch | nanos << 2);
        }
    }

    /// Major and minor number of a device node.
    pub fn device(&self) -> (u32, u32) {
        let (old, new) = (le32(&self.bytes, 0x28), le32(&self.bytes, 0x2c));
        if old != 0 { (old >> 8 & 0xff, old & 0xff) } else { (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00) }
    }

    /// Stores a device number: 8:8 bits in the first word if they suffice, else 12:20 in the second.
    ///
    /// # Errors
    /// `Kind::Invalid` if the numbers have more than 12 and 20 bits.
    pub fn set_device(&mut self, major: u32, minor: u32) -> Result<()> {
        if major > 0xfff || minor > 0xf_ffff {
            return Err(Error::new(
                crate::base::Kind::Invalid,
                format!("device {major}:{minor} is over 4095:1048575, the most that ext4 can hold"),
            ));
        }
        self.area_mut().fill(0);
        if major < 256 && minor < 256 {
            put_le32(&mut self.bytes, 0x28, major << 8 | minor);
        } else {
            put_le32(&mut self.bytes, 0x2c, minor & 0xff | major << 8 | (minor & !0xff) << 12);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_epoch() {
        let mut inode = Inode::new(12, &[0; 256]);
        inode.set_extra_size(32);
        for seconds in [-2_147_483_648, -1, 0, 2_147_483_647, 2_147_483_648, 4_481_000_000, 15_032_385_535] {
            let time = Timestamp { seconds, nanos: 999_999_999 };
            inode.set_time(Time::Modify, time);
            assert_eq!(inode.time(Time::Modify), Some(time));
        }
        let mut short = Inode::new(12, &[0; 128]);
        short.set_time(Time::Modify, Timestamp { seconds: 4_481_000_000, nanos: 1 });
        assert_eq!(short.time(Time::Modify), Some(Timestamp::from_seconds(2_147_483_647)));
        assert_eq!(short.time(Time::Create), None);
    }

    #[test]
    fn device_numbers_in_both_forms() {
        let mut inode = Inode::new(12, &[0; 256]);
        for (major, minor) in [(8, 1), (255, 255), (4, 70_000), (4095, 1_048_575), (256, 0)] {
            inode.set_device(major, minor).unwrap();
            assert_eq!(inode.device(), (major, minor));
        }
        assert!(inode.set_device(4096, 0).is_err());
    }
}
