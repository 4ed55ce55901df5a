//! What the items of a log change, applied to an overlay.
//!
//! Only what is read counts: blocks of directories, attributes, trees and links, inodes, the superblock, the counts of the groups.
//! Quota records are left out, and the lists of nodes without a name. Only version 5: its blocks say how old they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::overlay::Overlay;
use super::transaction::{Item, Transaction};
use crate::base::bytes::{be16, be32, be64, le16, le32, le64, put_be16, put_be32, put_be64, put_le32, u8_at};
use crate::base::{Error, Result};
use crate::disk::BlockDevice;
use crate::fs::xfs::inode;
use crate::fs::xfs::superblock::Superblock;

/// Kinds of items ("XFS Algorithms & Data Structures", "Log Items").
const BUFFER: u16 = 0x123c;
const INODE: u16 = 0x123b;
const CREATE: u16 = 0x123f;
/// Quota records and their end; extents to be freed, reverse maps, shared extents, each begun and done.
const LEFT_OUT: &[u16] = &[0x123d, 0x123e, 0x1236, 0x1237, 0x1240, 0x1241, 0x1242, 0x1243];
/// Begun and done: changes of maps, of attributes, exchanges of content. What is begun changes what is read.
const BEGUN: &[(u16, u16, &str)] = &[
    (0x1244, 0x1245, "a change of a file's map"),
    (0x1246, 0x1247, "a change of attributes"),
    (0x1248, 0x1249, "an exchange of two files' content"),
];

/// Flags of a buffer: inodes (of which only the lists of nodes without a name are logged), gone, quota records.
const OF_INODES: u16 = 0x1;
const GONE: u16 = 0x2;
const OF_QUOTA: u16 = 0x4 | 0x8 | 0x10;
/// Where a buffer's map of changed pieces begins, and bytes of a piece.
const PIECES: usize = 20;
const PIECE: usize = 128;
/// Bytes of the sectors in which the log counts, and most of a buffer.
const SECTOR: u64 = 512;
const BUFFER_MAX: usize = 64 << 10;

/// Fields of an inode item: which forks it has, in which form.
const DATA_BYTES: u32 = 0x2 | 0x4;
const DATA_ROOT: u32 = 0x8;
const DEVICE: u32 = 0x10;
const ATTRIBUTE_BYTES: u32 = 0x40 | 0x80;
const ATTRIBUTE_ROOT: u32 = 0x100;
const OWNER_CHANGES: u32 = 0x200 | 0x400;

/// Blocks of version 5: magic and its place, place of the LSN (0 for none) and of the checksum.
const SUMS: &[(u32, usize, usize)] = &[
    (u32::from_be_bytes(*b"AB3B"), 24, 52),
    (u32::from_be_bytes(*b"AB3C"), 24, 52),
    (u32::from_be_bytes(*b"IAB3"), 24, 52),
    (u32::from_be_bytes(*b"FIB3"), 24, 52),
    (u32::from_be_bytes(*b"RMB3"), 24, 52),
    (u32::from_be_bytes(*b"R3FC"), 24, 52),
    (u32::from_be_bytes(*b"BMA3"), 32, 64),
    (u32::from_be_bytes(*b"XAGF"), 208, 216),
    (u32::from_be_bytes(*b"XAFL"), 24, 32),
    (u32::from_be_bytes(*b"XAGI"), 320, 312),
    (u32::from_be_bytes(*b"XSLM"), 48, 12),
    (u32::from_be_bytes(*b"XDB3"), 16, 4),
    (u32::from_be_bytes(*b"XDD3"), 16, 4),
    (u32::from_be_bytes(*b"XDF3"), 16, 4),
    (u32::from_be_bytes(*b"XARM"), 0, 12),
    (u32::from_be_bytes(*b"XFSB"), 240, 224),
];
/// The same for blocks with 16 bits of magic at byte 8: leaves and nodes of directories and attributes.
const SUMS_16: &[u16] = &[0x3df1, 0x3dff, 0x3ebe, 0x3bee];

