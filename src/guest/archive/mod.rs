//! Archives as sources and sinks: tar in its ustar, GNU and pax forms, plain or compressed.
//!
//! Sources: POSIX.1-2017, "pax - portable archive interchange", and GNU tar's manual, "Basic Tar Format" and
//! "Storing Sparse Files".

mod fields;
mod read;
mod write;

pub use read::TarSource;
pub use write::TarSink;

use crate::base::{Error, Result};

/// Bytes of a block.
const BLOCK: usize = 512;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all; what guestfish takes when nothing is said, whatever the file's name is.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// From guestfish's word for it.
    ///
    /// # Errors
    /// `Kind::Unsupported` for those that are known and not handled, `Kind::Usage` for others.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "gzip" => Ok(Compression::Gzip),
            "zstd" => Ok(Compression::Zstd),
            "compress" | "bzip2" | "xz" | "lzop" | "lzma" => {
                Err(Error::unsupported(format!("{name} archives are not handled yet"))
                    .hint(format!("run {name} on the host; gzip and zstd are built in")))
            }
            _ => Err(Error::usage(format!("unknown compression '{name}'")).hint("gzip and zstd are known")),
        }
    }
}

#[cfg(test)]
mod tests;
