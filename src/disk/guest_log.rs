//! Commits through a log that a disk holds itself: the journal of a file system inside. Every program that knows the
//! log can finish such a commit, and nothing lies beside the image.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Change, Changes};
use crate::base::Result;

/// Bytes and where they go, in bytes from the start of [`LogPlan::range`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// First byte.
    pub offset: u64,
    /// What is to be there. It lies inside one page of 4096 bytes, and is written in one piece.
    pub data: Vec<u8>,
}

/// What to write for a commit through a log, in the order of the fields; a flush stands between all of them but `entries` and `mark`.
/// A cut before `point` is durable leaves the old state, any later one the new state, for all who know the log.
pub struct LogPlan {
    /// The bytes of the disk that the log and the changes lie in; all other offsets begin at its start.
    pub range: Range<u64>,
    /// The bytes that the log's entries take.
    pub space: Vec<Range<u64>>,
    /// The log's entries, which do not count yet.
    pub entries: Box<dyn LogEntries>,
    /// Says that there may be a log that counts. Harmless as long as none does.
    pub mark: Put,
    /// Makes the log count.
    pub point: Put,
    /// Goes to the place of `mark` together with the changes, instead of what they have there.
    pub over: Put,
    /// Makes the log count no more.
    pub empty: Put,
    /// Goes to the place of `mark` at the end.
    pub close: Put,
    /// Takes `mark` back if something fails before `point`.
    pub withdraw: Put,
}

/// The entries of a log.
pub trait LogEntries {
    /// Calls `each` with bytes and their place. `changes` are those that the plan was made from, counted from the start
    /// of [`LogPlan::range`].
    ///
    /// # Errors
    /// Those of `each`, of `changes` and of reading the disk.
    fn visit(&self, changes: &dyn Changes, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()>;
}

/// The changes inside a range of the disk, counted from its start. What is outside is left out.
pub struct Within<'a> {
    /// All changes.
    pub changes: &'a dyn Changes,
    /// Bytes of the disk.
    pub range: Range<u64>,
}

impl Changes for Within<'_> {
    fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        self.changes.visit(&mut |offset, change| match cut(offset, change, &self.range) {
            Some((at, change)) => each(at - self.range.start, change),
            None => Ok(()),
        })
    }
}

/// The parts of a range between the ranges of `kept`, start to end, which do not overlap. Some can be empty.
pub fn gaps(range: Range<u64>, kept: &BTreeMap<u64, u64>) -> impl Iterator<Item = Range<u64>> {
    let from = kept.range(..range.start).next_back().map_or(range.start, |(_, end)| (*end).max(range.start));
    let (mut at, end) = (from, range.end);
    let inside = kept.range(range).map(|(start, end)| *start..*end);
    inside.chain(std::iter::once(end..end)).map(move |kept| std::mem::replace(&mut at, kept.end)..kept.start)
}

/// The part of a change inside a range, and where it begins.
pub fn cut<'a>(offset: u64, change: Change<'a>, range: &Range<u64>) -> Option<(u64, Change<'a>)> {
    let end = offset.saturating_add(change.len());
    let (start, stop) = (offset.max(range.start), end.min(range.end));
    if start >= stop {
        return None;
    }
    let part = match change {
        Change::Data(data) => Change::Data(data.get((start - offset) as usize..(stop - offset) as usize)?),
        Change::Zero(_) => Change::Zero(stop - start),
    };
    Some((start, part))
}
