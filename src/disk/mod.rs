//! Virtual disks: the bytes 0..len of a guest's disk, in whatever image file they are kept.
//!
//! [`Disk`] is what an image format gives (`raw`, `qcow2`): the committed bytes, a place for fresh data,
//! and one atomic [`Disk::commit`]. [`BlockDevice`] is what everything above the stage sees.

pub mod convert;
mod direct;
mod file;
pub mod guest_log;
pub mod info;
mod lanes;
pub mod lock;
pub mod luks;
pub mod memory;
mod null;
mod pool;
pub mod qcow2;
pub mod raw;
pub mod read_only;
pub mod slice;
pub mod target;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Error, Kind, Result, Timestamp};
use guest_log::LogPlan;

/// A readable and writable range of bytes: a staged disk, a partition, a piece of memory in tests.
///
/// Every access is bounds-checked: outside `0..len` answers `Kind::Io`, whatever a file system asks for.
pub trait BlockDevice: Send + Sync {
    /// Size in bytes.
    fn len(&self) -> u64;
    /// Whether the device has no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Logical sector size: 512 or 4096.
    fn sector(&self) -> u32;
    /// Whether writes are refused (`Kind::ReadOnly`).
    fn read_only(&self) -> bool;
    /// Fills `buf` from byte `offset`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;
    /// Writes `data` at byte `offset`; staged, undone by a rollback.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()>;
    /// Writes data to a place that the committed state does not use and that nobody has written since:
    /// it may go straight to its place, ahead of the commit, and a rollback may leave anything there.
    /// Only for callers that opened the device when [`BlockDevice::takes_fresh`] said so.
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()>;
    /// Makes a range read as zeros, as a hole where the image can.
    fn zero(&self, range: Range<u64>) -> Result<()>;
    /// Whether zeroed ranges may become holes. Where they may not, zeroing costs as much as writing.
    fn holes(&self) -> bool {
        true
    }
    /// Whether what a file system in a range calls free, as it is read now, may be written fresh: because nothing there is
    /// staged, so that what is read is committed; or because the committed disk is blank, and nothing there was written fresh.
    fn takes_fresh_within(&self, range: Range<u64>) -> bool;
    /// Calls `each` for every piece of a range, in order: where it lies on the whole disk that it is read from. Of
    /// a mirror that is the leg that is read. What lies nowhere and reads as zeros (in a thin volume) is left out.
    fn pieces(&self, range: Range<u64>, each: &mut dyn FnMut(DiskPiece) -> Result<()>) -> Result<()> {
        check_bounds(range.start, range.end.saturating_sub(range.start), self.len())?;
        each(DiskPiece { disk: None, at: range.start, range })
    }
    /// [`BlockDevice::takes_fresh_within`] all of this device.
    fn takes_fresh(&self) -> bool {
        self.takes_fresh_within(0..self.len())
    }
}

/// A piece of a device on a whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPiece {
    /// The disk's number in its session; `None` for a device that lies on no disk of a session.
    pub disk: Option<usize>,
    /// First byte of the device.
    pub at: u64,
    /// Bytes of the disk.
    pub range: Range<u64>,
}

/// Answers `Kind::Io` unless `len` bytes at `offset` are inside a device of `size` bytes.
pub fn check_bounds(offset: u64, len: u64, size: u64) -> Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => {
            let words = format!("access to {len} bytes at {offset} is outside the device of {size} bytes");
            Err(Error::new(Kind::Io, words))
        }
    }
}

/// A shared device; reads run side by side.
pub type Device = Arc<dyn BlockDevice>;

/// One change of a commit: bytes to be at an offset, in ascending order and without overlap.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// This many zero bytes; a hole where the image can.
    Zero(u64),
}

impl Change<'_> {
    /// How many bytes it changes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        match self {
            Change::Data(data) => data.len() as u64,
            Change::Zero(len) => *len,
        }
    }
}

/// Where a commit takes its changes from: calls `each` once for every change, ascending.
/// It may be asked more than once and gives the same changes each time.
pub trait Changes {
    /// Visits all changes.
    fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()>;
}

/// A run of a disk's bytes, for sparse copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// Whether they are known to be zero without reading.
    pub hole: bool,
}

