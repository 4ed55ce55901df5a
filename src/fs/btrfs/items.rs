//! The items of a tree, taken apart: inodes, names, roots.

use super::superblock::Root;
use super::tree::Key;
use crate::base::bytes::{le16, le32, le64, u8_at};
use crate::base::{Error, Result, Timestamp};
use crate::fs::FileType;

/// Key types.
pub const INODE_ITEM: u8 = 1;
pub const INODE_REF: u8 = 12;
pub const INODE_EXTREF: u8 = 13;
pub const XATTR_ITEM: u8 = 24;
pub const DIR_ITEM: u8 = 84;
pub const DIR_INDEX: u8 = 96;
pub const EXTENT_DATA: u8 = 108;
pub const ROOT_ITEM: u8 = 132;
pub const ROOT_BACKREF: u8 = 144;
/// The type byte of a name that is an extended attribute.
const TYPE_XATTR: u8 = 8;
/// Bytes in front of a name.
const NAME_HEAD: usize = 30;

/// What an inode item says.
#[derive(Debug, Clone)]
pub struct Inode {
    pub size: u64,
    /// Bytes that it takes.
    pub bytes: u64,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub device: u64,
    pub accessed: Timestamp,
    pub changed: Timestamp,
    pub modified: Timestamp,
    pub created: Timestamp,
}

/// A moment of 12 bytes.
pub fn time(item: &[u8], at: usize) -> Timestamp {
    Timestamp { seconds: le64(item, at) as i64, nanos: le32(item, at + 8).min(999_999_999) }
}

impl Inode {
    /// From an item of 160 bytes.
    pub fn read(item: &[u8]) -> Option<Self> {
        (item.len() >= 160).then(|| Inode {
            size: le64(item, 16),
            bytes: le64(item, 24),
            links: le32(item, 40),
            uid: le32(item, 44),
            gid: le32(item, 48),
            mode: le32(item, 52),
            device: le64(item, 56),
            accessed: time(item, 112),
            changed: time(item, 124),
            modified: time(item, 136),
            created: time(item, 148),
        })
    }
}

/// A tree of files: its root node and the inode of its directory.
pub fn root_item(item: &[u8]) -> Option<(Root, u64)> {
    (item.len() >= 239).then(|| (Root { at: le64(item, 176), level: u8_at(item, 238) }, le64(item, 168)))
}

/// A name: of a directory entry or an attribute.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// What it names: an inode of the same tree, or another tree.
    pub location: Key,
    pub file_type: Option<FileType>,
    pub name: &'a [u8],
    /// The value of an attribute.
    pub value: &'a [u8],
}

/// The names in an item: several if their hashes are equal.
///
/// # Errors
/// `Kind::Corrupt` for lengths that run out of the item.
pub fn names(item: &[u8]) -> Result<Vec<Named<'_>>> {
    Ok(entries(item)?.into_iter().map(|(_, named)| named).collect())
}

/// The names in an item, each with all its bytes.
///
/// # Errors
/// As [`names`].
pub fn entries(item: &[u8]) -> Result<Vec<(&[u8], Named<'_>)>> {
    let mut found = Vec::new();
    let mut rest = item;
    while !rest.is_empty() {
        let (value_len, name_len) = (usize::from(le16(rest, 25)), usize::from(le16(rest, 27)));
        let end = NAME_HEAD + name_len + value_len;
        let Some(whole) = rest.get(..end) else {
            return Err(Error::corrupt("btrfs: a name runs out of its item"));
        };
        let (name, value) = whole[NAME_HEAD..].split_at(name_len);
        let kind = u8_at(whole, 29);
        if name.is_empty() || kind != TYPE_XATTR && (name.contains(&b'/') || name.contains(&0)) {
            return Err(Error::corrupt("btrfs: a name that cannot be"));
        }
        found.push((whole, Named { location: Key::read(whole, 0), file_type: FileType::from_code(kind), name, value }));
        rest = &rest[end..];
    }
    Ok(found)
}

/// A name of an inode, as the inode has it.
#[derive(Debug, Clone, Copy)]
pub struct Reference<'a> {
    /// The directory.
    pub dir: u64,
    /// The place in the directory's order.
    pub index: u64,
    pub name: &'a [u8],
    /// All bytes of it in the item.
    pub bytes: &'a [u8],
}

/// The references in an item: of an `INODE_REF` the key has the directory, in an `INODE_EXTREF` it stands before each.
///
/// # Errors
/// `Kind::Corrupt` for lengths that run out of the item.
pub fn references(key: Key, item: &[u8]) -> Result<Vec<Reference<'_>>> {
    let at = if key.kind == INODE_EXTREF { 8 } else { 0 };
    let mut found = Vec::new();
    let mut rest = item;
    while !rest.is_empty() {
        let head = at + 10;
        let end = head + usize::from(le16(rest, at + 8));
        let Some(bytes) = rest.get(..end).filter(|_| end > head) else {
            return Err(Error::corrupt(format!("btrfs: inode {}: a name runs out of its item", key.object)));
        };
        let dir = if at == 0 { key.offset } else { le64(rest, 0) };
        found.push(Reference { dir, index: le64(rest, at), name: &bytes[head..], bytes });
        rest = &rest[end..];
    }
    Ok(found)
}

/// The offset of the key that holds a name.
pub fn name_hash(name: &[u8]) -> u64 {
    // crc32c continued from !1, without the inversions of the usual form.
    u64::from(!crc32c::crc32c_append(1, name))
}
