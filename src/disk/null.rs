//! `/dev/null` as a disk: guestfish gives it 4096 zero bytes, for sessions that need a drive but no image.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{Changes, Disk, Kept, Located, Run, check_bounds};
use crate::base::Result;

/// The path that is meant.
pub const PATH: &str = "/dev/null";
/// Size in bytes.
const LEN: u64 = 4096;

/// Reads as zeros; what is committed to it is gone, as with everything written to `/dev/null`.
#[derive(Debug)]
pub struct Null;

impl Disk for Null {
    fn len(&self) -> u64 {
        LEN
    }
    fn format(&self) -> &'static str {
        "raw"
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_bounds(offset, buf.len() as u64, LEN)?;
        buf.fill(0);
        Ok(())
    }
    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>> {
        check_bounds(range.start, range.end.saturating_sub(range.start), LEN)?;
        Ok(vec![Run { range, hole: true }])
    }
    fn locate(&self, range: Range<u64>, each: &mut dyn FnMut(Located<'_>) -> Result<()>) -> Result<()> {
        check_bounds(range.start, range.end.saturating_sub(range.start), LEN)?;
        each(Located { range, file: Path::new(PATH), kept: Kept::Zero })
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        check_bounds(offset, data.len() as u64, LEN)
    }
    fn commit(&self, _: &dyn Changes) -> Result<()> {
        Ok(())
    }
    fn abandon(&self) -> Result<()> {
        Ok(())
    }
    fn files(&self) -> Vec<PathBuf> {
        vec![PathBuf::from(PATH)]
    }
}
