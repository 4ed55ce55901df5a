//! Raw images: the bytes of the disk as they are, in a file or on a block device.
//!
//! Fresh data goes straight to its place. All other changes of a commit go through a redo journal beside the
//! image (`journal`), so that a crash leaves the old or the new state once this program has opened the
//! image again. A file whose length is no multiple of 512 bytes is served as QEMU does: rounded up, the
//! bytes past its end read as zeros, and writing them makes the file longer.

mod host;
mod journal;
#[cfg(test)]
pub(crate) mod power;
#[cfg(test)]
mod tests;
mod through;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, RwLock};

use self::host::{FileStorage, HostPlace};
pub(in crate::disk) use self::host::{forget_journal, open_image, size, still_at};
use self::journal::Overlay;
use super::guest_log::LogPlan;
use super::{Changes, CreateOptions, Disk, Format, Kept, Located, Run, check_bounds, target};
use crate::base::bytes::be32;
use crate::base::{Error, Kind, Result, progress};

/// One file of an image; the seam at which tests cut the power.
trait Storage: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> Result<u64>;
    /// Fills `buf`; past the end there are zeros.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;
    /// Writes all of `data`, or hands it to somebody who does; then an error comes with a later call.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()>;
    /// Waits until the host has taken everything. An error is told once.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
    /// Zeros, as a hole if possible.
    fn zero(&self, range: Range<u64>) -> Result<()>;
    /// Makes sure that there is space for a range, without changing what it reads as.
    fn reserve(&self, range: Range<u64>) -> Result<()>;
    /// Data and holes, without gaps.
    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>>;
    /// Whether all of the file is known to be a hole.
    fn is_hole(&self) -> bool;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> Result<()>;
    /// Everything written is durable.
    fn sync(&self) -> Result<()>;
}

/// An image and its journal in their folder.
trait Place: Send + Sync {
    fn path(&self) -> &Path;
    fn journal_path(&self) -> PathBuf;
    fn image(&self) -> &dyn Storage;
    fn writable(&self) -> bool;
    /// Makes an empty file share the image's blocks; `false` where the host cannot.
    fn share_with(&self, copy: &File) -> bool;
    /// Takes the write lock and reopens the image for writing.
    fn make_writable(&self) -> Result<()>;
    /// Fails if the image is no longer where its journal would be looked for.
    fn in_place(&self) -> Result<()>;
    fn create_journal(&self) -> Result<Box<dyn Storage>>;
    fn open_journal(&self) -> Result<Option<Box<dyn Storage>>>;
    /// A file of another name that the image says is its journal: after a crash it was renamed, or has another name.
    fn journal_elsewhere(&self) -> Option<(PathBuf, Box<dyn Storage>)>;
    /// Removes the journal for good.
    fn remove_journal(&self) -> Result<()>;
    fn sync_folder(&self) -> Result<()>;
}

/// An open raw image.
pub struct Raw {
    place: Box<dyn Place>,
    len: u64,
    read_only: bool,
    /// A finished journal that could not be applied yet.
    overlay: RwLock<Option<Overlay>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Written fresh since the last commit: start to end.
    fresh: BTreeMap<u64, u64>,
    notices: Vec<String>,
    /// A commit failed after its journal was durable: what to say to everyone from now on.
    broken: Option<String>,
    /// A flush failed, and data that was written fresh may be gone: to be given up before anything else is written.
    lost: bool,
}

impl Raw {
    /// Opens an image under a reader lock. A finished journal of an interrupted commit is applied now if the
    /// image can be written, else (or if `read_only`) it is laid over what is read.
    ///
    /// # Errors
    /// No image there, an image in use, a journal that does not fit the image.
    pub fn open(path: &Path, read_only: bool) -> Result<Self> {
        Self::open_longer(path, read_only, 0)
    }

    /// [`Raw::open`] of a file that counts as at least `least` bytes long; those that are not there are zeros until they are
    /// written.
    pub(in crate::disk) fn open_longer(path: &Path, read_only: bool, least: u64) -> Result<Self> {
        Self::over(Box::new(HostPlace::open(path)?), read_only, least)
    }

