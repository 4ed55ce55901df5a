//! The files of a raw image on the host: the image, and the journal of a commit beside it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::unistd::{Whence, lseek};
use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, ioctl_ficlone};

use super::{Place, Storage};
use crate::base::{Error, Kind, Result, holes};
use crate::disk::Run;
use crate::disk::file::ImageFile;
use crate::disk::lock::ImageLock;

/// Bytes written at once where zeros have to be written out.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Opens a file that is to be an image: a regular file or a block device, without waiting for a FIFO.
pub(in crate::disk) fn open_image(path: &Path, write: bool) -> Result<File> {
    let at = |e: io::Error| Error::io(path.display(), e);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(write).custom_flags(libc::O_NONBLOCK).open(path).map_err(at)?;
    let kind = file.metadata().map_err(at)?.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(file);
    }
    let what = match kind {
        k if k.is_dir() => return Err(Error::from(Kind::IsADirectory).at(path.display())),
        k if k.is_fifo() => "a named pipe",
        k if k.is_char_device() => "a character device",
        k if k.is_socket() => "a socket",
        _ => "a special file",
    };
    Err(Error::new(Kind::Invalid, format!("{what} cannot be a disk image"))
        .at(path.display())
        .hint("give an image file or a block device"))
}

/// The size of a file or block device in bytes.
pub(in crate::disk) fn size(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.file_type().is_block_device() {
        let end = lseek(file, 0, Whence::SeekEnd)?;
        return Ok(u64::try_from(end).unwrap_or(0));
    }
    Ok(metadata.len())
}

/// Answers `Kind::Busy` unless `path` names this open file: what would be written to it would be found by nobody.
pub(in crate::disk) fn still_at(file: &File, path: &Path, shown: &Path) -> Result<()> {
    let ours = file.metadata().map_err(|e| Error::io(shown.display(), e))?;
    match std::fs::metadata(path) {
        Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(()),
        _ => Err(Error::new(Kind::Busy, "the file was renamed, replaced or removed while it was open")
            .at(shown.display())
            .hint("nothing was committed; put it back where it was and commit again")),
    }
}

/// One open file.
#[derive(Debug)]
pub(super) struct FileStorage {
    file: ImageFile,
    shown: PathBuf,
}

impl FileStorage {
    pub(super) fn new(file: File, shown: &Path) -> Self {
        FileStorage { file: ImageFile::new(file), shown: shown.to_path_buf() }
    }

    fn at(&self, e: impl Into<io::Error>) -> Error {
        Error::io(self.shown.display(), e.into())
    }

    /// Zeros that take space.
    pub(super) fn write_zeros(&self, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let n = (range.end - at).min(ZEROS.len() as u64);
            self.write_at(at, &ZEROS[..n as usize])?;
            at += n;
        }
        Ok(())
    }
}

fn flags_range(range: &Range<u64>) -> Option<(i64, i64)> {
    let len = i64::try_from(range.end.checked_sub(range.start)?).ok()?;
    Some((i64::try_from(range.start).ok()?, len)).filter(|(_, len)| *len > 0)
}

impl Storage for FileStorage {
    fn len(&self) -> Result<u64> {
        self.file.settled().and_then(size).map_err(|e| self.at(e))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let got = self.file.read_at(offset, buf).map_err(|e| self.at(e))?;
        buf.get_mut(got..).unwrap_or_default().fill(0);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file.write_all_at(offset, data).map_err(|e| self.at(e))
    }

    fn settle(&self) -> Result<()> {
        self.file.settle().map_err(|e| self.at(e))
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        let Some((start, len)) = flags_range(&range) else { return Ok(()) };
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let file = self.file.settled().map_err(|e| self.at(e))?;
        match fallocate(file, punch, start, len) {
            Ok(()) => return Ok(()),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::ENODEV) => {}
            Err(e) => return Err(self.at(e)),
        }
        self.write_zeros(range)
    }

    fn reserve(&self, range: Range<u64>) -> Result<()> {
        let Some((start, len)) = flags_range(&range) else { return Ok(()) };
        let file = self.file.settled().map_err(|e| self.at(e))?;
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, start, len) {
            // Where space cannot be reserved, a full host shows only after the commit point.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::ENODEV) => Ok(()),
            Err(e) => Err(self.at(e)),
        }
    }

    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>> {
        let file = self.file.settled().map_err(|e| self.at(e))?;
        let runs = holes::runs(file, range).map_err(|e| self.at(e))?;
        Ok(runs.into_iter().map(|(range, hole)| Run { range, hole }).collect())
    }

    fn is_hole(&self) -> bool {
        self.file.settled().is_ok_and(holes::has_no_data)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.settled().and_then(|file| file.set_len(len)).map_err(|e| self.at(e))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync().map_err(|e| self.at(e))
    }
}

/// The image at a path.
#[derive(Debug)]
pub(super) struct HostPlace {
    /// As the user named it.
    shown: PathBuf,
    /// Without links, so that the journal lies beside the file itself.
    real: PathBuf,
    reader: FileStorage,
    writer: OnceLock<FileStorage>,
    lock: Mutex<ImageLock>,
}

