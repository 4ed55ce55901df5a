//! The superblock: 96 bytes at the start. Places: the kernel's documentation, filesystems/squashfs, and `squashfs_fs.h`.

use crate::base::bytes::{le16, le32, le64};
use crate::base::{Error, Result};
use crate::disk::BlockDevice;
use crate::fs::unpack::Codec;

const SIZE: usize = 96;
/// Place of a table that is not there.
const ABSENT: u64 = u64::MAX;

/// What is used of it.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    pub inodes: u32,
    /// Bytes of a block of data: a power of two from 4 KiB to 1 MiB.
    pub block: usize,
    pub codec: Codec,
    pub fragments: u32,
    pub ids: u16,
    /// Reference of the root's inode.
    pub root: u64,
    /// Bytes of the file system; what lies behind is padding.
    pub end: u64,
    pub id_table: u64,
    pub xattr_table: Option<u64>,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: Option<u64>,
}

/// Whether version 4 or later begins here.
pub(super) fn probe(device: &dyn BlockDevice) -> Result<bool> {
    if device.len() < SIZE as u64 {
        return Ok(false);
    }
    let mut start = [0; 32];
    device.read_at(0, &mut start)?;
    Ok(start.starts_with(b"hsqs") && le16(&start, 28) >= 4)
}

impl Superblock {
    /// # Errors
    /// Other versions and compressors, places that are outside.
    pub fn read(device: &dyn BlockDevice) -> Result<Self> {
        let bad = |what: String| Error::corrupt(format!("squashfs: superblock: {what}"));
        if device.len() < SIZE as u64 {
            return Err(bad(format!("the device has {} bytes", device.len())));
        }
        let mut sb = [0; SIZE];
        device.read_at(0, &mut sb)?;
        let (major, minor) = (le16(&sb, 28), le16(&sb, 30));
        if (major, minor) != (4, 0) {
            return Err(Error::unsupported(format!("squashfs: version {major}.{minor} is not read, 4.0 is")));
        }
        let codec = match le16(&sb, 20) {
            1 => Codec::Zlib,
            2 => Codec::Lzma,
            3 => Codec::Lzo,
            4 => Codec::Xz,
            5 => Codec::Lz4,
            6 => Codec::Zstd,
            other => return Err(Error::unsupported(format!("squashfs: compressor {other} is not known"))),
        };
        let (block, log) = (le32(&sb, 12), le16(&sb, 22));
        if !(12..=20).contains(&log) || block != 1 << log {
            return Err(bad(format!("blocks of {block} bytes (2^{log})")));
        }
        let end = le64(&sb, 40);
        if end < SIZE as u64 || end > device.len() {
            return Err(bad(format!("{end} bytes on a device of {}", device.len())));
        }
        let place = |name: &str, at: usize| match le64(&sb, at) {
            ABSENT => Ok(None),
            place if (SIZE as u64..end).contains(&place) => Ok(Some(place)),
            place => Err(bad(format!("the {name} table at byte {place} is outside"))),
        };
        let needed = |name: &str, at: usize| place(name, at)?.ok_or_else(|| bad(format!("no {name} table")));
        Ok(Superblock {
            inodes: le32(&sb, 4),
            block: block as usize,
            codec,
            // A table without entries may have any place.
            fragment_table: if le32(&sb, 16) == 0 { None } else { place("fragment", 80)? },
            fragments: le32(&sb, 16),
            ids: le16(&sb, 26),
            root: le64(&sb, 32),
            end,
            id_table: needed("id", 48)?,
            xattr_table: place("xattr", 56)?,
            inode_table: needed("inode", 64)?,
            directory_table: needed("directory", 72)?,
        })
    }
}
