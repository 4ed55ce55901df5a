//! Directory records (ECMA-119, section 9.1) and their names without Rock Ridge.

use super::descriptor::short_date;
use crate::base::bytes::{be16, le32, u8_at};
use crate::base::{Error, Result, Timestamp};

/// Bytes before a record's name.
const NAME: usize = 33;

/// A directory record: a checked piece of a directory.
#[derive(Clone, Copy)]
pub struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, which must hold it wholly.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a length that does not fit.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let len = usize::from(u8_at(bytes, 0));
        let name = usize::from(u8_at(bytes, 32));
        match bytes.get(..len) {
            Some(record) if len > NAME && name > 0 && NAME + name <= len => Ok(Record(record)),
            _ => Err(Error::corrupt(format!("iso9660: a directory record of {len} bytes with a name of {name}"))),
        }
    }

    /// Bytes to the next record.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// First logical block of the data.
    pub fn block(&self) -> u64 {
        u64::from(le32(self.0, 2)) + u64::from(u8_at(self.0, 1))
    }

    /// Length of the data in bytes.
    pub fn data_len(&self) -> u64 {
        le32(self.0, 10).into()
    }

    /// When it was recorded.
    pub fn date(&self) -> Timestamp {
        short_date(self.0.get(18..25).unwrap_or_default()).unwrap_or_default()
    }

    fn flag(&self, bit: u8) -> bool {
        u8_at(self.0, 25) & 1 << bit != 0
    }

    /// A directory.
    pub fn is_dir(&self) -> bool {
        self.flag(1)
    }

    /// A second part of a file (resource fork), not a file of its own.
    pub fn is_associated(&self) -> bool {
        self.flag(2)
    }

    /// More records with the same name and further pieces of the data follow.
    pub fn continues(&self) -> bool {
        self.flag(7)
    }

    /// The data lies in interleaved pieces.
    pub fn is_interleaved(&self) -> bool {
        u8_at(self.0, 26) != 0 || u8_at(self.0, 27) != 0
    }

    /// The name as it is recorded.
    pub fn raw_name(&self) -> &'a [u8] {
        self.0.get(NAME..NAME + usize::from(u8_at(self.0, 32))).unwrap_or_default()
    }

    /// `.` and `..` are recorded as one byte.
    pub fn is_own(&self) -> bool {
        self.raw_name() == [0]
    }

    /// See [`Record::is_own`].
    pub fn is_parent(&self) -> bool {
        self.raw_name() == [1]
    }

    /// What follows the name: the System Use Sharing Protocol's entries.
    pub fn system_use(&self) -> &'a [u8] {
        // A byte makes the length of name and fields even.
        let start = (NAME + usize::from(u8_at(self.0, 32))).next_multiple_of(2);
        self.0.get(start..).unwrap_or_default()
    }
}

/// A plain name as Linux shows it (its `map=normal`): lower case, without the version and a bare dot.
pub fn plain_name(raw: &[u8]) -> Vec<u8> {
    let name = raw.strip_suffix(b";1").unwrap_or(raw);
    let name = if name.len() < raw.len() { name.strip_suffix(b".").unwrap_or(name) } else { name };
    name.iter().map(|b| if matches!(b, b';' | b'/') { b'.' } else { b.to_ascii_lowercase() }).collect()
}

/// A Joliet name: UCS-2, big-endian, as UTF-8, without the version and dots at the end.
pub fn joliet_name(raw: &[u8]) -> Vec<u8> {
    let units = (0..raw.len() / 2).map(|i| match be16(raw, i * 2) {
        unit if unit == u16::from(b'/') || unit == 0 => u16::from(b'_'),
        unit => unit,
    });
    let name: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let name = name.strip_suffix(";1").filter(|rest| !rest.is_empty()).unwrap_or(&name);
    let trimmed = name.trim_end_matches('.');
    if trimmed.is_empty() { name } else { trimmed }.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (raw, name) in [
            (&b"README.TXT;1"[..], &b"readme.txt"[..]),
            (b"MAKE.;1", b"make"),
            (b"DIR", b"dir"),
            (b"A;2", b"a.2"),
            (b"A.;2", b"a..2"),
        ] {
            assert_eq!(plain_name(raw), name);
        }
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        assert_eq!(joliet_name(&wide("Größe 日本.txt;1")), "Größe 日本.txt".as_bytes());
        assert_eq!(joliet_name(&wide("😀;1")), "😀".as_bytes());
        assert_eq!(joliet_name(&wide("a/b.")), b"a_b");
        assert_eq!(joliet_name(&[0xd8, 0, 0x41]), "\u{fffd}".as_bytes());
    }

    #[test]
    fn records_that_do_not_fit_are_refused() {
        let mut bytes = vec![0; 40];
        for (len, name) in [(0, 1), (33, 1), (34, 0), (34, 2), (41, 1), (255, 1)] {
            (bytes[0], bytes[32]) = (len, name);
            assert!(Record::parse(&bytes).is_err(), "{len} {name}");
        }
        (bytes[0], bytes[32]) = (40, 3);
        assert_eq!(Record::parse(&bytes).unwrap().system_use().len(), 4);
    }
}
