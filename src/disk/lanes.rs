//! Copying a disk in lanes: a few threads take its pieces in order, and each carries its piece all the way from the source
//! to the copy. So reading, inflating, compressing and writing overlap, no bytes go from one thread to another, and memory
//! is bounded: a lane holds one piece.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, Run};
use crate::base::{Error, Kind, Result, progress};

/// Bytes of the source whose map is asked for at once.
const WINDOW: u64 = 256 << 20;
/// Bytes of a piece, unless the clusters are bigger.
const PIECE: u64 = 1 << 20;
/// Holes that are shorter are read with the data around them.
const GAP: u64 = 32 << 10;
/// More lanes do not help: the host takes one write to its cache at a time.
const LANES_MAX: usize = 8;
/// Bytes that all lanes together may hold.
const MEMORY: u64 = 48 << 20;
/// How often it is asked whether to go on.
const POLL: Duration = Duration::from_millis(50);

/// What one lane copies at once: ranges of the disk, ascending, which are data as far as the source's maps say.
pub(super) struct Piece {
    pub ranges: Vec<Range<u64>>,
}

impl Piece {
    /// Its first byte.
    pub fn start(&self) -> u64 {
        self.ranges.first().map_or(0, |range| range.start)
    }

    /// Bytes from its first to its last one.
    pub fn span(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.end - self.start()) as usize
    }

    /// Where one of its ranges is in a buffer for all of it.
    pub fn place(&self, range: &Range<u64>) -> Range<usize> {
        (range.start - self.start()) as usize..(range.end - self.start()) as usize
    }
}

/// Cuts a disk into pieces.
struct Plan<'a> {
    source: &'a dyn Disk,
    /// Ranges begin and end on whole multiples of this, but for the end of the disk.
    grain: u64,
    /// No piece crosses a multiple of this.
    piece: u64,
    /// The map was read up to here.
    mapped: u64,
    ranges: VecDeque<Range<u64>>,
    number: u64,
    /// Of the bytes up to here the user knows that they are done.
    told: u64,
}

impl<'a> Plan<'a> {
    fn new(source: &'a dyn Disk, grain: u64) -> Self {
        let piece = PIECE.max(grain).max(source.unit());
        Plan { source, grain, piece, mapped: 0, ranges: VecDeque::new(), number: 0, told: 0 }
    }

    fn map(&mut self, runs: Vec<Run>) {
        let len = self.source.len();
        for run in runs.into_iter().filter(|run| !run.hole) {
            let start = run.range.start / self.grain * self.grain;
            let end = run.range.end.next_multiple_of(self.grain).min(len);
            match self.ranges.back_mut() {
                Some(last) if start <= last.end.saturating_add(GAP) => last.end = last.end.max(end),
                _ => self.ranges.push_back(start..end),
            }
        }
    }

    fn next(&mut self) -> Result<Option<Piece>> {
        while self.ranges.is_empty() {
            let (from, len) = (self.mapped, self.source.len());
            if from >= len {
                return Ok(None);
            }
            self.mapped = len.min(from + WINDOW);
            let runs = self.source.runs(from..self.mapped)?;
            self.map(runs);
        }
        let mut ranges = Vec::new();
        let mut until = None;
        while let Some(first) = self.ranges.front_mut() {
            let until = *until.get_or_insert((first.start / self.piece + 1) * self.piece);
            if first.start >= until {
                break;
            }
            if first.end > until {
                ranges.push(first.start..until);
                first.start = until;
                break;
            }
            ranges.extend(self.ranges.pop_front());
        }
        self.number += 1;
        let piece = Piece { ranges };
        progress::add(piece.start().saturating_sub(self.told));
        self.told = self.told.max(piece.start());
        Ok(Some(piece))
    }
}

/// How pieces are copied.
pub(super) trait Work: Sync {
    /// What a lane keeps from piece to piece: its buffers.
    type Lane: Default;
    /// Reads a piece; several at once.
    fn read(&self, lane: &mut Self::Lane, piece: &Piece) -> Result<()>;
    /// Gives it its place in the copy: one after the other, in the order of the disk.
    fn place(&self, lane: &mut Self::Lane) -> Result<()>;
    /// Writes it; several at once.
    fn write(&self, lane: &mut Self::Lane, piece: &Piece) -> Result<()>;
}

