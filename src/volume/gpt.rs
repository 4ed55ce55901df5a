//! GUID partition tables (UEFI 2.10, chapter 5).
//!
//! Byte tables: `docs/formats/gpt.md`. Both headers and both entry arrays are kept as they were read and
//! changed in place.

use std::ops::Range;

use super::{
    Partition, PartitionType, Role, Table, TableEdit, TableKind, mbr, no_entry, no_overlap, no_partition, read_bytes,
    wanted,
};
use crate::base::bytes::{is_zero, le16, le32, le64, put_le32, put_le64};
use crate::base::{Error, Kind, Result, Uuid};
use crate::disk::Device;

const MAGIC: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
/// What is defined of a header.
const HEADER: u32 = 92;
/// Entries of a new table, and their size.
const ENTRIES: u64 = 128;
const ENTRY: u64 = 128;
/// Longest entry array that is read: 1 MiB, 64 times the usual one.
const ARRAY_MAX: u64 = 1 << 20;
/// UTF-16 units of a name.
const NAME: usize = 36;

/// c12a7328-f81f-11d2-ba4b-00a0c93ec93b: EFI system partition.
const EFI_SYSTEM: Uuid =
    Uuid([0xc1, 0x2a, 0x73, 0x28, 0xf8, 0x1f, 0x11, 0xd2, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b]);
/// 0fc63daf-8483-4772-8e79-3d69d8477de4: Linux file system data.
const LINUX: Uuid =
    Uuid([0x0f, 0xc6, 0x3d, 0xaf, 0x84, 0x83, 0x47, 0x72, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4]);

/// A GUID partition table.
pub(super) struct Gpt {
    sector: u64,
    /// Sectors of the disk.
    total: u64,
    /// The first 512 bytes of the disk.
    protective: Vec<u8>,
    /// A whole sector: what is behind the defined fields stays.
    header: Vec<u8>,
    /// The entries, up to the end of their last sector.
    array: Vec<u8>,
    count: u64,
    size: u64,
    /// Where a whole backup was found, if not at the end of the disk.
    from_backup: bool,
}

fn guid(bytes: &[u8], at: usize) -> Uuid {
    let stored = bytes.get(at..at.saturating_add(16)).and_then(|b| b.try_into().ok());
    Uuid::from_gpt(stored.unwrap_or_default())
}

fn put_guid(bytes: &mut [u8], at: usize, guid: Uuid) {
    if let Some(place) = at.checked_add(16).and_then(|end| bytes.get_mut(at..end)) {
        place.copy_from_slice(&guid.to_gpt());
    }
}

/// The checksum of a header with its own field taken as zero.
fn header_sum(header: &[u8]) -> Option<u32> {
    let mut copy = header.get(..le32(header, 12) as usize)?.to_vec();
    put_le32(&mut copy, 16, 0);
    Some(crc32fast::hash(&copy))
}

/// One copy of the table, if it is whole: header sector and entry array.
fn read_copy(device: &Device, sector: u64, at: u64) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let total = device.len() / sector;
    if at >= total {
        return Ok(None);
    }
    let header = read_bytes(device, at * sector, sector)?;
    let size = le32(&header, 12);
    if header.get(..8) != Some(MAGIC) || size < HEADER || header_sum(&header) != Some(le32(&header, 16)) {
        return Ok(None);
    }
    let (entries, count, entry) = (le64(&header, 72), u64::from(le32(&header, 80)), u64::from(le32(&header, 84)));
    let bytes = match count.checked_mul(entry) {
        Some(bytes) if entry >= ENTRY && entry.is_power_of_two() && (1..=ARRAY_MAX).contains(&bytes) => bytes,
        _ => return Ok(None),
    };
    let whole = bytes.next_multiple_of(sector);
    let (first, last) = (le64(&header, 40), le64(&header, 48));
    let end = entries.checked_add(whole / sector);
    // Where the specification wants each array: between its header and the usable sectors.
    let sound = end.is_some_and(|end| match at {
        1 => entries >= 2 && end <= first,
        _ => entries > last && end <= at,
    });
    if le64(&header, 24) != at || first > last.saturating_add(1) || !sound || end.is_none_or(|end| end > total) {
        return Ok(None);
    }
    let array = read_bytes(device, entries * sector, whole)?;
    if crc32fast::hash(array.get(..bytes as usize).unwrap_or_default()) != le32(&header, 88) {
        return Ok(None);
    }
    Ok(Some((header, array)))
}

