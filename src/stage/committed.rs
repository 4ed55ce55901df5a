//! The committed state of a staged disk, as a disk that is only read: what `diff` compares with.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::Stage;
use crate::base::{Kind, Result};
use crate::disk::{Changes, Disk, Located, Run};

/// The disk below a stage. Places that the committed state does not use may show what was written fresh.
pub struct Committed(pub Arc<Stage>);

impl Disk for Committed {
    fn len(&self) -> u64 {
        self.0.disk().len()
    }
    fn format(&self) -> &'static str {
        self.0.disk().format()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_committed(offset, buf)
    }
    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>> {
        self.0.disk().runs(range)
    }
    fn locate(&self, range: Range<u64>, each: &mut dyn FnMut(Located<'_>) -> Result<()>) -> Result<()> {
        self.0.disk().locate(range, each)
    }
    fn write_fresh(&self, _: u64, _: &[u8]) -> Result<()> {
        Err(Kind::ReadOnly.into())
    }
    fn commit(&self, _: &dyn Changes) -> Result<()> {
        Err(Kind::ReadOnly.into())
    }
    fn abandon(&self) -> Result<()> {
        Ok(())
    }
    fn files(&self) -> Vec<PathBuf> {
        self.0.disk().files()
    }
}
