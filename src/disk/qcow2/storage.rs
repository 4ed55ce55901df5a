//! The host file below an image: the one seam between the format and the host.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FallocateFlags, fallocate};

use super::window::{self, Window};
use crate::base::{Error, Kind, Result};
use crate::disk::file::ImageFile;
use crate::disk::lock::ImageLock;
use crate::disk::raw::{self, open_image};

/// What the format needs of a host file. Tests put a recorder behind it to cut the power at any write.
pub(super) trait Storage: Send + Sync {
    /// The path, for messages.
    fn path(&self) -> &Path;
    /// Length in bytes, now.
    fn len(&self) -> Result<u64>;
    /// Where in the file byte 0 is: not 0 only for a backing image in a part of a file, which is never written.
    fn start(&self) -> u64 {
        0
    }
    /// Whether writes past the end make the file longer: not so on a block device.
    fn grows(&self) -> bool;
    /// Reads up to the end of the file; gives the count of bytes read.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize>;
    /// Writes all of `data`, or hands it to somebody who does; then an error comes with a later call.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()>;
    /// Waits until the host has taken everything. An error is told once.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
    /// Everything written so far is on stable storage when this comes back.
    fn flush(&self) -> Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> Result<()>;
    /// Gives the host the space of a range back, which reads as anything afterwards. The length stays.
    fn punch(&self, offset: u64, len: u64) -> Result<()>;
    /// Fails if the file is no longer where the user would look for it.
    fn in_place(&self) -> Result<()>;
    /// The same file, open for writing and locked against all others.
    fn writable(&self) -> Result<Arc<dyn Storage>>;
}

/// Reads a piece of metadata: a short file is damage, with `what` for the message.
pub(super) fn read_metadata(storage: &dyn Storage, offset: u64, buf: &mut [u8], what: &str) -> Result<()> {
    if storage.read_at(offset, buf)? < buf.len() {
        return Err(Error::corrupt(format!("qcow2: {what} at {offset} is past the end of the file"))
            .at(storage.path().display()));
    }
    Ok(())
}

/// Reads data; what is past the end of the file is zeros, as in images with preallocated metadata.
pub(super) fn read_data(storage: &dyn Storage, offset: u64, buf: &mut [u8]) -> Result<()> {
    let got = storage.read_at(offset, buf)?;
    if let Some(rest) = buf.get_mut(got..) {
        rest.fill(0);
    }
    Ok(())
}

/// A regular file or block device, or a part of one.
pub(super) struct HostFile {
    file: ImageFile,
    /// `None`: all of it.
    part: Option<Range<u64>>,
    path: PathBuf,
    lock: Mutex<Option<ImageLock>>,
}

/// Device and inode: the identity of a host file, however it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    /// Of the file at a path.
    pub fn of(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(path.display(), e))?;
        Ok(FileId(metadata.dev(), metadata.ino()))
    }
}

impl HostFile {
    /// Opens for reading, under a reader lock: what `windows` leave of the file, the outermost first.
    pub fn open_part(path: &Path, windows: &[Window]) -> Result<Self> {
        let file = open_image(path, false)?;
        let lock = ImageLock::read(&file, path)?;
        let mut opened =
            HostFile { file: ImageFile::new(file), part: None, path: path.to_path_buf(), lock: Mutex::new(Some(lock)) };
        if !windows.is_empty() {
            opened.part = Some(window::part(windows, opened.len()?).map_err(|e| e.at(path.display()))?);
        }
        Ok(opened)
    }

    /// Device and inode of the open file.
    pub fn id(&self) -> Result<FileId> {
        let metadata = self.file.as_file().metadata().map_err(|e| self.io(e))?;
        Ok(FileId(metadata.dev(), metadata.ino()))
    }

    fn io(&self, error: std::io::Error) -> Error {
        Error::io(self.path.display(), error)
    }
}

impl Storage for HostFile {
    fn path(&self) -> &Path {
        &self.path
    }
    fn len(&self) -> Result<u64> {
        let len = self.file.settled().and_then(raw::size).map_err(|e| self.io(e))?;
        Ok(self.part.as_ref().map_or(len, |part| part.end.min(len).saturating_sub(part.start)))
    }
    fn start(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.start)
    }
    fn grows(&self) -> bool {
        self.file.as_file().metadata().is_ok_and(|metadata| metadata.is_file())
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        // No file is longer; the kernel would call it a wrong argument.
        let Some(offset) = offset.checked_add(self.start()).filter(|at| i64::try_from(*at).is_ok()) else {
            return Ok(0);
        };
        let end = self.part.as_ref().map_or(u64::MAX, |part| part.end);
        let most = end.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.file.read_at(offset, buf.get_mut(..most).unwrap_or_default()).map_err(|e| self.io(e))
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file.write_all_at(offset, data).map_err(|e| self.io(e))
    }
    fn settle(&self) -> Result<()> {
        self.file.settle().map_err(|e| self.io(e))
    }
    fn flush(&self) -> Result<()> {
        self.file.sync().map_err(|e| self.io(e))
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.file.settled().and_then(|file| file.set_len(len)).map_err(|e| self.io(e))
    }
    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else { return Ok(()) };
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let file = self.file.settled().map_err(|e| self.io(e))?;
        fallocate(file, mode, offset, len).map_err(|e| self.io(e.into()))
    }
    fn in_place(&self) -> Result<()> {
        raw::still_at(self.file.as_file(), &self.path, &self.path)
    }
    fn writable(&self) -> Result<Arc<dyn Storage>> {
        if self.part.is_some() {
            return Err(Error::from(Kind::ReadOnly).at(self.path.display()));
        }
        let file = open_image(&self.path, true)?;
        let again =
            HostFile { file: ImageFile::new(file), part: None, path: self.path.clone(), lock: Mutex::default() };
        self.in_place()?;
        again.in_place()?;
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = lock.as_mut() {
            lock.upgrade(again.file.as_file(), &self.path)?;
        }
        *again.lock.lock().unwrap_or_else(PoisonError::into_inner) = lock.take();
        Ok(Arc::new(again))
    }
}
