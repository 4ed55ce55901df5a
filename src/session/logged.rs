//! Commits through the journal of a file system on the disk.

use std::ops::Range;
use std::sync::Arc;

use super::Session;
use crate::base::Result;
use crate::disk::guest_log::{LogPlan, Within, cut};
use crate::disk::slice::Slice;
use crate::disk::{BlockDevice, Change, Changes, Device};
use crate::fs;
use crate::stage::{Committed, Stage, StageOptions};

impl Session {
    /// How to commit what is staged on a disk through the journal of a file system that holds all of it, if there is one.
    /// Whatever goes wrong here, the commit can do without.
    pub(super) fn log_plan(&self, disk: usize, changes: &dyn Changes) -> Option<LogPlan> {
        let stage = self.disks.get(disk)?.stage.clone();
        let options = StageOptions { read_only: true, dry_run: true, number: disk };
        let committed: Device = Stage::new(Box::new(Committed(stage)), options);
        let mut candidates = self.opened.values().filter_map(|place| match place.as_slice() {
            [(at, range)] if *at == disk && !range.is_empty() => Some(range.clone()),
            _ => None,
        });
        candidates.find_map(|range| plan_in(&committed, &range, changes).ok().flatten())
    }
}

/// The plan of the file system in a range of the disk, if it holds all the changes.
fn plan_in(committed: &Device, range: &Range<u64>, changes: &dyn Changes) -> Result<Option<LogPlan>> {
    if !holds_all(committed.as_ref(), range, changes)? {
        return Ok(None);
    }
    let fs = fs::open(Arc::new(Slice::new(committed.clone(), range.clone())))?;
    let plan = fs.log_plan(&Within { changes, range: range.clone() })?;
    Ok(plan.map(|plan| LogPlan { range: range.clone(), ..plan }))
}

/// Whether nothing changes outside of a range. Changes come in pages, which may reach over its ends with what is there
/// already.
fn holds_all(committed: &dyn BlockDevice, range: &Range<u64>, changes: &dyn Changes) -> Result<bool> {
    let mut all = true;
    changes.visit(&mut |offset, change| {
        for outside in [0..range.start, range.end..u64::MAX] {
            let Some((at, part)) = cut(offset, change, &outside).filter(|_| all) else { continue };
            all = match part {
                Change::Data(data) => {
                    let mut there = vec![0; data.len()];
                    committed.read_at(at, &mut there)?;
                    there == data
                }
                Change::Zero(_) => false,
            };
        }
        Ok(())
    })?;
    Ok(all)
}