fn has_magic(device: &Device, sector: u64, at: u64) -> Result<bool> {
    Ok(at < device.len() / sector && read_bytes(device, at * sector, 8)? == MAGIC)
}

impl Gpt {
    /// The table of a disk with a protective record: the first copy, else the backup in the last sector.
    /// `None` if there is no trace of one.
    pub(super) fn read(device: &Device, protective: &[u8]) -> Result<Option<Self>> {
        let logical = u64::from(device.sector());
        let mut damaged = false;
        // An image of a disk with other sectors than the device is said to have is still readable.
        for sector in [logical, if logical == 512 { 4096 } else { 512 }] {
            let total = device.len() / sector;
            if total < 6 {
                continue;
            }
            for (at, from_backup) in [(1, false), (total - 1, true)] {
                damaged |= has_magic(device, sector, at)?;
                if let Some((header, array)) = read_copy(device, sector, at)? {
                    let (count, size) = (u64::from(le32(&header, 80)), u64::from(le32(&header, 84)));
                    let protective = protective.to_vec();
                    return Ok(Some(Gpt { sector, total, protective, header, array, count, size, from_backup }));
                }
            }
        }
        match damaged {
            true => Err(Error::corrupt("gpt: neither the table at the start of the disk nor its backup is whole")),
            false => Ok(None),
        }
    }

    fn entry(&self, number: u64) -> &[u8] {
        let at = (number * self.size) as usize;
        self.array.get(at..at + self.size as usize).unwrap_or_default()
    }