/// How bytes of a disk are kept in an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// As they are, from this byte of the file on.
    Data(u64),
    /// From this byte of the file on, where it has a hole: they are zeros.
    Sparse(u64),
    /// Nowhere: they are zeros.
    Zero,
    /// With others in a compressed cluster.
    Compressed {
        /// First byte of the cluster's stream in the file.
        at: u64,
        /// The sectors that the stream lies in, in bytes from `at` on.
        len: u64,
    },
}

/// A run of a disk's bytes in its image file, or in a file behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<'a> {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// The file that has or hides them: the image, one of its backing files, its data file.
    pub file: &'a Path,
    /// How.
    pub kept: Kept,
}

/// A virtual disk in an image file: what a format driver implements.
///
/// Opened without write permission. The first [`Disk::write_fresh`] or [`Disk::commit`] takes the write
/// lock and reopens for writing.
pub trait Disk: Send + Sync {
    /// Size of the virtual disk in bytes.
    fn len(&self) -> u64;
    /// Whether the disk has no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// `raw` or `qcow2`.
    fn format(&self) -> &'static str;
    /// Fills `buf`: the committed bytes, or what [`Disk::write_fresh`] put there since.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;
    /// [`Disk::read_at`] for one of several threads that read the disk side by side: it does all the work itself, and
    /// nothing is read ahead.
    fn read_beside(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read_at(offset, buf)
    }
    /// The disk is best read in whole multiples of so many bytes: a power of two, 2 MiB at most.
    fn unit(&self) -> u64 {
        4096
    }
    /// The runs that cover `range`, in order, without gaps, from the format's own maps (no data is read).
    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>>;
    /// Calls `each` for every run of `range`, in order, without gaps: where it is in the files. Maps are read, no data.
    ///
    /// # Errors
    /// As [`Disk::runs`]; what `each` says; `Kind::Unsupported` for a disk that is in no file.
    fn locate(&self, range: Range<u64>, each: &mut dyn FnMut(Located<'_>) -> Result<()>) -> Result<()> {
        let _ = (range, each);
        Err(Error::unsupported(format!("where a {} disk keeps its bytes is not known", self.format())))
    }
    /// Whether the committed state is known, without looking at data, to be zeros from the first byte to the last.
    fn is_blank(&self) -> bool {
        false
    }
    /// Whether bytes may go ahead of a commit. Where not, [`Disk::write_fresh`] is refused, and everything comes with the commit.
    fn writes_ahead(&self) -> bool {
        true
    }
    /// Writes bytes that the committed state does not use, ahead of the commit. After a crash or
    /// [`Disk::abandon`] the committed state is as it was, but for these unused bytes.
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()>;
    /// Waits until the host has taken everything that was written fresh. An error is told once: what was written fresh since
    /// the last time may be missing, and is not to be used.
    ///
    /// # Errors
    /// The host's.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
    /// Makes everything written fresh, and `changes`, the committed state, at once or not at all.
    /// On an error before the point of no return nothing has changed; after it the message says what to do.
    fn commit(&self, changes: &dyn Changes) -> Result<()>;
    /// [`Disk::commit`] of a disk that may hold a log: formats that need a log of their own for a commit ask `plan` how to
    /// use that one, which others can finish. `plan` answers `None` where the changes do not fit.
    fn commit_through(&self, changes: &dyn Changes, plan: &dyn Fn(&dyn Changes) -> Option<LogPlan>) -> Result<()> {
        let _ = plan;
        self.commit(changes)
    }
    /// [`Disk::commit`] that keeps the state before it as an internal snapshot, with this name and time.
    ///
    /// # Errors
    /// `Kind::Unsupported` where the format has none.
    fn commit_keeping(&self, changes: &dyn Changes, name: &str, now: Timestamp) -> Result<()> {
        let _ = (changes, now);
        Err(Error::unsupported(format!("a {} image cannot keep the old state as '{name}'", self.format()))
            .hint("only qcow2 images have internal snapshots"))
    }
    /// Gives back what [`Disk::write_fresh`] used since the last commit (holes, clusters, file length).
    fn abandon(&self) -> Result<()>;
    /// The files that the disk is read from: the image, then its backing chain.
    fn files(&self) -> Vec<PathBuf>;
    /// The UUID of an encrypted image, this one or one below it, whose key is not known. Until there is none, no data can be
    /// read or written.
    fn locked(&self) -> Option<String> {
        None
    }
    /// Opens the encrypted image that [`Disk::locked`] means. `interrupt` fails once the user wants an end.
    ///
    /// # Errors
    /// `Kind::Denied` for a wrong passphrase, what `interrupt` says, damage.
    fn unlock(&self, passphrase: &[u8], interrupt: &dyn Fn() -> Result<()>) -> Result<()> {
        let _ = (passphrase, interrupt);
        Ok(())
    }
    /// What the user should know of opening it, a line each: an interrupted commit that was finished.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The image formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk as they are.
    Raw,
    /// QEMU copy-on-write, versions 2 and 3.
    Qcow2,
}

impl Format {
    /// From guestfish's word for it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "raw" => Some(Format::Raw),
            "qcow2" => Some(Format::Qcow2),
            _ => None,
        }
    }

    /// guestfish's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }
}

