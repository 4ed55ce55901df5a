//! The front ends: one command line, a script, the prompt. Only here is anything written to standard output or error.

pub mod cli;
pub mod output;
mod prepare;
pub mod repl;
pub mod run;
pub mod scripting;

pub use run::main;
