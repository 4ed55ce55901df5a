//! A thin volume as a device: the chunks that it has lie in the pool's data, the others read as zeros.
//!
//! Written is only what lies in chunks that the volume has alone. A chunk that it shares with a snapshot, or does not
//! have, would need a change of the pool's metadata, which is never written.

mod metadata;

use std::ops::Range;

pub use metadata::{Metadata, Volume};

use crate::base::bytes::is_zero;
use crate::base::{Error, Kind, Result};
use crate::disk::{BlockDevice, Device, DiskPiece, check_bounds};

/// A thin volume.
pub struct Thin {
    metadata: Metadata,
    volume: Volume,
    data: Device,
    len: u64,
}

/// Where a part of an access is.
#[derive(Clone, Copy)]
enum Place {
    /// From this byte of the pool's data on.
    Own(u64),
    /// The same, and a snapshot may have it too.
    Shared(u64),
    /// Nowhere.
    Nothing,
}

impl Thin {
    /// The volume of `len` bytes with a number in the pool.
    ///
    /// # Errors
    /// A number that the pool does not know, damaged metadata.
    pub fn new(metadata: Metadata, id: u64, data: Device, len: u64) -> Result<Self> {
        let volume = metadata.volume(id)?;
        Ok(Thin { metadata, volume, data, len })
    }

    /// Visits the parts of a range of bytes, in order.
    fn visit(&self, range: Range<u64>, each: &mut dyn FnMut(Place, Range<u64>) -> Result<()>) -> Result<()> {
        check_bounds(range.start, range.end.saturating_sub(range.start), self.len)?;
        let size = self.metadata.chunk;
        let mut at = range.start;
        while at < range.end {
            let (chunk, over) = (at / size, at % size);
            let found = self.metadata.chunks(self.volume, chunk)?;
            let end = chunk.saturating_add(found.count).saturating_mul(size).min(range.end);
            let place = match found.first {
                None => Place::Nothing,
                Some(first) => {
                    let start = first.checked_mul(size).and_then(|start| start.checked_add(over));
                    let fits = |start: &u64| start.checked_add(end - at).is_some_and(|end| end <= self.data.len());
                    let start = start.filter(fits).ok_or_else(|| {
                        Error::corrupt(format!("lvm: thin pool metadata: chunk {first} is outside of the pool's data"))
                    })?;
                    if found.shared { Place::Shared(start) } else { Place::Own(start) }
                }
            };
            each(place, at..end)?;
            at = end;
        }
        Ok(())
    }

    /// Carries out a write: `own` for what may be written, with the bytes of the data and of the volume.
    fn change(
        &self,
        range: Range<u64>,
        is_zero: &dyn Fn(Range<u64>) -> bool,
        own: &mut dyn FnMut(u64, Range<u64>) -> Result<()>,
    ) -> Result<()> {
        self.visit(range, &mut |place, part| match place {
            Place::Own(at) => own(at, part),
            // It reads as zeros already.
            Place::Nothing if is_zero(part.clone()) => Ok(()),
            Place::Shared(_) => Err(self.refuse(part.start, "shares with a snapshot")),
            Place::Nothing => Err(self.refuse(part.start, "does not have yet")),
        })
    }

    fn refuse(&self, at: u64, why: &str) -> Error {
        let chunk = at / self.metadata.chunk;
        Error::unsupported(format!("lvm: byte {at} is in chunk {chunk}, which this thin volume {why}"))
            .hint("a chunk is given to a thin volume only by the running guest: change what is in files that are there, or do it inside the guest")
    }

    /// Bytes of the caller that are those of a part.
    fn slice(data: &[u8], offset: u64, part: Range<u64>) -> &[u8] {
        data.get((part.start - offset) as usize..(part.end - offset) as usize).unwrap_or_default()
    }

    fn write(&self, offset: u64, data: &[u8], write: &dyn Fn(u64, &[u8]) -> Result<()>) -> Result<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(Kind::Io)?;
        let zeros = |part| is_zero(Self::slice(data, offset, part));
        self.change(offset..end, &zeros, &mut |at, part| write(at, Self::slice(data, offset, part)))
    }
}

impl BlockDevice for Thin {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector(&self) -> u32 {
        self.data.sector()
    }
    fn read_only(&self) -> bool {
        self.data.read_only()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).ok_or(Kind::Io)?;
        self.visit(offset..end, &mut |place, part| {
            let buf =
                buf.get_mut((part.start - offset) as usize..(part.end - offset) as usize).ok_or(Kind::Internal)?;
            match place {
                Place::Own(at) | Place::Shared(at) => self.data.read_at(at, buf),
                Place::Nothing => {
                    buf.fill(0);
                    Ok(())
                }
            }
        })
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.write(offset, data, &|at, part| self.data.write_at(at, part))
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.write(offset, data, &|at, part| self.data.write_fresh(at, part))
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.change(range, &|_| true, &mut |at, part| self.data.zero(at..at + (part.end - part.start)))
    }
    fn holes(&self) -> bool {
        self.data.holes()
    }
    fn pieces(&self, range: Range<u64>, each: &mut dyn FnMut(DiskPiece) -> Result<()>) -> Result<()> {
        self.visit(range, &mut |place, part| match place {
            Place::Own(at) | Place::Shared(at) => self.data.pieces(at..at + (part.end - part.start), &mut |piece| {
                each(DiskPiece { at: part.start + (piece.at - at), ..piece })
            }),
            Place::Nothing => Ok(()),
        })
    }
    fn takes_fresh_within(&self, _: Range<u64>) -> bool {
        // The whole pool is asked, not each chunk: a "no" too many costs only speed.
        self.data.takes_fresh()
    }
}