/// Where a block has its LSN (0 for none) and its checksum.
fn sum_of(block: &[u8]) -> Option<(usize, usize)> {
    if SUMS_16.contains(&be16(block, 8)) {
        return Some((24, 12));
    }
    SUMS.iter().find(|(magic, ..)| *magic == be32(block, 0)).map(|(_, lsn, sum)| (*lsn, *sum))
}

fn stamp(block: &mut [u8], at: usize) {
    put_le32(block, at, 0);
    let sum = crc32c::crc32c(block);
    put_le32(block, at, sum);
}

fn bad<T>(what: impl std::fmt::Display) -> Result<T> {
    Err(Error::corrupt(format!("xfs: log: {what}")))
}

/// Where a buffer is: first sector and number of sectors.
type Place = (u64, u64);

/// Buffers that a log says are gone, so that older changes of them are not made: how often it says so.
#[derive(Default)]
pub struct Gone(BTreeMap<Place, u32>);

/// The place of a buffer item.
fn place_of(item: &Item) -> Place {
    (le64(item.region(0), 8), le16(item.region(0), 6).into())
}

impl Gone {
    /// Takes note of what a transaction says.
    pub fn note(&mut self, transaction: &Transaction) {
        for item in transaction.items.iter().filter(|item| item.kind() == BUFFER && le16(item.region(0), 4) & GONE != 0)
        {
            *self.0.entry(place_of(item)).or_insert(0) += 1;
        }
    }

    /// One mention was reached.
    fn reached(&mut self, place: Place) {
        if let Some(count) = self.0.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&place);
            }
        }
    }

    fn has(&self, place: Place) -> bool {
        self.0.contains_key(&place)
    }

    /// Whether any buffer in a range of sectors is gone.
    fn has_in(&self, first: u64, count: u64) -> bool {
        self.0.range((first, 0)..(first.saturating_add(count), 0)).next().is_some()
    }
}

/// A replay in work.
pub struct Replay<'a> {
    pub superblock: &'a Superblock,
    pub overlay: Overlay,
    pub gone: Gone,
    /// Operations that were begun and not done, by kind and number.
    begun: HashMap<(u16, u64), &'static str>,
    unknown: BTreeSet<u16>,
}

impl<'a> Replay<'a> {
    pub fn new(superblock: &'a Superblock, overlay: Overlay, gone: Gone) -> Self {
        Replay { superblock, overlay, gone, begun: HashMap::new(), unknown: BTreeSet::new() }
    }

