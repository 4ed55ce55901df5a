//! TEMPORARY skeleton: QEMU copy-on-write images, versions 2 and 3.
use super::{Changes, CreateOptions, Disk, Run};
use crate::base::{Error, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};
/// An open qcow2 image.
pub struct Qcow2;
impl Qcow2 {
    /// Opens an image and its backing chain.
    pub fn open(_path: &Path, _read_only: bool) -> Result<Self> {
        Err(Error::unsupported("skeleton"))
    }
}
/// Makes an image.
pub fn create(_path: &Path, _options: &CreateOptions) -> Result<()> {
    Err(Error::unsupported("skeleton"))
}
impl Disk for Qcow2 {
    fn len(&self) -> u64 {
        0
    }
    fn format(&self) -> &'static str {
        "qcow2"
    }
    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> Result<()> {
        Err(Error::unsupported("skeleton"))
    }
    fn runs(&self, _range: Range<u64>) -> Result<Vec<Run>> {
        Err(Error::unsupported("skeleton"))
    }
    fn write_fresh(&self, _offset: u64, _data: &[u8]) -> Result<()> {
        Err(Error::unsupported("skeleton"))
    }
    fn commit(&self, _changes: &dyn Changes) -> Result<()> {
        Err(Error::unsupported("skeleton"))
    }
    fn abandon(&self) -> Result<()> {
        Err(Error::unsupported("skeleton"))
    }
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}