    fn over(place: Box<dyn Place>, read_only: bool, least: u64) -> Result<Self> {
        let size = place.image().len()?.max(least);
        let len = size.checked_next_multiple_of(512).ok_or_else(|| Error::from(Kind::FileTooBig))?;
        let raw = Raw { place, len, read_only, overlay: RwLock::new(None), state: Mutex::default() };
        let Some(file) = raw.place.open_journal()? else {
            raw.refuse_torn()?;
            return Ok(raw);
        };
        if !read_only {
            let opened = raw.make_writable(&mut raw.state());
            match opened {
                Ok(()) => return Ok(raw),
                // Then the image is only read for now.
                Err(e) if matches!(e.kind(), Kind::Denied | Kind::ReadOnly | Kind::Busy) => {}
                Err(e) => return Err(e),
            }
        }
        let journal = raw.place.journal_path();
        if let Some(records) = journal::records(file.as_ref(), len).map_err(|e| raw.explain(e))? {
            journal::verify(raw.place.image(), file.as_ref(), &records).map_err(|e| raw.explain(e))?;
            *raw.overlay.write().unwrap_or_else(|e| e.into_inner()) = Some(Overlay::new(file, records));
            raw.state().notices.push(format!(
                "{}: an interrupted commit is kept in {}; it is shown as finished here, open the image for writing to finish it",
                raw.place.path().display(),
                journal.display()
            ));
        }
        Ok(raw)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Words for a journal that cannot be applied.
    fn explain(&self, error: Error) -> Error {
        let journal = self.place.journal_path();
        error.at(self.place.path().display()).hint(format!(
            "{} holds the rest of a commit that was interrupted; restore the image from a backup, or remove that file \
             to use the image as it is",
            journal.display()
        ))
    }

    /// Makes an empty file share all blocks of the image, until one of them is written to; `false` where the host cannot.
    pub(in crate::disk) fn share_with(&self, copy: &File) -> bool {
        let waiting = self.overlay.read().unwrap_or_else(|e| e.into_inner()).is_some();
        !waiting && self.place.share_with(copy)
    }

    /// Fails if an interrupted commit to this image is kept beside another name of it.
    fn refuse_torn(&self) -> Result<()> {
        let Some((path, file)) = self.place.journal_elsewhere() else { return Ok(()) };
        // Anything but a journal that fits is about something else.
        let Ok(Some(records)) = journal::records(file.as_ref(), self.len) else { return Ok(()) };
        if journal::verify(self.place.image(), file.as_ref(), &records).is_err() {
            return Ok(());
        }
        Err(Error::new(Kind::Busy, format!("an interrupted commit to this image is kept in {}", path.display()))
            .at(self.place.path().display())
            .hint(format!(
                "open the image under the name that it had then, or move that file to {}, so that the commit can be finished",
                self.place.journal_path().display()
            )))
    }

    /// The first write: locks, reopens, and finishes an interrupted commit.
    fn make_writable(&self, state: &mut State) -> Result<()> {
        if self.read_only {
            return Err(Error::from(Kind::ReadOnly).at(self.place.path().display()));
        }
        if let Some(words) = &state.broken {
            return Err(Error::new(Kind::Io, words.clone()));
        }
        if state.lost {
            return Err(lost(self.place.path()));
        }
        if self.place.writable() {
            return Ok(());
        }
        self.place.make_writable()?;
        let Some(file) = self.place.open_journal()? else { return Ok(()) };
        let path = self.place.path().display();
        match journal::records(file.as_ref(), self.len).map_err(|e| self.explain(e))? {
            None => state
                .notices
                .push(format!("{path}: a commit was interrupted before it began to write; nothing was changed")),
            Some(records) => {
                let image = self.place.image();
                journal::verify(image, file.as_ref(), &records).map_err(|e| self.explain(e))?;
                journal::apply(image, file.as_ref(), &records)?;
                state.notices.push(format!("{path}: finished a commit that was interrupted"));
            }
        }
        self.place.remove_journal()?;
        *self.overlay.write().unwrap_or_else(|e| e.into_inner()) = None;
        Ok(())
    }
}

/// What to do once a flush before the commit point has failed.
pub(in crate::disk) const LOST_HINT: &str = "the image is as it was, but new data that was on its way into it may be lost: \
     leave without a commit and begin anew";

/// After a flush that failed, a second one may say that all is well although nothing has come to the medium.
pub(in crate::disk) fn lost(path: &Path) -> Error {
    Error::new(Kind::Io, "a flush of the image has failed").at(path.display()).hint(LOST_HINT)
}

impl State {
    /// Makes what was written to the image durable.
    fn flush(&mut self, image: &dyn Storage) -> Result<()> {
        image.sync().map_err(|error| {
            self.lost = !self.fresh.is_empty();
            if self.lost { error.hint(LOST_HINT) } else { error }
        })
    }

