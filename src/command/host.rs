//! What commands may ask of the host: the only way to its files, clock and programs.

use std::io::{self, Read, Write};
use std::path::Path;

use super::HostFile;
use crate::base::{Result, Timestamp};
use crate::guest::transfer::{Sink, Source};

/// A file of the host that is being written.
pub trait OutFile: Write {
    /// Moves on over bytes that are zeros, so that they are a hole. `false` where there can be none: write them.
    ///
    /// # Errors
    /// The host's.
    fn skip(&mut self, count: u64) -> io::Result<bool> {
        let _ = count;
        Ok(false)
    }
}

/// The host, as handlers see it. Relative paths count from the folder that [`Host::change_folder`] set.
pub trait Host {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Sixteen random bytes (`SOURCE_DATE_EPOCH`-like settings may fix them).
    fn random(&self) -> [u8; 16];
    /// The passphrases for an encrypted image that goes by these names: its UUID, its path, its file name.
    ///
    /// # Errors
    /// A key file that cannot be read, a terminal that cannot be asked.
    fn image_keys(&self, names: &[&str]) -> Result<Vec<Vec<u8>>> {
        let _ = names;
        Ok(Vec::new())
    }
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// Sets a variable for the host programs that are run from now on, or takes it away.
    fn set_variable(&self, name: &str, value: Option<&str>);
    /// Opens a file to read, with its size where it is known (regular files, heredocs).
    fn read(&self, file: &HostFile) -> Result<(Box<dyn Read>, Option<u64>)>;
    /// Makes or replaces a file to write (0666 less the umask); `-` is standard output.
    fn write(&self, file: &HostFile) -> Result<Box<dyn OutFile>>;
    /// A temporary file for content of unknown length: read it to its end and give it back with its size.
    fn spool(&self, source: &mut dyn Read) -> Result<(Box<dyn Read>, u64)>;
    /// An empty temporary file of a size, which is gone when the program ends.
    fn scratch(&self, size: u64) -> Result<std::path::PathBuf>;
    /// A host file or tree as entries; its paths begin with the last component of `path`.
    /// A link at `path` itself is followed when it names a file or folder.
    fn tree(&self, path: &Path) -> Result<Box<dyn Source>>;
    /// A host folder to write entries into. Names that would leave it are refused, links that were made are never followed.
    fn folder(&self, path: &Path) -> Result<Box<dyn Sink>>;
    /// Whether a path names an existing folder.
    fn is_folder(&self, path: &Path) -> bool;
    /// Whether commands may use a path of the host. Asked for every [`Kind::HostPath`](super::Kind::HostPath) before a command
    /// runs; a command asks for files that it finds named elsewhere.
    ///
    /// # Errors
    /// `Kind::Denied` outside of the sandbox.
    fn reach(&self, path: &Path) -> Result<()>;
    /// Makes a disk image path absolute against the current host folder.
    fn absolute(&self, path: &Path) -> std::path::PathBuf;
    /// `lcd`.
    fn change_folder(&self, path: &Path) -> Result<()>;
    /// Lets the user edit content with `editor` (a shell command the temporary file's name is appended to); `None` if it was left unchanged.
    fn edit(&self, editor: &str, name_hint: &str, content: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Runs `command` by the shell with `input` on its standard input (pagers); its output goes to the terminal, on which
    /// what the input has of control characters is made harmless.
    fn pipe_to(&self, command: &str, input: &[u8]) -> Result<()>;
    /// Whether Ctrl-C was pressed since it was last asked.
    fn interrupted(&self) -> bool;
}
