//! Packages of rpm: its databases, read page by page, and the headers in them.
//!
//! A header is two big-endian counts, an index of 16 bytes an entry (tag, type, place, count), and a store (rpm's documentation, "Package
//! file format"). The database is `rpmdb.sqlite` since Fedora 33 and RHEL 9, `Packages` in the form of Berkeley DB before,
//! and `Packages.db` (ndb) on openSUSE and newer SLES.

mod hash;
mod ndb;
mod sqlite;

use super::{Application, System, release};
use crate::base::bytes::{be32, u8_at};
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::guest::Guest;

/// Folders of the database, the newer first; the older may be a link to it.
const FOLDERS: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
/// Largest header of a package.
const HEADER_MAX: usize = 64 << 20;

/// Tags.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const SUMMARY: u32 = 1004;
const URL: u32 = 1020;
const ARCH: u32 = 1022;
const OLD_FILE_NAMES: u32 = 1027;
const DIR_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIR_NAMES: u32 = 1118;
/// Most files of one package.
const FILES_MAX: usize = 1 << 20;
/// Longest path of Linux.
const PATH_MAX: usize = 4096;

/// A file of the guest that is read in pieces.
struct File<'a> {
    guest: &'a Guest,
    path: GuestPathBuf,
    len: u64,
}

impl<'a> File<'a> {
    /// `None` if it is not there.
    fn open(guest: &'a Guest, path: &str) -> Result<Option<Self>> {
        let path = GuestPathBuf::from(path);
        match guest.stat(&path) {
            Ok(metadata) => Ok(Some(File { guest, path, len: metadata.size })),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Exactly these bytes.
    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let bytes = self.guest.read_at(&self.path, at, len as u64)?;
        if bytes.len() == len { Ok(bytes) } else { Err(self.bad(format!("it ends before byte {}", at + len as u64))) }
    }

    fn bad(&self, what: impl std::fmt::Display) -> Error {
        Error::corrupt(format!("package database: {what}")).at(&self.path)
    }
}

/// All packages of the mounted system, in the database's order.
///
/// # Errors
/// `Kind::NotFound` if there is no database that is read, `Kind::Corrupt` for a damaged one.
pub(super) fn packages(guest: &Guest) -> Result<Vec<Application>> {
    let mut found = Vec::new();
    headers(guest, &mut |header| header.package().map(|package| found.push(package)))?;
    Ok(found)
}

/// Gives `add` the files whose paths begin with `start`, which ends in a slash, and the package of each.
///
/// # Errors
/// As of [`packages`].
pub(super) fn files(guest: &Guest, start: &str, add: &mut dyn FnMut(&str, &str)) -> Result<()> {
    headers(guest, &mut |header| header.files(start, add))
}

/// Gives each package's header, which is damaged if the answer is `None`.
fn headers(guest: &Guest, each: &mut dyn FnMut(&Header<'_>) -> Option<()>) -> Result<()> {
    let (folders, kinds) = places(guest);
    for (folder, kind) in folders.into_iter().flat_map(|folder| kinds.map(|kind| (folder, kind))) {
        let Some(file) = File::open(guest, &format!("{folder}/{kind}"))? else { continue };
        let mut each = |blob: &[u8]| {
            let good = Header::parse(blob).and_then(|header| each(&header));
            good.ok_or_else(|| file.bad("a package's header is damaged"))
        };
        return match kind {
            "rpmdb.sqlite" => {
                let log = File::open(guest, &format!("{folder}/rpmdb.sqlite-wal"))?;
                sqlite::blobs(&file, log.as_ref(), &mut each)
            }
            "Packages" => hash::blobs(&file, &mut each),
            _ => ndb::blobs(&file, &mut each),
        };
    }
    Err(Error::new(Kind::NotFound, "no package database of rpm was found").at(FOLDERS[1]))
}

/// Where this guest's rpm looks, and which of several databases in a folder is its own: Fedora has sqlite from 33 on and the newer folder from
/// 36 on, RHEL sqlite from 9 on and that folder from 10 on.
fn places(guest: &Guest) -> ([&'static str; 2], [&'static str; 3]) {
    let mut system = System::default();
    let known = release::read(guest, &mut system).unwrap_or(false);
    let [newer, older] = FOLDERS;
    let fedora = system.distro == "fedora";
    let redhat = ["rhel", "centos", "rocky", "almalinux", "oraclelinux", "scientificlinux", "redhat-based"];
    let (sqlite, moved) = match known && system.major > 0 {
        true if fedora => (system.major >= 33, system.major >= 36),
        true if redhat.contains(&system.distro.as_str()) => (system.major >= 9, system.major >= 10),
        _ => (true, true),
    };
    let folders = if moved { [newer, older] } else { [older, newer] };
    let (new, old) = ("rpmdb.sqlite", "Packages");
    (folders, if sqlite { [new, old, "Packages.db"] } else { [old, new, "Packages.db"] })
}

/// A package's header: an index of tags and a store of values.
struct Header<'a> {
    index: &'a [u8],
    store: &'a [u8],
}

impl<'a> Header<'a> {
    /// `None` if its parts do not fit into the bytes.
    fn parse(blob: &'a [u8]) -> Option<Self> {
        let (entries, size) = (be32(blob, 0) as usize, be32(blob, 4) as usize);
        let store = entries.checked_mul(16)?.checked_add(8)?;
        Some(Header { index: blob.get(8..store)?, store: blob.get(store..store.checked_add(size)?)? })
    }

