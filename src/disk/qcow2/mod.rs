//! QEMU copy-on-write images, versions 2 and 3.
//!
//! Reading follows L1 and L2 tables lazily. Writing is shadow paging: everything goes to clusters that are
//! free on disk, and one commit switches the header sector, which holds all roots of the format. The byte
//! tables, their sources and the commit protocol are in `docs/formats/qcow2.md`.

mod cache;
mod chain;
mod compress;
mod header;
mod map;
mod storage;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::{Changes, CreateOptions, Disk, Run};
use crate::base::{Error, Kind, Result};
use map::{Fresh, Image};

/// An open qcow2 image.
pub struct Qcow2 {
    size: u64,
    state: RwLock<State>,
}

struct State {
    image: Image,
    fresh: Fresh,
}

impl Qcow2 {
    /// Opens an image and its backing chain.
    ///
    /// # Errors
    /// A missing, damaged, encrypted or unknown image, here or below; see [`super::open`].
    pub fn open(path: &Path, _read_only: bool) -> Result<Self> {
        let image = chain::open(path)?;
        Ok(Qcow2 { size: image.header.size, state: RwLock::new(State { image, fresh: Fresh::new() }) })
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn inside(&self, offset: u64, len: u64) -> Result<Range<u64>> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(offset..end),
            _ => Err(Error::new(
                Kind::Io,
                format!("access to {len} bytes at {offset} is outside the disk of {} bytes", self.size),
            )),
        }
    }
}

/// Makes an image.
pub fn create(_path: &Path, _options: &CreateOptions) -> Result<()> {
    Err(Error::unsupported("skeleton"))
}

impl Disk for Qcow2 {
    fn len(&self) -> u64 {
        self.size
    }
    fn format(&self) -> &'static str {
        "qcow2"
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inside(offset, buf.len() as u64)?;
        let state = self.state();
        state.image.read(&state.fresh, offset, buf)
    }
    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>> {
        let range = self.inside(range.start, range.end.saturating_sub(range.start))?;
        let mut runs = Vec::new();
        let state = self.state();
        state.image.runs(&state.fresh, range, &mut runs)?;
        Ok(runs)
    }
    fn write_fresh(&self, _offset: u64, _data: &[u8]) -> Result<()> {
        Err(Error::unsupported("skeleton"))
    }
    fn commit(&self, _changes: &dyn Changes) -> Result<()> {
        Err(Error::unsupported("skeleton"))
    }
    fn abandon(&self) -> Result<()> {
        Err(Error::unsupported("skeleton"))
    }
    fn files(&self) -> Vec<PathBuf> {
        let mut list = Vec::new();
        self.state().image.files(&mut list);
        list
    }
}
