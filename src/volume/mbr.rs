//! Master boot records with their chain of logical partitions.
//!
//! Byte tables: `docs/formats/mbr.md`.

use std::ops::Range;

use super::read_bytes;
use super::{Partition, PartitionType, Role, Table, TableEdit, TableKind, no_entry, no_overlap, no_partition, wanted};
use crate::base::bytes::{le16, le32, put_le16, put_le32, u8_at};
use crate::base::{Error, Kind, Result, Uuid};
use crate::disk::Device;

const ENTRIES: usize = 446;
const ENTRY: usize = 16;
const SIGNATURE: u16 = 0xaa55;
const DISK_ID: usize = 440;

/// The type of a protective entry.
const PROTECTIVE: u8 = 0xee;
const LINUX: u8 = 0x83;
/// Extended, addressed in sectors: what parted makes.
const EXTENDED_LBA: u8 = 0x0f;

/// Logical partitions that are followed; Linux stops at 256 partitions of a disk.
const LOGICAL_MAX: usize = 252;

/// An entry of a table sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    kind: u8,
    active: bool,
    /// As stored: relative to something in an extended partition.
    start: u32,
    len: u32,
}

fn slot_at(slot: usize) -> usize {
    ENTRIES + slot * ENTRY
}

fn entry(sector: &[u8], slot: usize) -> Entry {
    let at = slot_at(slot);
    Entry {
        kind: u8_at(sector, at + 4),
        active: u8_at(sector, at) & 0x80 != 0,
        start: le32(sector, at + 8),
        len: le32(sector, at + 12),
    }
}

