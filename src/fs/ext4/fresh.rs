//! Content on its way to new blocks: neighbours are put together, so that many small files make few writes.

use crate::base::Result;
use crate::disk::Device;

/// Bytes that are kept at most before they are written.
const LIMIT: usize = 1 << 20;

/// One run of bytes that waits to be written fresh.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    offset: u64,
    bytes: Vec<u8>,
}

impl Fresh {
    /// Adds content for bytes of the device that nobody has written since the last commit.
    pub fn add(&mut self, device: &Device, offset: u64, data: &[u8]) -> Result<()> {
        if offset != self.offset + self.bytes.len() as u64 {
            self.flush(device)?;
        }
        if self.bytes.is_empty() {
            if data.len() >= LIMIT {
                return device.write_fresh(offset, data);
            }
            self.offset = offset;
        }
        self.bytes.extend_from_slice(data);
        if self.bytes.len() >= LIMIT {
            self.flush(device)?;
        }
        Ok(())
    }

    /// Writes what waits if any of it lies in `len` bytes at `offset`.
    pub fn flush_at(&mut self, device: &Device, offset: u64, len: usize) -> Result<()> {
        let end = self.offset + self.bytes.len() as u64;
        if offset < end && self.offset < offset.saturating_add(len as u64) { self.flush(device) } else { Ok(()) }
    }

    /// Writes what waits.
    pub fn flush(&mut self, device: &Device) -> Result<()> {
        if !self.bytes.is_empty() {
            device.write_fresh(self.offset, &self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}
