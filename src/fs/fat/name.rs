//! Names: long ones in UTF-16, short ones of eight and three bytes (fatgen103 pages 26 to 33).

use super::boot::SLOT;
use crate::base::bytes::{le16, put_le16, u8_at};
use crate::base::{Error, Kind, Result, printable};

/// Longest name in UTF-16 units.
pub const MAX_UNITS: usize = 255;
/// UTF-16 units in one long-name slot.
pub const UNITS_PER_SLOT: usize = 13;
/// Attribute byte of a long-name slot.
pub const LONG: u8 = 0x0f;
/// The bits of the attribute byte that tell a long-name slot.
pub const LONG_MASK: u8 = 0x3f;

/// Lower-case bits that Windows NT and Linux keep in byte 12 of an entry.
const LOWER_BASE: u8 = 0x08;
const LOWER_EXTENSION: u8 = 0x10;

/// A volume label as FAT keeps it: eleven bytes. Small letters stay small, as mkfs.fat and fatlabel have it.
///
/// # Errors
/// `Kind::Invalid` for an empty label, a longer one and characters that labels may not have.
pub fn label(text: &[u8]) -> Result<[u8; 11]> {
    let bad = |why: &str| Err(Error::new(Kind::Invalid, format!("FAT label '{}': {why}", printable(text))));
    if text.trim_ascii().is_empty() || text.starts_with(b" ") {
        return bad("empty, or with a blank in front");
    }
    if text.len() > 11 {
        return bad("longer than eleven bytes");
    }
    if text.iter().any(|b| !(b' '..=b'~').contains(b) || b"\"*+,./:;<=>?[\\]|".contains(b)) {
        return bad("labels are ASCII without any of \"*+,./:;<=>?[\\]|");
    }
    let mut padded = [b' '; 11];
    padded[..text.len()].copy_from_slice(text);
    Ok(padded)
}

/// Where a long-name slot keeps its units: first place and number.
const UNIT_FIELDS: [(usize, usize); 3] = [(1, 5), (14, 6), (28, 2)];

/// The upper half of code page 437, which FAT's short names are read in by default.
const UPPER_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// A name fit for a new entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewName {
    /// UTF-16 units, 1 to 255.
    units: Vec<u16>,
    /// Stem of the short name: up to eight bytes.
    base: Vec<u8>,
    /// Extension of the short name: up to three bytes.
    extension: Vec<u8>,
    /// Whether stem and extension hold all of the name, but for its case.
    fits: bool,
    /// The lower-case bits, where they can hold the case of the whole name.
    case: Option<u8>,
}

/// Checks a name for a new entry.
///
/// # Errors
/// `Kind::Invalid` for bytes that are no UTF-8, for characters that FAT forbids and for a dot or space at
/// the end; `Kind::NameTooLong`.
pub fn check(name: &[u8]) -> Result<NewName> {
    let invalid = |why: &str| Err(Error::new(Kind::Invalid, format!("'{}': {why}", printable(name))));
    let Ok(text) = std::str::from_utf8(name) else {
        return invalid("a name on FAT must be valid UTF-8");
    };
    let units: Vec<u16> = text.encode_utf16().collect();
    if units.len() > MAX_UNITS {
        return Err(Kind::NameTooLong.into());
    }
    if text.is_empty() || text == "." || text == ".." {
        return invalid("not a name for a file");
    }
    if let Some(c) = text.chars().find(|c| *c < ' ' || "\"*/:<>?\\|\x7f".contains(*c)) {
        return invalid(&format!("FAT does not allow {c:?} in a name"));
    }
    if text.ends_with(['.', ' ']) {
        return invalid("a name on FAT cannot end in a dot or a space");
    }
    let (stem, rest) = match text.rfind('.') {
        Some(dot) if text[..dot].bytes().any(|b| b != b'.' && b != b' ') => (&text[..dot], &text[dot + 1..]),
        _ => (text, ""),
    };
    let (base, base_fits) = shorten(stem, 8);
    let (extension, extension_fits) = shorten(rest, 3);
    let fits = base_fits && extension_fits;
    let case = match (lower(stem), lower(rest)) {
        (Some(base), Some(extension)) if fits => {
            Some(if base { LOWER_BASE } else { 0 } | if extension { LOWER_EXTENSION } else { 0 })
        }
        _ => None,
    };
    Ok(NewName { units, base: if base.is_empty() { b"_".to_vec() } else { base }, extension, fits, case })
}

/// The bytes of a part of a short name, and whether nothing was lost but case.
fn shorten(part: &str, limit: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::with_capacity(limit);
    let mut fits = true;
    for c in part.chars() {
        if c == '.' || c == ' ' {
            fits = false;
            continue;
        }
        if bytes.len() == limit {
            return (bytes, false);
        }
        let plain = c.is_ascii_alphanumeric() || "!#$%&'()-@^_`{}~".contains(c);
        fits &= plain;
        bytes.push(if plain { c.to_ascii_uppercase() as u8 } else { b'_' });
    }
    (bytes, fits)
}

