//! A logical volume as a device: its bytes mapped to ranges of other devices.

use std::ops::Range;

use crate::base::{Error, Kind, Result};
use crate::disk::{BlockDevice, Device, DiskPiece, check_bounds};

/// Where a run of bytes is.
pub enum Target {
    /// At this byte of a device.
    Linear(Device, u64),
    /// In turns of `chunk` bytes on several devices, on each from a byte on.
    Striped {
        /// Bytes of a turn.
        chunk: u64,
        /// Devices and first bytes.
        legs: Vec<(Device, u64)>,
    },
    /// The same on all devices, from this byte on; the first one is read.
    Mirrored(Vec<Device>, u64),
}

/// A run of a volume's bytes.
pub struct Run {
    /// Bytes of the volume.
    pub range: Range<u64>,
    /// Where they are.
    pub target: Target,
}

/// The volume: runs in order, without gaps.
pub struct Mapped {
    runs: Vec<Run>,
    len: u64,
    /// Why it is not written.
    read_only: Option<String>,
}

/// A piece of an access: bytes of the device, and which of the caller's bytes they are.
type Piece<'a> = (&'a dyn BlockDevice, Range<u64>, Range<usize>);

impl Mapped {
    /// The volume of runs that follow each other from byte 0 on.
    pub fn new(runs: Vec<Run>, read_only: Option<String>) -> Self {
        let len = runs.last().map_or(0, |run| run.range.end);
        Mapped { runs, len, read_only }
    }

    /// All devices behind the runs.
    fn devices(&self) -> impl Iterator<Item = &Device> {
        self.runs.iter().flat_map(|run| match &run.target {
            Target::Linear(device, _) => std::slice::from_ref(device).iter().collect::<Vec<_>>(),
            Target::Striped { legs, .. } => legs.iter().map(|(device, _)| device).collect(),
            Target::Mirrored(devices, _) => devices.iter().collect(),
        })
    }

    /// Visits the pieces of a range of bytes; of a mirror all of them, or only the first.
    fn visit(&self, range: Range<u64>, all: bool, each: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        check_bounds(range.start, range.end.saturating_sub(range.start), self.len)?;
        let first = self.runs.partition_point(|run| run.range.end <= range.start);
        for run in self.runs.iter().skip(first).take_while(|run| run.range.start < range.end) {
            let (start, end) = (range.start.max(run.range.start), range.end.min(run.range.end));
            let place = |at: u64| (at - range.start) as usize;
            let inside = start - run.range.start..end - run.range.start;
            match &run.target {
                Target::Linear(device, at) => {
                    each((device.as_ref(), at + inside.start..at + inside.end, place(start)..place(end)))?;
                }
                Target::Mirrored(devices, at) => {
                    for device in devices.iter().take(if all { devices.len() } else { 1 }) {
                        each((device.as_ref(), at + inside.start..at + inside.end, place(start)..place(end)))?;
                    }
                }
                Target::Striped { chunk, legs } => {
                    let mut at = inside.start;
                    while at < inside.end {
                        let (turn, over) = (at / chunk, at % chunk);
                        let part = (chunk - over).min(inside.end - at);
                        let Some((device, from)) = legs.get((turn % legs.len() as u64) as usize) else { break };
                        let from = from + turn / legs.len() as u64 * chunk + over;
                        let here = place(run.range.start + at);
                        each((device.as_ref(), from..from + part, here..here + part as usize))?;
                        at += part;
                    }
                }
            }
        }
        Ok(())
    }

    fn may_write(&self) -> Result<()> {
        match &self.read_only {
            Some(why) => Err(Error::new(Kind::ReadOnly, format!("lvm: this volume is not written: {why}"))),
            None => Ok(()),
        }
    }
}

