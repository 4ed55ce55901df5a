//! Packages of rpm: its databases, read page by page, and the headers in them.
//!
//! A header is two big-endian counts, an index of 16 bytes an entry (tag, type, place, count), and a store (rpm's documentation, "Package
//! file format"). The database is `rpmdb.sqlite` since Fedora 33 and RHEL 9, `Packages` in the form of Berkeley DB before,
//! and `Packages.db` (ndb) on openSUSE and newer SLES.

mod hash;
mod ndb;
mod sqlite;

use super::Application;
use crate::base::bytes::{be32, u8_at};
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::guest::Guest;

/// Folders of the database, the newer one behind the older, which may be a link to it.
const FOLDERS: [&str; 2] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];
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
    for folder in FOLDERS {
        let mut found = Vec::new();
        let mut each = |file: &File<'_>, blob: &[u8]| {
            found.push(package(blob).ok_or_else(|| file.bad("a package's header is damaged"))?);
            Ok(())
        };
        if let Some(file) = File::open(guest, &format!("{folder}/rpmdb.sqlite"))? {
            let log = File::open(guest, &format!("{folder}/rpmdb.sqlite-wal"))?;
            sqlite::blobs(&file, log.as_ref(), &mut |blob| each(&file, blob))?;
            return Ok(found);
        }
        if let Some(file) = File::open(guest, &format!("{folder}/Packages"))? {
            hash::blobs(&file, &mut |blob| each(&file, blob))?;
            return Ok(found);
        }
        if let Some(file) = File::open(guest, &format!("{folder}/Packages.db"))? {
            ndb::blobs(&file, &mut |blob| each(&file, blob))?;
            return Ok(found);
        }
    }
    Err(Error::new(Kind::NotFound, "no package database of rpm was found").at(FOLDERS[0]))
}

/// What a header says of its package.
fn package(blob: &[u8]) -> Option<Application> {
    let (entries, size) = (be32(blob, 0) as usize, be32(blob, 4) as usize);
    let store = entries.checked_mul(16)?.checked_add(8)?;
    let (index, store) = (blob.get(8..store)?, blob.get(store..store.checked_add(size)?)?);
    let mut package = Application::default();
    for entry in index.chunks_exact(16) {
        let (tag, kind, at) = (be32(entry, 0), be32(entry, 4), be32(entry, 8) as usize);
        let text = || {
            let bytes = store.get(at..)?;
            let end = bytes.iter().position(|byte| *byte == 0)?;
            // Texts (6) and translated texts (9), of which the first counts.
            matches!(kind, 6 | 9).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
        };
        match tag {
            NAME => package.name = text()?,
            VERSION => package.version = text()?,
            RELEASE => package.release = text()?,
            SUMMARY => package.summary = text()?,
            URL => package.url = text()?,
            ARCH => package.arch = text()?,
            EPOCH if kind == 4 => {
                store.get(at..at.checked_add(4)?)?;
                package.epoch = be32(store, at).into();
            }
            _ => {}
        }
    }
    (!package.name.is_empty()).then_some(package)
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
        let found = package(&blob).unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str(), found.release.as_str()), ("bash", "5.1", "2"));
        assert_eq!(found.epoch, 7);
        for end in 0..blob.len() {
            assert!(package(&blob[..end]).is_none());
        }
    }
}