/// Whether the letters are all lower case; `None` if they are mixed.
fn lower(part: &str) -> Option<bool> {
    let (upper, lower) = (part.bytes().any(|b| b.is_ascii_uppercase()), part.bytes().any(|b| b.is_ascii_lowercase()));
    (!(upper && lower)).then_some(lower)
}

impl NewName {
    /// The slots of an entry with this name: long-name slots, then the short entry, which holds nothing but
    /// name and case. `taken` tells whether a short name is in use in the directory.
    ///
    /// # Errors
    /// `Kind::NoSpace` if no short name is left.
    pub fn slots(&self, taken: impl Fn(&[u8; 11]) -> bool) -> Result<Vec<u8>> {
        let plain = join(&self.base, &self.extension);
        let (short, case) = match self.case {
            Some(case) if !taken(&plain) => (plain, Some(case)),
            _ if self.fits && !taken(&plain) => (plain, None),
            _ => (self.numbered(&taken).ok_or(Kind::NoSpace)?, None),
        };
        let mut slots = Vec::new();
        if case.is_none() {
            let sum = checksum(&short);
            let count = self.units.len().div_ceil(UNITS_PER_SLOT);
            for number in (1..=count).rev() {
                let mut slot = [0; SLOT];
                slot[0] = number as u8 | if number == count { 0x40 } else { 0 };
                slot[11] = LONG;
                slot[13] = sum;
                let first = (number - 1) * UNITS_PER_SLOT;
                for (i, at) in unit_places().enumerate() {
                    // One NUL ends the name if there is room, 0xffff fills up.
                    let unit = match self.units.get(first + i) {
                        Some(unit) => *unit,
                        None if first + i == self.units.len() => 0,
                        None => 0xffff,
                    };
                    put_le16(&mut slot, at, unit);
                }
                slots.extend_from_slice(&slot);
            }
        }
        let mut entry = [0; SLOT];
        entry[..11].copy_from_slice(&short);
        entry[12] = case.unwrap_or(0);
        slots.extend_from_slice(&entry);
        Ok(slots)
    }

    /// A free short name with a tail: `NAME~1` to `~4`, then two bytes of the stem and a hash of the long
    /// name, so that thousands of like names do not search each other.
    fn numbered(&self, taken: &impl Fn(&[u8; 11]) -> bool) -> Option<[u8; 11]> {
        let tailed = |stem: &[u8], limit: usize, tail: &str| {
            let mut base = stem[..stem.len().min(limit).min(8 - tail.len())].to_vec();
            base.extend_from_slice(tail.as_bytes());
            join(&base, &self.extension)
        };
        let simple = (1..=4).map(|n| tailed(&self.base, 8, &format!("~{n}")));
        let hash = self.units.iter().fold(0x811c_9dc5u32, |h, u| (h ^ u32::from(*u)).wrapping_mul(0x0100_0193));
        let hashed = (0..0x1_0000u32).flat_map(|step| {
            let word = (hash >> 16 ^ hash).wrapping_add(step) & 0xffff;
            (1..=9).map(move |n| (word, n))
        });
        simple
            .chain(hashed.map(|(word, n)| tailed(&self.base, 2, &format!("{word:04X}~{n}"))))
            .find(|short| !taken(short))
    }
}

/// Stem and extension, padded with spaces.
fn join(base: &[u8], extension: &[u8]) -> [u8; 11] {
    let mut short = [b' '; 11];
    for (place, byte) in short.iter_mut().zip(base.iter().take(8)) {
        *place = *byte;
    }
    for (place, byte) in short.iter_mut().skip(8).zip(extension) {
        *place = *byte;
    }
    short
}

/// Places of the units of a long-name slot, in order.
fn unit_places() -> impl Iterator<Item = usize> {
    UNIT_FIELDS.into_iter().flat_map(|(at, count)| (0..count).map(move |i| at + i * 2))
}

/// The units of one long-name slot, in order.
pub fn units(slot: &[u8]) -> impl Iterator<Item = u16> {
    unit_places().map(|at| le16(slot, at))
}

