//! How far long work is, on one line of the terminal that is gone when the work is done.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cli::Options;
use crate::base::{progress, size};
use crate::host::terminal;

/// Work that is done sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// From one drawing to the next.
const TICK: Duration = Duration::from_millis(100);
/// The rate is that of so many drawings: the last three seconds.
const SAMPLES: usize = 30;
/// Drawings without any work before the thread sleeps until it is woken.
const IDLE: u32 = 50;

/// Shows long work from now on, unless the options, or a standard error that is no terminal, forbid it.
pub fn show(options: &Options) {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if options.progress_bars && !options.listen && !dumb && std::io::stderr().is_terminal() {
        progress::watch(Box::new(Line(Arc::default())));
    }
}

/// The line, and the thread that draws it.
struct Line(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    work: Option<Work>,
    /// The thread runs.
    started: bool,
    /// It waits to be woken.
    asleep: bool,
}

/// What is under way.
struct Work {
    name: &'static str,
    since: Instant,
    shown: bool,
    /// When so many bytes were done, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl progress::Watcher for Line {
    fn began(&self, name: &'static str) {
        let mut state = self.0.lock();
        state.work = Some(Work { name, since: Instant::now(), shown: false, samples: VecDeque::new() });
        if !state.started {
            let shared = Arc::clone(&self.0);
            // A host that gives no thread shows no progress.
            let thread = std::thread::Builder::new().name("imgsh-progress".into());
            state.started = thread.spawn(move || shared.draw_always()).is_ok();
        } else if state.asleep {
            self.0.woken.notify_one();
        }
    }

    fn ended(&self) {
        if let Some(work) = self.0.lock().work.take() {
            work.erase();
        }
    }

    fn give_way(&self) {
        self.ended();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw_always(&self) {
        let mut state = self.lock();
        let mut idle = 0;
        loop {
            if idle > IDLE {
                state.asleep = true;
                let woken = self.woken.wait_while(state, |state| state.work.is_none());
                state = woken.unwrap_or_else(PoisonError::into_inner);
                state.asleep = false;
            }
            state = self.woken.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
            match &mut state.work {
                None => idle += 1,
                Some(work) => {
                    idle = 0;
                    work.draw(Instant::now());
                }
            }
        }
    }
}

impl Work {
    /// Draws how far it is, once it takes long.
    fn draw(&mut self, now: Instant) {
        let (done, expected) = progress::done();
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, done));
        if done == 0 || now.duration_since(self.since) < PATIENCE {
            return;
        }
        self.shown = true;
        let columns = terminal::size(&std::io::stderr()).map_or(80, |(columns, _)| columns);
        let text = line(self.name, done, expected, self.rate(), columns.saturating_sub(1));
        write(&format!("\r{text}\x1b[K"));
    }

    /// Bytes a second.
    fn rate(&self) -> u64 {
        let (Some((from, before)), Some((to, after))) = (self.samples.front(), self.samples.back()) else { return 0 };
        let milliseconds = to.duration_since(*from).as_millis().max(1);
        u64::try_from(u128::from(after.saturating_sub(*before)) * 1000 / milliseconds).unwrap_or(u64::MAX)
    }

    fn erase(&self) {
        if self.shown {
            write("\r\x1b[K");
        }
    }
}

/// Standard error at once; there is nowhere to report that it cannot be written.
fn write(text: &str) {
    let mut screen = std::io::stderr().lock();
    let _ = screen.write_all(text.as_bytes()).and_then(|()| screen.flush());
}

/// One line of at most `columns`: name, bar, share, bytes, bytes a second, time left.
fn line(name: &str, done: u64, expected: Option<u64>, rate: u64, columns: usize) -> String {
    let speed = format!("{}/s", size::rounded(rate));
    let Some(expected) = expected.filter(|expected| *expected > 0) else {
        return format!("{name}  {}  {speed}", size::rounded(done)).chars().take(columns).collect();
    };
    let share = u128::from(done.min(expected)) * 100 / u128::from(expected);
    let left = match (expected - done.min(expected)).checked_div(rate) {
        Some(seconds) => clock(seconds),
        None => "-:--".to_string(),
    };
    let tail = format!("{share:3}%  {} of {}  {speed}  {left} left", size::rounded(done), size::rounded(expected));
    // Two blanks, two brackets, one blank.
    let room = columns.saturating_sub(name.len() + tail.len() + 5).min(40);
    let bar = match room {
        0..8 => String::new(),
        _ => {
            let full = (room as u128 * share / 100) as usize;
            format!("[{}{}] ", "#".repeat(full), "-".repeat(room - full))
        }
    };
    format!("{name}  {bar}{tail}").chars().take(columns).collect()
}

/// Seconds as `M:SS` or `H:MM:SS`.
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_the_terminal() {
        let wide = line("copy-in", 30 << 20, Some(120 << 20), 10 << 20, 120);
        assert!(wide.starts_with("copy-in  [##########------------------------------]"), "{wide}");
        assert!(wide.ends_with("]  25%  30.0 MiB of 120.0 MiB  10.0 MiB/s  0:09 left"), "{wide}");
        let narrow = line("copy-in", 30 << 20, Some(120 << 20), 10 << 20, 20);
        assert_eq!(narrow.len(), 20);
        assert_eq!(line("tar-out", 1 << 30, None, 0, 79), "tar-out  1.0 GiB  0 B/s");
        assert!(line("x", 1, Some(u64::MAX), 0, 79).ends_with("-:-- left"));
        assert_eq!(line("x", 1, Some(u64::MAX), 0, 0), "");
    }

    #[test]
    fn clocks() {
        assert_eq!((clock(0).as_str(), clock(75).as_str(), clock(3_725).as_str()), ("0:00", "1:15", "1:02:05"));
    }
}
