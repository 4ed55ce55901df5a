//! `--sandbox`: which host files a script may use.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use crate::base::{Error, Kind, Result};

/// The folders and files that are open to commands: all until [`Sandbox::confine`].
#[derive(Debug, Default)]
pub struct Sandbox {
    /// Without links.
    open: OnceCell<Vec<PathBuf>>,
}

impl Sandbox {
    /// Confines to folders (with all that is in them) and files, once and for all.
    ///
    /// # Errors
    /// A path that is not there.
    pub fn confine<'a>(&self, open: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        let real = |path: &Path| path.canonicalize().map_err(|e| Error::io(path.display(), e));
        let open = open.into_iter().map(real).collect::<Result<_>>()?;
        self.open.set(open).map_err(|_| Error::new(Kind::Internal, "the sandbox is closed already"))
    }

    /// Whether a path may be used: links are followed first, a file that is not there yet counts as its folder.
    ///
    /// # Errors
    /// `Kind::Denied`.
    pub fn check(&self, path: &Path) -> Result<()> {
        let Some(open) = self.open.get() else { return Ok(()) };
        let denied = || {
            Error::new(Kind::Denied, "the sandbox does not reach there")
                .at(path.display())
                .hint("--sandbox FOLDER opens a folder to the script")
        };
        let real = match path.canonicalize() {
            Ok(real) => real,
            // A link to nowhere could be made to lead anywhere.
            Err(_) if path.is_symlink() => return Err(denied()),
            Err(_) => {
                let absolute = std::path::absolute(path).map_err(|_| denied())?;
                let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
                    return Err(denied());
                };
                folder.canonicalize().map_err(|_| denied())?.join(name)
            }
        };
        match open.iter().any(|allowed| real.starts_with(allowed)) {
            true => Ok(()),
            false => Err(denied()),
        }
    }

    /// Whether programs of the host may be run.
    ///
    /// # Errors
    /// `Kind::Denied` in a confined run.
    pub fn check_program(&self, program: &str) -> Result<()> {
        match self.open.get() {
            None => Ok(()),
            Some(_) => Err(Error::new(Kind::Denied, "the sandbox runs no programs").at(program)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_out() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("open");
        std::fs::create_dir_all(folder.join("in")).unwrap();
        std::fs::create_dir(temp.path().join("openly")).unwrap();
        symlink("/etc", folder.join("out")).unwrap();
        symlink("in", folder.join("inside")).unwrap();
        symlink("/nowhere/at/all", folder.join("nowhere")).unwrap();
        let sandbox = Sandbox::default();
        sandbox.confine([folder.as_path()]).unwrap();
        for good in ["", "new", "in/new", "in/../new", "inside/new"] {
            assert!(sandbox.check(&folder.join(good)).is_ok(), "{good}");
        }
        for bad in
            ["..", "../openly/new", "out", "out/passwd", "nowhere", "none/../../new", "none/new", "/", "/etc/passwd"]
        {
            assert_eq!(sandbox.check(&folder.join(bad)).unwrap_err().kind(), Kind::Denied, "{bad}");
        }
        assert!(sandbox.check_program("sh").is_err() && Sandbox::default().check_program("sh").is_ok());
        assert!(Sandbox::default().check(Path::new("/etc/passwd")).is_ok());
    }
}
