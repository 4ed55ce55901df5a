//! The header of version 2: LUKS2 On-Disk Format Specification 1.1.1; binary fields big-endian, the rest JSON.

use super::kdf::{Hash, Kdf};
use super::{Digest, Header, KEY_MAX, MAGIC, SECTOR, STRIPES_MAX, Segment, Slot, bounded, text};
use crate::base::base64::Decoder;
use crate::base::bytes::{be16, be64};
use crate::base::json::Json;
use crate::base::{Error, Kind, Result};
use crate::disk::Device;

/// Bytes of the binary part (section 2.1).
const BINARY: u64 = 4096;
/// Sizes of a header with its JSON, and so the places of the second copy (section 2.1).
const SIZES: [u64; 9] = [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
/// What the second copy begins with.
const SECOND: &[u8] = b"SKUL\xba\xbe";
/// Where the checksum stands; it is counted as zeros.
const CHECKSUM: std::ops::Range<usize> = 448..512;
/// Key slots and digests that a header may have (`LUKS2_KEYSLOTS_MAX` of cryptsetup).
const SLOTS_MAX: usize = 32;

/// One copy that was found whole.
struct Copy {
    size: u64,
    sequence: u64,
    bytes: Vec<u8>,
}

/// Reads the newer of the copies that are whole; `None` if there is no trace of any.
pub fn read(device: &Device) -> Result<Option<Header>> {
    let first = copy(device, 0, MAGIC);
    let places: &[u64] = match &first {
        Ok(Some(first)) => &[first.size],
        _ => &SIZES,
    };
    let mut newest: Option<Copy> = None;
    let mut error = None;
    for found in std::iter::once(first).chain(places.iter().map(|at| copy(device, *at, SECOND))) {
        match found {
            Ok(Some(found)) if newest.as_ref().is_none_or(|newest| newest.sequence < found.sequence) => {
                newest = Some(found);
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::Unsupported) => error = error.or(Some(e)),
            Err(e) => return Err(e),
        }
    }
    match (newest, error) {
        (Some(copy), _) => header(&copy).map(Some),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

/// A copy of the header at a place, if its magic is there.
fn copy(device: &Device, at: u64, magic: &[u8]) -> Result<Option<Copy>> {
    if at.checked_add(BINARY).is_none_or(|end| end > device.len()) {
        return Ok(None);
    }
    let mut binary = vec![0; BINARY as usize];
    device.read_at(at, &mut binary)?;
    if !binary.starts_with(magic) || be16(&binary, 6) != 2 {
        return Ok(None);
    }
    let wrong = |what: &str| Error::corrupt(format!("luks: the header at byte {at}: {what}"));
    let size = be64(&binary, 8);
    if !SIZES.contains(&size) || be64(&binary, 256) != at {
        return Err(wrong("its size or place is not one that can be"));
    }
    if at.checked_add(size).is_none_or(|end| end > device.len()) {
        return Err(wrong("it ends after the device"));
    }
    let mut bytes = vec![0; size as usize];
    device.read_at(at, &mut bytes)?;
    let hash = Hash::from_name(&text(&bytes[72..104]))?;
    let sum = bytes[CHECKSUM].to_vec();
    bytes[CHECKSUM].fill(0);
    if !sum.starts_with(&hash.of(&[&bytes])) {
        return Err(wrong("the checksum is wrong"));
    }
    Ok(Some(Copy { size, sequence: be64(&binary, 16), bytes }))
}

fn header(copy: &Copy) -> Result<Header> {
    let area = copy.bytes.get(BINARY as usize..).unwrap_or_default();
    let end = area.iter().position(|byte| *byte == 0).unwrap_or(area.len());
    let area = std::str::from_utf8(area.get(..end).unwrap_or_default());
    let json =
        Json::parse(area.map_err(|_| Error::corrupt("luks: the JSON area is no UTF-8"))?, "luks: the JSON area")?;
    requirements(&json)?;
    let segment = segment(&json)?;
    let (digest, allowed) = digest(&json)?;
    let mut header = copy.size * 2;
    let mut slots = Vec::new();
    let all = json.get("keyslots").map(Json::pairs).unwrap_or_default();
    for (number, json) in all.iter().take(SLOTS_MAX) {
        let area = json.get("area");
        let area = area.and_then(|area| number_of(area, "offset").ok().zip(number_of(area, "size").ok()));
        header = header.max(area.map_or(0, |(offset, size)| offset.saturating_add(size)));
        // Priority 0: only for who asks for the slot by its number.
        if allowed.contains(&number.as_str()) && json.get("priority").and_then(Json::text) != Some("0") {
            slots.push(slot(json, &digest, copy.size * 2).map_err(|e| e.with(format!("key slot {number}"))));
        }
    }
    let segment = segment.check(header)?;
    Ok(Header { version: 2, uuid: text(&copy.bytes[168..208]), slots, segment })
}

/// Refuses what a program that does not know it must not touch (section 3.6).
fn requirements(json: &Json) -> Result<()> {
    let all = json.get("config").and_then(|config| config.get("requirements"));
    let Some(first) = all.and_then(|all| all.get("mandatory")).map(Json::items).unwrap_or_default().first() else {
        return Ok(());
    };
    let name = first.text().unwrap_or("?");
    Err(match name.contains("reencrypt") {
        true => Error::unsupported(format!("luks: the volume is being encrypted anew and that has not ended ({name})"))
            .hint("end it with cryptsetup reencrypt --resume-only first"),
        false => Error::unsupported(format!("luks: the header requires {name}, which is not known here")),
    })
}

/// The only segment (section 3.3).
fn segment(json: &Json) -> Result<Segment> {
    let all = json.get("segments").map(Json::pairs).unwrap_or_default();
    let [(_, json)] = all else {
        return Err(Error::unsupported(format!("luks: the volume has {} segments; one is known here", all.len())));
    };
    if let Some(integrity) = json.get("integrity") {
        let kind = integrity.get("type").and_then(Json::text).unwrap_or("?");
        return Err(Error::unsupported(format!("luks: volumes with integrity ({kind}) are not opened")));
    }
    match text_of(json, "type")? {
        "crypt" => {}
        other => return Err(Error::unsupported(format!("luks: a segment of type {other} is not known"))),
    }
    if let Some(flag) = json.get("flags").map(Json::items).unwrap_or_default().first() {
        return Err(Error::unsupported(format!("luks: a segment with the flag {}", flag.text().unwrap_or("?"))));
    }
    let sector = number_of(json, "sector_size")?;
    if ![512, 1024, 2048, 4096].contains(&sector) {
        return Err(Error::corrupt(format!("luks: encryption sectors of {sector} bytes")));
    }
    Ok(Segment {
        offset: number_of(json, "offset")?,
        len: match text_of(json, "size")? {
            "dynamic" => None,
            _ => Some(number_of(json, "size")?),
        },
        sector: sector as u32,
        tweak: number_of(json, "iv_tweak")?,
        cipher: text_of(json, "encryption")?.to_string(),
    })
}

/// The digest of the only segment's key, and the numbers of the key slots that hold this key (section 3.4).
fn digest(json: &Json) -> Result<(Digest, Vec<&str>)> {
    let segment = json.get("segments").map(Json::pairs).unwrap_or_default().first().map(|(number, _)| number.as_str());
    let names = |json: &Json, key: &str| -> Vec<String> {
        let items = json.get(key).map(Json::items).unwrap_or_default();
        items.iter().filter_map(|item| item.text().map(str::to_string)).collect()
    };
    let all = json.get("digests").map(Json::pairs).unwrap_or_default();
    let found =
        all.iter().find(|(_, digest)| names(digest, "segments").iter().any(|name| Some(name.as_str()) == segment));
    let Some((_, json)) = found else {
        return Err(Error::corrupt("luks: the volume's key has no digest"));
    };
    match text_of(json, "type")? {
        "pbkdf2" => {}
        other => return Err(Error::unsupported(format!("luks: a digest of type {other} is not known"))),
    }
    let value = bytes_of(json, "digest", 1..=KEY_MAX)?;
    let slots = json.get("keyslots").map(Json::items).unwrap_or_default();
    Ok((Digest { kdf: pbkdf2(json)?, value }, slots.iter().filter_map(Json::text).collect()))
}

/// A key slot (section 3.2); `header` is where the headers end.
fn slot(json: &Json, digest: &Digest, header: u64) -> Result<Slot> {
    let part = |key: &str| json.get(key).ok_or_else(|| missing(key));
    let (kdf, area, split) = (part("kdf")?, part("area")?, part("af")?);
    for (json, wanted) in [(json, "luks2"), (area, "raw"), (split, "luks1")] {
        let kind = text_of(json, "type")?;
        if kind != wanted {
            return Err(Error::unsupported(format!("luks: {kind} is not known, {wanted} is")));
        }
    }
    let slot = Slot {
        kdf: match text_of(kdf, "type")? {
            "pbkdf2" => pbkdf2(kdf)?,
            kind @ ("argon2i" | "argon2id") => Kdf::Argon2 {
                id: kind == "argon2id",
                time: number_of(kdf, "time")?,
                memory: number_of(kdf, "memory")?,
                lanes: number_of(kdf, "cpus")?,
                salt: bytes_of(kdf, "salt", 8..=KEY_MAX)?,
            },
            other => return Err(Error::unsupported(format!("luks: the key derivation {other} is not known"))),
        },
        offset: number_of(area, "offset")?,
        cipher: text_of(area, "encryption")?.to_string(),
        area_key: bounded("the key size", number_of(area, "key_size")?, 16..=KEY_MAX)?,
        key: bounded("the key size", number_of(json, "key_size")?, 16..=KEY_MAX)?,
        stripes: bounded("stripes", number_of(split, "stripes")?, 1..=STRIPES_MAX)?,
        split: Hash::from_name(text_of(split, "hash")?)?,
        digest: digest.clone(),
    };
    if slot.offset < header || !slot.offset.is_multiple_of(SECTOR) {
        return Err(Error::corrupt(format!("luks: a key slot at byte {}, inside the header", slot.offset)));
    }
    Ok(slot)
}

fn pbkdf2(json: &Json) -> Result<Kdf> {
    Ok(Kdf::Pbkdf2 {
        hash: Hash::from_name(text_of(json, "hash")?)?,
        iterations: number_of(json, "iterations")?,
        salt: bytes_of(json, "salt", 1..=KEY_MAX)?,
    })
}

fn missing(key: &str) -> Error {
    Error::corrupt(format!("luks: the JSON area has no {key} where one must be"))
}

fn text_of<'a>(json: &'a Json, key: &str) -> Result<&'a str> {
    json.get(key).and_then(Json::text).ok_or_else(|| missing(key))
}

fn number_of(json: &Json, key: &str) -> Result<u64> {
    let text = text_of(json, key)?;
    text.parse().map_err(|_| Error::corrupt(format!("luks: the {key} ‘{text}’ in the JSON area is no number")))
}

fn bytes_of(json: &Json, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut decoder = Decoder::default();
    let decoded = decoder.decode(text_of(json, key)?.as_bytes(), &mut bytes).and_then(|()| decoder.finish(&mut bytes));
    decoded.map_err(|e| Error::corrupt(format!("luks: the {key} in the JSON area: {}", e.detail())))?;
    bounded(&format!("bytes of the {key}:"), bytes.len() as u64, range)?;
    Ok(bytes)
}
