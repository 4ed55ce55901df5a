//! Extended attributes: inside the inode, in leaves, large values in blocks of their own. "XFS Algorithms & Data Structures",
//! chapter "Extended Attributes".

use super::directory::INDEX_SUM;
use super::inode::{Format, Inode};
use super::map::Run;
use super::{Frame, Sum, Xfs};
use crate::base::bytes::{be16, be32, u8_at};
use crate::base::{Error, Name, Result};

/// Flags of an attribute.
const LOCAL: u8 = 0x1;
const ROOT: u8 = 0x2;
const SECURE: u8 = 0x4;
const PARENT: u8 = 0x8;
const INCOMPLETE: u8 = 0x80;
/// Magics of a leaf and of a node, versions 4 and 5; headers of leaves and of nodes.
const LEAF: [u16; 2] = [0xfbee, 0x3bee];
const NODE: [u16; 2] = [0xfebe, 0x3ebe];
const LEAF_HEADERS: [usize; 2] = [32, 80];
const NODE_HEADERS: [usize; 2] = [16, 64];
/// Header of a block of a large value, of version 5.
const VALUE_HEADER: usize = 56;
const VALUE: Frame = Frame { magic: 0x5841_524d, sum: VALUE_SUM, spans_runs: false };
/// Most blocks of a target (1 KiB at most, blocks of version 5 have no less).
const SPAN_MAX: u64 = 2;
const VALUE_SUM: Sum = Sum { crc: 12, owner: 32, place: 40 };
/// Longest value (XATTR_SIZE_MAX).
const VALUE_MAX: usize = 65536;
/// Most bytes of the values of one inode that are read.
const VALUES_MAX: usize = 16 << 20;
/// Names under which XFS keeps the ACLs.
const ACLS: [(&[u8], &[u8]); 2] =
    [(b"SGI_ACL_FILE", b"system.posix_acl_access"), (b"SGI_ACL_DEFAULT", b"system.posix_acl_default")];

type Attributes = Vec<(Name, Vec<u8>)>;

fn bad(inode: &Inode, what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("xfs: inode {}: attributes: {what}", inode.number))
}

/// An ACL as XFS has it, in the form that Linux shows: version 2, then tag, permissions and id, little-endian.
fn acl(value: &[u8]) -> Option<Vec<u8>> {
    let count = be32(value, 0) as usize;
    let entries = value.get(4..)?;
    if entries.len() != count.checked_mul(12)? {
        return None;
    }
    let mut shown = 2_u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(12) {
        let (tag, id, permissions) = (be32(entry, 0), be32(entry, 4), be16(entry, 8));
        shown.extend((tag as u16).to_le_bytes());
        shown.extend(permissions.to_le_bytes());
        // Only users and groups with names have an id.
        let id = if matches!(tag, 0x02 | 0x08) { id } else { u32::MAX };
        shown.extend(id.to_le_bytes());
    }
    Some(shown)
}

/// Adds an attribute under its full name, an ACL also as Linux shows it.
fn add(list: &mut Attributes, flags: u8, name: &[u8], value: Vec<u8>) {
    if flags & (PARENT | INCOMPLETE) != 0 {
        return;
    }
    let space: &[u8] = match flags {
        f if f & ROOT != 0 => b"trusted.",
        f if f & SECURE != 0 => b"security.",
        _ => b"user.",
    };
    if flags & ROOT != 0
        && let Some((_, shown)) = ACLS.iter().find(|(kept, _)| *kept == name)
        && let Some(value) = acl(&value)
    {
        list.push((Name(shown.to_vec()), value));
    }
    list.push((Name([space, name].concat()), value));
}

impl Xfs {
    /// See [`crate::fs::FileSystem::xattrs`].
    pub(super) fn list_attributes(&self, inode: &Inode) -> Result<Attributes> {
        let mut list = Vec::new();
        let Some(fork) = inode.attributes()? else { return Ok(list) };
        if fork.format == Format::Local {
            self.short_attributes(inode, fork.bytes, &mut list)?;
        } else {
            let runs = self.own_map(inode, &fork)?;
            if !runs.is_empty() {
                self.leaf_attributes(inode, &runs, &mut list)?;
            }
        }
        list.sort();
        Ok(list)
    }

    fn short_attributes(&self, inode: &Inode, fork: &[u8], list: &mut Attributes) -> Result<()> {
        let mut at = 4;
        for _ in 0..u8_at(fork, 2) {
            let (name, value) = (usize::from(u8_at(fork, at)), usize::from(u8_at(fork, at + 1)));
            let behind = at + 3 + name;
            let (Some(name), Some(value)) = (fork.get(at + 3..behind), fork.get(behind..behind + value)) else {
                return Err(bad(inode, "they run out of the inode"));
            };
            add(list, u8_at(fork, at + 2), name, value.to_vec());
            at = behind + value.len();
        }
        Ok(())
    }