    /// The used entries: partition number and sectors.
    fn used(&self) -> impl Iterator<Item = (u32, Range<u64>)> + '_ {
        (0..self.count).filter_map(|i| {
            let entry = self.entry(i);
            let (first, last) = (le64(entry, 32), le64(entry, 40));
            let used = !is_zero(entry.get(..16)?) && first <= last;
            used.then_some((i as u32 + 1, first..last.checked_add(1)?))
        })
    }

    pub(super) fn table(&self) -> Table {
        let partitions = self.used().filter_map(|(number, sectors)| {
            let entry = self.entry(u64::from(number) - 1);
            let units: Vec<u16> = (0..NAME).map(|i| le16(entry, 56 + i * 2)).take_while(|unit| *unit != 0).collect();
            let kind = guid(entry, 0);
            Some(Partition {
                number,
                start: sectors.start.checked_mul(self.sector)?,
                len: (sectors.end - sectors.start).checked_mul(self.sector)?,
                role: Role::Primary,
                kind: PartitionType::Gpt(kind),
                guid: Some(guid(entry, 16)),
                name: String::from_utf16_lossy(&units),
                attributes: le64(entry, 48),
                bootable: kind == EFI_SYSTEM,
            })
        });
        let partitions = partitions.collect();
        Table { kind: TableKind::Gpt, sector: self.sector as u32, disk_guid: Some(guid(&self.header, 56)), partitions }
    }

    /// An empty table; the boot code stays.
    pub(super) fn create(device: &Device, guid: Uuid) -> Result<()> {
        let sector = u64::from(device.sector());
        let total = device.len() / sector;
        let array = ENTRIES * ENTRY / sector;
        if total < 2 * (array + 1) + 2 {
            return Err(Error::new(Kind::NoSpace, "the disk is too small for a gpt table"));
        }
        let mut protective = read_bytes(device, 0, 512)?;
        protective[440..].fill(0);
        mbr::put_protective(&mut protective, 0, total);
        let mut header = vec![0; sector as usize];
        header[..8].copy_from_slice(MAGIC);
        put_le32(&mut header, 8, REVISION);
        put_le32(&mut header, 12, HEADER);
        put_le64(&mut header, 40, 2 + array);
        put_le64(&mut header, 48, total - 2 - array);
        put_guid(&mut header, 56, guid);
        put_le64(&mut header, 72, 2);
        put_le32(&mut header, 80, ENTRIES as u32);
        put_le32(&mut header, 84, ENTRY as u32);
        let array = vec![0; (ENTRIES * ENTRY) as usize];
        let mut gpt = Gpt { sector, total, protective, header, array, count: ENTRIES, size: ENTRY, from_backup: false };
        gpt.write(device)
    }

    /// Removes both headers and arrays, and the protective entries.
    pub(super) fn erase(&self, device: &Device) -> Result<()> {
        let mut protective = self.protective.clone();
        protective[446..510].fill(0);
        device.write_at(0, &protective)?;
        let len = 1 + self.array.len() as u64 / self.sector;
        for start in [1, self.total - len] {
            device.zero(start * self.sector..(start + len) * self.sector)?;
        }
        Ok(())
    }

    pub(super) fn edit(mut self, device: &Device, edit: &TableEdit) -> Result<()> {
        if mbr::is_hybrid(&self.protective) {
            return Err(Error::unsupported("gpt: a hybrid MBR lists partitions too, and both would have to agree"));
        }
        self.check_writable()?;
        self.grow();
        match edit {
            TableEdit::Add { role, start_sector, end_sector, guid } => {
                let wanted = self.place(wanted(self.total, *start_sector, *end_sector)?)?;
                no_overlap(&wanted, self.used())?;
                let free = (0..self.count).find(|i| self.entry(*i).get(..16).is_some_and(is_zero));
                let number = free.ok_or_else(no_entry)?;
                let name = match role {
                    Role::Primary => "primary",
                    Role::Extended => "extended",
                    Role::Logical => "logical",
                };
                let at = (number * self.size) as usize;
                self.array[at..at + self.size as usize].fill(0);
                let entry = &mut self.array[at..];
                put_guid(entry, 0, LINUX);
                put_guid(entry, 16, *guid);
                put_le64(entry, 32, wanted.start);
                put_le64(entry, 40, wanted.end - 1);
                put_name(entry, name)?;
            }
            TableEdit::Delete { number } => {
                let size = self.size as usize;
                self.entry_mut(*number)?[..size].fill(0);
            }
            TableEdit::Resize { number, end_sector } => {
                let start = le64(self.entry_mut(*number)?, 32);
                let start = i64::try_from(start).map_err(|_| no_partition(*number))?;
                let wanted = self.place(wanted(self.total, start, *end_sector)?)?;
                no_overlap(&wanted, self.used().filter(|(n, _)| n != number))?;
                put_le64(self.entry_mut(*number)?, 40, wanted.end - 1);
            }
            TableEdit::SetBootable { number, bootable } => {
                let entry = self.entry_mut(*number)?;
                match (bootable, guid(entry, 0) == EFI_SYSTEM) {
                    (true, false) => put_guid(entry, 0, EFI_SYSTEM),
                    (false, true) => put_guid(entry, 0, LINUX),
                    _ => {}
                }
            }
            TableEdit::SetGptType { number, kind } if kind.is_nil() => {
                self.entry_mut(*number)?;
                return Err(Error::new(Kind::Invalid, "the type of all zeros marks a free entry")
                    .hint("delete it with part-del"));
            }
            TableEdit::SetGptType { number, kind } => put_guid(self.entry_mut(*number)?, 0, *kind),
            TableEdit::SetGptGuid { number, guid } => put_guid(self.entry_mut(*number)?, 16, *guid),
            TableEdit::SetGptAttributes { number, attributes } => {
                put_le64(self.entry_mut(*number)?, 48, *attributes);
            }
            TableEdit::SetName { number, name } => put_name(self.entry_mut(*number)?, name)?,
            TableEdit::SetDiskGuid { guid } => put_guid(&mut self.header, 56, *guid),
            TableEdit::ExpandGpt => {}
            TableEdit::SetMbrId { .. } => {
                return Err(Error::new(Kind::Invalid, "this can only be done on an MBR partition table"));
            }
        }
        self.write(device)
    }

    /// What must hold before anything is written.
    fn check_writable(&self) -> Result<()> {
        let revision = le32(&self.header, 8);
        if revision != REVISION {
            return Err(Error::unsupported(format!("gpt: header: revision {revision:#x} is not known")));
        }
        let last = le64(&self.header, 48);
        if last >= self.total - self.array_sectors() - 1 {
            return Err(Error::corrupt("gpt: header: the usable sectors run over the end of the disk")
                .hint("the disk is smaller than when the table was made; make it as large again first"));
        }
        Ok(())
    }

    fn array_sectors(&self) -> u64 {
        self.array.len() as u64 / self.sector
    }

    /// Uses all of a disk that has grown: the last usable sector is the one before the backup.
    fn grow(&mut self) {
        let there = if self.from_backup { le64(&self.header, 24) } else { le64(&self.header, 32) };
        if there != self.total - 1 {
            let last = self.total - 2 - self.array_sectors();
            put_le64(&mut self.header, 48, last);
            let slot = mbr::protective_slot(&self.protective);
            mbr::put_protective(&mut self.protective, slot, self.total);
        }
    }

    /// Whether sectors may belong to a partition.
    fn place(&self, wanted: Range<u64>) -> Result<Range<u64>> {
        let (first, last) = (le64(&self.header, 40), le64(&self.header, 48));
        if wanted.start < first || wanted.end - 1 > last {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "sectors {} to {} are not all usable; the table leaves {first} to {last} to partitions",
                    wanted.start,
                    wanted.end - 1
                ),
            ));
        }
        Ok(wanted)
    }

    /// The entry of a partition that exists, and what follows it.
    fn entry_mut(&mut self, number: u32) -> Result<&mut [u8]> {
        if !self.used().any(|(used, _)| used == number) {
            return Err(no_partition(number));
        }
        let at = (u64::from(number) - 1) * self.size;
        self.array.get_mut(at as usize..).ok_or_else(|| no_partition(number))
    }

    /// Writes the protective record and both copies.
    fn write(&mut self, device: &Device) -> Result<()> {
        let (last, sectors) = (self.total - 1, self.array_sectors());
        let first_array = if self.from_backup { 2 } else { le64(&self.header, 72) };
        if first_array + sectors > le64(&self.header, 40) {
            return Err(Error::corrupt("gpt: header: no room for the entries before the first usable sector"));
        }
        let bytes = (self.count * self.size) as usize;
        put_le32(&mut self.header, 88, crc32fast::hash(self.array.get(..bytes).unwrap_or_default()));
        device.write_at(0, &self.protective)?;
        for (at, other, array) in [(1, last, first_array), (last, 1, last - sectors)] {
            put_le64(&mut self.header, 24, at);
            put_le64(&mut self.header, 32, other);
            put_le64(&mut self.header, 72, array);
            let sum = header_sum(&self.header).ok_or_else(|| Error::corrupt("gpt: header: size over a sector"))?;
            put_le32(&mut self.header, 16, sum);
            device.write_at(array * self.sector, &self.array)?;
            device.write_at(at * self.sector, &self.header)?;
        }
        Ok(())
    }
}

fn put_name(entry: &mut [u8], name: &str) -> Result<()> {
    let units: Vec<u16> = name.encode_utf16().collect();
    if units.len() > NAME {
        return Err(Error::new(Kind::Invalid, format!("a partition name has at most {NAME} UTF-16 units")));
    }
    if let Some(place) = entry.get_mut(56..56 + NAME * 2) {
        place.fill(0);
        for (place, unit) in place.chunks_exact_mut(2).zip(units) {
            place.copy_from_slice(&unit.to_le_bytes());
        }
    }
    Ok(())
}