    /// Makes the changes of a transaction: blocks first, as inodes lie in them.
    ///
    /// # Errors
    /// `Kind::Corrupt`, `Kind::Unsupported` for what is not handled.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<()> {
        let is_block = |item: &&Item| matches!(item.kind(), BUFFER | CREATE);
        for item in transaction.items.iter().filter(is_block) {
            match item.kind() {
                CREATE => self.create(item)?,
                _ if le16(item.region(0), 4) & GONE == 0 => self.buffer(item, transaction.lsn)?,
                _ => {}
            }
        }
        for item in transaction.items.iter().filter(|item| !is_block(item)) {
            match item.kind() {
                INODE => self.inode(item, transaction.lsn)?,
                kind if LEFT_OUT.contains(&kind) => {}
                kind => self.deferred(kind, item),
            }
        }
        for item in transaction.items.iter().filter(|item| item.kind() == BUFFER) {
            if le16(item.region(0), 4) & GONE != 0 {
                self.gone.reached(place_of(item));
            }
        }
        Ok(())
    }

    /// What is left when the log ends.
    ///
    /// # Errors
    /// `Kind::Unsupported` names what is not replayed.
    pub fn finish(self) -> Result<Overlay> {
        if let Some(kind) = self.unknown.first() {
            return Err(Error::unsupported(format!("xfs: log: items of kind {kind:#x} are not known")));
        }
        match self.begun.values().next() {
            Some(what) => Err(Error::unsupported(format!("xfs: log: {what} was begun and is not finished"))),
            None => Ok(self.overlay),
        }
    }

    fn deferred(&mut self, kind: u16, item: &Item) {
        let id = le64(item.region(0), 8);
        match BEGUN.iter().find(|(begun, done, _)| kind == *begun || kind == *done) {
            Some((begun, _, what)) if kind == *begun => drop(self.begun.insert((*begun, id), what)),
            Some((begun, ..)) => drop(self.begun.remove(&(*begun, id))),
            None => drop(self.unknown.insert(kind)),
        }
    }

    fn bytes(&self, first: u64, len: usize) -> Result<(u64, Vec<u8>)> {
        let Some(offset) = first.checked_mul(SECTOR).filter(|_| len <= BUFFER_MAX) else {
            return bad(format!("a buffer of {len} bytes at sector {first}"));
        };
        let mut bytes = vec![0; len];
        match self.overlay.read_at(offset, &mut bytes) {
            Ok(()) => Ok((offset, bytes)),
            Err(_) if offset.saturating_add(len as u64) > self.overlay.len() => {
                bad(format!("a buffer at sector {first}, outside the file system"))
            }
            Err(error) => Err(error),
        }
    }

    fn buffer(&mut self, item: &Item, lsn: u64) -> Result<()> {
        let format = item.region(0);
        let place = place_of(item);
        if self.gone.has(place) || le16(format, 4) & (OF_INODES | OF_QUOTA) != 0 {
            return Ok(());
        }
        let (offset, mut bytes) = self.bytes(place.0, place.1 as usize * SECTOR as usize)?;
        if let Some((at, _)) = sum_of(&bytes).filter(|(at, _)| *at != 0)
            && self.is_ours(&bytes, at)
            && !matches!(be64(&bytes, at), 0 | u64::MAX)
            && be64(&bytes, at) >= lsn
        {
            return Ok(());
        }
        let words = (le32(format, 16) as usize).min(BUFFER_MAX / PIECE / 32);
        let is_changed =
            |piece: usize| piece / 32 < words && le32(format, PIECES + piece / 32 * 4) >> (piece % 32) & 1 == 1;
        let (mut piece, mut region) = (0, 1);
        while piece < words * 32 {
            if !is_changed(piece) {
                piece += 1;
                continue;
            }
            let run = (piece..words * 32).take_while(|piece| is_changed(*piece)).count();
            let source = item.region(region);
            let run = run.min(source.len() / PIECE);
            let target = bytes.get_mut(piece * PIECE..(piece + run) * PIECE);
            let (Some(target), Some(source)) = (target, source.get(..run * PIECE)) else {
                return bad(format!("a change behind the end of the buffer at sector {}", place.0));
            };
            if run == 0 {
                return bad(format!("a change of the buffer at sector {} without its bytes", place.0));
            }
            target.copy_from_slice(source);
            (piece, region) = (piece + run, region + 1);
        }
        self.stamp_block(&mut bytes);
        self.overlay.patch(offset, &bytes)
    }

    /// Whether a block has the file system's UUID: else it is what was there before, and its LSN says nothing. It lies behind the
    /// LSN but in groups' headers and links.
    fn is_ours(&self, bytes: &[u8], lsn: usize) -> bool {
        let at = match be32(bytes, 0).to_be_bytes().as_slice() {
            b"XAGF" => 64,
            b"XAGI" => 296,
            b"XAFL" => 8,
            b"XSLM" => 16,
            b"XFSB" => return true,
            _ => lsn + 8,
        };
        bytes.get(at..at + 16) == Some(&self.superblock.meta_uuid[..])
    }

    fn stamp_block(&self, bytes: &mut [u8]) {
        if be16(bytes, 0) == inode::MAGIC {
            let size = self.superblock.inode;
            bytes.chunks_exact_mut(size).filter(|slot| u8_at(slot, 4) == 3).for_each(|slot| stamp(slot, inode::CRC));
        } else if let Some((_, sum)) = sum_of(bytes) {
            stamp(bytes, sum);
        }
    }

    /// New inodes, of which nothing but that is logged.
    fn create(&mut self, item: &Item) -> Result<()> {
        let format = item.region(0);
        let (group, block, count) = (be32(format, 4), be32(format, 8), be32(format, 12));
        let (size, blocks, generation) = (be32(format, 16) as usize, be32(format, 20), be32(format, 24));
        let superblock = self.superblock;
        let number = u64::from(group) << superblock.group_log | u64::from(block);
        let Some(place) = superblock.place(number) else { return bad(format!("inodes made at block {number:#x}")) };
        let len = blocks as usize * superblock.block;
        if size != superblock.inode || len > BUFFER_MAX * 4 || count as usize * size != len {
            return bad(format!("{count} inodes of {size} bytes made in {blocks} blocks"));
        }
        if self.gone.has_in(place / SECTOR, len as u64 / SECTOR) {
            return Ok(());
        }
        let mut bytes = vec![0; len];
        for (index, slot) in bytes.chunks_exact_mut(size).enumerate() {
            put_be16(slot, 0, inode::MAGIC);
            slot[4] = 3;
            put_be32(slot, 92, generation);
            put_be32(slot, 96, u32::MAX);
            put_be64(slot, 152, (number << superblock.inode_log) + index as u64);
            slot[160..176].copy_from_slice(&superblock.meta_uuid);
            stamp(slot, inode::CRC);
        }
        self.overlay.patch(place, &bytes)
    }

    fn inode(&mut self, item: &Item, lsn: u64) -> Result<()> {
        let format = Format::new(item.region(0))?;
        if self.gone.has((format.first, format.sectors)) {
            return Ok(());
        }
        if format.fields & OWNER_CHANGES != 0 {
            return Err(Error::unsupported("xfs: log: trees that went to another file"));
        }
        let size = self.superblock.inode;
        let (offset, cluster) = self.bytes(format.first, format.sectors as usize * SECTOR as usize)?;
        let Some(old) = cluster.get(format.offset..format.offset.saturating_add(size)) else {
            return bad(format!("inode {}: outside its buffer", format.number));
        };
        let core = item.region(1);
        if be16(old, 0) != inode::MAGIC || le16(core, 0) != inode::MAGIC || u8_at(core, 4) != 3 {
            return bad(format!("inode {}: no inode is in its place", format.number));
        }
        let mut slot = old.to_vec();
        if !matches!(be64(old, 112), 0 | u64::MAX) && be64(old, 112) > lsn {
            return Ok(());
        }
        convert_core(core, &mut slot, lsn, format.number)?;
        put_forks(item, &format, &mut slot)?;
        stamp(&mut slot, inode::CRC);
        self.overlay.patch(offset + format.offset as u64, &slot)
    }
}