    fn add_fresh(&mut self, mut range: Range<u64>) {
        if let Some((start, end)) = self.fresh.range(..=range.start).next_back().map(|(s, e)| (*s, *e))
            && end >= range.start
        {
            range = start..range.end.max(end);
        }
        while let Some((start, end)) = self.fresh.range(range.start..=range.end).next().map(|(s, e)| (*s, *e)) {
            self.fresh.remove(&start);
            range.end = range.end.max(end);
        }
        self.fresh.insert(range.start, range.end);
    }
}

impl Disk for Raw {
    fn len(&self) -> u64 {
        self.len
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_bounds(offset, buf.len() as u64, self.len)?;
        let overlay = self.overlay.read().unwrap_or_else(|e| e.into_inner());
        self.place.image().read_at(offset, buf)?;
        match overlay.as_ref() {
            Some(overlay) => overlay.patch(offset, buf),
            None => Ok(()),
        }
    }

    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>> {
        check_bounds(range.start, range.end.saturating_sub(range.start), self.len)?;
        if self.overlay.read().unwrap_or_else(|e| e.into_inner()).is_some() && !range.is_empty() {
            return Ok(vec![Run { range, hole: false }]);
        }
        self.place.image().runs(range)
    }

    fn locate(&self, range: Range<u64>, each: &mut dyn FnMut(Located<'_>) -> Result<()>) -> Result<()> {
        for Run { range, hole } in self.runs(range)? {
            let kept = if hole { Kept::Sparse(range.start) } else { Kept::Data(range.start) };
            each(Located { range, file: self.place.path(), kept })?;
        }
        Ok(())
    }

    fn is_blank(&self) -> bool {
        self.overlay.read().unwrap_or_else(|e| e.into_inner()).is_none() && self.place.image().is_hole()
    }

    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        check_bounds(offset, data.len() as u64, self.len)?;
        {
            let mut state = self.state();
            self.make_writable(&mut state)?;
            // Before the write, which may fail half-way.
            state.add_fresh(offset..offset + data.len() as u64);
        }
        self.place.image().write_at(offset, data)
    }

    fn settle(&self) -> Result<()> {
        self.place.image().settle()
    }

    fn commit(&self, changes: &dyn Changes) -> Result<()> {
        let mut state = self.state();
        self.make_writable(&mut state)?;
        self.place.in_place()?;
        let image = self.place.image();
        if !state.fresh.is_empty() {
            state.flush(image)?;
        }
        // Into the log, and from there to its place.
        progress::expect_again();
        let committed = journal::write(self.place.as_ref(), self.len, changes)?;
        state.fresh.clear();
        let Some(file) = committed else { return Ok(()) };
        let finish = |file: &dyn Storage| {
            let records = journal::records(file, self.len)?;
            let records = records.ok_or_else(|| Error::corrupt("the journal does not read back as it was written"))?;
            journal::apply(image, file, &records)
        };
        let applied = finish(file.as_ref());
        let complete = applied.is_ok();
        applied.and_then(|()| self.place.remove_journal()).map_err(|error| {
            let (path, journal) = (self.place.path().display(), self.place.journal_path());
            let journal = journal.display();
            let (words, hint) = if complete {
                (
                    format!("the commit is complete, but its journal may still be there: {error}"),
                    format!("remove {journal} before you start the guest"),
                )
            } else {
                (
                    format!("the changes are saved in {journal} but not yet all in the image: {error}"),
                    "do not start the guest; mend the cause and open the image with imgsh again, which finishes the \
                     commit"
                        .to_string(),
                )
            };
            state.broken = Some(words.clone());
            // That it failed was told.
            image.settle().ok();
            // From here on reads see the new state, however much of it has arrived.
            if let Ok(Some(records)) = journal::records(file.as_ref(), self.len) {
                *self.overlay.write().unwrap_or_else(|e| e.into_inner()) = Some(Overlay::new(file, records));
            }
            Error::new(error.kind(), words).at(path).hint(hint)
        })
    }

