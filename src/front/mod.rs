//! The front ends: one command line, a script, the prompt. Only here is anything written to standard output or error.

pub mod cli;
pub mod prepare;
pub mod run;

use std::path::Path;

use crate::base::Result;
use crate::session::Session;
use crate::shell::run::LineHost;

/// What the front ends need of the scripting language.
pub trait Scripting {
    /// Runs a script file with its arguments.
    ///
    /// # Errors
    /// The script's, with its place.
    fn run_file(&mut self, session: &mut Session, host: &dyn LineHost, path: &Path, args: &[Vec<u8>]) -> Result<()>;
    /// Evaluates one entry of the prompt; variables stay. Answers what to show.
    ///
    /// # Errors
    /// The entry's.
    fn evaluate(&mut self, session: &mut Session, host: &dyn LineHost, text: &str) -> Result<Option<String>>;
    /// Whether a word is a name it knows (a variable, a function).
    fn knows(&self, name: &str) -> bool;
}

pub use run::main;
