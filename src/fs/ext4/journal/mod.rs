//! Recovery of an ext3 or ext4 that was not unmounted: the finished transactions of its journal are laid over the
//! device for reading, and written to it before the first write.

mod commit;
mod external;
mod fast;
mod fast_replay;
mod idle;
mod log;
mod superblock;
mod view;

use std::sync::Arc;

pub use self::external::{JournalDevice, lay_out, wanted_journal};
use self::log::Log;
pub use self::superblock::JournalSuper;
use self::view::Replayed;
use super::Ext4;
use super::extent::Run;
use super::features::{Compat, Incompat};
use super::group::Group;
use super::state::MEND;
use crate::base::{Error, Kind, Result};
use crate::disk::{BlockDevice, Device};
use crate::fs::FileType;

/// Blocks that a replay copies at once, in bytes.
const COPY: usize = 1 << 20;

const BY_KERNEL: &str = "boot or mount it once, or run e2fsck";

/// A journal that was found with something to replay, or at least marked so.
pub(super) struct Recovery {
    view: Arc<Replayed>,
    superblock: JournalSuper,
    /// The device with the journal, and the block of it with the journal's superblock.
    home: (Device, u64),
    /// Why the log is not written back, if it is not.
    apart: Option<String>,
    /// Sequence number of the transaction that the log ends before.
    end: u32,
    /// Why the fast commits that follow the log are not replayed, if they are not.
    trouble: Option<Error>,
}

/// A journal: its superblock, its device, the map of its blocks there, and which of them has the superblock.
struct Journal {
    superblock: JournalSuper,
    device: Device,
    runs: Vec<Run>,
    home: u64,
}

impl Ext4 {
    /// Finds the journal, inside the file system or on the device that was given for it.
    ///
    /// # Errors
    /// `Kind::Unsupported` for one on another device; whatever is wrong with its inode or superblock.
    fn journal(&self) -> Result<Journal> {
        let (number, device) = (self.superblock.journal_inode(), self.superblock.journal_device());
        if number == 0 {
            return self.external_journal();
        }
        if device != 0 {
            return Err(Error::corrupt(format!(
                "ext4: its journal is both inode {number} and on another device (s_journal_dev {device:#x})"
            )));
        }
        let inode = self.inode(number)?;
        if inode.links() == 0 || inode.file_type() != Some(FileType::Regular) {
            let (links, mode) = (inode.links(), inode.mode());
            return Err(Error::corrupt(format!("ext4: journal inode {number}: links {links}, mode {mode:#o}")));
        }
        let runs = self.map(&inode)?.runs;
        let blocks = inode.size() / self.geometry.bs();
        let Some(first) = runs.first().filter(|run| run.logical == 0 && !run.unwritten) else {
            return Err(Error::corrupt(format!("ext4: journal inode {number}: it has no first block")));
        };
        let mut block = vec![0; self.geometry.block_size];
        self.device.read_at(first.physical * self.geometry.bs(), &mut block)?;
        let (superblock, home) = (JournalSuper::new(&block, blocks)?, first.physical);
        Ok(Journal { superblock, device: self.device.clone(), runs, home })
    }

    /// If the file system says that its journal must be replayed, makes it read as after that.
    ///
    /// # Errors
    /// A journal that cannot be replayed, or is damaged.
    pub(super) fn find_recovery(&mut self) -> Result<()> {
        self.recovery = None;
        if !self.superblock.incompat().has(Incompat::RECOVER) {
            return Ok(());
        }
        if !self.superblock.compat().has(Compat::HAS_JOURNAL) {
            return Err(Error::corrupt("ext4: superblock: 'needs_recovery' (incompat 0x4) without 'has_journal'"));
        }
        let Journal { superblock, device, runs, home } = self.journal().map_err(|e| e.hint(BY_KERNEL))?;
        let block_size = self.geometry.block_size;
        let log = Log::new(device.as_ref(), &superblock, &runs, block_size);
        let outcome = log.scan()?;
        let outside = self.superblock.journal_inode() == 0;
        outcome.check(self.base.len() / block_size as u64, if outside { &[] } else { &runs })?;
        let fast = if superblock.start == 0 { Ok(Vec::new()) } else { log.fast_commits(outcome.end) };
        let end = outcome.end;
        let mut view = Arc::new(Replayed::new(self.base.clone(), device.clone(), block_size, outcome.blocks));
        self.look_through(&view, block_size)?;
        let replayed = fast.and_then(|records| self.replay_fast(&view, records, block_size));
        let trouble = replayed.err();
        if trouble.is_some() {
            view = Arc::new(view.without_changes());
            self.look_through(&view, block_size)?;
        }
        self.recovery =
            Some(Recovery { view, superblock, home: (device, home), apart: self.why_apart(), end, trouble });
        Ok(())
    }

