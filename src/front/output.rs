//! `--overlay` and `--copy`: the image stays as it is, the result is another file that appears when the run ends well.

use std::path::{Path, PathBuf};

use crate::base::{Error, Result};
use crate::disk::target::{Target, real_folder};
use crate::disk::{self, CreateOptions, Format, OpenOptions, convert};

/// Where the result goes instead of into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A new qcow2 image that holds the differences.
    Overlay(PathBuf),
    /// A copy of the image.
    Copy(PathBuf),
}

impl Output {
    /// Makes the file to work on, under a name of its own until [`Target::finish`], and says its format.
    ///
    /// # Errors
    /// An image that cannot be opened, the image itself as its own output, host errors.
    pub fn prepare(&self, image: &Path, format: Option<&str>) -> Result<(Target, Format)> {
        let format = match format {
            None => None,
            Some(name) => Some(Format::from_name(name).ok_or_else(|| Error::unsupported(format!("format '{name}'")))?),
        };
        let disk = disk::open(image, OpenOptions { format, read_only: true })?;
        let format = Format::from_name(disk.format()).unwrap_or(Format::Raw);
        let (Output::Overlay(path) | Output::Copy(path)) = self;
        // Of a link the file that it leads to is replaced, in its folder.
        let there = path.canonicalize().unwrap_or_else(|_| path.clone());
        if disk.files().iter().any(|f| f.canonicalize().is_ok_and(|f| f == there)) {
            return Err(Error::usage("the output is the image itself").at(path.display()));
        }
        let near = real_folder(&there)? == real_folder(image)?;
        match self {
            Output::Overlay(path) => {
                let real = image.canonicalize().map_err(|e| Error::io(image.display(), e))?;
                let name = match (near, image.file_name()) {
                    (true, Some(name)) => PathBuf::from(name),
                    _ => real,
                };
                let target = Target::new(path)?;
                let options =
                    CreateOptions { backing: Some(name), backing_format: Some(format), ..CreateOptions::default() };
                drop(disk);
                disk::create(target.temporary(), Format::Qcow2, &options)?;
                Ok((target, Format::Qcow2))
            }
            Output::Copy(path) => {
                if disk.files().len() > 1 && !near {
                    return Err(Error::unsupported(
                        "the copy of an image with a backing file would lose it in another folder",
                    )
                    .at(path.display())
                    .hint("put the copy beside the image, or use --overlay, or disk-convert the image"));
                }
                drop(disk);
                let target = Target::new(path)?;
                convert::copy_file(image, target.file(), target.temporary())?;
                Ok((target, format))
            }
        }
    }
}
