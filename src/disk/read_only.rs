//! A device that may not be written, whatever is behind it.

use std::ops::Range;

use super::{BlockDevice, Device, DiskPiece};
use crate::base::{Kind, Result};

/// Another device, read-only.
pub struct ReadOnly(pub Device);

impl BlockDevice for ReadOnly {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn sector(&self) -> u32 {
        self.0.sector()
    }
    fn read_only(&self) -> bool {
        true
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        Err(Kind::ReadOnly.into())
    }
    fn write_fresh(&self, _: u64, _: &[u8]) -> Result<()> {
        Err(Kind::ReadOnly.into())
    }
    fn zero(&self, _: Range<u64>) -> Result<()> {
        Err(Kind::ReadOnly.into())
    }
    fn holes(&self) -> bool {
        self.0.holes()
    }
    fn pieces(&self, range: Range<u64>, each: &mut dyn FnMut(DiskPiece) -> Result<()>) -> Result<()> {
        self.0.pieces(range, each)
    }
    fn takes_fresh_within(&self, range: Range<u64>) -> bool {
        self.0.takes_fresh_within(range)
    }
}
