//! Arguments that were read and checked, ready for a handler.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Kind, Param};
use crate::base::{Error, GuestPathBuf, Result};
use crate::session::Session;

/// A host file of a FileIn or FileOut argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFile {
    /// A path, relative to the host folder that `lcd` set.
    Path(PathBuf),
    /// `-`: standard input or output.
    Standard,
    /// A heredoc's bytes.
    Inline(Vec<u8>),
}

/// One argument's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// Text, Bytes, Device (canonical), Mountable, words of Command.
    Bytes(Vec<u8>),
    /// Path.
    Path(GuestPathBuf),
    /// FileIn, FileOut.
    File(HostFile),
    /// HostPath.
    Host(PathBuf),
    /// List, and the words of a `Many` or `Any` parameter.
    List(Vec<Vec<u8>>),
    /// Bool.
    Bool(bool),
    /// Int, Int64, Mode.
    Int(i64),
}

/// Arguments by parameter: index `i` belongs to `params[i]`; `None` for one that was left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args {
    names: Vec<&'static str>,
    values: Vec<Option<Arg>>,
}

impl Args {
    /// Values in the order of the parameters.
    pub fn new(params: &'static [super::Param], values: Vec<Option<Arg>>) -> Self {
        Args { names: params.iter().map(|p| p.name).collect(), values }
    }

    /// The host paths among the arguments.
    pub fn host_paths<'a>(&'a self, params: &'a [Param]) -> impl Iterator<Item = &'a Path> {
        let given = params.iter().zip(&self.values).filter(|(param, _)| param.kind == Kind::HostPath);
        given.flat_map(|(_, value)| match value {
            Some(Arg::Host(path)) => vec![path.as_path()],
            Some(Arg::List(paths)) => paths.iter().map(|path| Path::new(OsStr::from_bytes(path))).collect(),
            _ => Vec::new(),
        })
    }

    /// The arguments with device names in their canonical form (once there are devices) and guest paths known to
    /// be absolute.
    ///
    /// # Errors
    /// A device that is not there, a relative path.
    pub(super) fn resolved(&self, params: &[Param], session: &Session) -> Result<Cow<'_, Args>> {
        let mut args = Cow::Borrowed(self);
        for (index, (param, value)) in params.iter().zip(&self.values).enumerate() {
            match (param.kind, value) {
                (Kind::Path, Some(Arg::Path(path))) if !path.is_absolute() => {
                    return Err(Error::usage("path must start with a / character").at(path));
                }
                (Kind::Device | Kind::Mountable | Kind::DeviceOrPath, Some(Arg::Bytes(name)))
                    if session.is_launched() && name.starts_with(b"/dev/") =>
                {
                    let canonical = session.canonical(&String::from_utf8_lossy(name))?;
                    args.to_mut().values[index] = Some(Arg::Bytes(canonical.into_bytes()));
                }
                (Kind::Device, Some(Arg::Bytes(name))) if !name.starts_with(b"/dev/") => {
                    let name = GuestPathBuf(name.clone());
                    return Err(Error::usage("device name must start with /dev/").at(name));
                }
                _ => {}
            }
        }
        Ok(args)
    }

    /// The value of a parameter by name, if it was given.
    pub fn get(&self, name: &str) -> Option<&Arg> {
        let index = self.names.iter().position(|n| *n == name);
        debug_assert!(index.is_some(), "no parameter {name}");
        self.values.get(index?)?.as_ref()
    }

    /// Bytes of a Text, Bytes, Device or Mountable parameter; empty if it was left out.
    pub fn bytes(&self, name: &str) -> &[u8] {
        match self.get(name) {
            Some(Arg::Bytes(bytes)) => bytes,
            Some(Arg::Path(path)) => path,
            _ => &[],
        }
    }

    /// The same as text, with what is not UTF-8 replaced.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.bytes(name)).into_owned()
    }

    /// Text of an optional parameter.
    pub fn text_if(&self, name: &str) -> Option<String> {
        self.get(name).map(|_| self.text(name))
    }

    /// A guest path; the root if it was left out.
    pub fn path(&self, name: &str) -> GuestPathBuf {
        match self.get(name) {
            Some(Arg::Path(path)) => path.clone(),
            Some(Arg::Bytes(bytes)) => GuestPathBuf(bytes.clone()),
            _ => GuestPathBuf::root(),
        }
    }

    /// A host file; standard input or output if it was left out.
    pub fn file(&self, name: &str) -> HostFile {
        match self.get(name) {
            Some(Arg::File(file)) => file.clone(),
            _ => HostFile::Standard,
        }
    }

    /// A host path; empty if it was left out.
    pub fn host(&self, name: &str) -> &Path {
        match self.get(name) {
            Some(Arg::Host(path)) => path,
            _ => Path::new(""),
        }
    }

    /// Words of a List, Many or Any parameter; none if it was left out.
    pub fn list(&self, name: &str) -> &[Vec<u8>] {
        match self.get(name) {
            Some(Arg::List(words)) => words,
            _ => &[],
        }
    }

    /// A boolean; false if it was left out.
    pub fn bool(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Arg::Bool(true)))
    }

    /// An integer; 0 if it was left out.
    pub fn int(&self, name: &str) -> i64 {
        match self.get(name) {
            Some(Arg::Int(n)) => *n,
            _ => 0,
        }
    }

    /// An integer, if it was given.
    pub fn int_if(&self, name: &str) -> Option<i64> {
        self.get(name).map(|_| self.int(name))
    }
}
