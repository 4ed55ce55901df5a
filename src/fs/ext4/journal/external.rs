//! Journals on devices of their own: laid out, found, and given to the file systems that use them.
//!
//! Such a device begins like a file system that has no groups, only the feature 'journal_dev'. Behind that superblock lies the
//! journal's own, and block numbers of the journal are those of the device (kernel documentation, "Journal (jbd2)", "External
//! Journal"; the rest is what mke2fs 1.47 was observed to write).

use super::superblock::JournalSuper;
use super::{Ext4, Journal};
use crate::base::{Error, Kind, Result, Uuid};
use crate::disk::{BlockDevice, Device};
use crate::fs::ext4::copies;
use crate::fs::ext4::extent::Run;
use crate::fs::ext4::features::{Compat, Incompat};
use crate::fs::ext4::superblock::{SUPERBLOCK_OFFSET, Superblock};
use crate::fs::{Edit, FileSystem};

/// The device with the journal of a file system that has it elsewhere.
#[derive(Clone)]
pub struct JournalDevice {
    /// The device.
    pub device: Device,
    /// Whether one commit writes both devices or none of them, because they are on the same disk.
    pub same_disk: bool,
}

/// What a device with a journal says of itself.
struct Found {
    uuid: Uuid,
    block_size: usize,
    /// Blocks of the device that it counts.
    blocks: u64,
    journal: JournalSuper,
}

/// The block with the journal's superblock: the one behind the device's own.
fn home(block_size: usize) -> u64 {
    SUPERBLOCK_OFFSET / block_size as u64 + 1
}

/// Reads the superblocks of a device with a journal.
///
/// # Errors
/// `Kind::Invalid` if it is none; `Kind::Corrupt`.
fn look(device: &dyn BlockDevice) -> Result<Found> {
    let superblock = crate::fs::ext4::read_superblock(device)?;
    let Some(superblock) = superblock.filter(|found| found.incompat().has(Incompat::JOURNAL_DEV)) else {
        return Err(Error::new(Kind::Invalid, "this is no device with a journal of ext3 or ext4")
            .hint("mke2journal makes it one; what is on it is gone then"));
    };
    let known = Incompat::JOURNAL_DEV | Incompat::BIT64 | Incompat::CSUM_SEED;
    if superblock.incompat().0 & !known != 0 {
        let bits = superblock.incompat().0;
        return Err(Error::unsupported(format!("ext4: journal device: features (incompat {bits:#x}) that none has")));
    }
    superblock.verify()?;
    let block_size = match superblock.log_block_size() {
        log @ 0..=6 => 1024_usize << log,
        log => return Err(Error::corrupt(format!("ext4: journal device: s_log_block_size is {log}"))),
    };
    let blocks = superblock.blocks();
    if blocks > device.len() / block_size as u64 {
        let len = device.len();
        let detail = format!("ext4: journal device: it says that it has {blocks} blocks, and has {len} bytes");
        return Err(Error::corrupt(detail));
    }
    let mut block = vec![0; block_size];
    device.read_at(home(block_size) * block_size as u64, &mut block)?;
    let journal = JournalSuper::new(&block, blocks)?;
    if u64::from(journal.first) <= home(block_size) || journal.users().is_none() {
        return Err(Error::corrupt("ext4: journal device: its superblock is that of a journal inside a file system"));
    }
    if journal.uuid() != superblock.uuid() {
        return Err(Error::corrupt("ext4: journal device: its two superblocks have different UUIDs"));
    }
    Ok(Found { uuid: superblock.uuid(), block_size, blocks, journal })
}

/// The UUID of the device that has the journal of the file system on `device`; `None` if there is no such file system, or it
/// has no journal elsewhere.
///
/// # Errors
/// The device cannot be read.
pub fn wanted_journal(device: &dyn BlockDevice) -> Result<Option<Uuid>> {
    let superblock = crate::fs::ext4::read_superblock(device)?;
    let found = superblock.filter(|found| found.compat().has(Compat::HAS_JOURNAL) && found.journal_inode() == 0);
    Ok(found.map(|found| found.journal_uuid()).filter(|uuid| !uuid.is_nil()))
}

impl Ext4 {
    fn elsewhere(&self) -> String {
        format!("ext4: its journal is on another device (UUID {})", self.superblock.journal_uuid())
    }

