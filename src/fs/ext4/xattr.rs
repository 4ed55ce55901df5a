//! Extended attributes on disk: entries in the inode's tail and in one block.
//!
//! Offsets: kernel documentation, "Extended Attributes". Values in inodes of their own (ea_inode): `values`.

use std::collections::HashMap;

use super::Ext4;
use super::acl;
use super::cache::Role;
use super::inode::Inode;
use crate::base::bytes::{le16, le32, put_le16, put_le32, u8_at};
use crate::base::{Error, Name, Result};

/// First word of both places.
pub const MAGIC: u32 = 0xea02_0000;
/// Bytes in front of the entries of a block.
pub const BLOCK_HEADER: usize = 32;
/// Bytes of an entry without its name.
const ENTRY: usize = 16;

/// Name index and the prefix that it stands for. An index whose prefix is a whole name comes first.
const PREFIXES: &[(u8, &[u8])] = &[
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (8, b"system.richacl"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];
/// Index of the access ACL.
pub const ACL_ACCESS: u8 = 2;
/// Index of the default ACL.
pub const ACL_DEFAULT: u8 = 3;
/// The attribute that continues an inline file.
pub(super) const INLINE: (u8, &[u8]) = (7, b"data");

/// An attribute as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Name index.
    pub index: u8,
    /// The name without the prefix.
    pub name: Vec<u8>,
    /// The value in the form that it has on disk.
    pub value: Vec<u8>,
    /// The inode that holds the value, if it has one of its own.
    pub stored: Option<ValueInode>,
}

/// An inode that holds the value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueInode {
    /// Its number.
    pub number: u32,
    /// The hash of the value, which the entry's hash is made of.
    pub hash: u32,
}

/// Splits a full name into index and rest. `None` for prefixes that ext4 does not store.
pub fn split(full: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(index, prefix)| {
        let rest = full.strip_prefix(*prefix)?;
        (rest.is_empty() != prefix.ends_with(b".")).then_some((*index, rest))
    })
}

/// Joins index and rest; `None` for what is not shown: unknown indexes and the rest of an inline file.
pub fn join(index: u8, name: &[u8]) -> Option<Vec<u8>> {
    if (index, name) == INLINE {
        return None;
    }
    let (_, prefix) = PREFIXES.iter().find(|(known, _)| *known == index)?;
    Some([prefix, name].concat())
}

/// Space of a value: padded to four bytes.
fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

impl Attribute {
    /// Bytes that entry and value take.
    pub fn space(&self) -> usize {
        let value = if self.stored.is_some() { 0 } else { padded(self.value.len()) };
        ENTRY + padded(self.name.len()) + value
    }

    /// Whether it has this index and name.
    pub fn is(&self, key: (u8, &[u8])) -> bool {
        (self.index, self.name.as_slice()) == key
    }