    fn commit_through(&self, changes: &dyn Changes, plan: &dyn Fn(&dyn Changes) -> Option<LogPlan>) -> Result<()> {
        let mut state = self.state();
        self.make_writable(&mut state)?;
        let Some(plan) = plan(changes) else {
            drop(state);
            return self.commit(changes);
        };
        self.place.in_place()?;
        let image = self.place.image();
        let prepared = through::prepare(image, changes, &plan, &mut || state.flush(image))?;
        state.fresh.clear();
        const SAVED: &str = "the changes are saved in the file system's journal but not yet all in their places";
        const UNKNOWN: &str = "the host could not flush the commit: the image has the old state or the new one, whole";
        let done = match prepared.counts {
            Ok(()) => through::finish(image, changes, &plan, prepared.holes).map_err(|error| (SAVED, error)),
            Err(error) => Err((UNKNOWN, error)),
        };
        done.map_err(|(what, error)| {
            // That it failed was told.
            image.settle().ok();
            let words = format!("{what}: {error}");
            state.broken = Some(words.clone());
            Error::new(error.kind(), words).at(self.place.path().display()).hint(
                "mend the cause; the next mount by a kernel, e2fsck or the next change with imgsh finishes the commit",
            )
        })
    }

    fn abandon(&self) -> Result<()> {
        let mut state = self.state();
        // What is given up need not arrive.
        self.place.image().settle().ok();
        for (start, end) in std::mem::take(&mut state.fresh) {
            self.place.image().zero(start..end)?;
        }
        state.lost = false;
        Ok(())
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.place.path().to_path_buf()]
    }

    fn notices(&self) -> Vec<String> {
        self.state().notices.clone()
    }
}

/// Makes an image file of zeros: sparse, or with all its space reserved (`preallocation` `full`).
///
/// # Errors
/// A size that is missing, options that raw images do not have, a file that another program uses.
pub fn create(path: &Path, options: &CreateOptions) -> Result<()> {
    let size = options.size.ok_or_else(|| Error::usage("a raw image needs a size"))?;
    check_options(options)?;
    target::in_place(path, |file| fill(file, path, size, options))
}

/// Whether the options are for a raw image; answers whether all space is to be reserved.
fn check_options(options: &CreateOptions) -> Result<bool> {
    let given = [
        ("backingfile", options.backing.is_some()),
        ("backingformat", options.backing_format.is_some()),
        ("compat", options.compat.is_some()),
        ("clustersize", options.cluster_size.is_some()),
        ("refcountbits", options.refcount_bits.is_some()),
        ("subclusters", options.subclusters),
        ("lazyrefcounts", options.lazy_refcounts),
        ("compression", options.compression.is_some()),
        ("datafile", options.data_file.is_some()),
        ("datafileraw", options.data_file_raw),
    ];
    if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Error::usage(format!("a raw image has no {name}")));
    }
    match options.preallocation.as_deref() {
        None | Some("off" | "sparse") => Ok(false),
        Some("full") => Ok(true),
        Some(other) => {
            Err(Error::usage(format!("a raw image has no preallocation '{other}'")).hint("use off, sparse or full"))
        }
    }
}

/// Makes an empty file an image of `size` zeros.
pub(in crate::disk) fn fill(file: &File, path: &Path, size: u64, options: &CreateOptions) -> Result<()> {
    let full = check_options(options)?;
    let at = |e: std::io::Error| Error::io(path.display(), e);
    file.set_len(size).map_err(at)?;
    if full {
        let storage = FileStorage::new(file.try_clone().map_err(at)?, path);
        storage.reserve(0..size)?;
        // Where the host cannot reserve, zeros are written out.
        if file.metadata().map_err(at)?.blocks().saturating_mul(512) < size {
            storage.write_zeros(0..size)?;
        }
    }
    Ok(())
}

/// Makes the disk `size` bytes long. New bytes are zeros. What is behind the end of a shorter disk is lost: only with
/// `shrink`. An interrupted commit is finished first.
///
/// # Errors
/// A disk that would be shorter without `shrink`, a block device, an image in use.
pub fn resize(path: &Path, size: u64, shrink: bool) -> Result<()> {
    let raw = Raw::open(path, false)?;
    if size < raw.len && !shrink {
        return Err(Error::usage(format!("the disk has {} bytes; {size} would cut off what is behind them", raw.len))
            .at(path.display())
            .hint("make file systems and partitions shorter first, then give shrink:true"));
    }
    raw.make_writable(&mut raw.state())?;
    raw.place.image().set_len(size)?;
    raw.place.image().sync()
}

/// The format of a file from its first bytes: the qcow2 magic, else raw.
///
/// # Errors
/// A file that is missing, unreadable, or neither a regular file nor a block device.
pub fn probe(path: &Path) -> Result<Format> {
    let mut magic = [0; 4];
    FileStorage::new(open_image(path, false)?, path).read_at(0, &mut magic)?;
    Ok(if be32(&magic, 0) == 0x5146_49fb { Format::Qcow2 } else { Format::Raw })
}
