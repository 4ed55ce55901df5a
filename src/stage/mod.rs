//! The stage: what a session has changed on one disk, with savepoints, until it commits.
//!
//! Changed pages of 4096 bytes lie over the disk, and zeros as ranges, so that zeroing a terabyte costs
//! nothing. Fresh data goes to the disk at once. A savepoint is a mark in a log of what each change
//! replaced; going back costs as much as was changed since.

mod committed;
mod difference;
mod pages;
mod ranges;
#[cfg(test)]
mod tests;

pub use committed::Committed;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::difference::Difference;
use self::pages::{Bytes, LIMIT, PAGE, Page, Store};
use self::ranges::Ranges;
use crate::base::bytes::is_zero;
use crate::base::{Error, Kind, Result, Timestamp, progress};
use crate::disk::guest_log::LogPlan;
use crate::disk::{BlockDevice, Change, Changes, Disk, DiskPiece, Kept, check_bounds};

const UNIT: u64 = PAGE as u64;

/// Longest change that a commit hands to the disk at once.
const CHANGE_MAX: usize = 1 << 20;

/// How a stage treats its disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct StageOptions {
    /// Every write is refused.
    pub read_only: bool,
    /// The image is never touched: fresh data is spilled too, and [`Stage::commit`] is refused.
    pub dry_run: bool,
    /// The disk's number in its session, which [`BlockDevice::pieces`] names.
    pub number: usize,
}

/// A run of a disk's bytes, and where it is.
#[derive(Debug)]
pub struct StagedPiece<'a> {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// Whether the bytes, or at least some of them, differ from what is committed.
    pub staged: bool,
    /// Where they are in the files; `None` for what only a commit brings there.
    pub located: Option<(&'a Path, Kept)>,
}

/// A moment to go back to. Stays valid until the stage commits or goes back to an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Savepoint(u64);

/// One disk with its staged changes. It is the [`BlockDevice`] that everything above reads and writes.
pub struct Stage {
    disk: Box<dyn Disk>,
    options: StageOptions,
    store: Arc<Store>,
    state: RwLock<State>,
    /// The committed disk is all zeros: what is neither staged nor fresh is not read from it. What was written fresh and then
    /// rolled back is not seen, so that a file system that is made here can have its files written fresh. Not in the state, for
    /// a commit reads what was committed before it.
    blank: AtomicBool,
}

/// A changed page, and the savepoint after which the undo log last took all of what it was before.
#[derive(Clone)]
struct Slot {
    page: Arc<Page>,
    epoch: u64,
}

/// What a change replaced.
enum Undo {
    Page(u64, Option<Slot>),
    /// Some bytes of a staged page.
    Bytes(u64, Difference),
    /// The zero pages were these within a range of pages.
    Zeros(Range<u64>, Vec<Range<u64>>),
    /// The fresh bytes were these within a range.
    Fresh(Range<u64>, Vec<Range<u64>>),
}

#[derive(Default)]
struct State {
    /// By page number. A page here counts before `zeros`.
    pages: BTreeMap<u64, Slot>,
    /// Page numbers that read as zeros.
    zeros: Ranges,
    /// Bytes written fresh in the present state.
    fresh: Ranges,
    /// Bytes written fresh, then rolled back: rubbish in places that the committed state does not use.
    stale: Ranges,
    undo: Vec<Undo>,
    /// Savepoint and the length of `undo` at its time.
    savepoints: Vec<(u64, usize)>,
    /// The last savepoint number given out.
    last: u64,
}

impl Stage {
    /// A stage without changes over a disk.
    pub fn new(disk: Box<dyn Disk>, options: StageOptions) -> Arc<Self> {
        Self::with_limit(disk, options, LIMIT)
    }

    fn with_limit(disk: Box<dyn Disk>, options: StageOptions, limit: usize) -> Arc<Self> {
        let blank = AtomicBool::new(disk.is_blank());
        Arc::new(Stage { disk, options, store: Store::new(limit), state: RwLock::default(), blank })
    }

    /// The disk below.
    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Marks the present state.
    pub fn savepoint(&self) -> Savepoint {
        let mut state = self.write_state();
        state.last += 1;
        let mark = (state.last, state.undo.len());
        state.savepoints.push(mark);
        Savepoint(state.last)
    }