/// The checksum that ties long-name slots to their short entry (fatgen103 page 28).
pub fn checksum(short: &[u8]) -> u8 {
    short.iter().take(11).fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The name in long-name units as UTF-8; `None` for what cannot be a name.
pub fn long(units: &[u16]) -> Option<Vec<u8>> {
    let end = units.iter().position(|u| *u == 0).unwrap_or(units.len());
    let text: String = char::decode_utf16(units[..end].iter().copied()).map(|c| c.unwrap_or('\u{fffd}')).collect();
    let usable = end <= MAX_UNITS && !matches!(text.as_str(), "" | "." | "..") && !text.contains('/');
    usable.then(|| text.into_bytes())
}

/// The name in a short entry as UTF-8, in the case that its lower-case bits tell.
pub fn short(entry: &[u8]) -> Vec<u8> {
    let case = u8_at(entry, 12);
    let mut text = String::new();
    for (from, to, lower) in [(0, 8, case & LOWER_BASE), (8, 11, case & LOWER_EXTENSION)] {
        let part = entry.get(from..to).unwrap_or_default();
        let end = part.iter().rposition(|b| *b != b' ').map_or(0, |last| last + 1);
        if from == 8 && end > 0 {
            text.push('.');
        }
        for (i, byte) in part[..end].iter().enumerate() {
            let c = match byte {
                // 0x05 stands for 0xe5, which would mark the entry as deleted.
                0x05 if from == 0 && i == 0 => 'σ',
                0..=0x1f | b'/' | 0x7f => '_',
                0x20..=0x7e => *byte as char,
                _ => UPPER_437.chars().nth(usize::from(byte - 0x80)).unwrap_or('_'),
            };
            text.push(if lower != 0 { c.to_ascii_lowercase() } else { c });
        }
    }
    match text.as_str() {
        "" | "." | ".." => b"_".to_vec(),
        _ => text.into_bytes(),
    }
}

/// The form in which names are compared: without case, character by character.
pub fn folded(name: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(name) else { return name.to_vec() };
    let mut out = String::with_capacity(name.len());
    for c in text.chars() {
        let mut upper = c.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(one), None) => out.push(one),
            _ => out.push(c),
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(name: &str, taken: &[&[u8; 11]]) -> Vec<u8> {
        check(name.as_bytes()).unwrap().slots(|s| taken.contains(&s)).unwrap()
    }

    #[test]
    fn plain_names_take_one_slot() {
        for (name, want, case) in [
            ("README.TXT", b"README  TXT", 0),
            ("readme.txt", b"README  TXT", 0x18),
            ("grub.CFG", b"GRUB    CFG", 0x08),
            ("EFI", b"EFI        ", 0),
            ("bootx64.efi", b"BOOTX64 EFI", 0x18),
        ] {
            let entry = slots(name, &[]);
            assert_eq!((entry.len(), &entry[..11], entry[12]), (32, want.as_slice(), case), "{name}");
            assert_eq!(short(&entry), name.as_bytes());
        }
    }

    #[test]
    fn long_names_come_back() {
        let long_name = format!("{}.tar.gz", "x".repeat(240));
        for (name, want) in [
            ("ReadMe.txt", b"README  TXT".as_slice()),
            ("a b.c", b"AB~1    C  "),
            (".profile", b"PROFIL~1   "),
            ("привет.txt", b"______~1TXT"),
            ("смех😀", b"_____~1    "),
            ("exactlythirt.", b""),
            ("thirteen char", b"THIRTE~1   "),
            (long_name.as_str(), b"XXXXXX~1GZ "),
        ] {
            if want.is_empty() {
                assert_eq!(check(name.as_bytes()).unwrap_err().kind(), Kind::Invalid);
                continue;
            }
            let all = slots(name, &[]);
            let (head, entry) = all.split_at(all.len() - SLOT);
            assert_eq!(&entry[..11], want, "{name}");
            let mut found: Vec<u16> = Vec::new();
            for slot in head.chunks(SLOT).rev() {
                assert_eq!(slot[13], checksum(entry));
                found.extend(units(slot));
            }
            assert_eq!(long(&found).unwrap(), name.as_bytes());
        }
    }

    #[test]
    fn tails_are_unique() {
        let mut seen: Vec<[u8; 11]> = Vec::new();
        for number in 0..500 {
            let all =
                check(format!("long file name {number}").as_bytes()).unwrap().slots(|s| seen.contains(s)).unwrap();
            let short: [u8; 11] = all[all.len() - SLOT..][..11].try_into().unwrap();
            assert!(!seen.contains(&short));
            seen.push(short);
        }
        assert_eq!(&seen[4][6..8], b"~1");
        // A plain name whose short form is another's alias gets a tail and its long name.
        assert_eq!(slots("LONGFI~1", &[b"LONGFI~1   "]).len(), 64);
    }

    #[test]
    fn refused_names() {
        for name in [&b"a:b"[..], b"a/b", b"tab\t", b"end.", b"end ", b"..", b"", b"\xff"] {
            assert_eq!(check(name).unwrap_err().kind(), Kind::Invalid, "{name:?}");
        }
        assert!(check("я".repeat(255).as_bytes()).is_ok());
        assert_eq!(check("😀".repeat(128).as_bytes()).unwrap_err().kind(), Kind::NameTooLong);
    }

    #[test]
    fn hostile_names_are_harmless() {
        assert_eq!(short(b"../../ETCPA\0"), b"../../ET.CPA".map(|b| if b == b'/' { b'_' } else { b }));
        assert_eq!(short(b"..         \0"), b"_");
        assert_eq!(long(&[b'.' as u16, b'.' as u16, 0]), None);
        assert_eq!(long(&[b'a' as u16, b'/' as u16]), None);
        assert_eq!(UPPER_437.chars().count(), 128);
        assert_eq!(folded("Straße ПРИвет".as_bytes()), folded("sTRAßE приВЕТ".as_bytes()));
    }
}
