//! Inodes in the log, and new chunks of them. "XFS Algorithms & Data Structures", "Inode Log Item", "Inode Creation Item".

use super::SECTOR;
use super::replay::Replay;
use super::transaction::Item;
use crate::base::bytes::{be16, be32, be64, le16, le32, le64, put_be16, put_be32, put_be64, u8_at};
use crate::base::{Error, Result};
use crate::fs::xfs::inode::{BIGTIME, CORE, CORE_3, MAGIC, NREXT64};
use crate::fs::xfs::map::{HEADERS, RECORD, ROOT_HEADER, WORD};

/// What was logged: the data fork's bytes, extents, tree's root; a device number; the same of attributes.
const DATA: u32 = 0x2 | 0x4;
const DATA_ROOT: u32 = 0x8;
const DEVICE: u32 = 0x10;
const ATTRIBUTES: u32 = 0x40 | 0x80;
const ATTRIBUTES_ROOT: u32 = 0x100;
/// The blocks of the data's or the attributes' tree became this inode's.
const OWNER: [u32; 2] = [0x200, 0x400];
/// Bytes of the item's first region, on 64 and on 32 bits.
const LONG: usize = 56;
const SHORT: usize = 52;
/// Bytes of the core of versions 1 and 2 as it is logged: `di_next_unlinked` is not.
const LOGGED_CORE: usize = CORE - 4;
/// `di_flushiter` wraps behind it.
const FLUSHES_MAX: u16 = 0xffff;
/// `di_next_unlinked` of an inode that is in no list.
const NO_NEXT: u32 = u32::MAX;
/// Inodes of a chunk.
const CHUNK: u32 = 64;

/// Turns the fields of a logged core into big-endian ones; `to` is the inode on the device.
fn core(from: &[u8], to: &mut [u8], lsn: u64) {
    let version = u8_at(from, 4);
    let flags2 = if version == 3 { le64(from, 120) } else { 0 };
    let large = flags2 & NREXT64 != 0;
    let byte = |to: &mut [u8], at: usize| to[at] = from[at];
    let half = |to: &mut [u8], at: usize| put_be16(to, at, le16(from, at));
    let word = |to: &mut [u8], at: usize| put_be32(to, at, le32(from, at));
    let long = |to: &mut [u8], at: usize| put_be64(to, at, le64(from, at));
    let time = |to: &mut [u8], at: usize| match flags2 & BIGTIME != 0 {
        true => long(to, at),
        false => [at, at + 4].into_iter().for_each(|at| word(to, at)),
    };
    [0, 2, 6, 20, 22, 90].into_iter().for_each(|at| half(to, at));
    [4, 5, 82, 83].into_iter().for_each(|at| byte(to, at));
    [8, 12, 16, 72, 92].into_iter().for_each(|at| word(to, at));
    [56, 64].into_iter().for_each(|at| long(to, at));
    [32, 40, 48].into_iter().for_each(|at| time(to, at));
    if large {
        long(to, 24);
        word(to, 76);
        put_be16(to, 80, 0);
    } else {
        put_be64(to, 24, 0);
        word(to, 76);
        half(to, 80);
    }
    if version == 3 {
        [104, 120, 152].into_iter().for_each(|at| long(to, at));
        word(to, 128);
        time(to, 144);
        put_be64(to, 112, lsn);
        to[160..176].copy_from_slice(&from[160..176]);
    }
}

/// A tree's root as it is in an inode of `room` bytes, from what is in memory.
fn root(from: &[u8], header: usize, room: usize) -> Option<Vec<u8>> {
    let (level, count) = (be16(from, 4), be16(from, 6));
    let most = from.len().checked_sub(header)? / RECORD;
    let fits = room.checked_sub(ROOT_HEADER)? / RECORD;
    let bytes = usize::from(count) * WORD;
    if usize::from(count) > most.min(fits) {
        return None;
    }
    let mut to = vec![0; room];
    put_be16(&mut to, 0, level);
    put_be16(&mut to, 2, count);
    to[ROOT_HEADER..ROOT_HEADER + bytes].copy_from_slice(&from[header..header + bytes]);
    let (source, target) = (header + most * WORD, ROOT_HEADER + fits * WORD);
    to[target..target + bytes].copy_from_slice(&from[source..source + bytes]);
    Some(to)
}

