//! Standard output as the language sees it: the program's own, the host command at the end of a pipe, or memory.

use std::cell::RefCell;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::{Child, ChildStdin};
use std::rc::Rc;

use crate::base::progress;
use crate::command::OutFile;

/// Most bytes that are kept in memory of what lines print.
const KEPT_MAX: usize = 64 << 20;

/// Where the bytes go now.
enum Target {
    Own,
    Pipe(Child, BufWriter<ChildStdin>),
    Memory(Vec<u8>),
}

struct State {
    own: BufWriter<Box<dyn Write>>,
    target: Target,
    /// What was replaced when the target became memory.
    replaced: Vec<Target>,
    pipe_errors: bool,
    at_line_start: bool,
    /// What is shown of long work stands on the same screen.
    own_is_terminal: bool,
}

/// A handle on standard output; all handles write to the same place.
#[derive(Clone)]
pub(super) struct Output(Rc<RefCell<State>>);

impl Output {
    pub(super) fn new(own: Box<dyn Write>, own_is_terminal: bool, pipe_errors: bool) -> Self {
        let own = BufWriter::with_capacity(1 << 16, own);
        Output(Rc::new(RefCell::new(State {
            own,
            target: Target::Own,
            replaced: Vec::new(),
            pipe_errors,
            at_line_start: true,
            own_is_terminal,
        })))
    }

    pub(super) fn to_pipe(&self, mut child: Child) {
        if let Some(input) = child.stdin.take() {
            self.0.borrow_mut().target = Target::Pipe(child, BufWriter::with_capacity(1 << 16, input));
        }
    }

    pub(super) fn at_line_start(&self) -> bool {
        self.0.borrow().at_line_start
    }

    pub(super) fn is_pipe(&self) -> bool {
        matches!(self.0.borrow().target, Target::Pipe(..))
    }

    /// Keeps what is written in memory, until [`Output::kept`]; may be called again meanwhile.
    pub(super) fn keep(&self) {
        let state = &mut *self.0.borrow_mut();
        state.replaced.push(std::mem::replace(&mut state.target, Target::Memory(Vec::new())));
    }

    /// What was written since [`Output::keep`]; the target is what it was before.
    pub(super) fn kept(&self) -> Vec<u8> {
        let state = &mut *self.0.borrow_mut();
        match std::mem::replace(&mut state.target, state.replaced.pop().unwrap_or(Target::Own)) {
            Target::Memory(bytes) => bytes,
            _ => Vec::new(),
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        matches!(self.0.borrow().target, Target::Memory(_))
    }

    /// Ends a pipe: flushes, closes its input, waits.
    pub(super) fn to_own(&self) -> io::Result<()> {
        let flushed = self.clone().flush();
        let target = match self.is_pipe() {
            true => std::mem::replace(&mut self.0.borrow_mut().target, Target::Own),
            false => Target::Own,
        };
        if let Target::Pipe(mut child, input) = target {
            // What could not be flushed above must not be tried again on the way out.
            drop(input.into_parts());
            child.wait()?;
        }
        flushed
    }
}

impl State {
    fn tolerated<T: Default>(&self, result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            // The reader has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe && !self.pipe_errors => Ok(instead),
            result => result,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *self.0.borrow_mut();
        let result = match &mut state.target {
            Target::Own => {
                if state.own_is_terminal {
                    progress::give_way();
                }
                state.at_line_start = bytes.last().map_or(state.at_line_start, |last| *last == b'\n');
                state.own.write(bytes)
            }
            Target::Pipe(_, input) => input.write(bytes),
            Target::Memory(kept) if kept.len().saturating_add(bytes.len()) > KEPT_MAX => {
                let words = format!("more than {} MiB were printed, which is the most that is kept", KEPT_MAX >> 20);
                Err(io::Error::other(words))
            }
            Target::Memory(kept) => {
                kept.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        };
        state.tolerated(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        let result = match &mut state.target {
            Target::Own => state.own.flush(),
            Target::Pipe(_, input) => input.flush(),
            Target::Memory(_) => Ok(()),
        };
        state.tolerated(result, ())
    }
}

impl OutFile for Output {}
