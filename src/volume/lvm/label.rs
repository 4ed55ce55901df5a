//! The label of a physical volume: who it is and where its metadata areas are.

use super::id::Id;
use crate::base::bytes::{le32, le64, put_le32, put_le64};
use crate::base::{Error, Kind, Result};
use crate::disk::BlockDevice;

const SECTOR: usize = 512;
/// The label stands in one of the first four sectors; lvm writes it to the second.
const SECTORS: u64 = 4;
/// Where the physical volume's header is in the label's sector.
const HEADER: usize = 32;
/// Metadata areas are bounded, so that a damaged label cannot cost much.
const MAX_AREAS: usize = 8;
/// Extension flag: the physical volume belongs to a group.
const USED: u32 = 1;

/// A range of the device, in bytes. A length of 0 is "to the end".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First byte.
    pub start: u64,
    /// Length.
    pub len: u64,
}

/// A label that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The sector that it stands in.
    sector: u64,
    /// The physical volume.
    pub id: Id,
    /// Size of the device when the label was written, in bytes.
    pub size: u64,
    /// Where the extents are.
    pub data: Vec<Place>,
    /// Metadata areas.
    pub areas: Vec<Place>,
    /// Where the extension (version, flags) stands in the sector, if there is one.
    extension: Option<usize>,
}

/// LVM's checksum: CRC-32 with a start of its own, without the inversion at the end.
pub fn checksum(pieces: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(!0xf597_a6cf);
    pieces.iter().for_each(|piece| crc.update(piece));
    !crc.finalize()
}

/// A list of places that ends with an empty one; answers where it ends.
fn places(sector: &[u8], mut at: usize) -> Result<(Vec<Place>, usize)> {
    let mut found = Vec::new();
    loop {
        if at + 16 > sector.len() || found.len() > MAX_AREAS {
            return Err(Error::corrupt("lvm: label: a list of areas has no end"));
        }
        let place = Place { start: le64(sector, at), len: le64(sector, at + 8) };
        at += 16;
        if place.start == 0 {
            return Ok((found, at));
        }
        found.push(place);
    }
}

fn read_sector(device: &dyn BlockDevice, number: u64) -> Result<[u8; SECTOR]> {
    let mut sector = [0; SECTOR];
    device.read_at(number * SECTOR as u64, &mut sector)?;
    Ok(sector)
}

impl Label {
    /// Reads the label of a device; `None` if it has none.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a label with the right checksum that contradicts itself.
    pub fn read(device: &dyn BlockDevice) -> Result<Option<Self>> {
        for number in 0..SECTORS.min(device.len() / SECTOR as u64) {
            let sector = read_sector(device, number)?;
            let is_label = sector.starts_with(b"LABELONE")
                && le64(&sector, 8) == number
                && &sector[24..32] == b"LVM2 001"
                && le32(&sector, 16) == checksum(&[&sector[20..]]);
            if is_label {
                return Self::parse(number, &sector).map(Some);
            }
        }
        Ok(None)
    }

    fn parse(number: u64, sector: &[u8; SECTOR]) -> Result<Self> {
        let header = le32(sector, 20) as usize;
        let bad = |what: &str| Error::corrupt(format!("lvm: label: {what}"));
        let id = header.checked_add(32).and_then(|end| sector.get(header..end)).ok_or_else(|| bad("no header"))?;
        let id = Id::stored(id).ok_or_else(|| bad("the identifier has characters that none has"))?;
        let (data, at) = places(sector, header + 40)?;
        let (areas, at) = places(sector, at)?;
        // Labels before version 2.02.99 end here.
        let extension = (le32(sector, at) > 0).then_some(at);
        Ok(Label { sector: number, id, size: le64(sector, header + 32), data, areas, extension })
    }

    /// The label of a new physical volume: one metadata area from 4 KiB to the data at 1 MiB.
    pub fn new(id: Id, size: u64) -> Result<Self> {
        const AREA: Place = Place { start: 4096, len: (1 << 20) - 4096 };
        if size < 2 << 20 {
            return Err(Error::new(Kind::NoSpace, "lvm: a physical volume needs 2 MiB at least"));
        }
        let data = vec![Place { start: 1 << 20, len: 0 }];
        Ok(Label { sector: 1, id, size, data, areas: vec![AREA], extension: None })
    }

    /// Writes a new label.
    pub fn create(&self, device: &dyn BlockDevice) -> Result<()> {
        let mut sector = [0; SECTOR];
        sector[..8].copy_from_slice(b"LABELONE");
        put_le64(&mut sector, 8, self.sector);
        put_le32(&mut sector, 20, HEADER as u32);
        sector[24..32].copy_from_slice(b"LVM2 001");
        sector[HEADER..HEADER + 32].copy_from_slice(&self.id.0);
        put_le64(&mut sector, HEADER + 32, self.size);
        let mut at = HEADER + 40;
        for list in [&self.data, &self.areas] {
            for place in list {
                put_le64(&mut sector, at, place.start);
                put_le64(&mut sector, at + 8, place.len);
                at += 16;
            }
            at += 16;
        }
        // The extension: version 2, no flags, no boot loader areas.
        put_le32(&mut sector, at, 2);
        self.store(device, sector)
    }

    /// Says in the label whether the physical volume belongs to a group; labels without an extension do not.
    pub fn set_used(&self, device: &dyn BlockDevice, used: bool) -> Result<()> {
        let Some(at) = self.extension else { return Ok(()) };
        self.change(device, |sector| {
            let flags = le32(sector, at + 4);
            put_le32(sector, at + 4, if used { flags | USED } else { flags & !USED });
        })
    }

    /// Gives the physical volume another identifier.
    pub fn set_id(&self, device: &dyn BlockDevice, id: Id) -> Result<()> {
        self.change(device, |sector| {
            let at = le32(sector, 20) as usize;
            if let Some(place) = sector.get_mut(at..at + 32) {
                place.copy_from_slice(&id.0);
            }
        })
    }

    /// Says in the label how long the device is, in bytes.
    pub fn set_size(&self, device: &dyn BlockDevice, size: u64) -> Result<()> {
        self.change(device, |sector| {
            let at = le32(sector, 20) as usize + 32;
            if let Some(place) = sector.get_mut(at..at + 8) {
                place.copy_from_slice(&size.to_le_bytes());
            }
        })
    }

    /// Takes the label away.
    pub fn erase(&self, device: &dyn BlockDevice) -> Result<()> {
        let at = self.sector * SECTOR as u64;
        device.zero(at..at + SECTOR as u64)
    }

    fn change(&self, device: &dyn BlockDevice, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut sector = read_sector(device, self.sector)?;
        change(&mut sector);
        self.store(device, sector)
    }

    fn store(&self, device: &dyn BlockDevice, mut sector: [u8; SECTOR]) -> Result<()> {
        let crc = checksum(&[&sector[20..]]);
        put_le32(&mut sector, 16, crc);
        device.write_at(self.sector * SECTOR as u64, &sector)
    }
}
