//! Rock Ridge (IEEE P1282, version 1.12) over the System Use Sharing Protocol (IEEE P1281): POSIX attributes.

use super::descriptor::{SECTOR, long_date, short_date};
use crate::base::bytes::{le32, u8_at};
use crate::base::{Error, Result, Timestamp};
use crate::disk::BlockDevice;

/// Continuation areas that one record may have, as in Linux.
const MOST_AREAS: usize = 32;

/// What the entries of one record say.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// SP: bytes to skip in every other record's system use field.
    pub skip: Option<usize>,
    /// Whether any of Rock Ridge's own entries is there (ER, RR, PX).
    pub present: bool,
    /// NM: the name.
    pub name: Option<Vec<u8>>,
    /// PX: mode, links, user, group.
    pub posix: Option<[u32; 4]>,
    /// PN: major and minor number.
    pub device: Option<(u32, u32)>,
    /// SL: the target.
    pub target: Option<Vec<u8>>,
    /// A component of the target does not fit into its entry.
    pub broken_target: bool,
    /// TF: creation, modification, access, attribute change.
    pub times: [Option<Timestamp>; 4],
    /// CL: first block of a directory that was moved elsewhere because it lay too deep.
    pub moved_to: Option<u32>,
    /// RE: the record of a directory that was moved here; not shown.
    pub moved: bool,
    /// ZF: the content is compressed.
    pub compressed: bool,
}

/// A symbolic link's target, put together from components.
#[derive(Default)]
struct Target {
    bytes: Vec<u8>,
    /// Whether the next component needs a separator before it.
    separate: bool,
}

impl Target {
    /// Adds the components of one SL entry: flags, length, text.
    fn add(&mut self, mut components: &[u8]) -> Option<()> {
        const CONTINUES: u8 = 1;
        while let [flags, len, rest @ ..] = components {
            let text = rest.get(..usize::from(*len))?;
            components = &rest[text.len()..];
            if self.separate {
                self.bytes.push(b'/');
            }
            self.separate = flags & CONTINUES == 0;
            match flags & !CONTINUES {
                0 => self.bytes.extend_from_slice(text),
                2 => self.bytes.push(b'.'),
                4 => self.bytes.extend_from_slice(b".."),
                8 => {
                    self.bytes.push(b'/');
                    self.separate = false;
                }
                _ => return None,
            }
        }
        Some(())
    }
}

fn bad(what: &str) -> Error {
    Error::corrupt(format!("iso9660: Rock Ridge: {what}"))
}

/// Reads the entries of a system use field and of its continuation areas.
///
/// # Errors
/// `Kind::Corrupt` for entries that do not fit, continuation areas without end or outside the device.
pub fn read(device: &dyn BlockDevice, block_size: u64, system_use: &[u8]) -> Result<Attributes> {
    let mut found = Attributes::default();
    let mut target = None;
    let mut area = system_use.to_vec();
    for _ in 0..=MOST_AREAS {
        let mut next = None;
        let mut rest = area.as_slice();
        // Shorter than an entry's head, or zeros: padding.
        while u8_at(rest, 2) >= 4 {
            let entry = rest.get(..usize::from(rest[2])).ok_or_else(|| bad("an entry is longer than its field"))?;
            rest = &rest[entry.len()..];
            match &entry[..2] {
                b"ST" => break,
                b"CE" => next = Some((le32(entry, 4), le32(entry, 12), le32(entry, 20))),
                _ => found.take(entry, &mut target)?,
            }
        }
        let Some((block, offset, len)) = next else {
            found.target = target.map(|t| t.bytes);
            return Ok(found);
        };
        if u64::from(len) > SECTOR || u64::from(offset) >= SECTOR {
            return Err(bad(&format!("a continuation area of {len} bytes at {offset} of block {block}")));
        }
        area = vec![0; len as usize];
        device.read_at(u64::from(block) * block_size + u64::from(offset), &mut area)?;
    }
    Err(bad(&format!("more than {MOST_AREAS} continuation areas")))
}