    /// The journal on the device that was given for it.
    pub(super) fn external_journal(&self) -> Result<Journal> {
        let uuid = self.superblock.journal_uuid();
        let Some(beside) = &self.beside else {
            return Err(Error::unsupported(format!("{}, which is none of those that are here", self.elsewhere()))
                .hint("add the drive with that journal too"));
        };
        let found = look(beside.device.as_ref())?;
        if found.uuid != uuid || found.block_size != self.geometry.block_size {
            let (its, size) = (found.uuid, found.block_size);
            return Err(Error::corrupt(format!("{}, not UUID {its} with blocks of {size} bytes", self.elsewhere())));
        }
        // Linux refuses a journal with several users. With another user it may hold what is not for this file system.
        let users = found.journal.users().unwrap_or_default();
        if users != [self.superblock.uuid()] {
            let users: Vec<String> = users.iter().map(Uuid::to_string).collect();
            let users = if users.is_empty() { "none".to_string() } else { users.join(", ") };
            return Err(Error::unsupported(format!("{}, whose users are {users}, not this one", self.elsewhere()))
                .hint("run e2fsck -j DEVICE; nothing was changed"));
        }
        let run = Run { logical: 0, physical: 0, len: found.blocks as u32, unwritten: false };
        Ok(Journal {
            superblock: found.journal,
            device: beside.device.clone(),
            runs: vec![run],
            home: home(found.block_size),
        })
    }

    /// Why what an external journal holds is only shown and not written, if it is so.
    pub(super) fn why_apart(&self) -> Option<String> {
        let apart =
            self.superblock.journal_inode() == 0 && self.beside.as_ref().is_some_and(|beside| !beside.same_disk);
        let what = self.elsewhere();
        apart.then(|| {
            format!(
                "{} of another disk, and must be replayed; the two disks would not be written at once: mount it once in a \
                 guest that has both, or run e2fsck -j",
                what.trim_start_matches("ext4: ")
            )
        })
    }

    /// Gives the file system, which has no journal, the one on another device; `number` is the number that Linux has for
    /// that device. What is kept back is written.
    ///
    /// # Errors
    /// `Kind::Invalid` if the device is no journal or has blocks of another size; `Kind::Busy` if it is in use already.
    pub fn attach_journal(&mut self, journal: &Device, number: u32) -> Result<()> {
        self.begin_edit()?;
        if self.superblock.compat().has(Compat::HAS_JOURNAL) {
            return Err(Error::new(Kind::Exists, "ext4: the file system has a journal"));
        }
        if self.superblock.revision() == 0 {
            return Err(Error::unsupported("ext4: a file system of revision 0 has no journal"));
        }
        let found = look(journal.as_ref())?;
        if found.block_size != self.geometry.block_size {
            let (its, own) = (found.block_size, self.geometry.block_size);
            let detail = format!("the journal has blocks of {its} bytes, the file system of {own}");
            return Err(Error::new(Kind::Invalid, detail).hint("choose the same block size for both"));
        }
        if found.journal.start != 0 || found.journal.users().is_none_or(|users| !users.is_empty()) {
            return Err(Error::new(Kind::Busy, "the journal is in use by another file system")
                .hint("mke2journal makes it anew; a file system that still needs it is lost then"));
        }
        self.sync()?;
        self.superblock.set_external_journal(found.uuid, number);
        copies::write_superblocks(self.base.as_ref(), &self.geometry, &self.superblock)?;
        let at = home(found.block_size) * found.block_size as u64;
        journal.write_at(at, &found.journal.with_user(self.superblock.uuid()))?;
        self.beside = Some(JournalDevice { device: journal.clone(), same_disk: false });
        self.reload()
    }
}

/// Writes an empty journal over all of a device, behind the superblock that the device begins with.
///
/// # Errors
/// The device cannot be written.
pub fn lay_out(device: &dyn BlockDevice, superblock: &Superblock) -> Result<()> {
    let block_size = 1024_u64 << superblock.log_block_size();
    let (blocks, home) = (superblock.blocks(), home(block_size as usize));
    let head = JournalSuper::empty(block_size as u32, blocks as u32, home as u32 + 1, superblock.uuid(), 0);
    device.zero(0..blocks * block_size)?;
    device.write_at(SUPERBLOCK_OFFSET, superblock.bytes())?;
    device.write_at(home * block_size, &head)
}