impl Replay<'_> {
    /// Replays an inode of a transaction with that sequence number.
    pub fn inode(&mut self, item: &Item, lsn: u64) -> Result<()> {
        let (head, from) = (item.region(0), item.region(1));
        let shift = match head.len() {
            LONG => 0,
            SHORT => 4,
            _ => return Err(Error::corrupt(format!("an inode's item has {} bytes", head.len()))),
        };
        let (fields, number) = (le32(head, 4), le64(head, 16 - shift));
        let (sector, count, inside) = (le64(head, 40 - shift), le32(head, 48 - shift), le32(head, 52 - shift));
        let bad = |what: &str| Error::corrupt(format!("inode {number} {what}"));
        if self.is_cancelled((sector, count as u16)) {
            return Ok(());
        }
        let size = self.superblock.inode;
        let at = sector.checked_mul(SECTOR as u64).and_then(|at| at.checked_add(inside.into()));
        let at = at.filter(|at| *at % size as u64 == 0).ok_or_else(|| bad("has a place that cannot be"))?;
        let mut inode = self.overlay.bytes(at, size).map_err(|_| bad("is outside the file system"))?;
        if be16(&inode, 0) != MAGIC || le16(from, 0) != MAGIC {
            return Err(bad("is not where it was logged"));
        }
        let version = u8_at(from, 4);
        let wanted = if self.superblock.has_sums() { CORE_3 } else { LOGGED_CORE };
        if from.len() < wanted || (version == 3) != self.superblock.has_sums() {
            return Err(bad(&format!("has version {version} and a core of {} bytes", from.len())));
        }
        if !self.is_inode_newer(&inode, from, lsn) {
            core(from, &mut inode, lsn);
            self.forks(item, fields, head, shift, &mut inode).map_err(bad)?;
            self.overlay.put(at, &inode)?;
        }
        for (fork, bit) in OWNER.into_iter().enumerate() {
            if fields & bit != 0 && be16(&inode, 2) != 0 {
                self.owners.insert((number, at, fork));
            }
        }
        self.inodes.insert(at);
        Ok(())
    }

    /// Whether the inode on the device has what a transaction says already.
    fn is_inode_newer(&self, inode: &[u8], from: &[u8], lsn: u64) -> bool {
        if self.superblock.has_sums() {
            let found = be64(inode, 112);
            return found != 0 && found != u64::MAX && found > lsn;
        }
        let (found, logged) = (be16(inode, 30), le16(from, 30));
        logged < found && !(found == FLUSHES_MAX && logged < FLUSHES_MAX >> 1)
    }

    fn forks(&self, item: &Item, fields: u32, head: &[u8], shift: usize, inode: &mut [u8]) -> Result<(), &'static str> {
        let (start, header) = match self.superblock.has_sums() {
            true => (CORE_3, HEADERS.1),
            false => (CORE, HEADERS.0),
        };
        let middle = start + usize::from(u8_at(inode, 82)) * 8;
        if middle > inode.len() {
            return Err("has a fork offset that cannot be");
        }
        if fields & DEVICE != 0 {
            put_be32(inode, start, le32(head, 24 - shift));
        }
        let end = inode.len();
        let data = if middle == start { start..end } else { start..middle };
        let has_data = fields & (DATA | DATA_ROOT) != 0;
        let attributes = if has_data { 3 } else { 2 };
        let parts = [
            (fields & DATA, fields & DATA_ROOT, data, 2),
            (fields & ATTRIBUTES, fields & ATTRIBUTES_ROOT, middle..end, attributes),
        ];
        for (plain, tree, range, region) in parts {
            let (from, room) = (item.region(region), range.len());
            let to = &mut inode[range];
            if tree != 0 {
                to.copy_from_slice(&root(from, header, room).ok_or("has a root that does not fit")?);
            } else if plain != 0 {
                to.get_mut(..from.len()).ok_or("has a fork that does not fit")?.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// Makes a chunk of new inodes.
    pub fn chunk(&mut self, item: &Item) -> Result<()> {
        let head = item.region(0);
        let (group, block, count) = (be32(head, 4), be32(head, 8), be32(head, 12));
        let (size, blocks, generation) = (be32(head, 16), be32(head, 20), be32(head, 24));
        let superblock = self.superblock;
        let number = u64::from(group) << superblock.group_log | u64::from(block);
        // Groups that the log adds are not in the superblock yet.
        let linear = u64::from(group) * u64::from(superblock.group_blocks) + u64::from(block);
        let place = linear.checked_mul(superblock.block as u64).filter(|_| block < superblock.group_blocks);
        let bytes = u64::from(blocks) * superblock.block as u64;
        let (Some(at), true) = (
            place,
            size as usize == superblock.inode
                && count <= CHUNK
                && bytes == u64::from(count) * u64::from(size)
                && u64::from(block) + u64::from(blocks) <= superblock.group_blocks.into(),
        ) else {
            return Err(Error::corrupt(format!("a chunk of {count} new inodes at block {number:#x} cannot be")));
        };
        if self.is_cancelled_in(at / SECTOR as u64..(at + bytes) / SECTOR as u64) {
            return Ok(());
        }
        let mut inode = vec![0; superblock.inode];
        put_be16(&mut inode, 0, MAGIC);
        inode[4] = if superblock.has_sums() { 3 } else { 2 };
        put_be32(&mut inode, 92, generation);
        put_be32(&mut inode, 96, NO_NEXT);
        for i in 0..u64::from(count) {
            if superblock.has_sums() {
                put_be64(&mut inode, 152, (number << superblock.inode_log) + i);
                inode[160..176].copy_from_slice(&superblock.meta_uuid);
            }
            let at = at + i * u64::from(size);
            self.overlay.put(at, &inode)?;
            self.inodes.insert(at);
        }
        Ok(())
    }
}
