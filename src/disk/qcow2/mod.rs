//! QEMU copy-on-write images, versions 2 and 3.
//!
//! Reading follows L1 and L2 tables lazily. Writing is shadow paging: everything goes to clusters that are
//! free on disk, and one commit switches the header sector, which holds all roots of the format. The byte
//! tables, their sources and the commit protocol are in `docs/formats/qcow2.md`.

mod beside;
mod bitmaps;
mod build;
mod cache;
mod chain;
mod check;
mod commit;
mod compress;
mod convert;
mod create;
mod data_file;
mod deltas;
mod described;
mod draft;
mod encryption;
mod header;
mod inflate;
mod map;
mod refcount;
mod references;
mod resize;
mod snapshot;
mod staging;
mod storage;
#[cfg(test)]
pub(crate) mod tests;
mod window;
mod write;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use super::{Changes, Disk, Format, Located, Run, raw};
use crate::base::{Error, Kind, Result, Timestamp};
pub use check::{CheckReport, check};
use commit::Broken;
pub(in crate::disk) use convert::fill;
pub use create::create;
use map::{Fresh, Image};
pub use resize::resize;
use snapshot::Label;
pub use snapshot::{Snapshot, apply_snapshot, create_snapshot, delete_snapshot, snapshots};
use write::Writer;

/// An open qcow2 image.
pub struct Qcow2 {
    size: u64,
    read_only: bool,
    /// See [`Disk::writes_ahead`].
    ahead: bool,
    state: RwLock<State>,
}

struct State {
    image: Image,
    /// Written since the last commit.
    fresh: Fresh,
    /// There since the first write.
    writer: Option<Writer>,
    broken: Option<Broken>,
}

impl State {
    /// An image that is open for reading.
    fn new(image: Image) -> Self {
        State { image, fresh: Fresh::new(), writer: None, broken: None }
    }
}

impl Qcow2 {
    /// Opens an image and its backing chain.
    ///
    /// # Errors
    /// A missing, damaged, encrypted or unknown image, here or below; see [`super::open`].
    pub fn open(path: &Path, read_only: bool) -> Result<Self> {
        Ok(Self::over(chain::open(path, read_only)?, read_only))
    }

    fn over(image: Image, read_only: bool) -> Self {
        // Bytes in a data file are the guest's at once: a bitmap must have them before.
        let ahead = image.data.is_none() || matches!(bitmaps::has_active(&image), Ok(false));
        Qcow2 { size: image.header.size, read_only, ahead, state: RwLock::new(State::new(image)) }
    }

    /// The state for writing; the first time the image is locked and reopened.
    fn writing(&self) -> Result<RwLockWriteGuard<'_, State>> {
        let mut guard = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let path = state.image.path.display();
        if self.read_only {
            return Err(Error::from(Kind::ReadOnly).at(path));
        }
        match state.broken {
            Some(Broken::Lost) => return Err(raw::lost(&state.image.path)),
            Some(Broken::Unknown) => {
                return Err(Error::new(Kind::Io, "the last write of a commit has failed")
                    .at(path)
                    .hint("open it again"));
            }
            None => {}
        }
        if state.writer.is_none() {
            state.writer = Some(Writer::new(&mut state.image)?);
        }
        Ok(guard)
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

/// Refuses a qcow2 image whose data is in another file: a copy of the image would share it.
///
/// # Errors
/// `Kind::Unsupported` for such an image; a damaged header.
pub(in crate::disk) fn refuse_data_file(path: &Path) -> Result<()> {
    if raw::probe(path)? == Format::Qcow2 && chain::open(path, true)?.data.is_some() {
        return Err(Error::unsupported("the guest's data is in another file, which a copy would share")
            .at(path.display())
            .hint("disk-convert makes a copy that is whole in itself"));
    }
    Ok(())
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
    fn read_beside(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inside(offset, buf.len() as u64)?;
        let state = self.state();
        state.image.read_beside(&state.fresh, offset, buf)
    }
    fn unit(&self) -> u64 {
        self.state().image.unit()
    }
    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>> {
        let range = self.inside(range.start, range.end.saturating_sub(range.start))?;
        let mut runs = Vec::new();
        let state = self.state();
        state.image.runs(&state.fresh, range, &mut runs)?;
        Ok(runs)
    }
    fn locate(&self, range: Range<u64>, each: &mut dyn FnMut(Located<'_>) -> Result<()>) -> Result<()> {
        let range = self.inside(range.start, range.end.saturating_sub(range.start))?;
        let state = self.state();
        state.image.locate(&state.fresh, range, each)
    }
    fn is_blank(&self) -> bool {
        let state = self.state();
        let image = &state.image;
        image.backing.is_none()
            && image.data.is_none()
            && state.fresh.is_empty()
            && image.l1.iter().all(|entry| *entry == 0)
    }
    fn writes_ahead(&self) -> bool {
        self.ahead
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.inside(offset, data.len() as u64)?;
        let mut state = self.writing()?;
        if !self.ahead {
            return Err(Error::new(
                Kind::Internal,
                "qcow2: a bitmap has to know of a change to a data file before it is made",
            ));
        }
        let State { image, fresh, writer: Some(writer), .. } = &mut *state else { return Ok(()) };
        if image.data.is_some() {
            return data_file::write_fresh(image, fresh, offset, data);
        }
        writer.write(image, fresh, offset, data)
    }
    fn commit(&self, changes: &dyn Changes) -> Result<()> {
        let mut state = self.writing()?;
        state.image.storage.in_place()?;
        if state.image.data.is_some() {
            return data_file::commit(&mut state, changes);
        }
        commit::commit(&mut state, changes, None)
    }
    fn commit_keeping(&self, changes: &dyn Changes, name: &str, now: Timestamp) -> Result<()> {
        if self.state().image.data.is_some() {
            return Err(Error::unsupported("qcow2: an image with an external data file has no internal snapshots"));
        }
        let mut state = self.writing()?;
        state.image.storage.in_place()?;
        commit::commit(&mut state, changes, Some(&Label { name, now }))
    }
    fn settle(&self) -> Result<()> {
        let state = self.state();
        let data = state.image.data.as_ref().map_or(Ok(()), |data| data.settle());
        state.image.storage.settle().and(data)
    }
    fn abandon(&self) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let State { image, fresh, writer: Some(writer), broken } = &mut *state else { return Ok(()) };
        // In an unknown state the file may need all that was written.
        if *broken == Some(Broken::Unknown) {
            return Ok(());
        }
        *broken = None;
        if let Some(data) = &image.data {
            data.abandon()?;
        }
        writer.abandon(image, fresh)
    }
    fn locked(&self) -> Option<String> {
        self.state.write().unwrap_or_else(PoisonError::into_inner).image.locked()
    }
    fn unlock(&self, passphrase: &[u8], interrupt: &dyn Fn() -> Result<()>) -> Result<()> {
        self.state.write().unwrap_or_else(PoisonError::into_inner).image.unlock(passphrase, interrupt)
    }
    fn notices(&self) -> Vec<String> {
        self.state().image.data.as_ref().map(Disk::notices).unwrap_or_default()
    }
    fn files(&self) -> Vec<PathBuf> {
        let mut list = Vec::new();
        self.state().image.files(&mut list);
        list
    }
}
