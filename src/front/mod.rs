//! The front ends: one command line, a script, the prompt. Only here is anything written to standard output or error.

pub mod batch;
mod cli;
mod keys;
pub mod output;
pub mod prepare;
mod progress;
mod recording;
mod remote;
pub mod repl;
pub mod run;
pub mod scripting;
mod serve;
mod user_files;
mod wire;

pub use run::main;
