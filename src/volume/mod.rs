//! Partition tables: where the volumes of a disk begin and end.
//!
//! TEMPORARY skeleton: signatures stand, bodies are to be written in `gpt.rs` and `mbr.rs`.

use crate::base::{Error, Result, Uuid};
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
    /// MBR active flag; GPT: attribute bit 2 (legacy BIOS bootable).
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

/// A change to a partition table. Sectors are logical sectors.
#[derive(Debug, Clone, PartialEq)]
pub enum TableEdit {
    /// `part-add`: first and last sector; a negative last one counts from the end of the disk.
    Add { role: Role, start_sector: i64, end_sector: i64, guid: Uuid },
    /// `part-del`.
    Delete { number: u32 },
    /// `part-set-bootable`.
    SetBootable { number: u32, bootable: bool },
    /// `part-set-gpt-type`.
    SetGptType { number: u32, kind: Uuid },
    /// `part-set-gpt-guid`.
    SetGptGuid { number: u32, guid: Uuid },
    /// `part-set-gpt-attributes`.
    SetGptAttributes { number: u32, attributes: u64 },
    /// `part-set-name`.
    SetName { number: u32, name: String },
    /// `part-set-mbr-id`.
    SetMbrId { number: u32, id: u8 },
}

/// Reads the partition table; `None` if there is none (a file system may begin at byte 0).
pub fn read(_device: &Device) -> Result<Option<Table>> {
    Ok(None)
}

/// `part-init`: an empty table; `guid` for the disk (GPT) or, its first four bytes, the disk signature (MBR).
pub fn init(_device: &Device, _kind: TableKind, _guid: Uuid) -> Result<()> {
    Err(Error::unsupported("skeleton"))
}

/// `part-disk`: a new table with one partition over the whole disk, aligned as parted does.
pub fn whole_disk(_device: &Device, _kind: TableKind, _disk_guid: Uuid, _partition_guid: Uuid) -> Result<()> {
    Err(Error::unsupported("skeleton"))
}

/// Changes the table in place; every byte that the edit does not concern stays.
pub fn edit(_device: &Device, _edit: &TableEdit) -> Result<()> {
    Err(Error::unsupported("skeleton"))
}
