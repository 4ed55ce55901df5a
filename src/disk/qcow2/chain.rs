//! Opening an image with everything it is read from: backing chain and external data file.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::described::{self, Described};
use super::header::{DATA_FILE, shown};
use super::map::{Fresh, Image};
use super::storage::{FileId, HostFile};
use super::window::{self, Window};
use crate::base::{Error, Result};
use crate::disk::raw::{self, Raw};
use crate::disk::{Disk, Format, Kept, Located, Run};

/// An image file that the chain has already: a file and where in it the image begins.
pub(super) type Seen = (FileId, u64);

/// Images deeper than this are refused.
const DEPTH: usize = 64;

/// A backing image.
pub(super) enum Node {
    /// The bytes of a file as they are, or a part of them.
    Raw(Box<Raw>, Range<u64>),
    /// Another qcow2 image.
    Image(Box<Image>),
}

impl Node {
    /// Size of the virtual disk in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Node::Raw(_, part) => part.end - part.start,
            Node::Image(image) => image.header.size,
        }
    }

    /// Fills `buf`; what is past the end of this image is zeros. `beside`: as [`Image::read_beside`] does.
    pub fn read(&self, offset: u64, buf: &mut [u8], beside: bool) -> Result<()> {
        let inside = self.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        let (head, tail) = buf.split_at_mut(inside);
        tail.fill(0);
        match self {
            _ if head.is_empty() => Ok(()),
            Node::Raw(raw, part) => raw.read_at(part.start + offset, head),
            Node::Image(image) if beside => image.read_beside(&Fresh::new(), offset, head),
            Node::Image(image) => image.read(&Fresh::new(), offset, head),
        }
    }

    /// Appends the runs of `range`, which lies inside this image.
    pub fn runs(&self, range: Range<u64>, runs: &mut Vec<Run>) -> Result<()> {
        match self {
            Node::Raw(raw, part) => {
                for Run { range, hole } in raw.runs(part.start + range.start..part.start + range.end)? {
                    push(runs, Run { range: range.start - part.start..range.end - part.start, hole });
                }
            }
            Node::Image(image) => image.runs(&Fresh::new(), range, runs)?,
        }
        Ok(())
    }

    /// See [`Disk::locate`]; what is past the end of this image is zeros of `above`.
    pub fn locate(
        &self,
        range: Range<u64>,
        above: &Path,
        each: &mut dyn FnMut(Located<'_>) -> Result<()>,
    ) -> Result<()> {
        let end = self.len().clamp(range.start, range.end);
        match self {
            _ if end == range.start => {}
            Node::Raw(raw, part) => {
                raw.locate(part.start + range.start..part.start + end, &mut |found| {
                    let range = found.range.start - part.start..found.range.end - part.start;
                    each(Located { range, ..found })
                })?;
            }
            Node::Image(image) => image.locate(&Fresh::new(), range.start..end, each)?,
        }
        match end < range.end {
            true => each(Located { range: end..range.end, file: above, kept: Kept::Zero }),
            false => Ok(()),
        }
    }
}

/// Appends a run, merged with the last one where both are the same.
pub(super) fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.hole == run.hole && last.range.end == run.range.start => last.range.end = run.range.end,
        _ => runs.push(run),
    }
}

/// Opens an image and all below it. `read_only`: an interrupted commit to its data file is not finished now.
pub(super) fn open(path: &Path, read_only: bool) -> Result<Image> {
    open_in(path, read_only, &[], &mut Vec::new())
}

fn open_in(path: &Path, read_only: bool, windows: &[Window], seen: &mut Vec<Seen>) -> Result<Image> {
    let file = HostFile::open_part(path, windows)?;
    let id = file.id()?;
    seen.push((id, window::start(windows)));
    let mut image = Image::new(Arc::new(file))?;
    if image.header.incompatible & DATA_FILE != 0 {
        let name = image.header.data_file.clone().unwrap_or_default();
        let place = resolve(path, &name, "data file")?;
        let size = image.header.size;
        let data = raw::Raw::open_longer(&place, read_only, size).map_err(|e| named(e, path, &name, "data file"))?;
        image.data = Some(data);
    }
    if let Some(name) = image.header.backing.clone() {
        if seen.len() > DEPTH {
            return Err(Error::corrupt(format!("qcow2: backing chain of more than {DEPTH} images")).at(path.display()));
        }
        let format = image.header.backing_format.clone();
        let described = described::read(&name, format.as_deref()).map_err(|e| e.at(path.display()))?;
        let described = described.unwrap_or_else(|| Described { file: name.clone(), format, windows: Vec::new() });
        let place = resolve(path, &described.file, "backing file")?;
        let backing = open_backing(&place, described.format.as_deref(), &described.windows, seen);
        image.backing = Some(backing.map_err(|e| named(e, path, &name, "backing file"))?);
    }
    Ok(image)
}

/// Says whose file it is that cannot be opened, and how the header names it.
fn named(error: Error, image: &Path, name: &[u8], what: &str) -> Error {
    let named = Error::new(error.kind(), format!("{what} {error}")).at(image.display());
    match error.hint_text() {
        Some(hint) => named.hint(hint),
        None => named.hint(format!("the header of {} names it {}", image.display(), shown(name))),
    }
}

/// The host path of a name in a header: relative to the folder of the image, never to the working folder.
pub(super) fn resolve(image: &Path, name: &[u8], what: &str) -> Result<PathBuf> {
    let plain = name.strip_prefix(b"file:").unwrap_or(name);
    let before_slash = name.split(|b| *b == b'/').next().unwrap_or_default();
    if before_slash.contains(&b':') && plain.len() == name.len() {
        return Err(
            Error::unsupported(format!("qcow2: {what} {}: not a plain file name", shown(name))).at(image.display())
        );
    }
    if plain.is_empty() || plain.contains(&0) {
        return Err(Error::corrupt(format!("qcow2: {what} {}: not a file name", shown(name))).at(image.display()));
    }
    Ok(image.parent().unwrap_or(Path::new("")).join(OsStr::from_bytes(plain)))
}

/// Without a format in the header a backing file is taken as qcow2 if it starts so, and refused else: a raw
/// base cannot be told from something else, and QEMU no longer guesses when it makes an overlay.
pub(super) fn open_backing(
    place: &Path,
    format: Option<&[u8]>,
    windows: &[Window],
    seen: &mut Vec<Seen>,
) -> Result<Node> {
    if seen.contains(&(FileId::of(place)?, window::start(windows))) {
        return Err(Error::corrupt("qcow2: the backing chain loops").at(place.display()));
    }
    let format = match format {
        Some(b"raw") => Format::Raw,
        Some(b"qcow2") => Format::Qcow2,
        Some(other) => {
            return Err(Error::unsupported(format!("qcow2: backing format {}", shown(other))).at(place.display()));
        }
        None if windows.is_empty() && raw::probe(place)? == Format::Qcow2 => Format::Qcow2,
        None => {
            return Err(Error::unsupported("qcow2: the header does not say the format of this backing file")
                .at(place.display())
                .hint("qemu-img rebase -u -F raw -b BASE IMAGE records it"));
        }
    };
    Ok(match format {
        Format::Raw => {
            let raw = Raw::open(place, true)?;
            let part = window::part(windows, raw.len()).map_err(|e| e.at(place.display()))?;
            // What a window has behind the end of the file is zeros, as behind the end of any base.
            let end = part.end.min(raw.len());
            Node::Raw(Box::new(raw), part.start.min(end)..end)
        }
        Format::Qcow2 => Node::Image(Box::new(open_in(place, true, windows, seen)?)),
    })
}
