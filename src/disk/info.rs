//! What an image file says of itself, without opening the disk in it: works on images that are locked, encrypted,
//! damaged or whose other files are missing.

use std::path::Path;

use super::Format;
use super::raw::probe;
use crate::base::bytes::{be32, be64};
use crate::base::{Error, Result, printable};

/// Bytes from the start that are looked at: the header, its extensions and the backing file's name.
const HEAD: usize = 65536;

/// What an image file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// What the first bytes say.
    pub format: Format,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// qcow2: the backing file's name as it stands in the header.
    pub backing_file: Option<String>,
    /// qcow2: the name of the file that holds the data.
    pub data_file: Option<String>,
    /// qcow2: `aes` or `luks`.
    pub encryption: Option<String>,
    /// qcow2: the mark that refcounts may be wrong.
    pub dirty: bool,
    /// qcow2: the mark that a program has found damage.
    pub corrupt: bool,
    /// Whether users of no account or group of the file's may write to it.
    pub others_write: bool,
}

impl Info {
    /// Another file that this image needs and that is not there, or the key it needs; `path` is the image's.
    pub fn lacks(&self, path: &Path) -> Option<String> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let gone = |what: &str, name: &Option<String>| {
            let name = name.as_deref().filter(|name| !folder.join(name).exists())?;
            Some(format!("its {what} {name} is not there"))
        };
        let key = self.encryption.as_ref().map(|method| format!("it is encrypted ({method})"));
        gone("backing file", &self.backing_file).or_else(|| gone("data file", &self.data_file)).or(key)
    }
}

/// Reads what an image file says of itself. Byte places: `docs/formats/qcow2.md`.
///
/// # Errors
/// A file that cannot be read or is no regular file or block device; a qcow2 header that ends too early or is of no known version.
pub fn info(path: &Path) -> Result<Info> {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    let format = probe(path)?;
    let io = |e| Error::io(path.display(), e);
    let file = std::fs::File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mut info = Info {
        format,
        virtual_size: metadata.len(),
        backing_file: None,
        data_file: None,
        encryption: None,
        dirty: false,
        corrupt: false,
        others_write: metadata.permissions().mode() & 0o002 != 0,
    };
    if format == Format::Raw {
        return Ok(info);
    }
    let mut head = Vec::new();
    file.take(HEAD as u64).read_to_end(&mut head).map_err(io)?;
    let version = if head.len() >= 72 { be32(&head, 4) } else { 0 };
    if !matches!(version, 2 | 3) || (version == 3 && head.len() < 104) {
        return Err(Error::corrupt("qcow2: header: too short, or of a version that is not known").at(path.display()));
    }
    info.virtual_size = be64(&head, 24);
    info.encryption = match be32(&head, 32) {
        0 => None,
        1 => Some("aes".into()),
        2 => Some("luks".into()),
        other => Some(format!("method {other}")),
    };
    let place = usize::try_from(be64(&head, 8)).unwrap_or(usize::MAX);
    let len = be32(&head, 16).min(1023) as usize;
    if place != 0 {
        let name = place.checked_add(len).and_then(|end| head.get(place..end));
        info.backing_file = Some(name.map_or_else(|| "?".into(), printable));
    }
    if version == 3 {
        let incompatible = be64(&head, 72);
        info.dirty = incompatible & 1 != 0;
        info.corrupt = incompatible & 2 != 0;
        if incompatible & 4 != 0 {
            info.data_file = Some(data_file(&head).unwrap_or_else(|| "?".into()));
        }
    }
    Ok(info)
}

/// The extension with the data file's name.
fn data_file(head: &[u8]) -> Option<String> {
    let mut at = be32(head, 100) as usize;
    loop {
        let entry = head.get(at..at.checked_add(8)?)?;
        let (kind, len) = (be32(entry, 0), be32(entry, 4) as usize);
        let body = head.get(at + 8..(at + 8).checked_add(len)?)?;
        match kind {
            0 => return None,
            0x4441_5441 => return Some(printable(body)),
            _ => at = (at + 8).checked_add(len.checked_next_multiple_of(8)?)?,
        }
    }
}
