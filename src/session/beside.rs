//! File systems that have something on other devices, a journal or their other members: which ones these are, and what all of them occupy.

use super::Session;
use super::lvm::Place;
use crate::base::Result;
use crate::fs::ext4::{self, JournalDevice};
use crate::fs::{Beside, Identity, btrfs};

/// blkid's word for a device that is the journal of another one.
const JOURNAL: &str = "jbd";
const BTRFS: &str = "btrfs";

impl Session {
    /// The device that is a journal and that `wanted` takes.
    ///
    /// # Errors
    /// A device that cannot be read.
    pub fn find_journal(&self, wanted: &dyn Fn(&Identity) -> bool) -> Result<Option<String>> {
        for device in self.volumes()? {
            if self.look_at(&device)?.is_some_and(|found| found.fs_type == JOURNAL && wanted(&found)) {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    /// The name of the device with the journal of the file system on a device, if it has it elsewhere and that is here.
    fn journal_of(&self, name: &str) -> Result<Option<String>> {
        let Some(uuid) = ext4::wanted_journal(self.device(name)?.as_ref())? else { return Ok(None) };
        let uuid = uuid.to_string();
        self.find_journal(&|found| found.uuid == uuid)
    }

    /// The same, to open the file system with.
    pub fn journal_device(&self, name: &str) -> Result<Option<JournalDevice>> {
        let Some(journal) = self.journal_of(name)? else { return Ok(None) };
        let (own, its) = (self.place(name)?, self.place(&journal)?);
        let same_disk = own.iter().chain(&its).all(|(disk, _)| own.first().is_some_and(|(first, _)| disk == first));
        Ok(Some(JournalDevice { device: self.device(&journal)?, same_disk }))
    }

    /// The names of the other devices of the btrfs on a device, as far as they are here.
    ///
    /// # Errors
    /// A device that cannot be read.
    pub fn members(&self, name: &str) -> Result<Vec<String>> {
        let own = self.split_subvolume(name).map_or_else(|| name.to_string(), |(device, _)| device);
        let Some(uuid) = btrfs::wanted_members(self.device(name)?.as_ref())? else { return Ok(Vec::new()) };
        let uuid = uuid.to_string();
        let mut members = Vec::new();
        for device in self.volumes()?.into_iter().filter(|device| *device != own) {
            if self.look_at(&device)?.is_some_and(|found| found.fs_type == BTRFS && found.uuid == uuid) {
                members.push(device);
            }
        }
        Ok(members)
    }

    /// What the file system on a device has elsewhere, as far as that is here.
    pub(super) fn beside(&self, name: &str) -> Result<Beside> {
        let members = self.members(name)?.iter().map(|member| self.device(member)).collect::<Result<_>>()?;
        Ok(Beside { journal: self.journal_device(name)?, members })
    }

    /// Where the bytes are that an open file system stands on: its device's, and those of its journal or members elsewhere.
    pub(super) fn opened_place(&self, name: &str) -> Result<Place> {
        let mut place = self.place(name)?;
        for other in self.journal_of(name)?.into_iter().chain(self.members(name)?) {
            place.extend(self.place(&other)?);
        }
        Ok(place)
    }
}