impl Entry {
    fn is_used(&self) -> bool {
        self.kind != 0 && self.len != 0
    }
    fn is_extended(&self) -> bool {
        self.is_used() && matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
    fn range(&self, base: u64) -> Range<u64> {
        let start = base + u64::from(self.start);
        start..start + u64::from(self.len)
    }
}

fn has_signature(sector: &[u8]) -> bool {
    le16(sector, 510) == SIGNATURE
}

/// Whether a first sector belongs to a GPT.
pub(super) fn is_protective(sector: &[u8]) -> bool {
    has_signature(sector) && (0..4).any(|slot| entry(sector, slot).kind == PROTECTIVE)
}

/// Whether a protective record lists partitions of its own, for programs that do not know GPT.
pub(super) fn is_hybrid(sector: &[u8]) -> bool {
    (0..4).any(|slot| !matches!(entry(sector, slot).kind, 0 | PROTECTIVE))
}

/// Cylinder, head, sector of the usual made-up geometry (255 heads, 63 sectors), as stored; the highest
/// value where it does not fit (ATA, and what every partitioning program writes).
fn chs(sector: u64) -> [u8; 3] {
    let (cylinder, head, sector) = (sector / (255 * 63), sector / 63 % 255, sector % 63 + 1);
    match cylinder {
        // Head, the cylinder's high bits above the sector, the cylinder's low byte: each is below 256.
        0..=1023 => [head as u8, (cylinder >> 8 << 6) as u8 | sector as u8, cylinder as u8],
        _ => [0xfe, 0xff, 0xff],
    }
}

/// Writes an entry; `base` is what its start is relative to.
fn put_entry(sector: &mut [u8], slot: usize, kind: u8, range: &Range<u64>, base: u64) -> Result<()> {
    let number = |n: u64| u32::try_from(n).map_err(|_| too_far());
    let (start, len) = (number(range.start - base)?, number(range.end - range.start)?);
    let at = slot_at(slot);
    if let Some(entry) = sector.get_mut(at..at + ENTRY) {
        entry[0] = 0;
        entry[1..4].copy_from_slice(&chs(range.start));
        entry[4] = kind;
        entry[5..8].copy_from_slice(&chs(range.end - 1));
        put_le32(entry, 8, start);
        put_le32(entry, 12, len);
    }
    Ok(())
}

fn too_far() -> Error {
    Error::new(Kind::Invalid, "an MBR cannot address sectors past 2^32 (2 TiB with 512-byte sectors)")
        .hint("use a gpt table")
}

/// The protective entry over a disk of `total` sectors, in slot `slot` (UEFI 2.10, table 5-4).
pub(super) fn put_protective(sector: &mut [u8], slot: usize, total: u64) {
    let at = slot_at(slot);
    if let Some(entry) = sector.get_mut(at..at + ENTRY) {
        entry[1..8].copy_from_slice(&[0x00, 0x02, 0x00, PROTECTIVE, 0xff, 0xff, 0xff]);
        put_le32(entry, 8, 1);
        put_le32(entry, 12, u32::try_from(total.saturating_sub(1)).unwrap_or(u32::MAX));
    }
    put_le16(sector, 510, SIGNATURE);
}

/// The slot of the protective entry.
pub(super) fn protective_slot(sector: &[u8]) -> usize {
    (0..4).find(|slot| entry(sector, *slot).kind == PROTECTIVE).unwrap_or(0)
}

/// Whether a first sector is that of FAT, exFAT or NTFS: they carry the same signature.
fn is_boot_sector(sector: &[u8]) -> bool {
    let name = sector.get(3..11).unwrap_or_default();
    let sector_size = le16(sector, 11);
    let cluster = u8_at(sector, 13);
    let fat = matches!(sector_size, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && le16(sector, 14) != 0
        && matches!(u8_at(sector, 16), 1 | 2)
        && matches!(u8_at(sector, 21), 0xf0 | 0xf8..=0xff);
    fat || name == b"NTFS    " || name == b"EXFAT   "
}

/// A logical partition and where it is written down.
#[derive(Debug, Clone)]
struct Logical {
    /// Sector of the table that has it.
    table: u64,
    slot: usize,
    entry: Entry,
}

impl Logical {
    fn range(&self) -> Range<u64> {
        self.entry.range(self.table)
    }
}

/// The master boot record of a disk.
pub(super) struct Mbr {
    /// The first 512 bytes.
    first: Vec<u8>,
    sector: u64,
    total: u64,
    /// The tables of the extended partition in the order of the chain: sector, and bytes.
    chain: Vec<(u64, Vec<u8>)>,
    logical: Vec<Logical>,
}

impl Mbr {
    /// The table that begins with `first`. `None` if that is no master boot record.
    pub(super) fn read(device: &Device, first: Vec<u8>) -> Result<Option<Self>> {
        if !has_signature(&first) || (0..4).any(|slot| u8_at(&first, slot_at(slot)) & 0x7f != 0) {
            return Ok(None);
        }
        let used: Vec<Entry> = (0..4).map(|slot| entry(&first, slot)).filter(Entry::is_used).collect();
        let sector = u64::from(device.sector());
        let total = device.len() / sector;
        let plausible = |e: &Entry| e.start != 0 && u64::from(e.start) < total;
        if is_boot_sector(&first) && (used.is_empty() || !used.iter().all(plausible)) {
            return Ok(None);
        }
        let mut mbr = Mbr { first, sector, total, chain: Vec::new(), logical: Vec::new() };
        mbr.read_chain(device)?;
        Ok(Some(mbr))
    }

    fn extended(&self) -> Option<(usize, Range<u64>)> {
        let all = (0..4).map(|slot| (slot, entry(&self.first, slot)));
        all.filter(|(_, e)| e.is_extended()).map(|(slot, e)| (slot, e.range(0))).next()
    }

    /// Follows the extended partition's chain, as far as it is sound: it ends at a table without the
    /// signature, outside the disk, or that was seen before.
    fn read_chain(&mut self, device: &Device) -> Result<()> {
        let Some((_, extended)) = self.extended() else { return Ok(()) };
        let mut next = Some(extended.start);
        while let Some(table) = next.take() {
            let seen = self.chain.iter().any(|(at, _)| *at == table);
            if seen || table >= self.total || self.chain.len() > LOGICAL_MAX {
                break;
            }
            let bytes = read_bytes(device, table * self.sector, 512)?;
            if !has_signature(&bytes) {
                break;
            }
            for slot in 0..4 {
                let entry = entry(&bytes, slot);
                if entry.is_extended() {
                    next = next.or(Some(extended.start + u64::from(entry.start)));
                    continue;
                }
                let range = entry.range(table);
                // The third and fourth entry are rubbish more often than not; Linux wants them inside.
                let inside = range.start >= extended.start && range.end <= extended.end;
                if entry.is_used() && (slot < 2 || inside) && self.logical.len() < LOGICAL_MAX {
                    self.logical.push(Logical { table, slot, entry });
                }
            }
            self.chain.push((table, bytes));
        }
        Ok(())
    }

    pub(super) fn table(&self) -> Table {
        let mut partitions = Vec::new();
        let mut add = |number: usize, role, entry: &Entry, range: Range<u64>| {
            partitions.push(Partition {
                number: number as u32,
                start: range.start * self.sector,
                len: (range.end - range.start) * self.sector,
                role,
                kind: PartitionType::Mbr(entry.kind),
                guid: None,
                name: String::new(),
                attributes: 0,
                bootable: entry.active,
            });
        };
        let extended = self.extended().map(|(slot, _)| slot);
        for slot in 0..4 {
            let entry = entry(&self.first, slot);
            let role = if extended == Some(slot) { Role::Extended } else { Role::Primary };
            if entry.is_used() {
                add(slot + 1, role, &entry, entry.range(0));
            }
        }
        for (i, logical) in self.logical.iter().enumerate() {
            add(i + 5, Role::Logical, &logical.entry, logical.range());
        }
        Table { kind: TableKind::Mbr, sector: self.sector as u32, disk_guid: None, partitions }
    }

    /// An empty table; the boot code stays.
    pub(super) fn create(device: &Device, guid: Uuid) -> Result<()> {
        if device.len() < 512 {
            return Err(Error::new(Kind::NoSpace, "the disk is too small for a partition table"));
        }
        let mut first = read_bytes(device, 0, 512)?;
        first[DISK_ID..].fill(0);
        first[DISK_ID..DISK_ID + 4].copy_from_slice(&guid.0[..4]);
        put_le16(&mut first, 510, SIGNATURE);
        device.write_at(0, &first)
    }

    pub(super) fn edit(mut self, device: &Device, edit: &TableEdit) -> Result<()> {
        match edit {
            TableEdit::Add { role, start_sector, end_sector, .. } => {
                let wanted = wanted(self.total, *start_sector, *end_sector)?;
                match role {
                    Role::Logical => self.add_logical(device, wanted),
                    role => self.add_primary(device, wanted, *role == Role::Extended),
                }
            }
            TableEdit::Delete { number } => self.delete(device, *number),
            TableEdit::Resize { number, end_sector } => self.resize(device, *number, *end_sector),
            TableEdit::SetBootable { number, bootable } => {
                if *bootable {
                    // Boot code takes the first active one, so there is to be one; parted has it so, too.
                    self.find(*number)?;
                    (0..4).for_each(|slot| self.first[slot_at(slot)] &= 0x7f);
                    device.write_at(0, &self.first)?;
                    for other in (5..).take(self.logical.len()).filter(|other| other != number) {
                        self.change(device, other, |entry| entry[0] &= 0x7f)?;
                    }
                }
                self.change(device, *number, |entry| entry[0] = if *bootable { 0x80 } else { 0 })
            }
            TableEdit::SetMbrId { number, id } => {
                if *id == 0 {
                    return Err(Error::new(Kind::Invalid, "id 0 marks a free entry").hint("delete it with part-del"));
                }
                self.change(device, *number, |entry| entry[4] = *id)
            }
            _ => Err(Error::new(Kind::Invalid, "this can only be done on a GUID partition table")),
        }
    }

    /// The primary and the extended partition, with numbers.
    fn primaries(&self) -> impl Iterator<Item = (u32, Range<u64>)> + '_ {
        let all = (0..4).map(|slot| (slot as u32 + 1, entry(&self.first, slot)));
        all.filter(|(_, e)| e.is_used()).map(|(number, e)| (number, e.range(0)))
    }

    /// What takes space in the extended partition: logical partitions and the sectors of the chain, which
    /// count for the extended one (number 0 stands for its number).
    fn inside(&self) -> impl Iterator<Item = (u32, Range<u64>)> + '_ {
        let logical = self.logical.iter().enumerate().map(|(i, l)| (i as u32 + 5, l.range()));
        let extended = self.extended().map_or(0, |(slot, _)| slot as u32 + 1);
        logical.chain(self.chain.iter().map(move |(table, _)| (extended, *table..table + 1)))
    }