impl BlockDevice for Mapped {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector(&self) -> u32 {
        self.devices().map(|device| device.sector()).max().unwrap_or(512)
    }
    fn read_only(&self) -> bool {
        self.read_only.is_some() || self.devices().any(|device| device.read_only())
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).ok_or(Kind::Io)?;
        self.visit(offset..end, false, &mut |(device, range, here)| match buf.get_mut(here) {
            Some(part) => device.read_at(range.start, part),
            None => Err(Kind::Internal.into()),
        })
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.may_write()?;
        let end = offset.checked_add(data.len() as u64).ok_or(Kind::Io)?;
        self.visit(offset..end, true, &mut |(device, range, here)| {
            device.write_at(range.start, data.get(here).unwrap_or_default())
        })
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.may_write()?;
        let end = offset.checked_add(data.len() as u64).ok_or(Kind::Io)?;
        self.visit(offset..end, true, &mut |(device, range, here)| {
            device.write_fresh(range.start, data.get(here).unwrap_or_default())
        })
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.may_write()?;
        self.visit(range, true, &mut |(device, range, _)| device.zero(range))
    }
    fn holes(&self) -> bool {
        self.devices().all(|device| device.holes())
    }
    fn pieces(&self, range: Range<u64>, each: &mut dyn FnMut(DiskPiece) -> Result<()>) -> Result<()> {
        let start = range.start;
        self.visit(range, false, &mut |(device, below, here)| {
            let first = below.start;
            device.pieces(below, &mut |piece| {
                each(DiskPiece { at: start + here.start as u64 + (piece.at - first), ..piece })
            })
        })
    }
    fn takes_fresh_within(&self, range: Range<u64>) -> bool {
        // Whole legs of a stripe are asked, not each turn: a "no" too many costs only speed.
        self.runs.iter().filter(|run| run.range.start < range.end && range.start < run.range.end).all(|run| {
            let inside =
                range.start.max(run.range.start) - run.range.start..range.end.min(run.range.end) - run.range.start;
            match &run.target {
                Target::Linear(device, at) => device.takes_fresh_within(at + inside.start..at + inside.end),
                Target::Mirrored(devices, at) => {
                    devices.iter().all(|device| device.takes_fresh_within(at + inside.start..at + inside.end))
                }
                Target::Striped { chunk, legs } => {
                    let row = chunk.saturating_mul(legs.len() as u64).max(1);
                    let rows = inside.start / row * chunk..inside.end.div_ceil(row) * chunk;
                    legs.iter().all(|(device, at)| device.takes_fresh_within(at + rows.start..at + rows.end))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::memory::Memory;

    #[test]
    fn runs_of_all_kinds() {
        let disks: Vec<Arc<Memory>> = (0..3).map(|_| Arc::new(Memory::new(4096))).collect();
        let device = |i: usize| disks[i].clone() as Device;
        let runs = vec![
            Run { range: 0..1000, target: Target::Linear(device(0), 100) },
            Run {
                range: 1000..1600,
                target: Target::Striped { chunk: 100, legs: vec![(device(0), 2000), (device(1), 0)] },
            },
            Run { range: 1600..2000, target: Target::Mirrored(vec![device(1), device(2)], 1000) },
        ];
        let volume = Mapped::new(runs, None);
        let data: Vec<u8> = (0..2000u32).map(|i| ((i * 7) >> 2) as u8).collect();
        volume.write_at(0, &data).unwrap();
        let bytes: Vec<Vec<u8>> = disks.iter().map(|disk| disk.bytes()).collect();
        assert_eq!(bytes[0][100..1100], data[..1000]);
        assert_eq!(bytes[0][2000..2300], [&data[1000..1100], &data[1200..1300], &data[1400..1500]].concat());
        assert_eq!(bytes[1][..300], [&data[1100..1200], &data[1300..1400], &data[1500..1600]].concat());
        assert_eq!((&bytes[1][1000..1400], &bytes[2][1000..1400]), (&data[1600..], &data[1600..]));
        for (offset, len) in [(0, 2000), (999, 2), (1050, 600), (1999, 1), (2000, 0), (1150, 149)] {
            let mut read = vec![0; len];
            volume.read_at(offset as u64, &mut read).unwrap();
            assert_eq!(read, data[offset..offset + len]);
        }
        volume.zero(950..1750).unwrap();
        let mut read = vec![0; 2000];
        volume.read_at(0, &mut read).unwrap();
        assert_eq!(read, [&data[..950], &[0; 800], &data[1750..]].concat());
        assert_eq!(disks[2].bytes()[1000..1150], [0; 150]);
        assert!(volume.read_at(1999, &mut [0; 2]).is_err() && volume.read_at(u64::MAX, &mut [0; 2]).is_err());
        let fixed = Mapped::new(Vec::new(), Some("why".into()));
        assert_eq!(fixed.write_at(0, &[]).unwrap_err().kind(), Kind::ReadOnly);
        assert!(fixed.read_only());
    }
}
