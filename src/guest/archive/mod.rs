//! Archives as sources and sinks: tar in its ustar, GNU and pax forms, plain or compressed.
//!
//! Sources: POSIX.1-2017, "pax - portable archive interchange", and GNU tar's manual, "Basic Tar Format" and
//! "Storing Sparse Files".

mod compression;
mod cpio;
mod fields;
mod lz4;
mod read;
mod unlzw;
mod write;

pub use compression::{Compression, Encoder};
pub use cpio::{CpioEntry, is_cpio, read_initrd, write_cpio};
pub use read::TarSource;
pub use write::TarSink;

/// Bytes of a block.
const BLOCK: usize = 512;

#[cfg(test)]
mod tests;
