//! Copying a whole disk into a new image of any format, holes left out.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::direct::{Direct, Room};
use super::lanes::{self, Piece, Work};
use super::target::Target;
use super::{CreateOptions, Disk, Format, qcow2};
use crate::base::bytes::is_zero;
use crate::base::{Error, Kind, Result};

/// Zeros of this size become holes.
const PAGE: usize = 4096;
/// Bytes that come together before the host is asked to write them back.
const WRITE_BACK: usize = 8 << 20;

/// Writes the disk `source` to a new image at `path`, which takes the place of what is there when it is whole. `options` as
/// for [`super::create`]; without a size it is the source's. `compress`: clusters are packed (qcow2).
///
/// # Errors
/// Options that do not fit, a source that is its own target, damage, host errors: then nothing is left behind.
pub fn convert(source: &dyn Disk, path: &Path, format: Format, options: &CreateOptions, compress: bool) -> Result<()> {
    convert_while(source, path, format, options, compress, &mut || true)
}

/// [`convert`] that stops when `going`, which is asked every now and then, says so.
///
/// # Errors
/// As [`convert`]; `Kind::Interrupted` if it was stopped.
pub fn convert_while(
    source: &dyn Disk,
    path: &Path,
    format: Format,
    options: &CreateOptions,
    compress: bool,
    going: &mut dyn FnMut() -> bool,
) -> Result<()> {
    for file in source.files() {
        let same = |a: std::fs::Metadata, b: std::fs::Metadata| {
            use std::os::unix::fs::MetadataExt;
            (a.dev(), a.ino()) == (b.dev(), b.ino())
        };
        if let (Ok(ours), Ok(theirs)) = (std::fs::metadata(&file), std::fs::metadata(path))
            && same(ours, theirs)
        {
            return Err(Error::new(Kind::Invalid, "the copy would replace what it is made from").at(path.display()));
        }
    }
    let target = Target::new(path)?;
    let output = Output::new(target.file(), path);
    let poll = &mut || if going() { Ok(()) } else { Err(Kind::Interrupted.into()) };
    match format {
        Format::Qcow2 => qcow2::fill(source, &output, options, compress, poll)?,
        Format::Raw if compress => return Err(Error::usage("a raw image cannot be compressed")),
        Format::Raw => raw(source, &output, options, poll)?,
    }
    target.finish()
}

/// The file that a copy is written to by several threads.
pub(super) struct Output<'a> {
    file: &'a File,
    path: &'a Path,
    direct: Direct,
    /// One for each thread that writes.
    rooms: Mutex<Vec<Room>>,
    /// The kernel takes one write to its cache of a file at a time. Who waits for it there burns CPU time, who waits here
    /// does not.
    gate: Mutex<Written>,
}

/// What was written since the host was last asked to write back.
#[derive(Default)]
struct Written {
    bytes: usize,
    range: Range<u64>,
}

impl<'a> Output<'a> {
    pub fn new(file: &'a File, path: &'a Path) -> Self {
        Output { file, path, direct: Direct::default(), rooms: Mutex::default(), gate: Mutex::default() }
    }

    /// The empty file.
    pub fn file(&self) -> &File {
        self.file
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Writes bytes at an offset: large ones past the cache. Whenever some others have come together the host is asked to bring
    /// them to the disk, without waiting for it: they must be there in the end, and meanwhile the disk would be idle.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let failed = |e| Error::io(self.path.display(), e).with(format_args!("writing at {at}"));
        if self.direct.takes(self.file, bytes.len()) {
            let rooms = || self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            let mut room = rooms().pop().unwrap_or_default();
            room.start(bytes.len(), at, bytes);
            let done = self.direct.write(self.file, &room);
            rooms().push(room);
            return done.map_err(failed);
        }
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.write_all_at(bytes, at).map_err(failed)?;
        let end = at + bytes.len() as u64;
        gate.range = match gate.bytes {
            0 => at..end,
            _ => gate.range.start.min(at)..gate.range.end.max(end),
        };
        gate.bytes += bytes.len();
        if gate.bytes >= WRITE_BACK {
            let Written { range, .. } = std::mem::take(&mut *gate);
            let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
            if let (Ok(start), Ok(len)) = (range.start.try_into(), (range.end - range.start).try_into()) {
                // Only advice: where the host does not take it, all waits for the end.
                posix_fadvise(self.file, start, len, advice).ok();
            }
        }
        Ok(())
    }
}

/// Reads the ranges of a piece into `bytes`, which becomes long enough; what is between them is as it was.
pub(super) fn read(source: &dyn Disk, piece: &Piece, bytes: &mut Vec<u8>) -> Result<()> {
    if bytes.len() < piece.span() {
        bytes.resize(piece.span(), 0);
    }
    for range in &piece.ranges {
        let part = bytes.get_mut(piece.place(range)).unwrap_or_default();
        let failed = |e: Error| {
            let file = source.files().into_iter().next().unwrap_or_default();
            e.at(file.display()).with(format_args!("reading the disk at {}", range.start))
        };
        source.read_beside(range.start, part).map_err(failed)?;
    }
    Ok(())
}

struct ToRaw<'a> {
    source: &'a dyn Disk,
    output: &'a Output<'a>,
}

impl Work for ToRaw<'_> {
    type Lane = Vec<u8>;

    fn read(&self, bytes: &mut Vec<u8>, piece: &Piece) -> Result<()> {
        read(self.source, piece, bytes)
    }

    fn place(&self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn write(&self, bytes: &mut Vec<u8>, piece: &Piece) -> Result<()> {
        for range in &piece.ranges {
            let bytes = bytes.get(piece.place(range)).unwrap_or_default();
            let mut from = 0;
            let put = |from: usize, to: usize| match bytes.get(from..to) {
                Some(data) if !data.is_empty() => self.output.write(range.start + from as u64, data),
                _ => Ok(()),
            };
            for (number, _) in bytes.chunks(PAGE).enumerate().filter(|(_, page)| is_zero(page)) {
                put(from, number * PAGE)?;
                from = (number + 1) * PAGE;
            }
            put(from, bytes.len())?;
        }
        Ok(())
    }
}

fn raw(
    source: &dyn Disk,
    output: &Output,
    options: &CreateOptions,
    poll: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    super::raw::fill(output.file, output.path, options.size.unwrap_or(source.len()), options)?;
    if options.size.is_some_and(|size| size < source.len()) {
        return Err(Error::usage(format!("a copy cannot be shorter than the {} bytes of the disk", source.len())));
    }
    lanes::copy(source, PAGE as u64, &ToRaw { source, output }, poll)
}

/// Copies an image file as it is, byte for byte, to an empty file; holes stay holes. Host file systems that can let two files
/// share their blocks are asked to. For a raw image a commit that was
/// interrupted is in the copy.
///
/// # Errors
/// Host errors, an image in use, data in a file of its own.
pub fn copy_file(image: &Path, file: &File, path: &Path) -> Result<()> {
    qcow2::refuse_data_file(image)?;
    let source = super::raw::Raw::open(image, true)?;
    if source.share_with(file) {
        return Ok(());
    }
    raw(&source, &Output::new(file, path), &CreateOptions::default(), &mut || Ok(()))?;
    let len = std::fs::metadata(image).map_err(|e| Error::io(image.display(), e))?;
    if len.is_file() {
        file.set_len(len.len()).map_err(|e| Error::io(path.display(), e))?;
    }
    Ok(())
}
