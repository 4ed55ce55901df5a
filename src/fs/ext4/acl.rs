//! POSIX access control lists: the form on disk (version 1, short entries) and the one that system calls
//! use (version 2, eight bytes for every entry).
//!
//! Facts: kernel documentation, "POSIX ACLs" of "Extended Attributes"; `acl(5)`.

use crate::base::bytes::{le16, le32};

const DISK: u32 = 1;
const KERNEL: u32 = 2;
/// The id of entries that have none.
const NO_ID: u32 = !0;

/// Entry tags.
mod tag {
    pub const USER_OBJ: u16 = 0x01;
    pub const USER: u16 = 0x02;
    pub const GROUP_OBJ: u16 = 0x04;
    pub const GROUP: u16 = 0x08;
    pub const MASK: u16 = 0x10;
    pub const OTHER: u16 = 0x20;
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

fn has_id(tag: u16) -> bool {
    matches!(tag, tag::USER | tag::GROUP)
}

fn parse_disk(value: &[u8]) -> Option<Vec<Entry>> {
    if value.len() < 4 || le32(value, 0) != DISK {
        return None;
    }
    let mut entries = Vec::new();
    let mut rest = &value[4..];
    while !rest.is_empty() {
        let tag = le16(rest, 0);
        let len = if has_id(tag) { 8 } else { 4 };
        let (entry, after) = rest.split_at_checked(len)?;
        entries.push(Entry { tag, perm: le16(entry, 2), id: if len == 8 { le32(entry, 4) } else { NO_ID } });
        rest = after;
    }
    Some(entries)
}

fn parse_kernel(value: &[u8]) -> Option<Vec<Entry>> {
    if value.len() < 4 || le32(value, 0) != KERNEL || !(value.len() - 4).is_multiple_of(8) {
        return None;
    }
    Some(value[4..].chunks_exact(8).map(|e| Entry { tag: le16(e, 0), perm: le16(e, 2), id: le32(e, 4) }).collect())
}

fn put_disk(entries: &[Entry]) -> Vec<u8> {
    let mut value = DISK.to_le_bytes().to_vec();
    for entry in entries {
        value.extend_from_slice(&entry.tag.to_le_bytes());
        value.extend_from_slice(&entry.perm.to_le_bytes());
        if has_id(entry.tag) {
            value.extend_from_slice(&entry.id.to_le_bytes());
        }
    }
    value
}

/// From disk to the system-call form; `None` if it is no list.
pub fn to_kernel(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = KERNEL.to_le_bytes().to_vec();
    for entry in parse_disk(value)? {
        out.extend_from_slice(&entry.tag.to_le_bytes());
        out.extend_from_slice(&entry.perm.to_le_bytes());
        out.extend_from_slice(&entry.id.to_le_bytes());
    }
    Some(out)
}

/// A list that someone sets.
pub struct Acl(Vec<Entry>);

impl Acl {
    /// From the system-call form, checked as Linux does: owner, group and other once each, in ascending
    /// order of tags, a mask if there are named entries, permissions of three bits. `None` if it is none.
    pub fn from_kernel(value: &[u8]) -> Option<Self> {
        let entries = parse_kernel(value)?;
        let ordered = entries.windows(2).all(|pair| {
            pair[0].tag < pair[1].tag || pair[0].tag == pair[1].tag && has_id(pair[0].tag) && pair[0].id < pair[1].id
        });
        let has = |tag| entries.iter().any(|e| e.tag == tag);
        let known = entries.iter().all(|e| e.perm <= 7 && e.tag.count_ones() == 1 && e.tag <= tag::OTHER);
        let complete = has(tag::USER_OBJ) && has(tag::GROUP_OBJ) && has(tag::OTHER);
        let masked = has(tag::MASK) || !(has(tag::USER) || has(tag::GROUP));
        (ordered && known && complete && masked).then_some(Acl(entries))
    }

    /// From the form on disk; `None` if it is no list.
    pub fn from_disk(value: &[u8]) -> Option<Self> {
        parse_disk(value).map(Acl)
    }

    /// The form on disk.
    pub fn to_disk(&self) -> Vec<u8> {
        put_disk(&self.0)
    }

    /// Whether the permission bits say it all: no named entries and no mask.
    pub fn is_mode(&self) -> bool {
        self.0.len() == 3
    }

    /// The permission bits that the list stands for: owner, mask (or group), other.
    pub fn mode(&self) -> u32 {
        let perm = |tag| self.0.iter().find(|e| e.tag == tag).map(|e| u32::from(e.perm & 7));
        let group = perm(tag::MASK).or(perm(tag::GROUP_OBJ)).unwrap_or(0);
        perm(tag::USER_OBJ).unwrap_or(0) << 6 | group << 3 | perm(tag::OTHER).unwrap_or(0)
    }

    /// chmod: owner, mask (or group, if there is no mask) and other take the bits of a mode.
    pub fn set_mode(&mut self, mode: u32) {
        let has_mask = self.0.iter().any(|e| e.tag == tag::MASK);
        for entry in &mut self.0 {
            let bits = match entry.tag {
                tag::USER_OBJ => mode >> 6,
                tag::GROUP_OBJ if !has_mask => mode >> 3,
                tag::MASK => mode >> 3,
                tag::OTHER => mode,
                _ => continue,
            };
            entry.perm = (bits & 7) as u16;
        }
    }

    /// A new node in a directory with this default list: the list becomes its access list, with each of
    /// owner, mask (or group) and other limited by the wanted mode. Answers the resulting mode bits.
    pub fn limit(&mut self, mode: u32) -> u32 {
        let limited = self.mode() & mode;
        self.set_mode(limited);
        mode & !0o777 | limited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// user::rw-, user:1000:rwx, group::r--, mask::rwx, other::---
    const KERNEL_FORM: &[u8] = &[
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 7, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 7,
        0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];

    #[test]
    fn both_forms() {
        let mut acl = Acl::from_kernel(KERNEL_FORM).unwrap();
        assert_eq!(acl.mode(), 0o670);
        let disk = acl.to_disk();
        assert_eq!(disk.len(), 4 + 4 * 4 + 8);
        assert_eq!(to_kernel(&disk).unwrap(), KERNEL_FORM);
        acl.set_mode(0o640);
        assert_eq!(acl.mode(), 0o640);
        assert!(Acl::from_kernel(&KERNEL_FORM[..36]).is_none());
        assert!(to_kernel(&[1, 0, 0, 0, 2, 0]).is_none());
    }
}
