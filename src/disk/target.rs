//! Files that are made anew: in place, or beside and then renamed, so that a failure leaves nothing behind.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::libc;
use tempfile::NamedTempFile;

use super::lock::ImageLock;
use super::raw::forget_journal;
use crate::base::{Error, Kind, Result};

fn refuse_special(path: &Path) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::new(Kind::Invalid, "exists and is not a regular file").at(path.display()));
    }
    Ok(())
}

/// Empties the file at `path` (or makes it) and has `fill` write it, under a writer lock: not while a guest uses what is
/// there. A new file is removed again if that fails.
pub(super) fn in_place(path: &Path, fill: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    refuse_special(path)?;
    let new = !path.exists();
    let at = |e: std::io::Error| Error::io(path.display(), e);
    let mut opening = OpenOptions::new();
    let opening = opening.read(true).write(true).create(true).truncate(false);
    let file = opening.custom_flags(libc::O_NONBLOCK).open(path).map_err(at)?;
    let _lock = ImageLock::write(&file, path)?;
    forget_journal(path)?;
    file.set_len(0).map_err(at).and_then(|()| fill(&file)).inspect_err(|_| {
        if new {
            // The first error is the one to tell.
            std::fs::remove_file(path).ok();
        }
    })
}

/// A file that takes the place of another one, or its own, when it is whole.
#[derive(Debug)]
pub struct Target {
    file: NamedTempFile,
    path: PathBuf,
    /// Keeps others from what is there until it is replaced.
    old: Option<ImageLock>,
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The folder of a file, without links.
///
/// # Errors
/// The host's.
pub fn real_folder(path: &Path) -> Result<PathBuf> {
    folder(path).canonicalize().map_err(|e| Error::io(folder(path).display(), e))
}

impl Target {
    /// An empty file in the folder of `path`, under another name. Of a file that it is to replace it has the permissions and, if
    /// the host allows it, the owner; of a link the file is replaced that it leads to.
    ///
    /// # Errors
    /// The host's; something at `path` that is no regular file, or an image in use.
    pub fn new(path: &Path) -> Result<Self> {
        refuse_special(path)?;
        let at = |e: std::io::Error| Error::io(path.display(), e);
        let mut old = None;
        let mut real = path.to_path_buf();
        if path.exists() {
            let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
            let file = file.map_err(at)?;
            old = Some((ImageLock::write(&file, path)?, file.metadata().map_err(at)?));
            if path.is_symlink() {
                real = path.canonicalize().map_err(at)?;
            }
        }
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(".imgsh-").suffix(".part").permissions(Permissions::from_mode(0o666));
        let file = builder.tempfile_in(folder(&real)).map_err(at)?;
        if let Some((_, metadata)) = &old {
            // Giving a file away is for root alone. Before the permissions, which it would change.
            fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid())).ok();
            file.as_file().set_permissions(Permissions::from_mode(metadata.mode() & 0o777)).map_err(at)?;
        }
        Ok(Target { file, path: real, old: old.map(|(lock, _)| lock) })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Where it is now.
    pub fn temporary(&self) -> &Path {
        self.file.path()
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// The host's; then the file is gone and what was at the path is as it was.
    pub fn finish(self) -> Result<()> {
        let at = |e: std::io::Error| Error::io(self.path.display(), e);
        self.file.as_file().sync_all().map_err(at)?;
        let folder = folder(&self.path).to_path_buf();
        self.file.persist(&self.path).map_err(|e| Error::io(self.path.display(), e.error))?;
        drop(self.old);
        // Behind the new name: while the old image is there, it may need its journal.
        forget_journal(&self.path)?;
        File::open(&folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder.display(), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_keeps_its_place_and_permissions() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (real, link) = (dir.path().join("secret.img"), other.path().join("link.img"));
        std::fs::write(&real, "old").unwrap();
        std::fs::set_permissions(&real, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let target = Target::new(&link).unwrap();
        std::fs::write(target.temporary(), "new").unwrap();
        assert_eq!(target.file().metadata().unwrap().mode() & 0o777, 0o600, "readable for others while it is written");
        target.finish().unwrap();
        assert!(link.is_symlink());
        let metadata = std::fs::metadata(&real).unwrap();
        assert_eq!((std::fs::read_to_string(&real).unwrap().as_str(), metadata.mode() & 0o777), ("new", 0o600));
        // Given up: nothing is left of it, and what was there is as it was.
        drop(Target::new(&real).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "new");
    }
}