impl Attributes {
    /// Takes one entry in.
    fn take(&mut self, entry: &[u8], target: &mut Option<Target>) -> Result<()> {
        let data = entry.get(4..).unwrap_or_default();
        match entry.get(..2).unwrap_or_default() {
            b"SP" if data.starts_with(&[0xbe, 0xef]) => self.skip = Some(u8_at(data, 2).into()),
            b"ER" | b"RR" => self.present = true,
            b"PX" => {
                self.present = true;
                if data.len() < 32 {
                    return Err(bad("a PX entry is too short"));
                }
                self.posix = Some([le32(data, 0), le32(data, 8), le32(data, 16), le32(data, 24)]);
            }
            b"PN" => {
                let (high, low) = (le32(data, 0), le32(data, 8));
                // Some writers put the whole 16-bit number into the low half.
                self.device = Some(if high == 0 && low > 0xff { (low >> 8, low & 0xff) } else { (high, low) });
            }
            b"NM" => {
                const CURRENT_OR_PARENT: u8 = 2 | 4;
                if u8_at(data, 0) & CURRENT_OR_PARENT == 0 {
                    self.name.get_or_insert_default().extend_from_slice(data.get(1..).unwrap_or_default());
                }
            }
            b"SL" => {
                let components = data.get(1..).unwrap_or_default();
                self.broken_target |= target.get_or_insert_default().add(components).is_none();
            }
            b"TF" => self.take_times(data),
            b"CL" => self.moved_to = Some(le32(data, 0)),
            b"RE" => self.moved = true,
            b"ZF" => self.compressed = true,
            _ => {}
        }
        Ok(())
    }

    /// The time stamps that a TF entry's flags name, in the order of the flags.
    fn take_times(&mut self, data: &[u8]) {
        const LONG: u8 = 0x80;
        let flags = u8_at(data, 0);
        let len = if flags & LONG == 0 { 7 } else { 17 };
        let mut stamps = data.get(1..).unwrap_or_default().chunks_exact(len);
        for (bit, time) in self.times.iter_mut().enumerate() {
            if flags & 1 << bit != 0 {
                *time = stamps.next().and_then(|s| if len == 7 { short_date(s) } else { long_date(s) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Kind;
    use crate::disk::memory::Memory;

    fn of(field: &[u8]) -> Result<Attributes> {
        read(&Memory::from(field.repeat(4096 / field.len() + 1)), 2048, field)
    }

    #[test]
    fn targets() {
        let target = |components: &[&[u8]]| {
            let data = components.concat();
            let entry = [b"SL".as_slice(), &[data.len() as u8 + 5, 1, 0], &data].concat();
            of(&entry).unwrap().target.map(|t| String::from_utf8(t).unwrap()).unwrap()
        };
        assert_eq!(target(&[&[8, 0], b"\0\x03usr", b"\0\x03bin"]), "/usr/bin");
        assert_eq!(target(&[&[4, 0], &[4, 0], &[2, 0], b"\x01\x02ab", b"\0\x01c"]), "../.././abc");
        assert_eq!(target(&[&[8, 0]]), "/");
    }

    #[test]
    fn areas_that_never_end_are_refused() {
        let mut entry = [b"CE\x1c\x01".as_slice(), &[0; 24]].concat();
        entry[20] = 28;
        assert_eq!(of(&entry).unwrap_err().kind(), Kind::Corrupt);
        entry[22] = 1;
        assert_eq!(of(&entry).unwrap_err().kind(), Kind::Corrupt);
        assert!(of(b"SL\x08\x01\0\0\x09a").unwrap().broken_target);
        assert_eq!(of(b"NM\x20\x01\0abc").unwrap_err().kind(), Kind::Corrupt);
        assert_eq!(of(b"NM\x08\x01\0abc").unwrap().name.as_deref(), Some(&b"abc"[..]));
    }
}
