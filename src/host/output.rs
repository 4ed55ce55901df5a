//! Standard output as the language sees it: the program's own, or the host command at the end of a pipe.

use std::cell::RefCell;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::{Child, ChildStdin};
use std::rc::Rc;

/// Where the bytes go now.
enum Target {
    Own,
    Pipe(Child, BufWriter<ChildStdin>),
}

struct State {
    own: BufWriter<Box<dyn Write>>,
    target: Target,
    pipe_errors: bool,
    at_line_start: bool,
}

/// A handle on standard output; all handles write to the same place.
#[derive(Clone)]
pub(super) struct Output(Rc<RefCell<State>>);

impl Output {
    pub(super) fn new(own: Box<dyn Write>, pipe_errors: bool) -> Self {
        let own = BufWriter::with_capacity(1 << 16, own);
        Output(Rc::new(RefCell::new(State { own, target: Target::Own, pipe_errors, at_line_start: true })))
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

    /// Ends a pipe: flushes, closes its input, waits.
    pub(super) fn to_own(&self) -> io::Result<()> {
        let flushed = self.clone().flush();
        let target = std::mem::replace(&mut self.0.borrow_mut().target, Target::Own);
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
                state.at_line_start = bytes.last().map_or(state.at_line_start, |last| *last == b'\n');
                state.own.write(bytes)
            }
            Target::Pipe(_, input) => input.write(bytes),
        };
        state.tolerated(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        let result = match &mut state.target {
            Target::Own => state.own.flush(),
            Target::Pipe(_, input) => input.flush(),
        };
        state.tolerated(result, ())
    }
}
