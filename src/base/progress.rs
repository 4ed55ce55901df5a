//! How far long work is: bytes are counted once, where they are read from what they come from, or written if they come from
//! nowhere. Whoever shows that to the user is a [`Watcher`]; without one a count costs one atomic addition.
//!
//! One count for the process: at a prompt one command runs at a time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

static DONE: AtomicU64 = AtomicU64::new(0);
static EXPECTED: AtomicU64 = AtomicU64::new(0);
/// How many pieces of work are under way, each inside of the one before.
static DEPTH: AtomicUsize = AtomicUsize::new(0);
static WATCHER: OnceLock<Box<dyn Watcher>> = OnceLock::new();

/// Shows the work to the user.
pub trait Watcher: Send + Sync {
    /// Work has begun that is called `name`.
    fn began(&self, name: &'static str);
    /// It is over: what was shown must be gone when this returns.
    fn ended(&self);
    /// Something else writes to the terminal: as [`Watcher::ended`], and nothing more is shown of this work.
    fn give_way(&self);
}

/// Tells `watcher` of all work from now on. Only the first one is heard.
pub fn watch(watcher: Box<dyn Watcher>) {
    // A second watcher would draw over the first.
    let _ = WATCHER.set(watcher);
}

/// Whether anybody looks: what is only done to know how long work takes can be left out otherwise.
pub fn is_watched() -> bool {
    WATCHER.get().is_some()
}

/// Work that is under way until this is dropped.
#[must_use]
pub struct Work(Option<&'static dyn Watcher>);

/// Begins work, or a part of the work that is under way.
pub fn begin(name: &'static str) -> Work {
    let Some(watcher) = WATCHER.get() else { return Work(None) };
    if DEPTH.fetch_add(1, Ordering::Relaxed) == 0 {
        DONE.store(0, Ordering::Relaxed);
        EXPECTED.store(0, Ordering::Relaxed);
        watcher.began(name);
    }
    Work(Some(watcher.as_ref()))
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(watcher) = self.0
            && DEPTH.fetch_sub(1, Ordering::Relaxed) == 1
        {
            watcher.ended();
        }
    }
}

/// Counts bytes that are done.
pub fn add(bytes: u64) {
    DONE.fetch_add(bytes, Ordering::Relaxed);
}

/// Counts bytes that are to come.
pub fn expect(bytes: u64) {
    EXPECTED.fetch_add(bytes, Ordering::Relaxed);
}

/// Everything that is expected so far will be counted a second time.
pub fn expect_again() {
    EXPECTED.fetch_add(EXPECTED.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// Bytes done since the work began, and of how many, if that is known.
pub fn done() -> (u64, Option<u64>) {
    let (done, expected) = (DONE.load(Ordering::Relaxed), EXPECTED.load(Ordering::Relaxed));
    // What is longer than it was said to be has no known end.
    (done, Some(expected).filter(|expected| *expected > 0 && done <= *expected))
}

/// Something else is about to write to the terminal.
pub fn give_way() {
    if let Some(watcher) = WATCHER.get()
        && DEPTH.load(Ordering::Relaxed) > 0
    {
        watcher.give_way();
    }
}