    /// Type, count and store of a tag's values from their place on; `Some(None)` if it has no such tag.
    fn value(&self, tag: u32) -> Option<Option<(u32, usize, &'a [u8])>> {
        let Some(entry) = self.index.chunks_exact(16).find(|entry| be32(entry, 0) == tag) else { return Some(None) };
        let bytes = self.store.get(be32(entry, 8) as usize..)?;
        Some(Some((be32(entry, 4), be32(entry, 12) as usize, bytes)))
    }

    /// The first text of a tag, empty if it is not there: a text (6), texts (8) or translated texts (9).
    fn text(&self, tag: u32) -> Option<String> {
        let Some((kind, _, bytes)) = self.value(tag)? else { return Some(String::new()) };
        let end = bytes.iter().position(|byte| *byte == 0)?;
        matches!(kind, 6 | 8 | 9).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// All texts of a tag, none if it is not there.
    fn texts(&self, tag: u32) -> Option<Vec<&'a [u8]>> {
        let Some((kind, count, bytes)) = self.value(tag)? else { return Some(Vec::new()) };
        // The last one ends with a NUL, too, behind which the split finds another.
        let found: Vec<_> = bytes.split(|byte| *byte == 0).take(count.min(FILES_MAX) + 1).collect();
        (kind == 8 && count <= FILES_MAX && found.len() > count).then(|| found[..count].to_vec())
    }

    /// The numbers of a tag (type 4), none if it is not there.
    fn numbers(&self, tag: u32) -> Option<impl Iterator<Item = usize> + 'a> {
        let (kind, count, bytes) = self.value(tag)?.unwrap_or((4, 0, &[]));
        let bytes = bytes.get(..count.checked_mul(4)?)?;
        (kind == 4).then(|| bytes.chunks_exact(4).map(|word| be32(word, 0) as usize))
    }

    /// What it says of its package.
    fn package(&self) -> Option<Application> {
        let package = Application {
            name: self.text(NAME)?,
            epoch: self.numbers(EPOCH)?.next().map_or(0, |epoch| epoch as i64),
            version: self.text(VERSION)?,
            release: self.text(RELEASE)?,
            arch: self.text(ARCH)?,
            summary: self.text(SUMMARY)?,
            url: self.text(URL)?,
            ..Application::default()
        };
        (!package.name.is_empty()).then_some(package)
    }

    /// Its files whose paths begin with `start`: each is a name and the number of a folder, or, before rpm 4, a whole path.
    fn files(&self, start: &str, add: &mut dyn FnMut(&str, &str)) -> Option<()> {
        let name = self.text(NAME)?;
        for path in self.texts(OLD_FILE_NAMES)? {
            if path.starts_with(start.as_bytes()) {
                add(&String::from_utf8_lossy(path), &name);
            }
        }
        let folders = self.texts(DIR_NAMES)?;
        if !folders.iter().any(|folder| folder.starts_with(start.as_bytes())) {
            return Some(());
        }
        for (base, folder) in self.texts(BASE_NAMES)?.into_iter().zip(self.numbers(DIR_INDEXES)?) {
            let folder = folders.get(folder)?;
            if folder.starts_with(start.as_bytes()) && folder.len() + base.len() <= PATH_MAX {
                add(&String::from_utf8_lossy(&[folder, base].concat()), &name);
            }
        }
        Some(())
    }
}

/// The words of a database, in whichever byte order it has.
#[derive(Debug, Clone, Copy)]
struct Words {
    big: bool,
}

impl Words {
    fn u16(self, bytes: &[u8], at: usize) -> usize {
        let pair = [u8_at(bytes, at), u8_at(bytes, at + 1)];
        usize::from(if self.big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let word = be32(bytes, at);
        if self.big { word } else { word.swap_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let store = b"bash\x005.1\x002\0\0\0\0\0\x07";
        let mut blob = Vec::new();
        for word in [4_u32, store.len() as u32, NAME, 6, 0, 1, VERSION, 6, 5, 1, RELEASE, 6, 9, 1, EPOCH, 4, 12, 1] {
            blob.extend(word.to_be_bytes());
        }
        blob.extend(store);
        let package = |blob: &[u8]| Header::parse(blob).and_then(|header| header.package());
        let found = package(&blob).unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str(), found.release.as_str()), ("bash", "5.1", "2"));
        assert_eq!(found.epoch, 7);
        for end in 0..blob.len() {
            assert!(package(&blob[..end]).is_none());
        }
    }
}