    /// Reads the file system as the view has it.
    fn look_through(&mut self, view: &Arc<Replayed>, block_size: usize) -> Result<()> {
        self.device = view.clone();
        self.read_replayed(block_size)?;
        // Where the counts of all groups cannot be read, those of the superblock must do.
        self.recount().or_else(|error| if error.kind() == Kind::Corrupt { Ok(()) } else { Err(error) })
    }

    /// Lays what fast commits changed over the log's blocks.
    fn replay_fast(&mut self, view: &Arc<Replayed>, records: Vec<fast::Record>, block_size: usize) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        view.set_open(true);
        let applied = self.apply_fast(records).and_then(|()| self.write_through());
        view.set_open(false);
        applied?;
        self.look_through(view, block_size)
    }

    /// Reads superblock and descriptors anew after the journal may have changed them.
    fn read_replayed(&mut self, block_size: usize) -> Result<()> {
        self.forget_all();
        (self.superblock, self.geometry) = super::load(self.device.as_ref())?;
        if self.geometry.block_size != block_size {
            let now = self.geometry.block_size;
            return Err(Error::corrupt(format!("ext4: journal: it changes the block size from {block_size} to {now}")));
        }
        Ok(())
    }

    /// Sums up what is free in the groups: running kernels keep the superblock's counts in memory only.
    pub(super) fn recount(&mut self) -> Result<()> {
        let (mut blocks, mut inodes) = (0, 0_u32);
        for number in 0..self.geometry.groups {
            let group = self.group(number)?;
            blocks += u64::from(Group(&group).free_blocks());
            inodes = inodes.saturating_add(Group(&group).free_inodes());
        }
        self.superblock.set_free_blocks(blocks.saturating_mul(self.geometry.ratio()));
        self.superblock.set_free_inodes(inodes);
        Ok(())
    }

    /// What is not replayed, if there is anything.
    pub(super) fn missing_commits(&self) -> Option<String> {
        let trouble = self.recovery.as_ref()?.trouble.as_ref()?;
        let what = trouble.to_string();
        Some(format!(
            "its journal ends in fast commits, which are not replayed ({}); what is read is older by them: {BY_KERNEL}",
            what.trim_start_matches("ext4: ")
        ))
    }

    /// Why the journal forbids writing, if it does.
    pub(super) fn journal_trouble(&self) -> Result<Option<String>> {
        if let Some(apart) = self.recovery.as_ref().and_then(|recovery| recovery.apart.clone()) {
            return Ok(Some(apart));
        }
        if self.recovery.is_some() || !self.superblock.compat().has(Compat::HAS_JOURNAL) {
            return Ok(self.missing_commits());
        }
        match self.journal() {
            Ok(Journal { superblock: JournalSuper { start: 0, .. }, .. }) => Ok(None),
            Ok(Journal { superblock: JournalSuper { start, .. }, .. }) => Ok(Some(format!(
                "its journal has transactions (s_start {start}), but 'needs_recovery' (incompat 0x4) is clear; run e2fsck"
            ))),
            Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::Corrupt) => {
                Ok(Some(error.to_string().trim_start_matches("ext4: ").to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// What error the journal recorded, if it did.
    pub(super) fn journal_error(&self) -> Result<Option<String>> {
        let errno = match &self.recovery {
            Some(recovery) => recovery.superblock.errno,
            None if !self.superblock.compat().has(Compat::HAS_JOURNAL) => 0,
            None => self.journal()?.superblock.errno,
        };
        Ok((errno != 0).then(|| format!("its journal recorded error {errno} (s_errno); {MEND}")))
    }

    /// Forgets the error that the journal recorded; answers whether there was one. Nothing is left to replay.
    pub(super) fn clear_journal_error(&mut self) -> Result<bool> {
        let Journal { superblock, device, home, .. } = self.journal()?;
        if superblock.errno != 0 {
            device.write_at(home * self.geometry.bs(), &superblock.without_error())?;
        }
        Ok(superblock.errno != 0)
    }

    /// Writes what the journal holds to the device, and marks the journal as empty.
    pub(super) fn replay(&mut self) -> Result<()> {
        let Some(recovery) = self.recovery.take() else { return Ok(()) };
        let (bs, block_size) = (self.geometry.bs(), self.geometry.block_size);
        let mut blocks = recovery.view.blocks().into_iter().peekable();
        let mut buffer = Vec::new();
        while let Some(first) = blocks.next() {
            let mut count = 1;
            while count * block_size < COPY && blocks.next_if(|block| *block == first + count as u64).is_some() {
                count += 1;
            }
            buffer.resize(count * block_size, 0);
            recovery.view.read_at(first * bs, &mut buffer)?;
            self.base.write_at(first * bs, &buffer)?;
        }
        let empty = recovery.superblock.emptied(recovery.end.wrapping_add(1));
        let (device, home) = recovery.home;
        device.write_at(home * bs, &empty)?;
        self.device = self.base.clone();
        self.read_replayed(block_size)?;
        self.recount()?;
        self.superblock.clear_incompat(Incompat::RECOVER);
        self.superblock_changed = true;
        Ok(())
    }
}