    fn add_primary(&mut self, device: &Device, wanted: Range<u64>, extended: bool) -> Result<()> {
        if extended && self.extended().is_some() {
            return Err(Error::new(Kind::Exists, "there is an extended partition already"));
        }
        if wanted.start == 0 {
            return Err(Error::new(Kind::Invalid, "sector 0 holds the partition table"));
        }
        no_overlap(&wanted, self.primaries())?;
        let free = (0..4).find(|slot| !entry(&self.first, *slot).is_used());
        let slot = free.ok_or_else(|| no_entry().hint("delete one, or make an extended partition and logical ones"))?;
        if extended {
            // An old chain there must not come back to life.
            device.zero(wanted.start * self.sector..(wanted.start + 1) * self.sector)?;
        }
        put_entry(&mut self.first, slot, if extended { EXTENDED_LBA } else { LINUX }, &wanted, 0)?;
        device.write_at(0, &self.first)
    }

    fn add_logical(&mut self, device: &Device, wanted: Range<u64>) -> Result<()> {
        let (_, extended) = self.extended().ok_or_else(|| {
            Error::new(Kind::Invalid, "there is no extended partition for a logical one")
                .hint("add one with role extended")
        })?;
        if wanted.start <= extended.start || wanted.end > extended.end {
            return Err(Error::new(
                Kind::Invalid,
                format!("a logical partition must be inside sectors {} to {}", extended.start + 1, extended.end - 1),
            ));
        }
        no_overlap(&wanted, self.inside())?;
        if self.logical.len() >= LOGICAL_MAX {
            return Err(no_entry());
        }
        let new_sector = || {
            let mut bytes = vec![0; 512];
            put_le16(&mut bytes, 510, SIGNATURE);
            bytes
        };
        // The first one is described at the start of the extended partition.
        if self.logical.is_empty() {
            let mut bytes = self.chain.first().map_or_else(new_sector, |(_, bytes)| bytes.clone());
            bytes[ENTRIES..510].fill(0);
            put_entry(&mut bytes, 0, LINUX, &wanted, extended.start)?;
            return device.write_at(extended.start * self.sector, &bytes);
        }
        // The others in the sector before them, linked from the end of the chain, so that the numbers of the
        // older ones stay.
        let table = wanted.start - 1;
        if table <= extended.start || self.inside().any(|(_, r)| r.contains(&table)) {
            return Err(Error::new(
                Kind::Invalid,
                format!("the sector before {} must be free for the table of a logical partition", wanted.start),
            ));
        }
        let mut bytes = new_sector();
        put_entry(&mut bytes, 0, LINUX, &wanted, table)?;
        let sector = self.sector;
        let Some((last, last_bytes)) = self.chain.last_mut() else { return Err(no_entry()) };
        let slot = (1..4).find(|slot| !entry(last_bytes, *slot).is_used()).ok_or_else(no_entry)?;
        put_entry(last_bytes, slot, 0x05, &(table..wanted.end), extended.start)?;
        device.write_at(table * sector, &bytes)?;
        device.write_at(*last * sector, last_bytes)
    }

