//! Partition tables and LVM: where the volumes of a disk begin and end.
//!
//! Tables are edited in place: bytes that an edit does not concern (boot code, disk signature, attribute
//! bits, what stands in reserved fields) stay as they are.

mod gpt;
pub mod lvm;
mod mbr;

use std::ops::Range;

use crate::base::{Error, Kind, Result, Uuid};
use crate::disk::Device;

/// The kind of a partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// Master boot record with its logical partitions.
    Mbr,
}

/// What a partition is, as its table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionType {
    /// GPT type GUID.
    Gpt(Uuid),
    /// MBR system id.
    Mbr(u8),
}

/// Where a partition stands in an MBR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One of the four entries, or any partition of a GPT.
    Primary,
    /// The entry that holds the logical ones.
    Extended,
    /// Inside the extended one; numbers from 5.
    Logical,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number in device names, from 1.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Role; `Primary` in a GPT.
    pub role: Role,
    /// Type.
    pub kind: PartitionType,
    /// GPT: the partition's own GUID.
    pub guid: Option<Uuid>,
    /// GPT: name.
    pub name: String,
    /// GPT: attribute bits.
    pub attributes: u64,
    /// MBR: the active flag. GPT: whether it is an EFI system partition, which is what parted's `boot` flag
    /// and so guestfish mean there.
    pub bootable: bool,
}

/// A partition table that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Kind.
    pub kind: TableKind,
    /// Logical sector size in bytes.
    pub sector: u32,
    /// GPT: the disk's GUID.
    pub disk_guid: Option<Uuid>,
    /// Partitions by number.
    pub partitions: Vec<Partition>,
}

/// A change to a partition table. Sectors are logical sectors; a negative one counts from the end of the
/// disk, -1 being the last.
#[derive(Debug, Clone, PartialEq)]
pub enum TableEdit {
    /// `part-add`. In a GPT the role only gives the partition its name, as parted does.
    Add {
        /// Where it goes in an MBR.
        role: Role,
        /// First sector.
        start_sector: i64,
        /// Last sector.
        end_sector: i64,
        /// GPT: the partition's own GUID.
        guid: Uuid,
    },
    /// `part-del`. The logical partitions behind a deleted one move up by a number.
    Delete {
        /// Which.
        number: u32,
    },
    /// `part-resize`.
    Resize {
        /// Which.
        number: u32,
        /// New last sector.
        end_sector: i64,
    },
    /// `part-set-bootable`; in a GPT it makes the partition an EFI system partition or a plain Linux one.
    SetBootable {
        /// Which.
        number: u32,
        /// On or off.
        bootable: bool,
    },
    /// `part-set-gpt-type`.
    SetGptType {
        /// Which.
        number: u32,
        /// Type GUID.
        kind: Uuid,
    },
    /// `part-set-gpt-guid`.
    SetGptGuid {
        /// Which.
        number: u32,
        /// Its own GUID.
        guid: Uuid,
    },
    /// `part-set-gpt-attributes`.
    SetGptAttributes {
        /// Which.
        number: u32,
        /// All 64 bits.
        attributes: u64,
    },
    /// `part-set-name`.
    SetName {
        /// Which.
        number: u32,
        /// At most 36 UTF-16 units.
        name: String,
    },
    /// `part-set-mbr-id`.
    SetMbrId {
        /// Which.
        number: u32,
        /// System id.
        id: u8,
    },
    /// `part-set-disk-guid`.
    SetDiskGuid {
        /// The GUID of the disk.
        guid: Uuid,
    },
    /// `part-expand-gpt`: the backup to the end of a grown disk. Every other edit of a GPT does it too.
    ExpandGpt,
}

/// Reads the partition table; `None` if there is none (a file system may begin at byte 0).
///
/// A GPT counts if its protective MBR is there, as for Linux; a damaged primary GPT is read from its backup.
///
/// # Errors
/// A GPT of which neither copy is whole.
pub fn read(device: &Device) -> Result<Option<Table>> {
    Ok(match Found::on(device)? {
        Found::Gpt(gpt) => Some(gpt.table()),
        Found::Mbr(mbr) => Some(mbr.table()),
        Found::Nothing => None,
    })
}