/// The extended attribute of an image that says, while there is a journal, where: the image may get another name after a crash.
const MARK: &str = "user.imgsh.journal";

impl HostPlace {
    /// The file that is open best.
    fn file(&self) -> &File {
        self.writer.get().unwrap_or(&self.reader).file.as_file()
    }

    /// A file that may be a journal, if there is one at `path`.
    fn journal_at(&self, path: &Path) -> Result<Option<FileStorage>> {
        let at = |e: io::Error| Error::io(path.display(), e);
        let mut options = OpenOptions::new();
        let file = match options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(at)?,
        };
        let (journal, image) = (file.metadata().map_err(at)?, self.reader.file.as_file().metadata().map_err(at)?);
        let ours = [image.uid(), nix::unistd::geteuid().as_raw()].contains(&journal.uid());
        if !journal.is_file() || !ours {
            return Err(Error::new(
                Kind::Denied,
                "this journal belongs to another user than the image; it is not trusted",
            )
            .at(path.display())
            .hint("look where it comes from, then remove it"));
        }
        Ok(Some(FileStorage::new(file, path)))
    }

    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open_image(path, false)?;
        let lock = Mutex::new(ImageLock::read(&file, path)?);
        let real = path.canonicalize().map_err(|e| Error::io(path.display(), e))?;
        let reader = FileStorage::new(file, path);
        Ok(HostPlace { shown: path.to_path_buf(), real, reader, writer: OnceLock::new(), lock })
    }
}

/// Where the journal of an image lies.
pub(super) fn journal_path(image: &Path) -> PathBuf {
    let mut name = image.file_name().unwrap_or_default().to_os_string();
    name.push(".imgsh-journal");
    image.with_file_name(name)
}

/// Removes what a commit to an older image at this path left: it does not belong to the new one.
///
/// # Errors
/// The host's.
pub(in crate::disk) fn forget_journal(path: &Path) -> Result<()> {
    let journal = journal_path(&path.canonicalize().map_err(|e| Error::io(path.display(), e))?);
    match std::fs::remove_file(&journal) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(journal.display(), e)),
        _ => Ok(()),
    }
}

fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder.display(), e))
}

impl Place for HostPlace {
    fn path(&self) -> &Path {
        &self.shown
    }

    fn journal_path(&self) -> PathBuf {
        journal_path(&self.real)
    }

    fn image(&self) -> &dyn Storage {
        self.writer.get().unwrap_or(&self.reader)
    }

    fn writable(&self) -> bool {
        self.writer.get().is_some()
    }

    fn make_writable(&self) -> Result<()> {
        let mut lock = self.lock.lock().unwrap_or_else(|e| e.into_inner());
        if self.writer.get().is_none() {
            let file = open_image(&self.real, true).map_err(|e| e.at(self.shown.display()))?;
            // The name may have been given to another file since.
            still_at(&file, &self.real, &self.shown)?;
            still_at(self.reader.file.as_file(), &self.real, &self.shown)?;
            lock.upgrade(&file, &self.shown)?;
            self.writer.get_or_init(|| FileStorage::new(file, &self.shown));
        }
        Ok(())
    }

    fn share_with(&self, copy: &File) -> bool {
        ioctl_ficlone(copy, self.file()).is_ok()
    }

    fn in_place(&self) -> Result<()> {
        still_at(self.reader.file.as_file(), &self.real, &self.shown)
    }

    fn create_journal(&self) -> Result<Box<dyn Storage>> {
        let path = self.journal_path();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| {
            Error::io(path.display(), e)
                .hint("a commit to a raw image needs a journal in the image's folder while it runs")
        })?;
        // Where the host has no such attributes, only the name tells where the journal is.
        fsetxattr(self.file(), MARK, path.as_os_str().as_bytes(), XattrFlags::empty()).ok();
        Ok(Box::new(FileStorage::new(file, &path)))
    }

    fn open_journal(&self) -> Result<Option<Box<dyn Storage>>> {
        Ok(self.journal_at(&self.journal_path())?.map(|file| Box::new(file) as Box<dyn Storage>))
    }

    fn journal_elsewhere(&self) -> Option<(PathBuf, Box<dyn Storage>)> {
        let mut name = vec![0; libc::PATH_MAX as usize];
        let len = fgetxattr(self.file(), MARK, &mut name[..]).ok()?;
        name.truncate(len);
        let path = PathBuf::from(OsString::from_vec(name));
        if path == self.journal_path() {
            return None;
        }
        // What cannot be looked at is no journal of ours.
        let file = self.journal_at(&path).ok()??;
        Some((path, Box::new(file)))
    }

    fn remove_journal(&self) -> Result<()> {
        let path = self.journal_path();
        std::fs::remove_file(&path).map_err(|e| Error::io(path.display(), e))?;
        // A mark that means no file means nothing.
        fremovexattr(self.file(), MARK).ok();
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<()> {
        sync_folder_of(&self.real)
    }
}
