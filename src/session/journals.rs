//! File systems that have their journal on another device: which one it is, and what both of them occupy.

use super::Session;
use super::lvm::Place;
use crate::base::Result;
use crate::fs::Identity;
use crate::fs::ext4::{self, JournalDevice};

/// blkid's word for a device that is the journal of another one.
const JOURNAL: &str = "jbd";

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

    /// Where the bytes are that an open file system stands on: its device's, and those of the journal that it has elsewhere.
    pub(super) fn opened_place(&self, name: &str) -> Result<Place> {
        let mut place = self.place(name)?;
        if let Some(journal) = self.journal_of(name)? {
            place.extend(self.place(&journal)?);
        }
        Ok(place)
    }
}
