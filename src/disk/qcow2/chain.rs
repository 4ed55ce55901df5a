//! Opening an image with everything it is read from: backing chain and external data file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::{DATA_FILE, Header, MAGIC, shown};
use super::map::{Fresh, Image};
use super::storage::{FileId, HostFile, Storage, read_data};
use crate::base::bytes::be32;
use crate::base::{Error, Result};

/// Images deeper than this are refused.
const DEPTH: usize = 64;

/// A backing image.
pub(super) enum Node {
    /// The bytes of a file as they are.
    Raw(Arc<dyn Storage>),
    /// Another qcow2 image.
    Image(Box<Image>),
}

impl Node {
    /// Size of the virtual disk in bytes.
    pub fn len(&self) -> Result<u64> {
        match self {
            Node::Raw(file) => file.len(),
            Node::Image(image) => Ok(image.header.size),
        }
    }

    /// Fills `buf`; what is past the end of this image is zeros.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self {
            Node::Raw(file) => read_data(file.as_ref(), offset, buf),
            Node::Image(image) => {
                let inside = image.header.size.saturating_sub(offset).min(buf.len() as u64) as usize;
                let (head, tail) = buf.split_at_mut(inside);
                tail.fill(0);
                if head.is_empty() { Ok(()) } else { image.read(&Fresh::new(), offset, head) }
            }
        }
    }
}

/// Opens an image and all below it.
pub(super) fn open(path: &Path) -> Result<Image> {
    let file = HostFile::open(path)?;
    open_file(file, &mut Vec::new())
}

fn open_file(file: HostFile, seen: &mut Vec<FileId>) -> Result<Image> {
    seen.push(file.id());
    let path = file.path().to_path_buf();
    let storage: Arc<dyn Storage> = Arc::new(file);
    let header = Header::read(storage.as_ref())?;
    let mut image = Image::new(storage, header)?;
    if image.header.incompatible & DATA_FILE != 0 {
        let name = image.header.data_file.clone().unwrap_or_default();
        let data = open_named(&path, &name, "data file", seen)?;
        image.data = Some(Arc::new(data));
    }
    if let Some(name) = image.header.backing.clone() {
        if seen.len() > DEPTH {
            return Err(Error::corrupt(format!("qcow2: backing chain of more than {DEPTH} images")).at(path.display()));
        }
        let below = open_named(&path, &name, "backing file", seen)?;
        let format = image.header.backing_format.clone();
        image.backing = Some(open_backing(below, format.as_deref(), seen, &path)?);
    }
    Ok(image)
}

/// Opens a file that a header names, and says whose file it is when that fails.
fn open_named(image: &Path, name: &[u8], what: &str, seen: &[FileId]) -> Result<HostFile> {
    let place = resolve(image, name, what)?;
    let file = HostFile::open(&place).map_err(|e| {
        let (kind, text) = (e.kind(), e.to_string());
        Error::new(kind, format!("{what} {text}"))
            .at(image.display())
            .hint(format!("the image names it {}", shown(name)))
    })?;
    if seen.contains(&file.id()) {
        return Err(
            Error::corrupt(format!("qcow2: the backing chain loops at {}", place.display())).at(image.display())
        );
    }
    Ok(file)
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

/// Without a format in the header a backing file is taken as qcow2 if it starts so, and refused else: the
/// guest of a raw base can write any header into its first sector, and QEMU warns of the guess, too.
fn open_backing(file: HostFile, format: Option<&[u8]>, seen: &mut Vec<FileId>, of: &Path) -> Result<Node> {
    match format {
        Some(b"raw") => {
            seen.push(file.id());
            Ok(Node::Raw(Arc::new(file)))
        }
        Some(b"qcow2") => Ok(Node::Image(Box::new(open_file(file, seen)?))),
        Some(other) => {
            Err(Error::unsupported(format!("qcow2: backing file {}: format {}", file.path().display(), shown(other)))
                .at(of.display()))
        }
        None => {
            let mut start = [0; 8];
            file.read_at(0, &mut start)?;
            if be32(&start, 0) == MAGIC && matches!(be32(&start, 4), 2 | 3) {
                return Ok(Node::Image(Box::new(open_file(file, seen)?)));
            }
            Err(Error::unsupported(format!(
                "qcow2: the header does not say the format of backing file {}",
                file.path().display()
            ))
            .at(of.display())
            .hint("qemu-img rebase -u -F raw -b BASE IMAGE records it"))
        }
    }
}