/// What an inode item begins with: two forms, by the padding in front of the number.
struct Format {
    regions: usize,
    fields: u32,
    number: u64,
    device: u32,
    /// The buffer with the inode, in sectors, and the inode's place in it.
    first: u64,
    sectors: u64,
    offset: usize,
}

impl Format {
    fn new(bytes: &[u8]) -> Result<Self> {
        let at = match bytes.len() {
            56 => 16,
            52 => 12,
            other => return bad(format!("an inode item of {other} bytes")),
        };
        let behind = at + 24;
        Ok(Format {
            regions: le16(bytes, 2).into(),
            fields: le32(bytes, 4),
            number: le64(bytes, at),
            device: le32(bytes, at + 8),
            first: le64(bytes, behind),
            sectors: le32(bytes, behind + 8).into(),
            offset: le32(bytes, behind + 12) as usize,
        })
    }
}

/// Puts the logged forks behind the core.
fn put_forks(item: &Item, format: &Format, slot: &mut [u8]) -> Result<()> {
    let core = inode::CORE_3;
    let fork_offset = usize::from(u8_at(slot, 82)) * 8;
    let attributes = core + fork_offset;
    if attributes > slot.len() {
        return bad(format!("inode {}: its forkoff is {}", format.number, fork_offset / 8));
    }
    let data_end = if fork_offset == 0 { slot.len() } else { attributes };
    let outside = || bad(format!("inode {}: a fork does not fit", format.number));
    if format.fields & DEVICE != 0 {
        put_be32(slot, core, format.device);
    }
    let mut region = 2;
    for (bytes, root, area) in
        [(DATA_BYTES, DATA_ROOT, core..data_end), (ATTRIBUTE_BYTES, ATTRIBUTE_ROOT, attributes..slot.len())]
    {
        if format.fields & (bytes | root) == 0 || region >= format.regions {
            continue;
        }
        let source = item.region(region);
        region += 1;
        let Some(target) = slot.get_mut(area) else { return outside() };
        if format.fields & root != 0 {
            if put_root(source, target).is_none() {
                return outside();
            }
        } else {
            let Some(target) = target.get_mut(..source.len()) else { return outside() };
            target.copy_from_slice(source);
        }
    }
    Ok(())
}

