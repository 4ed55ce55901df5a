//! Volume descriptors (ECMA-119, section 8) and the two forms of dates (8.4.26.1 and 9.1.5).

use crate::base::bytes::{be16, le16, le32, u8_at};
use crate::base::{Error, Result, Timestamp};
use crate::disk::BlockDevice;

/// Descriptors stand in sectors of this size, whatever the logical block size is.
pub const SECTOR: u64 = 2048;
/// Where the first descriptor is.
pub const FIRST: u64 = 16 * SECTOR;
/// Descriptors that are looked at; real sets have less than ten.
const MOST: u64 = 64;

/// A primary or supplementary volume descriptor.
#[derive(Clone)]
pub struct Descriptor(Box<[u8; SECTOR as usize]>);

/// The descriptors that matter.
pub struct Set {
    /// The primary one.
    pub primary: Descriptor,
    /// The supplementary one whose names are Unicode (Joliet specification, section 3).
    pub joliet: Option<Descriptor>,
}

impl Set {
    /// Reads the descriptors; `None` if the device does not begin with a primary one, or if it is (also) UDF,
    /// which then counts as UDF.
    pub fn read(device: &dyn BlockDevice) -> Result<Option<Self>> {
        let (mut primary, mut joliet) = (None, None);
        for number in 0..MOST {
            let at = FIRST + number * SECTOR;
            if at + SECTOR > device.len() {
                break;
            }
            let mut bytes = Box::new([0; SECTOR as usize]);
            device.read_at(at, bytes.as_mut_slice())?;
            match &bytes[1..6] {
                b"NSR02" | b"NSR03" => return Ok(None),
                b"CD001" => {}
                // Boot and extended-area descriptors (ECMA-167, part 2) stand between ISO's and UDF's.
                b"BEA01" | b"BOOT2" | b"CDW02" => continue,
                _ => break,
            }
            let found = Descriptor(bytes);
            match found.0[0] {
                1 if primary.is_none() => primary = Some(found),
                2 if joliet.is_none() && found.is_joliet() => joliet = Some(found),
                _ => {}
            }
        }
        Ok(primary.map(|primary| Set { primary, joliet }))
    }
}

impl Descriptor {
    /// Reads the primary descriptor's sector; `None` if it is none.
    pub fn primary(sector: &[u8]) -> Option<Self> {
        let bytes: [u8; SECTOR as usize] = sector.try_into().ok()?;
        bytes.starts_with(b"\x01CD001").then(|| Descriptor(Box::new(bytes)))
    }

    /// Whether the escape sequences say UCS-2, level 1, 2 or 3.
    fn is_joliet(&self) -> bool {
        let escapes = &self.0[88..120];
        [b"%/@", b"%/C", b"%/E"].iter().any(|level| escapes.windows(3).any(|w| w == *level))
    }

    /// A field of characters, without the blanks and NULs that pad it.
    fn text(&self, at: usize, len: usize) -> String {
        let field = self.0.get(at..at + len).unwrap_or_default();
        let end = field.iter().rposition(|b| !matches!(b, b' ' | 0)).map_or(0, |last| last + 1);
        String::from_utf8_lossy(&field[..end]).into_owned()
    }

    /// The system that the boot area is for.
    pub fn system(&self) -> String {
        self.text(8, 32)
    }

    /// The volume's name as ASCII.
    pub fn volume(&self) -> String {
        self.text(40, 32)
    }

    /// The volume's name as UCS-2, of a Joliet descriptor. It has room for half as many characters: where it is what
    /// the primary descriptor says (but for `_`, which stands for what is not ASCII), the rest comes from there.
    pub fn volume_unicode(&self, primary: &Descriptor) -> String {
        let mut units: Vec<u16> = (40..72).step_by(2).map(|at| be16(&self.0[..], at)).collect();
        let (start, rest) = primary.0[40..72].split_at(units.len());
        if start.iter().zip(&units).all(|(ascii, unit)| *ascii == b'_' || u16::from(*ascii) == *unit) {
            units.extend(rest.iter().map(|b| u16::from(*b)));
        }
        let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
        String::from_utf16_lossy(&units[..end]).trim_end().to_string()
    }

    /// Number of logical blocks.
    pub fn blocks(&self) -> u32 {
        le32(&self.0[..], 80)
    }

    /// Number of volumes of the set.
    pub fn set_size(&self) -> u16 {
        le16(&self.0[..], 120)
    }

    /// Number of this volume in the set.
    pub fn sequence_number(&self) -> u16 {
        le16(&self.0[..], 124)
    }

    /// Logical block size as it stands there.
    pub fn raw_block_size(&self) -> u16 {
        le16(&self.0[..], 128)
    }

