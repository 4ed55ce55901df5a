//! A range of a device as a device: a partition.

use std::ops::Range;

use super::{BlockDevice, Device, DiskPiece, check_bounds};
use crate::base::Result;

/// Bytes `start..start+len` of another device.
pub struct Slice {
    device: Device,
    start: u64,
    len: u64,
}

impl Slice {
    /// The slice of `range`; the part that lies outside the device is cut off.
    pub fn new(device: Device, range: Range<u64>) -> Self {
        let end = range.end.min(device.len());
        let start = range.start.min(end);
        Slice { device, start, len: end - start }
    }

    fn place(&self, offset: u64, len: u64) -> Result<u64> {
        check_bounds(offset, len, self.len)?;
        Ok(self.start + offset)
    }
}

impl BlockDevice for Slice {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector(&self) -> u32 {
        self.device.sector()
    }
    fn read_only(&self) -> bool {
        self.device.read_only()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.device.read_at(self.place(offset, buf.len() as u64)?, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.device.write_at(self.place(offset, data.len() as u64)?, data)
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.device.write_fresh(self.place(offset, data.len() as u64)?, data)
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        let len = range.end.saturating_sub(range.start);
        let start = self.place(range.start, len)?;
        self.device.zero(start..start + len)
    }
    fn holes(&self) -> bool {
        self.device.holes()
    }
    fn pieces(&self, range: Range<u64>, each: &mut dyn FnMut(DiskPiece) -> Result<()>) -> Result<()> {
        let len = range.end.saturating_sub(range.start);
        let start = self.place(range.start, len)?;
        self.device.pieces(start..start + len, &mut |piece| each(DiskPiece { at: piece.at - self.start, ..piece }))
    }
    fn takes_fresh_within(&self, range: Range<u64>) -> bool {
        let end = range.end.min(self.len);
        let start = range.start.min(end);
        self.device.takes_fresh_within(self.start + start..self.start + end)
    }
}
