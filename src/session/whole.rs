//! File systems as wholes, by the names of their devices.

use super::Session;
use crate::base::{Error, Kind, Result};
use crate::fs::FileSystem;
use crate::volume::{PartitionType, TableKind};

impl Session {
    /// The file system of a device to look at.
    ///
    /// # Errors
    /// What is there cannot be opened.
    pub fn file_system(&mut self, device: &str) -> Result<&mut dyn FileSystem> {
        let open = self.ready(device)?;
        self.guest.whole(device, &mut || open())
    }

    /// Opens the file system of a device, which may have moved since it was last used.
    fn ready(&mut self, device: &str) -> Result<impl Fn() -> Result<Box<dyn FileSystem>> + use<>> {
        let open = self.opener(device)?;
        self.close_moved(device)?;
        self.note_opened(device)?;
        Ok(open)
    }

    /// The same to change.
    ///
    /// # Errors
    /// Also `Kind::ReadOnly`, and why its driver does not write it.
    pub fn file_system_mut(&mut self, device: &str) -> Result<&mut dyn FileSystem> {
        let open = self.ready(device)?;
        self.guest.whole_mut(device, &mut || open())
    }

    /// The file system on a device as it was found, for those who mend what its driver does not write.
    ///
    /// # Errors
    /// Those of [`Session::file_system`]; `Kind::ReadOnly`.
    pub fn file_system_to_mend(&mut self, device: &str) -> Result<&mut dyn FileSystem> {
        let open = self.ready(device)?;
        self.guest.whole_to_mend(device, &mut || open())
    }

    /// `Kind::Busy` if a device is mounted.
    pub fn check_unmounted(&self, device: &str) -> Result<()> {
        match self.guest.is_mounted(device) {
            true => Err(Error::new(Kind::Busy, "it is mounted").at(device).hint(format!("umount {device} first"))),
            false => Ok(()),
        }
    }

    /// What blkid says of a partition, in sectors of 512 bytes, and of the table of a whole disk.
    pub fn partition_tags(&self, device: &str) -> Result<Vec<(&'static str, String)>> {
        let Some((disk, partition)) = self.partition(device)? else { return self.table_tags(device) };
        let (scheme, kind) = match partition.kind {
            PartitionType::Mbr(byte) => ("dos", format!("{byte:#x}")),
            PartitionType::Gpt(guid) => ("gpt", guid.to_string()),
        };
        let mut tags = vec![("PART_ENTRY_SCHEME", scheme.to_string())];
        if !partition.name.is_empty() {
            tags.push(("PART_ENTRY_NAME", partition.name.clone()));
        }
        if let Some(uuid) = self.partition_uuid(disk, &partition)? {
            tags.push(("PART_ENTRY_UUID", uuid));
        }
        tags.push(("PART_ENTRY_TYPE", kind));
        if scheme == "dos" && partition.bootable {
            tags.push(("PART_ENTRY_FLAGS", "0x80".into()));
        }
        tags.push(("PART_ENTRY_NUMBER", partition.number.to_string()));
        tags.push(("PART_ENTRY_OFFSET", (partition.start / 512).to_string()));
        tags.push(("PART_ENTRY_SIZE", (partition.len / 512).to_string()));
        // Linux gives each SCSI disk sixteen minor numbers.
        tags.push(("PART_ENTRY_DISK", format!("8:{}", disk * 16)));
        Ok(tags)
    }

    fn table_tags(&self, device: &str) -> Result<Vec<(&'static str, String)>> {
        let Some(disk) = self.devices().iter().position(|disk| disk == device) else { return Ok(Vec::new()) };
        let Some(table) = self.table_of(disk)? else { return Ok(Vec::new()) };
        let scheme = if table.kind == TableKind::Gpt { "gpt" } else { "dos" };
        let uuid = match table.disk_guid {
            Some(guid) => guid.to_string(),
            None => self.disk_signature(disk)?,
        };
        Ok(vec![("PTUUID", uuid), ("PTTYPE", scheme.to_string())])
    }
}