/// What the lanes tell each other.
#[derive(Default)]
struct Board {
    /// The piece whose turn it is to be given its place.
    turn: u64,
    /// The first piece that failed, and how.
    failed: Option<(u64, Error)>,
    /// Somebody asked to stop.
    stopped: bool,
    /// Lanes that have not ended.
    running: usize,
}

impl Board {
    fn fail(&mut self, number: u64, error: Error) {
        if self.failed.as_ref().is_none_or(|(first, _)| number < *first) {
            self.failed = Some((number, error));
        }
    }
}

struct Copying<'a, W> {
    plan: Mutex<Plan<'a>>,
    board: Mutex<Board>,
    /// A turn has passed, or there will be no more.
    turned: Condvar,
    /// A lane has ended.
    ended: Condvar,
    work: &'a W,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies all data of `source` in pieces whose ranges are multiples of `grain` bytes. `poll` is asked every now and then
/// whether to go on.
///
/// # Errors
/// That of the first piece that fails, that of `poll`.
pub(super) fn copy<W: Work>(
    source: &dyn Disk,
    grain: u64,
    work: &W,
    poll: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let plan = Plan::new(source, grain);
    progress::expect(source.len());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // A lane holds plain bytes and streams, which can be twice as long in a bad image, on both sides.
    let most = (MEMORY / (plan.piece * 4)).min(source.len().div_ceil(plan.piece)).max(1);
    let lanes = (cores + 1).min(LANES_MAX).min(most as usize);
    let copying = Copying {
        plan: Mutex::new(plan),
        board: Mutex::new(Board { running: lanes, ..Board::default() }),
        turned: Condvar::new(),
        ended: Condvar::new(),
        work,
    };
    let stopped = std::thread::scope(|scope| {
        let mut started = 0;
        for _ in 0..lanes {
            let named = std::thread::Builder::new().name("imgsh-copy".into());
            match named.spawn_scoped(scope, || copying.lane()) {
                Ok(_) => started += 1,
                Err(_) => lock(&copying.board).running -= 1,
            }
        }
        if started == 0 {
            // The host gives no threads.
            lock(&copying.board).running = 1;
            copying.lane();
        }
        copying.watch(poll)
    });
    let board = copying.board.into_inner().unwrap_or_else(PoisonError::into_inner);
    match board.failed {
        Some((_, error)) => Err(error),
        None => stopped,
    }
}

impl<W: Work> Copying<'_, W> {
    /// Waits until all lanes have ended.
    fn watch(&self, poll: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let mut result = Ok(());
        let mut board = lock(&self.board);
        while board.running > 0 {
            let (after, waited) = self.ended.wait_timeout(board, POLL).unwrap_or_else(PoisonError::into_inner);
            board = after;
            if waited.timed_out() && result.is_ok() {
                drop(board);
                result = poll();
                board = lock(&self.board);
                if result.is_err() {
                    board.stopped = true;
                    self.turned.notify_all();
                }
            }
        }
        result
    }

    /// One thread: piece after piece, until there is none left or something fails.
    fn lane(&self) {
        let mut number = 0;
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut lane = W::Lane::default();
            while self.going() {
                let Some(piece) = self.take(&mut number)? else { break };
                self.work.read(&mut lane, &piece)?;
                if !self.wait(number) {
                    break;
                }
                self.work.place(&mut lane)?;
                lock(&self.board).turn = number + 1;
                self.turned.notify_all();
                self.work.write(&mut lane, &piece)?;
            }
            Ok(())
        }));
        let mut board = lock(&self.board);
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => board.fail(number, error),
            Err(_) => board.fail(number, Error::new(Kind::Internal, "a thread that copies has died")),
        }
        board.running -= 1;
        self.turned.notify_all();
        self.ended.notify_all();
    }

    fn going(&self) -> bool {
        let board = lock(&self.board);
        board.failed.is_none() && !board.stopped
    }

    fn take(&self, number: &mut u64) -> Result<Option<Piece>> {
        let mut plan = lock(&self.plan);
        *number = plan.number;
        plan.next()
    }

    /// Waits for the turn of a piece; `false`: it will not come.
    fn wait(&self, number: u64) -> bool {
        let mut board = lock(&self.board);
        loop {
            if board.turn == number {
                return !board.stopped;
            }
            if board.stopped || board.failed.as_ref().is_some_and(|(failed, _)| *failed < number) {
                return false;
            }
            board = self.turned.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
