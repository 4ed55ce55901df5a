//! A device in memory, for tests of everything above.

use std::ops::Range;
use std::sync::RwLock;

use super::{BlockDevice, check_bounds};
use crate::base::Result;

/// A block device over a vector, 512-byte sectors, always writable.
#[derive(Debug)]
pub struct Memory(RwLock<Vec<u8>>);

impl Memory {
    /// A device of `size` zero bytes.
    pub fn new(size: usize) -> Self {
        Self::from(vec![0; size])
    }

    /// A copy of all bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Self {
        Memory(RwLock::new(bytes))
    }
}

fn range_of(offset: u64, len: usize, size: usize) -> Result<Range<usize>> {
    check_bounds(offset, len as u64, size as u64)?;
    // Inside a vector, so it fits.
    Ok(offset as usize..offset as usize + len)
}

impl BlockDevice for Memory {
    fn len(&self) -> u64 {
        self.0.read().unwrap_or_else(|e| e.into_inner()).len() as u64
    }
    fn sector(&self) -> u32 {
        512
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let bytes = self.0.read().unwrap_or_else(|e| e.into_inner());
        buf.copy_from_slice(&bytes[range_of(offset, buf.len(), bytes.len())?]);
        Ok(())
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(|e| e.into_inner());
        let range = range_of(offset, data.len(), bytes.len())?;
        bytes[range].copy_from_slice(data);
        Ok(())
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.write_at(offset, data)
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(|e| e.into_inner());
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let range = range_of(range.start, len, bytes.len())?;
        bytes[range].fill(0);
        Ok(())
    }
    fn takes_fresh_within(&self, _range: Range<u64>) -> bool {
        true
    }
}
