//! The stage: what a session has changed on one disk, with savepoints, until it commits.
//!
//! TEMPORARY skeleton: signatures stand, bodies are to be written.

use std::ops::Range;
use std::sync::Arc;

use crate::base::Result;
use crate::disk::{BlockDevice, Disk};

/// How a stage treats its disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct StageOptions {
    /// Every write is refused.
    pub read_only: bool,
    /// The image is never touched: fresh data is spilled too, and [`Stage::commit`] is refused.
    pub dry_run: bool,
}

/// A moment to go back to. Stays valid until the stage commits or goes back to an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(u64);

/// One disk with its staged changes. It is the [`BlockDevice`] that everything above reads and writes.
pub struct Stage {
    disk: Box<dyn Disk>,
}

impl Stage {
    /// A stage without changes over a disk.
    pub fn new(disk: Box<dyn Disk>, _options: StageOptions) -> Arc<Self> {
        Arc::new(Stage { disk })
    }

    /// The disk below.
    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Marks the present state.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint(0)
    }

    /// Goes back to a savepoint; everything staged after it is forgotten.
    pub fn rollback(&self, _to: Savepoint) -> Result<()> {
        Ok(())
    }

    /// Whether anything is staged or was written fresh.
    pub fn is_changed(&self) -> bool {
        false
    }

    /// What would be written, ascending, neighbours merged.
    pub fn changed_ranges(&self) -> Vec<Range<u64>> {
        Vec::new()
    }

    /// Makes all changes permanent, at once or not at all. Afterwards nothing is staged and older
    /// savepoints are gone.
    pub fn commit(&self) -> Result<()> {
        Ok(())
    }

    /// Forgets all changes and gives fresh space back. Called by `drop` too, if there are any.
    pub fn abandon(&self) -> Result<()> {
        Ok(())
    }
}

impl BlockDevice for Stage {
    fn len(&self) -> u64 {
        self.disk.len()
    }
    fn sector(&self) -> u32 {
        512
    }
    fn read_only(&self) -> bool {
        true
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.disk.read_at(offset, buf)
    }
    fn write_at(&self, _offset: u64, _data: &[u8]) -> Result<()> {
        Ok(())
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.write_at(offset, data)
    }
    fn zero(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }
    fn pristine_range(&self, _range: Range<u64>) -> bool {
        true
    }
}