    /// Changes the entry of a partition, wherever it stands.
    fn change(&mut self, device: &Device, number: u32, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let (table, slot) = self.find(number)?;
        let bytes = match table {
            0 => &mut self.first,
            _ => self
                .chain
                .iter_mut()
                .find(|(at, _)| *at == table)
                .map(|(_, b)| b)
                .ok_or_else(|| no_partition(number))?,
        };
        let at = slot_at(slot);
        change(bytes.get_mut(at..at + ENTRY).ok_or_else(|| no_partition(number))?);
        device.write_at(table * self.sector, bytes)
    }

    /// Table sector and slot of a partition.
    fn find(&self, number: u32) -> Result<(u64, usize)> {
        let place = match number {
            1..=4 => Some((0, number as usize - 1)).filter(|(_, slot)| entry(&self.first, *slot).is_used()),
            _ => (number as usize).checked_sub(5).and_then(|i| self.logical.get(i)).map(|l| (l.table, l.slot)),
        };
        place.ok_or_else(|| no_partition(number))
    }

    fn delete(&mut self, device: &Device, number: u32) -> Result<()> {
        let (table, _) = self.find(number)?;
        let position = self.chain.iter().position(|(at, _)| *at == table);
        if let Some(i) = position.filter(|i| *i > 0 && number > 4) {
            // Its table leaves the chain; the one before takes over the link to the next.
            let siblings = self.logical.iter().filter(|l| l.table == table).count();
            if siblings == 1 {
                let link = (0..4).find(|slot| entry(&self.chain[i].1, *slot).is_extended());
                let link = link.map(|slot| self.chain[i].1[slot_at(slot)..slot_at(slot) + ENTRY].to_vec());
                let (before, bytes) = &mut self.chain[i - 1];
                let slot = (0..4).find(|slot| entry(bytes, *slot).is_extended()).unwrap_or(1);
                bytes[slot_at(slot)..slot_at(slot) + ENTRY].copy_from_slice(&link.unwrap_or_else(|| vec![0; ENTRY]));
                return device.write_at(*before * self.sector, bytes);
            }
        }
        self.change(device, number, |entry| entry.fill(0))
    }

