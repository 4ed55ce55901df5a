//! What a file-or-device argument names, and its bytes.

use std::io::{self, Read};
use std::ops::Range;

use super::writing::NEW_FILE;
use crate::base::digest::Checksum;
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result, progress};
use crate::command::{Args, Context};
use crate::disk::Device;
use crate::guest::Guest;

/// How much is moved at once where nothing else decides.
pub(super) const CHUNK: usize = 1 << 20;
/// Holes from this many bytes on are worth a look at where a file has them.
const LARGE_HOLE: u64 = 1 << 20;

/// A guest file or a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Canonical name.
    Device(String),
    /// Absolute path.
    Path(GuestPathBuf),
}

/// Reads an argument: what begins with `/dev/` is a device, other absolute paths are the guest's.
pub(super) fn content(cx: &Context, args: &Args, name: &str) -> Result<Content> {
    let path = args.path(name);
    if path.starts_with(b"/dev/") {
        return Ok(Content::Device(cx.session.canonical(&args.text(name))?));
    }
    if path.is_absolute() {
        return Ok(Content::Path(path));
    }
    Err(Error::usage("path must start with a / character").at(path))
}

/// The device that an argument names: itself, or the one that holds the path.
pub(super) fn device_of(cx: &Context, args: &Args, name: &str) -> Result<String> {
    match content(cx, args, name)? {
        Content::Device(name) => Ok(name),
        Content::Path(path) => Ok(cx.session.guest.device_of(&path)?.to_string()),
    }
}

impl Content {
    /// Its bytes from `offset` to the end.
    ///
    /// # Errors
    /// What is no file or device; those of a path.
    pub(super) fn reader<'c>(&self, cx: &'c Context, offset: u64) -> Result<Box<dyn Read + 'c>> {
        match self {
            Content::Path(path) => cx.session.guest.reader_at(path, offset, u64::MAX),
            Content::Device(name) => {
                let device = cx.session.device(name)?;
                Ok(Box::new(DeviceReader { guest: &cx.session.guest, device, at: offset }))
            }
        }
    }

    /// The large holes of its bytes from `offset` on, ascending.
    ///
    /// # Errors
    /// Those of a path.
    pub(super) fn holes(&self, cx: &Context, offset: u64) -> Result<Vec<Range<u64>>> {
        let Content::Path(path) = self else { return Ok(Vec::new()) };
        let metadata = cx.session.guest.stat(path)?;
        if metadata.size.saturating_sub(metadata.blocks.saturating_mul(512)) < LARGE_HOLE {
            return Ok(Vec::new());
        }
        let holes = cx.session.guest.extents(path)?.into_iter().filter(|extent| extent.hole);
        let holes = holes.map(|extent| extent.range.start.max(offset)..extent.range.end);
        Ok(holes.filter(|hole| hole.end.saturating_sub(hole.start) >= LARGE_HOLE).collect())
    }

    /// Its length in bytes.
    pub(super) fn len(&self, cx: &Context) -> Result<u64> {
        match self {
            Content::Path(path) => Ok(cx.session.guest.stat(path)?.size),
            Content::Device(name) => Ok(cx.session.device(name)?.len()),
        }
    }

    /// Its checksum.
    pub(super) fn sum(&self, cx: &Context, checksum: Checksum) -> Result<String> {
        let mut reader = self.reader(cx, 0)?;
        progress::expect(self.len(cx)?);
        let sum = checksum.of(reader.as_mut());
        sum.map_err(|e| e.at(self.name()))
    }

    /// Writes bytes at an offset; a file grows as it needs, a device does not.
    ///
    /// # Errors
    /// `Kind::NoSpace` past the end of a device.
    pub(super) fn write_at(&self, cx: &mut Context, offset: u64, data: &[u8]) -> Result<()> {
        match self {
            Content::Path(path) => cx.session.guest.write_at(path, Some(offset), data),
            Content::Device(name) => {
                let device = cx.session.device(name)?;
                let end = offset.checked_add(data.len() as u64);
                if end.is_none_or(|end| end > device.len()) {
                    return Err(Error::from(ErrorKind::NoSpace).at(name));
                }
                device.write_at(offset, data).map_err(|e| e.at(name))
            }
        }
    }

    /// Makes ready for being overwritten: a file is made if it is not there, cut to nothing if `truncate`; what is
    /// open on a device is closed.
    ///
    /// # Errors
    /// `Kind::Busy` for a mounted device.
    pub(super) fn open_for_writing(&self, cx: &mut Context, truncate: bool) -> Result<()> {
        match self {
            Content::Device(name) => cx.session.release(name),
            Content::Path(path) => match truncate || !cx.session.guest.exists(path)? {
                true => cx.session.guest.write_from(path, 0, &mut io::empty(), NEW_FILE),
                false => Ok(()),
            },
        }
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        match self {
            Content::Device(name) => name.clone(),
            Content::Path(path) => path.to_string(),
        }
    }
}

/// A device as a stream.
struct DeviceReader<'g> {
    guest: &'g Guest,
    device: Device,
    at: u64,
}

impl Read for DeviceReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.guest.check_interrupt()?;
        let left = self.device.len().saturating_sub(self.at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.device.read_at(self.at, &mut buf[..count])?;
        progress::add(count as u64);
        self.at += count as u64;
        Ok(count)
    }
}
