//! The Rhai side of the front ends: one interpreter, made when it is first needed.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use crate::base::Result;
use crate::command::Host;
use crate::script::Interpreter;
use crate::session::Session;
use crate::shell::run::Library;

/// Runs Rhai for scripts, for the prompt, and for commands that are written in it.
pub struct Scripting {
    host: Rc<dyn Host>,
    interpreter: RefCell<Option<Interpreter>>,
}

impl Scripting {
    /// Nothing is set up yet.
    pub fn new(host: Rc<dyn Host>) -> Self {
        Scripting { host, interpreter: RefCell::new(None) }
    }

    /// Works with the interpreter. It is busy while `work` runs, and Rhai never comes back here by itself.
    pub fn with<T>(&self, work: impl FnOnce(&mut Interpreter) -> T) -> T {
        work(self.interpreter.borrow_mut().get_or_insert_with(|| Interpreter::new(self.host.clone())))
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