    fn resize(&mut self, device: &Device, number: u32, end_sector: i64) -> Result<()> {
        let (table, slot) = self.find(number)?;
        let old = match self.logical.get((number as usize).wrapping_sub(5)) {
            Some(logical) if number > 4 => logical.range(),
            _ => entry(&self.first, slot).range(0),
        };
        let start = i64::try_from(old.start).map_err(|_| too_far())?;
        let new = wanted(self.total, start, end_sector)?;
        if number > 4 {
            let limit = self.extended().map_or(0, |(_, r)| r.end);
            if new.end > limit {
                return Err(Error::new(
                    Kind::Invalid,
                    format!("the extended partition ends at sector {}", limit.max(1) - 1),
                ));
            }
            no_overlap(&new, self.inside().filter(|(n, _)| *n != number))?;
        } else {
            no_overlap(&new, self.primaries().filter(|(n, _)| *n != number))?;
            let is_extended = self.extended().is_some_and(|(extended, _)| extended == slot);
            if let Some((n, _)) = self.inside().find(|(_, r)| is_extended && r.end > new.end) {
                return Err(Error::new(Kind::Invalid, format!("partition {n} would no longer be inside")));
            }
        }
        let len = u32::try_from(new.end - new.start).map_err(|_| too_far())?;
        self.change(device, number, |entry| {
            entry[5..8].copy_from_slice(&chs(new.end - 1));
            put_le32(entry, 12, len);
        })?;
        // The link to a logical partition's table spans the partition too.
        let before = self.chain.iter().position(|(at, _)| *at == table).and_then(|i| i.checked_sub(1));
        if let Some((before, bytes)) = before.and_then(|i| self.chain.get_mut(i))
            && let Some(link) = (0..4).find(|slot| entry(bytes, *slot).is_extended())
        {
            let at = slot_at(link);
            bytes[at + 5..at + 8].copy_from_slice(&chs(new.end - 1));
            put_le32(bytes, at + 12, u32::try_from(new.end - table).map_err(|_| too_far())?);
            device.write_at(*before * self.sector, bytes)?;
        }
        Ok(())
    }
}
