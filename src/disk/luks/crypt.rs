//! The plain bytes of an opened volume as a device.

use std::ops::Range;
use std::sync::Arc;

use super::cipher::{SECTOR, Way};
use super::{Segment, Unlocked};
use crate::base::{Error, Kind, Result};
use crate::disk::slice::Slice;
use crate::disk::{BlockDevice, Device, check_bounds};

/// What is encrypted at once: more would only take memory.
const PIECE: usize = 1 << 18;
/// Largest encryption sector in bytes.
const SECTOR_MAX: usize = 4096;

/// A volume over the encrypted bytes of a device. Every write is one of whole encryption sectors.
pub struct Crypt {
    volume: Arc<Unlocked>,
    /// The segment: byte 0 is byte 0 of the volume.
    device: Slice,
    len: u64,
}

/// A range cut where encryption sectors begin: the rest of one, whole ones, the start of one.
struct Parts {
    head: Range<u64>,
    body: Range<u64>,
    tail: Range<u64>,
}

impl Crypt {
    /// The volume on its whole device.
    pub fn new(volume: Arc<Unlocked>, device: Device) -> Self {
        let range = volume.range(device.len());
        Crypt { volume, len: range.end - range.start, device: Slice::new(device, range) }
    }

    fn segment(&self) -> &Segment {
        &self.volume.segment
    }

    /// Bytes of an encryption sector.
    fn unit(&self) -> u64 {
        u64::from(self.segment().sector)
    }

    fn crypt(&self, way: Way, offset: u64, data: &mut [u8]) {
        let sector = self.segment().tweak.wrapping_add(offset / SECTOR);
        self.volume.cipher.run(way, sector, self.unit() as usize, data);
    }

    fn parts(&self, range: Range<u64>) -> Parts {
        let unit = self.unit();
        let start = range.start.next_multiple_of(unit).min(range.end);
        let end = (range.end - range.end % unit).max(start);
        Parts { head: range.start..start, body: start..end, tail: end..range.end }
    }

    /// Lets `change` work on the plain bytes of the one encryption sector that holds a range: on the range in it.
    fn with_sector(&self, range: &Range<u64>, write: bool, change: impl FnOnce(&mut [u8])) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut sector = [0; SECTOR_MAX];
        let start = range.start - range.start % self.unit();
        let sector = sector.get_mut(..self.unit() as usize).ok_or(Kind::Internal)?;
        self.device.read_at(start, sector)?;
        self.crypt(Way::Decrypt, start, sector);
        let inside = (range.start - start) as usize..(range.end - start) as usize;
        change(sector.get_mut(inside).ok_or(Kind::Internal)?);
        if write {
            self.crypt(Way::Encrypt, start, sector);
            self.device.write_at(start, sector)?;
        }
        Ok(())
    }

    /// Encrypts whole sectors piece by piece, each filled by `fill` with its plain bytes, and gives them to `put`.
    fn encrypted(
        &self,
        range: Range<u64>,
        mut fill: impl FnMut(Range<u64>, &mut [u8]),
        put: impl Fn(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut piece = vec![0; PIECE.min((range.end - range.start) as usize)];
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + PIECE as u64);
            let bytes = piece.get_mut(..(end - at) as usize).ok_or(Kind::Internal)?;
            fill(at..end, bytes);
            self.crypt(Way::Encrypt, at, bytes);
            put(at, bytes)?;
            at = end;
        }
        Ok(())
    }

    fn range(&self, offset: u64, len: usize) -> Result<Range<u64>> {
        check_bounds(offset, len as u64, self.len)?;
        Ok(offset..offset + len as u64)
    }
}

/// The bytes of `data`, which begins at `offset`, that a range means.
fn part<'a>(data: &'a [u8], offset: u64, range: &Range<u64>) -> &'a [u8] {
    data.get((range.start - offset) as usize..(range.end - offset) as usize).unwrap_or_default()
}

impl BlockDevice for Crypt {
    fn len(&self) -> u64 {
        self.len
    }

    fn sector(&self) -> u32 {
        if self.segment().sector > 512 { 4096 } else { self.device.sector() }
    }