    /// `e_hash` as Linux computes it: over the name's bytes (unsigned) and the value's words; in place of a value with
    /// an inode of its own, over the hash of that.
    fn hash(&self) -> u32 {
        let name = self.name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        if let Some(stored) = self.stored {
            return name.rotate_left(16) ^ stored.hash;
        }
        self.value.chunks(4).fold(name, |hash, chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

/// An entry as found, the value not yet fetched.
struct Found<'a> {
    index: u8,
    name: &'a [u8],
    offset: usize,
    inode: u32,
    size: usize,
}

/// The entries that begin at `at`; the list ends with a zero word.
fn entries(area: &[u8], mut at: usize) -> Option<Vec<Found<'_>>> {
    let mut found = Vec::new();
    while at + 4 <= area.len() && le32(area, at) != 0 {
        let name_len = usize::from(u8_at(area, at));
        let name = area.get(at + ENTRY..at + ENTRY + name_len)?;
        found.push(Found {
            index: u8_at(area, at + 1),
            name,
            offset: usize::from(le16(area, at + 2)),
            inode: le32(area, at + 4),
            size: le32(area, at + 8) as usize,
        });
        at += ENTRY + padded(name_len);
    }
    (at <= area.len()).then_some(found)
}

/// Writes entries at `at` and values at the end of `area`; offsets count from `base`. The caller has
/// checked the space and cleared the area. In a block the entries carry hashes.
fn lay_out(area: &mut [u8], start: usize, base: usize, attributes: &[Attribute], hashed: bool) {
    let (mut at, mut end) = (start, area.len());
    for attribute in attributes {
        let len = attribute.value.len();
        let inside = if attribute.stored.is_some() { &[] } else { attribute.value.as_slice() };
        end -= padded(inside.len());
        if let Some(bytes) = area.get_mut(at..at + 2) {
            bytes.copy_from_slice(&[attribute.name.len() as u8, attribute.index]);
        }
        put_le16(area, at + 2, if inside.is_empty() { 0 } else { (end - base) as u16 });
        put_le32(area, at + 4, attribute.stored.map_or(0, |stored| stored.number));
        put_le32(area, at + 8, len as u32);
        put_le32(area, at + 12, if hashed || attribute.stored.is_some() { attribute.hash() } else { 0 });
        if let Some(bytes) = area.get_mut(at + ENTRY..at + ENTRY + attribute.name.len()) {
            bytes.copy_from_slice(&attribute.name);
        }
        if let Some(bytes) = area.get_mut(end..end + inside.len()) {
            bytes.copy_from_slice(inside);
        }
        at += ENTRY + padded(attribute.name.len());
    }
}

/// Bytes for entries and values in the inode, without magic and final zero word.
pub(super) fn inode_room(inode: &Inode) -> usize {
    match inode.extra_size() {
        0 => 0,
        extra => inode.bytes().len().saturating_sub(128 + extra + 8),
    }
}

/// Bytes for entries and values in a block, without header and final zero word.
pub(super) fn block_room(block_size: usize) -> usize {
    block_size - BLOCK_HEADER - 4
}

/// Writes the attributes of an inode's tail. Answers false, with nothing changed, if they do not fit.
pub(super) fn put_in_inode(inode: &mut Inode, attributes: &[Attribute]) -> bool {
    let start = 128 + inode.extra_size();
    if attributes.iter().map(Attribute::space).sum::<usize>() > inode_room(inode) {
        return attributes.is_empty();
    }
    let area = &mut inode.bytes_mut()[start..];
    area.fill(0);
    if !attributes.is_empty() {
        put_le32(area, 0, MAGIC);
        lay_out(area, 4, 4, attributes, false);
    }
    true
}

/// Writes a whole attribute block, used once; entries are put into the order that Linux searches by.
pub(super) fn put_in_block(block: &mut [u8], attributes: &mut [Attribute]) {
    attributes.sort_by(|a, b| (a.index, a.name.len(), &a.name).cmp(&(b.index, b.name.len(), &b.name)));
    block.fill(0);
    put_le32(block, 0, MAGIC);
    put_le32(block, 4, 1);
    put_le32(block, 8, 1);
    lay_out(block, BLOCK_HEADER, 0, attributes, true);
    let hash = attributes.iter().fold(0u32, |hash, attribute| hash.rotate_left(16) ^ attribute.hash());
    put_le32(block, 12, hash);
}

/// The entries in an inode's tail, with the bytes behind them; empty if there are none.
pub(super) fn in_inode(inode: &mut Inode) -> &mut [u8] {
    let start = 128 + inode.extra_size();
    let found = inode.extra_size() > 0 && inode.bytes().get(start..).is_some_and(|area| le32(area, 0) == MAGIC);
    if found { inode.bytes_mut().get_mut(start + 4..).unwrap_or_default() } else { &mut [] }
}

/// The entries in an attribute block, with the bytes behind them; empty if it is none.
pub(super) fn in_block(block: &mut [u8]) -> &mut [u8] {
    if le32(block, 0) == MAGIC { block.get_mut(BLOCK_HEADER..).unwrap_or_default() } else { &mut [] }
}

/// Gives the values of entries that lie in inodes which have moved the new numbers. `None`, with some of them changed, if an
/// entry is broken.
pub(super) fn point(area: &mut [u8], moved: &HashMap<u32, u32>) -> Option<()> {
    let mut at = 0;
    while at + 4 <= area.len() && le32(area, at) != 0 {
        let next = at + ENTRY + padded(usize::from(u8_at(area, at)));
        if next > area.len() {
            return None;
        }
        if let Some(to) = moved.get(&le32(area, at + 4)) {
            put_le32(area, at + 4, *to);
        }
        at = next;
    }
    Some(())
}

impl Ext4 {
    pub(super) fn bad_attributes(&self, inode: &Inode, place: &str) -> Error {
        Error::corrupt(format!("ext4: inode {}: broken attributes in {place}", inode.number()))
    }

