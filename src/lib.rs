//! `imgsh` edits the inside of virtual-machine images (raw and qcow2) in-process: no virtual
//! machine, no root, no kernel mount.
//!
//! The modules form a ladder; each uses only those below it (`tests/layering.rs` enforces it,
//! `docs/architecture.md` explains it):
//!
//! ```text
//! base -> disk -> stage -> volume -> fs -> guest -> session -> command(s) -> shell | script -> front
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod base;
pub mod command;
pub mod commands;
pub mod disk;
pub mod front;
pub mod fs;
pub mod guest;
pub mod host;
pub mod script;
pub mod session;
pub mod shell;
pub mod stage;
pub mod volume;