    fn read_only(&self) -> bool {
        self.device.read_only()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let parts = self.parts(self.range(offset, buf.len())?);
        let (head, rest) = buf.split_at_mut((parts.head.end - parts.head.start) as usize);
        let (body, tail) = rest.split_at_mut((parts.body.end - parts.body.start) as usize);
        if !body.is_empty() {
            self.device.read_at(parts.body.start, body)?;
            self.crypt(Way::Decrypt, parts.body.start, body);
        }
        self.with_sector(&parts.head, false, |plain| head.copy_from_slice(plain))?;
        self.with_sector(&parts.tail, false, |plain| tail.copy_from_slice(plain))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let parts = self.parts(self.range(offset, data.len())?);
        self.with_sector(&parts.head, true, |plain| plain.copy_from_slice(part(data, offset, &parts.head)))?;
        let fill = |range: Range<u64>, bytes: &mut [u8]| bytes.copy_from_slice(part(data, offset, &range));
        self.encrypted(parts.body.clone(), fill, |at, bytes| self.device.write_at(at, bytes))?;
        self.with_sector(&parts.tail, true, |plain| plain.copy_from_slice(part(data, offset, &parts.tail)))
    }

    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        let parts = self.parts(self.range(offset, data.len())?);
        // A part of an encryption sector changes all of it, and with that bytes that may be in use.
        if !parts.head.is_empty() || !parts.tail.is_empty() {
            return self.write_at(offset, data);
        }
        let fill = |range: Range<u64>, bytes: &mut [u8]| bytes.copy_from_slice(part(data, offset, &range));
        self.encrypted(parts.body, fill, |at, bytes| self.device.write_fresh(at, bytes))
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        let len = range.end.checked_sub(range.start).ok_or_else(|| Error::from(Kind::Invalid))?;
        check_bounds(range.start, len, self.len)?;
        let parts = self.parts(range);
        self.with_sector(&parts.head, true, |plain| plain.fill(0))?;
        self.encrypted(parts.body, |_, bytes| bytes.fill(0), |at, bytes| self.device.write_at(at, bytes))?;
        self.with_sector(&parts.tail, true, |plain| plain.fill(0))
    }

    fn holes(&self) -> bool {
        // A hole is no encrypted zeros.
        false
    }

    fn takes_fresh_within(&self, range: Range<u64>) -> bool {
        let unit = self.unit();
        self.device.takes_fresh_within(range.start - range.start % unit..range.end.div_ceil(unit).saturating_mul(unit))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cipher::Cipher;
    use super::*;
    use crate::disk::memory::Memory;

    fn volume(sector: u32, disk: &Arc<Memory>) -> Device {
        let cipher = "aes-xts-plain64".to_string();
        let segment = Segment { offset: 8192, len: None, sector, tweak: 3, cipher };
        let key: Vec<u8> = (0..64).collect();
        let cipher = Cipher::new(&segment.cipher, &key).unwrap();
        Arc::new(Unlocked { cipher, segment }).on(disk.clone())
    }

    #[test]
    fn ranges_that_are_no_whole_sectors() {
        for sector in [512, 2048, 4096] {
            let disk = Arc::new(Memory::new(8192 + 600_000));
            let device = volume(sector, &disk);
            assert_eq!(device.len(), 600_000 - 600_000 % u64::from(sector));
            let mut model = vec![0; device.len() as usize];
            device.zero(0..device.len()).unwrap();
            for (step, (at, len)) in
                [(0, 1), (511, 2), (4096, 4096), (100, 300_000), (5000, 0), (595_967, 1), (1024, 5000)]
                    .iter()
                    .enumerate()
            {
                let data: Vec<u8> = (0..*len).map(|i: usize| (i * 13 + step) as u8).collect();
                match step % 2 {
                    0 => device.write_at(*at as u64, &data).unwrap(),
                    _ => device.write_fresh(*at as u64, &data).unwrap(),
                }
                model[*at..at + len].copy_from_slice(&data);
                let mut read = vec![0; len + 10];
                let from = at.saturating_sub(5).min(model.len() - read.len());
                device.read_at(from as u64, &mut read).unwrap();
                assert_eq!(read, model[from..from + read.len()]);
            }
            device.zero(700..290_001).unwrap();
            model[700..290_001].fill(0);
            let mut read = vec![0; model.len()];
            device.read_at(0, &mut read).unwrap();
            assert_eq!(read, model);
            // What lies before the segment is never touched, and nothing lies past the end.
            assert_eq!(disk.bytes()[..8192], [0; 8192]);
            assert!(device.write_at(device.len() - 1, &[0; 2]).is_err() && device.zero(5..u64::MAX).is_err());
        }
    }
}
