//! The guestfish language: from lines to commands, from answers to bytes.

pub mod bind;
pub mod check;
pub mod classify;
pub mod complete;
mod control;
pub mod events;
mod glob;
pub mod help;
pub mod json;
pub mod lex;
pub mod lines;
pub mod render;
pub mod report;
pub mod run;
mod suggest;
pub mod trace;
pub mod usage;
pub mod wording;