    /// Fetches the values of the entries of an area; offsets count from `base`.
    fn values(&self, inode: &Inode, area: &[u8], start: usize, base: usize, place: &str) -> Result<Vec<Attribute>> {
        let found = entries(area, start).ok_or_else(|| self.bad_attributes(inode, place))?;
        let mut attributes = Vec::with_capacity(found.len());
        for entry in found {
            let mut stored = None;
            let value = if entry.inode != 0 {
                let (value, hash) = self.read_value(inode, entry.inode, entry.size)?;
                stored = Some(ValueInode { number: entry.inode, hash });
                value
            } else if entry.size == 0 {
                Vec::new()
            } else {
                let at = base + entry.offset;
                let value = at.checked_add(entry.size).and_then(|end| area.get(at..end));
                value.ok_or_else(|| self.bad_attributes(inode, place))?.to_vec()
            };
            attributes.push(Attribute { index: entry.index, name: entry.name.to_vec(), value, stored });
        }
        Ok(attributes)
    }

    /// The attributes of the inode's tail.
    pub(super) fn attributes_inside(&self, inode: &Inode) -> Result<Vec<Attribute>> {
        let start = 128 + inode.extra_size();
        match inode.bytes().get(start..) {
            Some(area) if inode.extra_size() > 0 && le32(area, 0) == MAGIC => {
                self.values(inode, area, 4, 4, "the inode")
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The attributes of the attribute block.
    pub(super) fn attributes_outside(&self, inode: &Inode) -> Result<Vec<Attribute>> {
        let number = inode.xattr_block();
        if number == 0 {
            return Ok(Vec::new());
        }
        let block = self.block(number, Role::Attributes)?;
        if le32(&block, 0) != MAGIC || le32(&block, 8) != 1 {
            return Err(self.bad_attributes(inode, &format!("block {number}: bad header")));
        }
        self.values(inode, &block, BLOCK_HEADER, 0, &format!("block {number}"))
    }

    /// The second part of an inline file.
    pub(super) fn inline_rest(&self, inode: &Inode) -> Result<Vec<u8>> {
        let attributes = self.attributes_inside(inode)?;
        let found = attributes.into_iter().find(|a| a.is(INLINE));
        Ok(found.map(|a| a.value).unwrap_or_default())
    }

    /// All attributes with full names, ACLs in the form of the system calls, sorted.
    pub(super) fn list_xattrs(&self, inode: &Inode) -> Result<Vec<(Name, Vec<u8>)>> {
        let mut attributes = self.attributes_inside(inode)?;
        attributes.extend(self.attributes_outside(inode)?);
        let mut list = Vec::with_capacity(attributes.len());
        for attribute in attributes {
            let Some(name) = join(attribute.index, &attribute.name) else { continue };
            let value = match attribute.index {
                ACL_ACCESS | ACL_DEFAULT => acl::to_kernel(&attribute.value)
                    .ok_or_else(|| self.bad_attributes(inode, "an access control list"))?,
                _ => attribute.value,
            };
            list.push((Name(name), value));
        }
        list.sort();
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_and_join() {
        for name in [&b"user.a"[..], b"security.selinux", b"system.posix_acl_access", b"trusted.x.y"] {
            let (index, rest) = split(name).unwrap();
            assert_eq!(join(index, rest).unwrap(), name);
        }
        for name in [&b"user."[..], b"nothing", b"os2.x", b"system.posix_acl_accessx.."] {
            assert!(split(name).is_none_or(|(index, _)| index == 7), "{name:?}");
        }
    }
}