/// The core of an inode: logged in the order of the machine, which must be that of this one's disk images: little endian.
fn convert_core(core: &[u8], slot: &mut [u8], lsn: u64, number: u64) -> Result<()> {
    if core.len() < inode::CORE_3 || slot.len() < inode::CORE_3 {
        return bad(format!("inode {number}: a core of {} bytes", core.len()));
    }
    let flags2 = le64(core, 120);
    // Fields by their width; what is not named is bytes, or stays.
    let mut widths =
        vec![(2, 0..4), (4, 8..20), (2, 20..24), (8, 56..72), (4, 72..76), (4, 84..88), (2, 88..92), (4, 92..96)];
    widths.push(if flags2 & inode::BIGTIME != 0 { (8, 32..56) } else { (4, 32..56) });
    if flags2 & inode::NREXT64 != 0 {
        widths.extend([(8, 24..32), (4, 76..80), (2, 80..82)]);
    } else {
        widths.extend([(4, 76..80), (2, 80..82)]);
        slot[24..32].fill(0);
    }
    widths.extend([(8, 104..112), (8, 120..128), (4, 128..132), (8, 152..160)]);
    widths.push(if flags2 & inode::BIGTIME != 0 { (8, 144..152) } else { (4, 144..152) });
    slot[6..8].fill(0);
    for bytes in [4..6, 82..84, 132..144, 160..176] {
        slot[bytes.clone()].copy_from_slice(&core[bytes]);
    }
    put_be64(slot, 112, lsn);
    for (width, range) in widths {
        let fields = slot[range.clone()].chunks_exact_mut(width).zip(core[range].chunks_exact(width));
        fields.for_each(|(to, from)| to.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from));
    }
    Ok(())
}

/// The root of a tree: in memory it has the header of a block, in the inode a short one. Keys and pointers lie in two rows, each with
/// room for as many as fit.
fn put_root(source: &[u8], target: &mut [u8]) -> Option<()> {
    let header = 72;
    let room = |len: usize, header: usize| len.checked_sub(header).map(|rest| rest / 16);
    let (from, to) = (room(source.len(), header)?, room(target.len(), 4)?);
    let count = usize::from(be16(source, 6));
    if count > from || count > to {
        return None;
    }
    target[..2].copy_from_slice(&source[4..6]);
    target[2..4].copy_from_slice(&source[6..8]);
    target[4..4 + count * 8].copy_from_slice(&source[header..header + count * 8]);
    let (from, to) = (header + from * 8, 4 + to * 8);
    target[to..to + count * 8].copy_from_slice(&source[from..from + count * 8]);
    Some(())
}
