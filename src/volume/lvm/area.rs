//! A metadata area: a header and a ring of texts, of which the header names the valid one.

use super::label::{Place, checksum};
use crate::base::bytes::{le32, le64, put_le32, put_le64};
use crate::base::{Error, Kind, Result};
use crate::disk::BlockDevice;

/// Bytes of the header, and with which the ring begins.
const HEADER: u64 = 512;
const MAGIC: &[u8; 16] = b" LVM2 x[5A%r0N*>";
/// Where the header names the texts: the valid one, then the one that is about to become valid.
const TEXTS: usize = 40;
/// Bytes of such a name.
const TEXT: usize = 24;
/// The area is not used: another one of the group has the text.
const IGNORED: u32 = 1;
/// Longest text that is read. lvm's own limit is the area's size, 1 MiB by default.
const MAX_TEXT: u64 = 16 << 20;

/// A metadata area whose header is whole.
#[derive(Debug, Clone)]
pub struct Area {
    place: Place,
    header: Vec<u8>,
}

impl Area {
    /// Reads the header.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a header without its magic or with a wrong checksum, `Kind::Io` outside the device.
    pub fn read(device: &dyn BlockDevice, place: Place) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(format!("lvm: metadata area at {}: {what}", place.start));
        let mut header = vec![0; HEADER as usize];
        device.read_at(place.start, &mut header)?;
        if header.get(4..20) != Some(MAGIC) || le32(&header, 20) != 1 {
            return Err(bad("no header"));
        }
        if le32(&header, 0) != checksum(&[&header[4..]]) {
            return Err(bad("the checksum of its header is wrong"));
        }
        if le64(&header, 24) != place.start || le64(&header, 32) != place.len {
            return Err(bad("its header tells another place than the label"));
        }
        if place.len <= HEADER || place.start.checked_add(place.len).is_none_or(|end| end > device.len()) {
            return Err(bad("it does not fit"));
        }
        Ok(Area { place, header })
    }

    /// Writes the header of a new, empty area.
    pub fn create(device: &dyn BlockDevice, place: Place) -> Result<()> {
        let mut header = vec![0; HEADER as usize];
        header[4..20].copy_from_slice(MAGIC);
        put_le32(&mut header, 20, 1);
        put_le64(&mut header, 24, place.start);
        put_le64(&mut header, 32, place.len);
        Area { place, header }.store(device)
    }

    /// Bytes that a new text may have.
    pub fn free(&self) -> u64 {
        ((self.place.len - HEADER) / 2).saturating_sub(self.text_len())
    }

    /// Whether the area is not used.
    pub fn is_ignored(&self) -> bool {
        le32(&self.header, TEXTS + 20) & IGNORED != 0
    }

    fn text_len(&self) -> u64 {
        le64(&self.header, TEXTS + 8)
    }

    /// The ring's pieces that `len` bytes at `offset` of the area are.
    fn pieces(&self, offset: u64, len: u64) -> [Place; 2] {
        let first = len.min(self.place.len - offset);
        [
            Place { start: self.place.start + offset, len: first },
            Place { start: self.place.start + HEADER, len: len - first },
        ]
    }

    /// The valid text; `None` if there is none.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a text outside the ring or with a wrong checksum.
    pub fn text(&self, device: &dyn BlockDevice) -> Result<Option<String>> {
        let (offset, len) = (le64(&self.header, TEXTS), self.text_len());
        if offset == 0 || len == 0 || self.is_ignored() {
            return Ok(None);
        }
        let bad = |what: &str| Error::corrupt(format!("lvm: metadata area at {}: {what}", self.place.start));
        if offset < HEADER || offset >= self.place.len || len > self.place.len - HEADER || len > MAX_TEXT {
            return Err(bad("its text is outside of it"));
        }
        let mut bytes = Vec::new();
        for piece in self.pieces(offset, len) {
            let from = bytes.len();
            bytes.resize(from + piece.len as usize, 0);
            device.read_at(piece.start, &mut bytes[from..])?;
        }
        if checksum(&[&bytes]) != le32(&self.header, TEXTS + 16) {
            return Err(bad("the checksum of its text is wrong"));
        }
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        String::from_utf8(bytes).map(Some).map_err(|_| bad("its text is not UTF-8"))
    }

    /// Makes a text the valid one: it goes behind the old one in the ring, then the header names it.
    ///
    /// # Errors
    /// `Kind::NoSpace` for a text that does not fit beside the old one.
    pub fn write(&mut self, device: &dyn BlockDevice, text: &str) -> Result<()> {
        let bytes = [text.as_bytes(), &[0]].concat();
        let (len, ring) = (bytes.len() as u64, self.place.len - HEADER);
        // Texts begin on sectors, as lvm has them; three of them are spare for rounding in a ring of any length.
        let old = self.text_len().min(ring);
        if old + len + 3 * HEADER > ring {
            return Err(Error::new(
                Kind::NoSpace,
                format!("lvm: a text of {len} bytes does not fit into the metadata area at {}", self.place.start),
            ));
        }
        let before = le64(&self.header, TEXTS);
        let offset = match before >= HEADER && before < self.place.len {
            true => HEADER + (before - HEADER + old).next_multiple_of(HEADER) % (ring / HEADER * HEADER),
            false => HEADER,
        };
        let [first, second] = self.pieces(offset, len);
        let (head, tail) = bytes.split_at(first.len as usize);
        device.write_at(first.start, head)?;
        if second.len > 0 {
            device.write_at(second.start, tail)?;
        }
        self.name(offset, len, checksum(&[&bytes]));
        self.store(device)
    }

    /// Makes the area empty: its text is no longer valid.
    pub fn clear(&mut self, device: &dyn BlockDevice) -> Result<()> {
        self.name(0, 0, 0);
        self.store(device)
    }

    /// Names the valid text in the header; flags stay, nothing is about to become valid.
    fn name(&mut self, offset: u64, len: u64, crc: u32) {
        put_le64(&mut self.header, TEXTS, offset);
        put_le64(&mut self.header, TEXTS + 8, len);
        put_le32(&mut self.header, TEXTS + 16, crc);
        if let Some(next) = self.header.get_mut(TEXTS + TEXT..TEXTS + 2 * TEXT) {
            next.fill(0);
        }
    }

    fn store(&self, device: &dyn BlockDevice) -> Result<()> {
        let mut header = self.header.clone();
        let crc = checksum(&[&header[4..]]);
        put_le32(&mut header, 0, crc);
        device.write_at(self.place.start, &header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::Memory;

    #[test]
    fn the_ring_goes_round() {
        let device = Memory::new(64 << 10);
        let place = Place { start: 4096, len: 16 << 10 };
        Area::create(&device, place).unwrap();
        let mut area = Area::read(&device, place).unwrap();
        assert_eq!(area.text(&device).unwrap(), None);
        let mut offsets = Vec::new();
        for round in 0..40usize {
            let text = format!("vg {{ seqno = {round} }} {}", "x".repeat(round * 97 % 3000));
            area.write(&device, &text).unwrap();
            let again = Area::read(&device, place).unwrap();
            assert_eq!(again.text(&device).unwrap().as_deref(), Some(text.as_str()));
            offsets.push(le64(&again.header, TEXTS));
            area = again;
        }
        assert!(offsets.iter().all(|offset| offset % 512 == 0 && (512..16 << 10).contains(offset)));
        assert!(!offsets.is_sorted(), "it never went round");
        // The old text is whole until the header names the new one.
        let before = Area::read(&device, place).unwrap();
        let (header, old) = (before.header.clone(), before.text(&device).unwrap());
        area.write(&device, &"y".repeat(9000)).unwrap();
        device.write_at(place.start, &header).unwrap();
        assert_eq!(Area::read(&device, place).unwrap().text(&device).unwrap(), old);
        assert_eq!(area.write(&device, &"y".repeat(9000)).unwrap_err().kind(), Kind::NoSpace);
        area.clear(&device).unwrap();
        assert_eq!(Area::read(&device, place).unwrap().text(&device).unwrap(), None);
    }

    #[test]
    fn damaged_areas_are_refused() {
        let device = Memory::new(64 << 10);
        let place = Place { start: 4096, len: 16 << 10 };
        Area::create(&device, place).unwrap();
        Area::read(&device, place).unwrap().write(&device, "vg { }").unwrap();
        assert!(Area::read(&device, Place { start: 4096, len: 32 << 10 }).is_err());
        assert!(Area::read(&device, Place { start: 63 << 10, len: u64::MAX }).is_err());
        assert!(Area::read(&device, Place { start: u64::MAX, len: 1024 }).is_err());
        let area = Area::read(&device, place).unwrap();
        device.write_at(4096 + 512 + 3, b"!").unwrap();
        assert_eq!(area.text(&device).unwrap_err().kind(), Kind::Corrupt);
        device.write_at(4096 + 60, b"!").unwrap();
        assert_eq!(Area::read(&device, place).unwrap_err().kind(), Kind::Corrupt);
        for (offset, len) in [(0u64, 5u64), (1, 5), (512, 1 << 20), (16 << 10, 5), (u64::MAX, u64::MAX)] {
            let mut area = area.clone();
            area.name(offset, len, 0);
            area.store(&device).unwrap();
            assert!(!matches!(Area::read(&device, place).unwrap().text(&device), Ok(Some(_))));
        }
    }
}