    fn attribute_block(&self, inode: &Inode, runs: &[Run], number: u64) -> Result<Vec<u8>> {
        let mut block = vec![0; self.superblock.block];
        self.read_runs(runs, number * self.superblock.block as u64, &mut block)?;
        let place = self.place_in(runs, number * self.superblock.block as u64);
        self.check_sum(&block, INDEX_SUM, inode.number, place)
            .map_err(|what| bad(inode, format!("block {number}: {what}")))?;
        Ok(block)
    }

    /// All leaves from the left to the right.
    fn leaf_attributes(&self, inode: &Inode, runs: &[Run], list: &mut Attributes) -> Result<()> {
        let version = usize::from(self.superblock.has_sums());
        let blocks: u64 = runs.iter().map(|run| run.len).sum();
        let mut number = 0;
        for _ in 0..=blocks {
            let block = self.attribute_block(inode, runs, number)?;
            let magic = be16(&block, 8);
            if magic == NODE[version] {
                let first = be32(&block, NODE_HEADERS[version] + 4);
                if first == 0 {
                    return Err(bad(inode, format!("node {number} has nothing below")));
                }
                number = first.into();
                continue;
            }
            if magic != LEAF[version] {
                return Err(bad(inode, format!("block {number}: magic {magic:#x}")));
            }
            self.leaf(inode, runs, &block, list)?;
            if list.iter().map(|(_, value)| value.len()).sum::<usize>() > VALUES_MAX {
                return Err(Error::unsupported(format!(
                    "xfs: inode {}: attributes of over {VALUES_MAX} bytes",
                    inode.number
                )));
            }
            match be32(&block, 0) {
                0 => return Ok(()),
                next => number = next.into(),
            }
        }
        Err(bad(inode, "their leaves go round in a circle"))
    }

    fn leaf(&self, inode: &Inode, runs: &[Run], block: &[u8], list: &mut Attributes) -> Result<()> {
        let version = usize::from(self.superblock.has_sums());
        let header = LEAF_HEADERS[version];
        let count = usize::from(be16(block, if version == 1 { 56 } else { 12 }));
        if count > (block.len() - header) / 8 {
            return Err(bad(inode, format!("a leaf with {count} entries")));
        }
        for i in 0..count {
            let (at, flags) = (usize::from(be16(block, header + i * 8 + 4)), u8_at(block, header + i * 8 + 6));
            let short = || bad(inode, "an entry runs out of its leaf");
            if flags & LOCAL != 0 {
                let (value, name) = (usize::from(be16(block, at)), usize::from(u8_at(block, at + 2)));
                let name = block.get(at + 3..at + 3 + name).ok_or_else(short)?;
                let from = at + 3 + name.len();
                add(list, flags, name, block.get(from..from + value).ok_or_else(short)?.to_vec());
            } else {
                let (first, len) = (be32(block, at), be32(block, at + 4) as usize);
                let name = usize::from(u8_at(block, at + 8));
                let name = block.get(at + 9..at + 9 + name).ok_or_else(short)?;
                if flags & INCOMPLETE == 0 {
                    add(list, flags, name, self.large_value(inode, runs, first.into(), len)?);
                }
            }
        }
        Ok(())
    }

    fn large_value(&self, inode: &Inode, runs: &[Run], first: u64, len: usize) -> Result<Vec<u8>> {
        if len > VALUE_MAX {
            return Err(bad(inode, format!("a value of {len} bytes")));
        }
        self.framed(runs, first, len, VALUE, inode.number).map_err(|what| bad(inode, what))
    }

    /// Bytes in blocks that have headers in version 5: large values, targets of links.
    pub(super) fn framed(&self, runs: &[Run], first: u64, len: usize, frame: Frame, number: u64) -> Result<Vec<u8>> {
        let bs = self.superblock.block as u64;
        let mut value = Vec::with_capacity(len);
        if !self.superblock.has_sums() {
            value.resize(len, 0);
            self.read_runs(runs, first * bs, &mut value)?;
            return Ok(value);
        }
        let mut block = Vec::new();
        let mut at = first;
        while value.len() < len {
            let run = runs.iter().find(|run| (run.logical..run.end()).contains(&at)).filter(|_| frame.spans_runs);
            let blocks = run.map_or(1, |run| (run.end() - at).min(SPAN_MAX));
            block.resize((blocks * bs) as usize, 0);
            self.read_runs(runs, at * bs, &mut block)?;
            let count = be32(&block, 8) as usize;
            let fits = count > 0 && count <= block.len() - VALUE_HEADER && be32(&block, 4) as usize == value.len();
            if be32(&block, 0) != frame.magic || !fits {
                return Err(Error::corrupt(format!("block {at}: magic {:#x}, {count} bytes", be32(&block, 0))));
            }
            self.check_sum(&block, frame.sum, number, self.place_in(runs, at * bs))
                .map_err(|what| Error::corrupt(format!("block {at}: {what}")))?;
            value.extend_from_slice(&block[VALUE_HEADER..VALUE_HEADER + count.min(len - value.len())]);
            at += blocks;
        }
        Ok(value)
    }
}