    /// Goes back to a savepoint; everything staged after it is forgotten.
    ///
    /// # Errors
    /// A savepoint from before the last commit, or from after a state that was gone back to.
    pub fn rollback(&self, to: Savepoint) -> Result<()> {
        let mut state = self.write_state();
        let Ok(i) = state.savepoints.binary_search_by_key(&to.0, |(id, _)| *id) else {
            return Err(Error::new(
                Kind::Invalid,
                "this savepoint is gone: the disk was committed or went back past it",
            ));
        };
        state.savepoints.truncate(i + 1);
        let keep = state.savepoints.get(i).map_or(0, |(_, len)| *len);
        while state.undo.len() > keep {
            let Some(undo) = state.undo.pop() else { break };
            state.take_back(undo)?;
        }
        Ok(())
    }

    /// Waits until the host has taken everything that was written fresh: [`Disk::settle`].
    ///
    /// # Errors
    /// The host's, told once: go back to the last savepoint before which it settled.
    pub fn settle(&self) -> Result<()> {
        self.disk.settle()
    }

    /// Whether anything is staged or was written fresh.
    pub fn is_changed(&self) -> bool {
        self.read_state().is_changed()
    }

    /// Whether anything was staged or written fresh after a savepoint.
    pub fn is_changed_since(&self, savepoint: Savepoint) -> bool {
        let state = self.read_state();
        let mark = state.savepoints.binary_search_by_key(&savepoint.0, |(id, _)| *id);
        mark.ok().and_then(|i| state.savepoints.get(i)).is_none_or(|(_, len)| state.undo.len() > *len)
    }

    /// What would be written, ascending, neighbours merged. Whole pages of 4096 bytes, but for fresh data.
    pub fn changed_ranges(&self) -> Vec<Range<u64>> {
        let (state, mut all) = (self.read_state(), Ranges::default());
        state.fresh.iter().for_each(|range| all.add(range));
        state.zeros.iter().for_each(|range| all.add(self.bytes_of(range)));
        state.pages.keys().for_each(|page| all.add(self.bytes_of(*page..page + 1)));
        all.iter().collect()
    }

