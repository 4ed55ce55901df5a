//! Where the bytes of a device are: through partitions, logical volumes and the stage to the image files.

use std::ops::Range;
use std::path::Path;

use super::Session;
use crate::base::{Kind, Result};
use crate::disk::{BlockDevice, Kept};

/// A run of a device's bytes.
#[derive(Debug)]
pub struct Located<'a> {
    /// First byte of the device.
    pub at: u64,
    /// The whole disk, as an index into [`Session::devices`].
    pub disk: usize,
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// Whether something of it is staged.
    pub staged: bool,
    /// Where it is in the files; `None` for what only a commit brings there.
    pub kept: Option<(&'a Path, Kept)>,
}

impl Session {
    /// Calls `each` for every run of a range of a device of this session, in order. What lies nowhere and
    /// reads as zeros (in a thin volume) is left out.
    ///
    /// # Errors
    /// A range outside of the device, damaged maps of an image, what `each` says.
    pub fn locate(
        &self,
        device: &dyn BlockDevice,
        range: Range<u64>,
        each: &mut dyn FnMut(Located<'_>) -> Result<()>,
    ) -> Result<()> {
        device.pieces(range, &mut |piece| {
            let disk = piece.disk.ok_or(Kind::Internal)?;
            let stage = &self.disks.get(disk).ok_or(Kind::Internal)?.stage;
            let start = piece.range.start;
            stage.locate(piece.range, &mut |found| {
                let at = piece.at + (found.range.start - start);
                each(Located { at, disk, range: found.range, staged: found.staged, kept: found.located })
            })
        })
    }
}