/// How to open an image.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// The format; `None` probes the first bytes.
    pub format: Option<Format>,
    /// Never written: a writer elsewhere is still refused, as QEMU does.
    pub read_only: bool,
}

/// Opens an image: takes the read lock, finishes an interrupted commit (raw), checks the header.
///
/// # Errors
/// Missing or unreadable file, FIFO or directory, a lock held by another program (`Kind::Busy`), damage,
/// unsupported features with their names, a backing file that is missing or loops.
pub fn open(path: &Path, options: OpenOptions) -> Result<Box<dyn Disk>> {
    if path == Path::new(null::PATH) {
        return Ok(Box::new(null::Null));
    }
    let format = match options.format {
        Some(format) => format,
        None => raw::probe(path)?,
    };
    match format {
        Format::Raw => Ok(Box::new(raw::Raw::open(path, options.read_only)?)),
        Format::Qcow2 => Ok(Box::new(qcow2::Qcow2::open(path, options.read_only)?)),
    }
}

/// What `disk-create` makes.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// Size in bytes; `None` takes the backing file's (qcow2 only).
    pub size: Option<u64>,
    /// qcow2: the backing file's name as it is to stand in the header.
    pub backing: Option<PathBuf>,
    /// qcow2: the backing file's format.
    pub backing_format: Option<Format>,
    /// `off`/`sparse` (default), `full`; qcow2 also `metadata` and `falloc`.
    pub preallocation: Option<String>,
    /// qcow2: `0.10` (version 2) or `1.1` (version 3, default).
    pub compat: Option<String>,
    /// qcow2: cluster size in bytes; default 64 KiB, with subclusters 128 KiB.
    pub cluster_size: Option<u64>,
    /// qcow2: bits of a refcount, 1 to 64; default 16.
    pub refcount_bits: Option<u32>,
    /// qcow2: each cluster has 32 parts that can be data, zeros or in the backing file on their own.
    pub subclusters: bool,
    /// qcow2: programs may leave refcounts behind and mark the image dirty.
    pub lazy_refcounts: bool,
    /// qcow2: how clusters are compressed, if any are: `zlib` (default) or `zstd`.
    pub compression: Option<String>,
    /// qcow2: another file that holds the guest's data, as it is to stand in the header.
    pub data_file: Option<PathBuf>,
    /// qcow2: that file is to be the disk as a raw image.
    pub data_file_raw: bool,
}

/// Makes an image file, replacing what is there.
///
/// # Errors
/// Options that the format does not know, a size that is missing, host errors.
pub fn create(path: &Path, format: Format, options: &CreateOptions) -> Result<()> {
    match format {
        Format::Raw => raw::create(path, options),
        Format::Qcow2 => qcow2::create(path, options),
    }
}

/// Makes the disk in an image longer or shorter, at once or not at all. New bytes are zeros. `unlock` is asked for the keys of
/// an encrypted image ([`Disk::locked`]) if guest data has to be written: a cluster at the old or new end that is cut through.
///
/// # Errors
/// A disk that would be shorter without `shrink`, a size that the format cannot have, an image in use or damaged; what
/// `unlock` says.
pub fn resize(path: &Path, size: u64, shrink: bool, unlock: &dyn Fn(&dyn Disk) -> Result<()>) -> Result<()> {
    match raw::probe(path)? {
        Format::Raw => raw::resize(path, size, shrink),
        Format::Qcow2 => qcow2::resize(path, size, shrink, unlock),
    }
}