    /// Calls `each` for every run of `range`, in order, without gaps: what is staged and where it is in the files.
    ///
    /// # Errors
    /// Those of [`Disk::locate`]; what `each` says.
    pub fn locate(&self, range: Range<u64>, each: &mut dyn FnMut(StagedPiece<'_>) -> Result<()>) -> Result<()> {
        check_bounds(range.start, range.end.saturating_sub(range.start), self.disk.len())?;
        let (waiting, fresh) = self.staged_within(&range);
        let below = |range: Range<u64>, each: &mut dyn FnMut(StagedPiece<'_>) -> Result<()>| {
            self.disk.locate(range, &mut |found| {
                let staged = fresh.within(&found.range).next().is_some();
                each(StagedPiece { range: found.range, staged, located: Some((found.file, found.kept)) })
            })
        };
        let mut at = range.start;
        for run in waiting.within(&range) {
            if at < run.start {
                below(at..run.start, each)?;
            }
            at = run.end;
            each(StagedPiece { range: run, staged: true, located: None })?;
        }
        if at < range.end { below(at..range.end, each) } else { Ok(()) }
    }

    /// The bytes within a range that wait for a commit, and those that were written fresh.
    fn staged_within(&self, range: &Range<u64>) -> (Ranges, Ranges) {
        let (state, pages) = (self.read_state(), range.start / UNIT..range.end.div_ceil(UNIT));
        let (mut waiting, mut fresh) = (Ranges::default(), Ranges::default());
        state.zeros.within(&pages).for_each(|zeros| waiting.add(self.bytes_of(zeros)));
        state.pages.range(pages).for_each(|(page, _)| waiting.add(self.bytes_of(*page..page + 1)));
        state.fresh.within(range).for_each(|run| fresh.add(run));
        (waiting, fresh)
    }

    /// Makes all changes permanent, at once or not at all. Afterwards nothing is staged and older
    /// savepoints are gone.
    ///
    /// # Errors
    /// A dry run with changes; whatever stops the disk. The changes stay staged unless the message says that
    /// they are saved.
    pub fn commit(&self) -> Result<()> {
        self.commit_with(&|changes| self.disk.commit(changes))
    }

    /// [`Stage::commit`] that may go through a log which the disk holds: [`Disk::commit_through`].
    ///
    /// # Errors
    /// As [`Stage::commit`].
    pub fn commit_through(&self, plan: &dyn Fn(&dyn Changes) -> Option<LogPlan>) -> Result<()> {
        self.commit_with(&|changes| self.disk.commit_through(changes, plan))
    }

    /// [`Stage::commit`] that keeps the state before it inside the image, where it can be gone back to. Without changes
    /// nothing is kept.
    ///
    /// # Errors
    /// As [`Stage::commit`]; `Kind::Unsupported` where the format cannot.
    pub fn commit_keeping(&self, name: &str, now: Timestamp) -> Result<()> {
        self.commit_with(&|changes| self.disk.commit_keeping(changes, name, now))
    }

    fn commit_with(&self, commit: &dyn Fn(&dyn Changes) -> Result<()>) -> Result<()> {
        let mut state = self.write_state();
        if !state.is_changed() {
            self.give_back(&mut state)?;
            state.forget();
            return Ok(());
        }
        if self.options.dry_run {
            return Err(Error::new(Kind::ReadOnly, "this is a dry run; nothing is written"));
        }
        self.drop_equal(&mut state)?;
        // Space that only a state used that was gone back from: holes again.
        let stale = std::mem::take(&mut state.stale);
        if self.is_blank() {
            let edges = stale.iter().map(|range| self.split(&range)).flat_map(|(head, _, tail)| [head, tail]);
            for edge in edges {
                for page in edge.start / UNIT..edge.end.div_ceil(UNIT) {
                    let bytes = self.bytes_of(page..page + 1);
                    let part = bytes.start.max(edge.start)..bytes.end.min(edge.end);
                    if !part.is_empty() && !state.has(page) {
                        self.zero_edge(&mut state, part)?;
                    }
                }
            }
        }
        let mut empty = Ranges::default();
        stale.iter().for_each(|range| empty.add(self.split(&range).1));
        progress::expect((state.pages.len() as u64).saturating_mul(UNIT));
        let view = View { stage: self, state: &state, empty };
        if let Err(error) = commit(&view) {
            state.stale = stale;
            return Err(error);
        }
        state.forget();
        self.blank.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets all changes and gives fresh space back. Called by `drop` too, if there are any.
    ///
    /// # Errors
    /// The host cannot give the space back; the changes are forgotten all the same.
    pub fn abandon(&self) -> Result<()> {
        let mut state = self.write_state();
        let result = self.give_back(&mut state);
        state.forget();
        result
    }

    /// Has the disk give back what was written fresh, if anything was.
    fn give_back(&self, state: &mut State) -> Result<()> {
        match state.fresh.is_empty() && state.stale.is_empty() {
            true => Ok(()),
            false => self.disk.abandon(),
        }
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(|e| e.into_inner())
    }

    /// The bytes of a range of pages, cut at the end of the disk.
    fn bytes_of(&self, pages: Range<u64>) -> Range<u64> {
        let at = |page: u64| page.saturating_mul(UNIT).min(self.disk.len());
        at(pages.start)..at(pages.end)
    }

    fn check_write(&self, offset: u64, len: u64) -> Result<()> {
        if self.options.read_only {
            return Err(Error::new(Kind::ReadOnly, "the disk was added read-only"));
        }
        check_bounds(offset, len, self.disk.len())
    }

    /// The present bytes of a page, zeros past the end of the disk.
    fn load(&self, state: &State, page: u64) -> Result<Box<Bytes>> {
        let mut bytes = Box::new([0; PAGE]);
        let range = self.bytes_of(page..page + 1);
        let inside = &mut bytes[..(range.end - range.start) as usize];
        self.read_locked(state, range.start, inside)?;
        Ok(bytes)
    }

    /// Reads: stretches without changes in one piece from the disk, the rest page by page.
    fn read_locked(&self, state: &State, offset: u64, buf: &mut [u8]) -> Result<()> {
        let (mut at, end) = (offset, offset + buf.len() as u64);
        while at < end {
            let page = at / UNIT;
            let last = end.div_ceil(UNIT);
            let staged = state.pages.range(page..last).next();
            let zero = state.zeros.within(&(page..last)).next();
            let stop = match (staged, &zero) {
                (Some((n, _)), _) if *n == page => page + 1,
                (staged, Some(zero)) if zero.start == page => staged.map_or(zero.end, |(n, _)| zero.end.min(*n)),
                (staged, zero) => {
                    let staged = staged.map_or(last, |(n, _)| *n);
                    zero.as_ref().map_or(staged, |zero| staged.min(zero.start))
                }
            };
            let stop = stop.saturating_mul(UNIT).min(end);
            let part = &mut buf[(at - offset) as usize..(stop - offset) as usize];
            match (staged, zero) {
                (Some((n, slot)), _) if *n == page => slot.page.read((at - page * UNIT) as usize, part)?,
                (_, Some(zero)) if zero.start == page => part.fill(0),
                _ => self.read_below(state, at, part)?,
            }
            at = stop;
        }
        Ok(())
    }

    fn is_blank(&self) -> bool {
        self.blank.load(Ordering::Relaxed)
    }

    /// Reads what was committed last. Places that it does not use may show what was written fresh, but for a blank disk.
    fn read_committed(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if !self.is_blank() {
            return self.disk.read_at(offset, buf);
        }
        check_bounds(offset, buf.len() as u64, self.disk.len())?;
        buf.fill(0);
        Ok(())
    }

    /// Reads what nothing is staged over: committed or fresh bytes.
    fn read_below(&self, state: &State, offset: u64, buf: &mut [u8]) -> Result<()> {
        if !self.is_blank() {
            return self.disk.read_at(offset, buf);
        }
        let end = offset + buf.len() as u64;
        buf.fill(0);
        for run in state.fresh.within(&(offset..end)) {
            self.disk.read_at(run.start, &mut buf[(run.start - offset) as usize..(run.end - offset) as usize])?;
        }
        Ok(())
    }

    fn write_locked(&self, state: &mut State, offset: u64, data: &[u8]) -> Result<()> {
        let (mut at, end) = (offset, offset + data.len() as u64);
        while at < end {
            let page = at / UNIT;
            let bytes = self.bytes_of(page..page + 1);
            let stop = bytes.end.min(end);
            let part = &data[(at - offset) as usize..(stop - offset) as usize];
            let inside = (at - bytes.start) as usize;
            let epoch = state.epoch();
            let staged = state.pages.get(&page);
            let difference = match staged {
                Some(slot) if slot.epoch != epoch => slot.page.difference(inside, part)?,
                _ => None,
            };
            match (staged, difference) {
                (Some(slot), None) if slot.epoch == epoch => slot.page.write(inside, part)?,
                (Some(slot), Some(difference)) => {
                    if !difference.is_empty() {
                        slot.page.write(inside, part)?;
                        state.undo.push(Undo::Bytes(page, difference));
                    }
                }
                _ => {
                    let mut whole = match at == bytes.start && stop == bytes.end {
                        true => Box::new([0; PAGE]),
                        false => self.load(state, page)?,
                    };
                    whole[inside..inside + part.len()].copy_from_slice(part);
                    let slot = Slot { page: self.store.page(whole)?, epoch };
                    let old = state.pages.insert(page, slot);
                    state.log(|| Undo::Page(page, old));
                }
            }
            at = stop;
        }
        Ok(())
    }

    /// Zeros in less than two pages.
    fn zero_edge(&self, state: &mut State, edge: Range<u64>) -> Result<()> {
        self.write_locked(state, edge.start, &[0; 2 * PAGE][..(edge.end - edge.start) as usize])
    }

    /// Splits a range of bytes into the part before its first whole page, its whole pages, and the rest. The
    /// last page of the disk is whole even if the disk ends inside it.
    fn split(&self, range: &Range<u64>) -> (Range<u64>, Range<u64>, Range<u64>) {
        let first = range.start.div_ceil(UNIT);
        let last = if range.end == self.disk.len() { range.end.div_ceil(UNIT) } else { range.end / UNIT };
        if first >= last {
            return (range.clone(), 0..0, range.end..range.end);
        }
        let body = self.bytes_of(first..last);
        (range.start..body.start, first..last, body.end..range.end)
    }

    /// Forgets the pages that hold what the disk holds anyway; not where that is rubbish which the commit makes holes of.
    fn drop_equal(&self, state: &mut State) -> Result<()> {
        let mut equal = Vec::new();
        let mut there = Vec::new();
        let mut ours = [0; PAGE];
        let mut pages = state.pages.iter().peekable();
        while let Some((first, _)) = pages.peek().map(|(n, s)| (**n, *s)) {
            let mut run = Vec::new();
            while let Some((n, slot)) = pages.next_if(|(n, _)| **n == first + run.len() as u64 && run.len() < 256) {
                run.push((*n, slot));
            }
            let bytes = self.bytes_of(first..first + run.len() as u64);
            there.resize((bytes.end - bytes.start) as usize, 0);
            self.read_below(state, bytes.start, &mut there)?;
            for ((n, slot), there) in run.into_iter().zip(there.chunks(PAGE)) {
                let ours = &mut ours[..there.len()];
                slot.page.read(0, ours)?;
                let kept = state.stale.within(&self.bytes_of(n..n + 1)).next().is_none();
                if ours == there && kept && state.zeros.within(&(n..n + 1)).next().is_none() {
                    equal.push(n);
                }
            }
        }
        equal.iter().for_each(|n| drop(state.pages.remove(n)));
        Ok(())
    }
}

impl State {
    fn is_changed(&self) -> bool {
        !(self.pages.is_empty() && self.zeros.is_empty() && self.fresh.is_empty())
    }

    fn epoch(&self) -> u64 {
        self.savepoints.last().map_or(0, |(id, _)| *id)
    }

    fn log(&mut self, undo: impl FnOnce() -> Undo) {
        if !self.savepoints.is_empty() {
            self.undo.push(undo());
        }
    }

    /// After a commit or when all is given up. Numbers of savepoints are not used again.
    fn forget(&mut self) {
        *self = State { last: self.last, ..State::default() };
    }

    /// Forgets what is staged for whole pages.
    fn unstage(&mut self, pages: &Range<u64>) {
        let found: Vec<u64> = self.pages.range(pages.clone()).map(|(n, _)| *n).collect();
        for n in found {
            let old = self.pages.remove(&n);
            self.log(|| Undo::Page(n, old));
        }
        let zeros: Vec<_> = self.zeros.within(pages).collect();
        if !zeros.is_empty() {
            self.zeros.remove(pages.clone());
            self.log(|| Undo::Zeros(pages.clone(), zeros));
        }
    }

    fn add_zeros(&mut self, pages: &Range<u64>) {
        self.unstage(pages);
        self.zeros.add(pages.clone());
        self.log(|| Undo::Zeros(pages.clone(), Vec::new()));
    }

    fn add_fresh(&mut self, range: &Range<u64>) {
        let before: Vec<_> = self.fresh.within(range).collect();
        self.fresh.add(range.clone());
        self.stale.remove(range.clone());
        self.log(|| Undo::Fresh(range.clone(), before));
    }

    fn take_back(&mut self, undo: Undo) -> Result<()> {
        match undo {
            Undo::Bytes(n, difference) => {
                if let Some(slot) = self.pages.get(&n) {
                    difference.runs().try_for_each(|(at, bytes)| slot.page.write(at, bytes))?;
                }
            }
            Undo::Page(n, Some(slot)) => drop(self.pages.insert(n, slot)),
            Undo::Page(n, None) => drop(self.pages.remove(&n)),
            Undo::Zeros(range, before) => {
                self.zeros.remove(range);
                before.into_iter().for_each(|r| self.zeros.add(r));
            }
            Undo::Fresh(range, before) => {
                self.fresh.remove(range.clone());
                self.stale.add(range);
                for r in before {
                    self.stale.remove(r.clone());
                    self.fresh.add(r);
                }
            }
        }
        Ok(())
    }

    /// Whether a page is staged as data or zeros.
    fn has(&self, page: u64) -> bool {
        self.pages.contains_key(&page) || self.zeros.within(&(page..page + 1)).next().is_some()
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
        self.options.read_only
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_bounds(offset, buf.len() as u64, self.disk.len())?;
        self.read_locked(&self.read_state(), offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check_write(offset, data.len() as u64)?;
        self.write_locked(&mut self.write_state(), offset, data)
    }

    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check_write(offset, data.len() as u64)?;
        let part = |r: &Range<u64>| &data[(r.start - offset) as usize..(r.end - offset) as usize];
        let mut direct: Option<Range<u64>> = None;
        {
            let mut state = self.write_state();
            if self.options.dry_run || !self.disk.writes_ahead() {
                return self.write_locked(&mut state, offset, data);
            }
            let (head, body, tail) = self.split(&(offset..offset + data.len() as u64));
            state.unstage(&body);
            let whole = self.bytes_of(body);
            // A page at an edge that is staged for its other bytes takes these too.
            for page in [&head, &tail].into_iter().flat_map(|r| r.start / UNIT..r.end.div_ceil(UNIT)) {
                let bytes = self.bytes_of(page..page + 1);
                let bytes = bytes.start.max(offset)..bytes.end.min(offset + data.len() as u64);
                if bytes.is_empty() || whole.contains(&bytes.start) {
                    continue;
                }
                match state.has(page) {
                    true => self.write_locked(&mut state, bytes.start, part(&bytes))?,
                    false => direct = Some(join(direct, bytes)),
                }
            }
            if !whole.is_empty() {
                direct = Some(join(direct, whole));
            }
            if let Some(direct) = &direct {
                state.add_fresh(direct);
            }
        }
        match direct {
            Some(direct) => self.disk.write_fresh(direct.start, part(&direct)),
            None => Ok(()),
        }
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        let len = range.end.checked_sub(range.start).ok_or_else(|| Error::from(Kind::Invalid))?;
        self.check_write(range.start, len)?;
        let mut state = self.write_state();
        let (head, body, tail) = self.split(&range);
        for edge in [head, tail] {
            self.zero_edge(&mut state, edge)?;
        }
        if !body.is_empty() {
            state.add_zeros(&body);
        }
        Ok(())
    }

    fn pieces(&self, range: Range<u64>, each: &mut dyn FnMut(DiskPiece) -> Result<()>) -> Result<()> {
        check_bounds(range.start, range.end.saturating_sub(range.start), self.disk.len())?;
        each(DiskPiece { disk: Some(self.options.number), at: range.start, range })
    }

    fn takes_fresh_within(&self, range: Range<u64>) -> bool {
        let state = self.read_state();
        let pages = range.start / UNIT..range.end.div_ceil(UNIT);
        match self.is_blank() {
            true => state.fresh.within(&range).next().is_none(),
            false => state.pages.range(pages.clone()).next().is_none() && state.zeros.within(&pages).next().is_none(),
        }
    }
}

/// The range that spans both. What is staged in between stays in front of what the disk gets there.
fn join(a: Option<Range<u64>>, b: Range<u64>) -> Range<u64> {
    match a {
        Some(a) => a.start.min(b.start)..a.end.max(b.end),
        None => b,
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Nobody is left to tell; only space in places that nothing uses is lost.
        self.abandon().ok();
    }
}

/// What a commit writes.
struct View<'a> {
    stage: &'a Stage,
    state: &'a State,
    /// Pages that are to be holes if they are not staged.
    empty: Ranges,
}

impl View<'_> {
    /// Gives the zero pages in `pages`, where nothing is staged over them.
    fn zeros(&self, pages: Range<u64>, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        let mut all = Ranges::default();
        self.state.zeros.within(&pages).for_each(|r| all.add(r));
        self.empty.within(&pages).for_each(|r| all.add(r));
        for range in all.iter() {
            let bytes = self.stage.bytes_of(range);
            each(bytes.start, Change::Zero(bytes.end - bytes.start))?;
        }
        Ok(())
    }
}

impl Changes for View<'_> {
    fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        // `done`: the first page not given yet. `data`: pages in a row, not given yet, that end before `done`.
        let mut done = 0;
        let mut data: Vec<u8> = Vec::with_capacity(CHANGE_MAX);
        let mut start = 0;
        for (n, slot) in &self.state.pages {
            if *n != done || data.len() >= CHANGE_MAX {
                if !data.is_empty() {
                    each(start, Change::Data(&data))?;
                    data.clear();
                }
                self.zeros(done..*n, each)?;
            }
            let bytes = self.stage.bytes_of(*n..n + 1);
            let len = data.len();
            data.resize(len + (bytes.end - bytes.start) as usize, 0);
            slot.page.read(0, &mut data[len..])?;
            if is_zero(&data[len..]) {
                data.truncate(len);
                if !data.is_empty() {
                    each(start, Change::Data(&data))?;
                    data.clear();
                }
                each(bytes.start, Change::Zero(bytes.end - bytes.start))?;
            } else if len == 0 {
                start = bytes.start;
            }
            done = n + 1;
        }
        if !data.is_empty() {
            each(start, Change::Data(&data))?;
        }
        self.zeros(done..u64::MAX, each)
    }
}