    /// Logical block size in bytes.
    ///
    /// # Errors
    /// `Kind::Corrupt` for one that is not 512, 1024 or 2048.
    pub fn block_size(&self) -> Result<u64> {
        match self.raw_block_size() {
            size @ (512 | 1024 | 2048) => Ok(size.into()),
            size => Err(Error::corrupt(format!("iso9660: volume descriptor: logical block size {size}"))),
        }
    }

    /// The root's directory record.
    pub fn root(&self) -> &[u8] {
        &self.0[156..190]
    }

    /// The set's name.
    pub fn set(&self) -> String {
        self.text(190, 128)
    }

    /// Publisher.
    pub fn publisher(&self) -> String {
        self.text(318, 128)
    }

    /// Who prepared the data.
    pub fn preparer(&self) -> String {
        self.text(446, 128)
    }

    /// The program.
    pub fn application(&self) -> String {
        self.text(574, 128)
    }

    /// File with the copyright.
    pub fn copyright_file(&self) -> String {
        self.text(702, 37)
    }

    /// File with the abstract.
    pub fn abstract_file(&self) -> String {
        self.text(739, 37)
    }

    /// File with the bibliography.
    pub fn bibliographic_file(&self) -> String {
        self.text(776, 37)
    }

    /// When the volume was made.
    pub fn created(&self) -> Option<Timestamp> {
        long_date(&self.0[813..830])
    }

    /// When it was changed.
    pub fn modified(&self) -> Option<Timestamp> {
        long_date(&self.0[830..847])
    }

    /// When it is out of date.
    pub fn expires(&self) -> Option<Timestamp> {
        long_date(&self.0[847..864])
    }

    /// When it may be used.
    pub fn effective(&self) -> Option<Timestamp> {
        long_date(&self.0[864..881])
    }

    /// What blkid prints for a UUID: the digits of the modification time, else of the creation time.
    pub fn uuid(&self) -> String {
        let stamp = [&self.0[830..846], &self.0[813..829]]
            .into_iter()
            .find(|digits| digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|d| *d != b'0'));
        let Some(digits) = stamp else { return String::new() };
        let (year, rest) = digits.split_at(4);
        let pairs: Vec<_> = [year].into_iter().chain(rest.chunks(2)).map(String::from_utf8_lossy).collect();
        pairs.join("-")
    }
}

/// A civil date with the offset from UTC in quarters of an hour; `None` if it is no date.
fn moment(year: i64, rest: [u32; 5], offset: u8) -> Option<Timestamp> {
    let [month, day, hour, minute, second] = rest;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut found = Timestamp::from_civil(year, month, day, hour, minute, second);
    let offset = i64::from(offset as i8);
    // 9.1.5: from -48 to 52; others count as none, as in Linux.
    if (-48..=52).contains(&offset) {
        found.seconds -= offset * 15 * 60;
    }
    Some(found)
}

/// The seven bytes of a directory record's date.
pub fn short_date(bytes: &[u8]) -> Option<Timestamp> {
    let part = |i: usize| u32::from(u8_at(bytes, i));
    moment(1900 + i64::from(part(0)), [part(1), part(2), part(3), part(4), part(5)], u8_at(bytes, 6))
}

/// The seventeen bytes of a descriptor's date: sixteen digits and the offset. `None` if it is not given.
pub fn long_date(bytes: &[u8]) -> Option<Timestamp> {
    let digits = bytes.get(..16).filter(|d| d.iter().all(u8::is_ascii_digit))?;
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |n, d| n * 10 + u32::from(d - b'0'));
    let rest = [number(4, 6), number(6, 8), number(8, 10), number(10, 12), number(12, 14)];
    let mut found = moment(number(0, 4).into(), rest, u8_at(bytes, 16))?;
    found.nanos = number(14, 16) * 10_000_000;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(short_date(&[123, 11, 14, 22, 13, 20, 0]), Some(Timestamp::from_seconds(1_700_000_000)));
        assert_eq!(short_date(&[123, 11, 14, 22, 13, 20, 4]), Some(Timestamp::from_seconds(1_699_996_400)));
        assert_eq!(short_date(&[123, 11, 14, 22, 13, 20, 0xfc]), Some(Timestamp::from_seconds(1_700_003_600)));
        assert_eq!(short_date(&[0; 7]), None);
        let stamp = Timestamp { seconds: 1_700_000_000, nanos: 250_000_000 };
        assert_eq!(long_date(b"2023111422132025\0"), Some(stamp));
        assert_eq!(long_date(b"0000000000000000\0"), None);
        assert_eq!(long_date(b"2023"), None);
    }
}
