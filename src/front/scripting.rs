//! The Rhai side of the front ends: one interpreter, made when it is first needed.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::cli::PROGRAM;
use crate::base::{Error, Result};
use crate::script::{Interpreter, LineError, LineRunner};
use crate::session::Session;
use crate::shell::report::Failure;
use crate::shell::run::{Library, LineHost, Outcome, Shell};

/// How often a line of a script may run a command in Rhai that runs a line: each has an interpreter of its own.
const DEPTH: usize = 4;

/// Runs Rhai for scripts, for the prompt, and for commands that are written in it.
pub struct Scripting {
    host: Rc<dyn LineHost>,
    depth: usize,
    interpreter: RefCell<Option<Interpreter>>,
}

impl Scripting {
    /// Nothing is set up yet.
    pub fn new(host: Rc<dyn LineHost>) -> Self {
        Scripting { host, depth: 0, interpreter: RefCell::new(None) }
    }

    /// Works with the interpreter. It is busy while `work` runs: what its lines ask of Rhai is done by another one.
    pub fn with<T>(&self, work: impl FnOnce(&mut Interpreter) -> T) -> T {
        let made = || {
            let lines = Nested { host: self.host.clone(), depth: self.depth + 1, scripting: OnceCell::new() };
            Interpreter::new(self.host.clone(), Rc::new(lines))
        };
        work(self.interpreter.borrow_mut().get_or_insert_with(made))
    }

    /// Runs a script file; its arguments are the words of the command line.
    ///
    /// # Errors
    /// The script's.
    pub fn run_file(&self, session: &mut Session, path: &Path, words: &[Vec<u8>]) -> Result<()> {
        let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        self.with(|interpreter| interpreter.run_file(session, path, &words))
    }
}

impl Library for Scripting {
    fn call(&self, session: &mut Session, module: &str, function: &str, options: &[(String, String)]) -> Result<()> {
        self.with(|interpreter| interpreter.call(session, module, function, options))
    }
}

/// Runs the lines of a script: `run_line`.
struct Nested {
    host: Rc<dyn LineHost>,
    depth: usize,
    /// For commands in Rhai among the lines.
    scripting: OnceCell<Scripting>,
}

impl LineRunner for Nested {
    fn run_lines(&self, session: &mut Session, text: &str) -> Result<Vec<u8>, LineError> {
        let wrong = |error| LineError { command: "run_line".to_string(), error };
        if self.depth > DEPTH {
            return Err(wrong(Error::usage(format!("lines of scripts are nested more than {DEPTH} deep"))));
        }
        let nested = || Scripting { host: self.host.clone(), depth: self.depth, interpreter: RefCell::new(None) };
        let scripting = self.scripting.get_or_init(nested);
        let mut messages = io::stderr();
        let mut shell = Shell::new(self.host.as_ref(), scripting, &mut messages, PROGRAM);
        let mut lines: VecDeque<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        self.host.keep_output();
        let result = shell.try_lines(session, &mut lines);
        let printed = self.host.kept_output();
        match result {
            Ok(Outcome::Quit) => Err(wrong(
                Error::usage("quit means nothing in a script").hint("return ends a function, throw a script"),
            )),
            Ok(_) => Ok(printed),
            Err(Failure::Command { prefix, error }) => {
                Err(LineError { command: prefix.trim_end_matches([':', ' ']).to_string(), error })
            }
            Err(Failure::Shell(text) | Failure::Plain(text)) => Err(wrong(Error::usage(text))),
            Err(Failure::Silent) => Err(wrong(Error::usage("the host command failed"))),
        }
    }
}
