//! Commits of a raw image through the journal of a file system inside: how a [`LogPlan`] is carried out.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Storage;
use super::journal::reserve;
use crate::base::{Result, progress};
use crate::disk::guest_log::{LogPlan, Put, Within, cut, gaps};
use crate::disk::{Change, Changes};

/// What is left to do after the commit point.
pub(super) struct Prepared {
    /// Bytes of the log that were holes in the image.
    pub holes: Vec<Range<u64>>,
    /// Whether the flush that makes the log count went well. If not, nobody knows which state the medium has.
    pub counts: Result<()>,
}

impl LogPlan {
    /// Where the changes do not go: the log, and what is written of its own accord. By place on the disk.
    fn kept(&self) -> BTreeMap<u64, u64> {
        let puts = [&self.point, &self.over].map(|put| put.offset..put.offset + put.data.len() as u64);
        let all = self.space.iter().cloned().chain(puts);
        all.map(|range| (self.range.start + range.start, self.range.start + range.end)).collect()
    }

    fn put(&self, image: &dyn Storage, put: &Put) -> Result<()> {
        image.write_at(self.range.start + put.offset, &put.data)
    }
}

/// What was reserved in the image.
#[derive(Default)]
struct Reserved {
    /// For the changes.
    changes: Vec<Range<u64>>,
    /// For the log.
    log: Vec<Range<u64>>,
}

impl Reserved {
    /// Makes holes of it again. Only space is lost where this fails.
    fn give_back(&self, image: &dyn Storage) {
        self.changes.iter().chain(&self.log).for_each(|range| _ = image.zero(range.clone()).ok());
    }
}

/// Reserves what the changes and the log need, writes the log, and makes it count: the commit point. On an error the
/// image is as it was, but for bytes of the log, which do not count. `flush` is the first flush, which fresh data needs too.
pub(super) fn prepare(
    image: &dyn Storage,
    changes: &dyn Changes,
    plan: &LogPlan,
    flush: &mut dyn FnMut() -> Result<()>,
) -> Result<Prepared> {
    let mut reserved = Reserved::default();
    write_log(image, changes, plan, &mut reserved).inspect_err(|_| reserved.give_back(image))?;
    set_point(image, plan, flush).inspect_err(|_| {
        // Where this fails a mark stays that means nothing.
        plan.put(image, &plan.withdraw).ok();
        reserved.give_back(image);
    })?;
    Ok(Prepared { holes: reserved.log, counts: image.sync() })
}

fn write_log(image: &dyn Storage, changes: &dyn Changes, plan: &LogPlan, reserved: &mut Reserved) -> Result<()> {
    changes.visit(&mut |offset, change| match change {
        Change::Data(data) => reserve(image, &(offset..offset + data.len() as u64), &mut reserved.changes),
        Change::Zero(_) => Ok(()),
    })?;
    let start = plan.range.start;
    for range in &plan.space {
        reserve(image, &(start + range.start..start + range.end), &mut reserved.log)?;
    }
    let within = Within { changes, range: plan.range.clone() };
    plan.entries.visit(&within, &mut |offset, bytes| image.write_at(start + offset, bytes))
}

/// Writes the mark, and after a flush the point. An error means that the point is not there.
fn set_point(image: &dyn Storage, plan: &LogPlan, flush: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    plan.put(image, &plan.mark)?;
    flush()?;
    plan.put(image, &plan.point).or_else(|error| {
        let mut there = vec![0; plan.point.data.len()];
        image.read_at(plan.range.start + plan.point.offset, &mut there)?;
        if there == plan.point.data { Ok(()) } else { Err(error) }
    })
}

/// After the commit point: everything goes to its place, and the log is empty again.
pub(super) fn finish(image: &dyn Storage, changes: &dyn Changes, plan: &LogPlan, holes: Vec<Range<u64>>) -> Result<()> {
    // Changes come in pages, which may hold bytes of the log as they were before.
    let kept = plan.kept();
    changes.visit(&mut |offset, change| {
        for (at, part) in gaps(offset..offset + change.len(), &kept).filter_map(|gap| cut(offset, change, &gap)) {
            match part {
                Change::Data(data) => {
                    image.write_at(at, data)?;
                    progress::add(data.len() as u64);
                }
                Change::Zero(len) => image.zero(at..at + len)?,
            }
        }
        Ok(())
    })?;
    plan.put(image, &plan.over)?;
    image.sync()?;
    plan.put(image, &plan.empty)?;
    image.sync()?;
    // Nothing depends on what follows: a mark on an empty log means nothing.
    plan.put(image, &plan.close)?;
    holes.into_iter().try_for_each(|range| image.zero(range))
}