/// `part-init`: an empty table; `guid` for the disk (GPT) or, its first four bytes, the disk signature (MBR).
/// The boot code of an older table stays. What another kind of content had at the start of the disk goes.
///
/// # Errors
/// A disk too small for a table.
pub fn init(device: &Device, kind: TableKind, guid: Uuid) -> Result<()> {
    let found = Found::on(device).unwrap_or(Found::Nothing);
    if let Found::Gpt(gpt) = &found {
        gpt.erase(device)?;
    }
    if matches!(found, Found::Nothing) {
        // The signatures of a file system or volume that had the whole disk.
        device.zero(0..device.len().min(64 * 1024))?;
    }
    match kind {
        TableKind::Gpt => gpt::Gpt::create(device, guid),
        TableKind::Mbr => mbr::Mbr::create(device, guid),
    }
}

/// `part-disk`: a new table with one partition over the whole disk, aligned as guestfish does: from sector
/// 128 to the 128th sector from the end.
///
/// # Errors
/// A disk too small for it.
pub fn whole_disk(device: &Device, kind: TableKind, disk_guid: Uuid, partition_guid: Uuid) -> Result<()> {
    init(device, kind, disk_guid)?;
    edit(device, &TableEdit::Add { role: Role::Primary, start_sector: 128, end_sector: -128, guid: partition_guid })?;
    match kind {
        TableKind::Gpt => edit(device, &TableEdit::SetName { number: 1, name: "p1".to_string() }),
        TableKind::Mbr => Ok(()),
    }
}

/// Changes the table in place; every byte that the edit does not concern stays.
///
/// # Errors
/// No table; a partition that does not exist, overlaps, or lies outside; no free entry; a table of the other
/// kind; a hybrid GPT, which is only read.
pub fn edit(device: &Device, edit: &TableEdit) -> Result<()> {
    match Found::on(device)? {
        Found::Gpt(gpt) => gpt.edit(device, edit),
        Found::Mbr(mbr) => mbr.edit(device, edit),
        Found::Nothing => Err(Error::new(Kind::Invalid, "unrecognised disk label").hint("make a table with part-init")),
    }
}

/// The table that a disk has.
enum Found {
    Gpt(gpt::Gpt),
    Mbr(mbr::Mbr),
    Nothing,
}

impl Found {
    fn on(device: &Device) -> Result<Self> {
        let first = read_bytes(device, 0, 512.min(device.len()))?;
        if mbr::is_protective(&first)
            && let Some(gpt) = gpt::Gpt::read(device, &first)?
        {
            return Ok(Found::Gpt(gpt));
        }
        Ok(mbr::Mbr::read(device, first)?.map_or(Found::Nothing, Found::Mbr))
    }
}

/// Bytes of the device; only for lengths that are bounded.
fn read_bytes(device: &Device, offset: u64, len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| Error::from(Kind::FileTooBig))?];
    device.read_at(offset, &mut bytes)?;
    Ok(bytes)
}

/// The sectors that an edit asks for, first and last, both inside `total` sectors.
fn wanted(total: u64, start: i64, end: i64) -> Result<Range<u64>> {
    let place = |sector: i64| {
        let place = if sector < 0 { total.checked_sub(sector.unsigned_abs()) } else { u64::try_from(sector).ok() };
        place.filter(|place| *place < total).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("sector {sector} is outside of the disk, which has {total} sectors"))
        })
    };
    let (start, end) = (place(start)?, place(end)?);
    if start > end {
        return Err(Error::new(Kind::Invalid, format!("the start sector {start} is after the end sector {end}")));
    }
    Ok(start..end + 1)
}

/// Refuses sectors that one of `taken` has already.
fn no_overlap(wanted: &Range<u64>, taken: impl IntoIterator<Item = (u32, Range<u64>)>) -> Result<()> {
    match taken.into_iter().find(|(_, other)| other.start < wanted.end && wanted.start < other.end) {
        None => Ok(()),
        Some((number, other)) => Err(Error::new(
            Kind::Invalid,
            format!(
                "sectors {} to {} overlap partition {number}, which has {} to {}",
                wanted.start,
                wanted.end - 1,
                other.start,
                other.end - 1
            ),
        )),
    }
}

fn no_partition(number: u32) -> Error {
    Error::new(Kind::Invalid, format!("partition {number} does not exist"))
}

fn no_entry() -> Error {
    Error::new(Kind::NoSpace, "the partition table has no free entry")
}
