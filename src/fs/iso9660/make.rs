//! Makes small discs: files in one folder, with Rock Ridge and Joliet names. For seeds of cloud-init.
//!
//! Facts: ECMA-119 (descriptors 8.4, directory records 9.1, path tables 9.4), Joliet, SUSP and RRIP 1.12; `docs/formats/iso9660.md`.

use crate::base::{Error, Kind, Result, Timestamp};

const SECTOR: usize = 2048;
/// Sectors of the parts that come before the content.
const PRIMARY: usize = 16;
const JOLIET: usize = 17;
const END: usize = 18;
const TABLES: usize = 19;
const ROOT: usize = 23;
const EXTENSION: usize = 24;
const JOLIET_ROOT: usize = 25;
const CONTENT: usize = 26;
/// Largest file, in bytes.
const FILE_MAX: usize = 64 << 20;

/// A disc with these files, owned by root, mode 0444, at the time `now`. Names are ASCII letters, digits, dots, dashes and underscores.
///
/// # Errors
/// `Kind::NameTooLong` for a label of over 16 or a name of over 60 characters, `Kind::NoSpace` for folders of over one sector,
/// `Kind::FileTooBig` for files of over 64 MiB, `Kind::Invalid` for other characters.
pub fn flat(label: &str, files: &[(&str, &[u8])], now: Timestamp) -> Result<Vec<u8>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if label.len() > 16 || files.iter().any(|(name, _)| name.len() > 60 || name.is_empty()) {
        return Err(Kind::NameTooLong.into());
    }
    if !label.chars().all(plain) || files.iter().any(|(name, _)| !name.chars().all(plain)) {
        return Err(Error::new(Kind::Invalid, "names of a disc take letters, digits, dots, dashes and underscores"));
    }
    if files.iter().any(|(_, data)| data.len() > FILE_MAX) {
        return Err(Kind::FileTooBig.into());
    }
    let mut sorted: Vec<(&str, &[u8])> = files.to_vec();
    sorted.sort_by_key(|(name, _)| short_name(name));
    let mut at = CONTENT;
    let places: Vec<usize> = sorted
        .iter()
        .map(|(_, data)| {
            let place = at;
            at += data.len().div_ceil(SECTOR);
            place
        })
        .collect();
    let total = at;
    let mut disc = vec![0; total * SECTOR];
    let dates = Dates::new(now);
    put(&mut disc, PRIMARY, &descriptor(1, label.as_bytes(), total, ROOT, TABLES, &dates));
    put(&mut disc, JOLIET, &descriptor(2, &wide(label), total, JOLIET_ROOT, TABLES + 2, &dates));
    put(&mut disc, END, b"\xffCD001\x01");
    for (table, root) in [(TABLES, ROOT), (TABLES + 2, JOLIET_ROOT)] {
        put(&mut disc, table, &[&[1, 0][..], &le(root), &[1, 0, 0, 0]].concat());
        put(&mut disc, table + 1, &[&[1, 0][..], &be(root), &[0, 1, 0, 0]].concat());
    }
    // SUSP begins in the root's own record; ER, which is long, stands in a continuation.
    let extension = rock_ridge_reference();
    let begin = [&b"SP\x07\x01\xbe\xef\x00"[..], &continuation(extension.len()), &attributes(0o040_555, 2)].concat();
    let mut root = record(&[0], ROOT, SECTOR, true, &dates, &begin);
    root.extend(record(&[1], ROOT, SECTOR, true, &dates, &attributes(0o040_555, 2)));
    let mut joliet = record(&[0], JOLIET_ROOT, SECTOR, true, &dates, &[]);
    joliet.extend(record(&[1], JOLIET_ROOT, SECTOR, true, &dates, &[]));
    for ((name, data), place) in sorted.iter().zip(&places) {
        let long = [&b"NM"[..], &[5 + name.len() as u8, 1, 0], name.as_bytes(), &attributes(0o100_444, 1)].concat();
        root.extend(record(short_name(name).as_bytes(), *place, data.len(), false, &dates, &long));
        joliet.extend(record(&wide(name), *place, data.len(), false, &dates, &[]));
        put(&mut disc, *place, data);
    }
    if root.len() > SECTOR || joliet.len() > SECTOR {
        return Err(Error::new(Kind::NoSpace, "more files than one sector of folder holds"));
    }
    put(&mut disc, ROOT, &root);
    put(&mut disc, EXTENSION, &extension);
    put(&mut disc, JOLIET_ROOT, &joliet);
    Ok(disc)
}

fn put(disc: &mut [u8], sector: usize, bytes: &[u8]) {
    disc[sector * SECTOR..sector * SECTOR + bytes.len()].copy_from_slice(bytes);
}

/// Numbers of four and two bytes: little-endian, big-endian, and both after each other.
fn le(n: usize) -> [u8; 4] {
    (n as u32).to_le_bytes()
}

fn be(n: usize) -> [u8; 4] {
    (n as u32).to_be_bytes()
}

fn both(n: usize) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&le(n));
    bytes[4..].copy_from_slice(&be(n));
    bytes
}

/// Joliet's text: UCS-2, big-endian.
fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// The name that readers of plain ISO 9660 see.
fn short_name(name: &str) -> String {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let plain = |part: &str, most: usize| -> String {
        part.chars().take(most).map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    };
    format!("{}.{};1", plain(stem, 8), plain(end, 3))
}

/// The forms of a moment.
struct Dates {
    /// Of directory records: years since 1900, then one byte each, then the zone.
    record: [u8; 7],
    /// Of descriptors: digits, then the zone.
    long: Vec<u8>,
}

impl Dates {
    fn new(now: Timestamp) -> Self {
        let (year, month, day, hour, minute, second) = now.to_civil();
        let year = year.clamp(1900, 2155);
        let record = [(year - 1900) as u8, month as u8, day as u8, hour as u8, minute as u8, second as u8, 0];
        let digits = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00");
        Dates { record, long: [digits.as_bytes(), &[0]].concat() }
    }
}

fn descriptor(kind: u8, label: &[u8], total: usize, root: usize, tables: usize, dates: &Dates) -> Vec<u8> {
    let joliet = kind == 2;
    let mut bytes = vec![0; SECTOR];
    let blank = |bytes: &mut [u8]| {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = if joliet && at % 2 == 0 { 0 } else { b' ' };
        }
    };
    bytes[0] = kind;
    bytes[1..7].copy_from_slice(b"CD001\x01");
    blank(&mut bytes[8..40]);
    blank(&mut bytes[40..72]);
    bytes[40..40 + label.len()].copy_from_slice(label);
    bytes[80..88].copy_from_slice(&both(total));
    if joliet {
        // Level 3.
        bytes[88..91].copy_from_slice(b"%/E");
    }
    for at in [120, 124] {
        bytes[at..at + 4].copy_from_slice(&[1, 0, 0, 1]);
    }
    bytes[128..132].copy_from_slice(&[0, 8, 8, 0]);
    bytes[132..140].copy_from_slice(&both(10));
    bytes[140..144].copy_from_slice(&le(tables));
    bytes[148..152].copy_from_slice(&be(tables + 1));
    bytes[156..190].copy_from_slice(&record(&[0], root, SECTOR, true, dates, &[]));
    blank(&mut bytes[190..702]);
    blank(&mut bytes[702..813]);
    bytes[813..830].copy_from_slice(&dates.long);
    bytes[830..847].copy_from_slice(&dates.long);
    for at in [847, 864] {
        bytes[at..at + 16].copy_from_slice(&[b'0'; 16]);
    }
    bytes[881] = 1;
    bytes
}

/// A directory record with its system use area; both are padded to even lengths.
fn record(name: &[u8], place: usize, len: usize, folder: bool, dates: &Dates, system_use: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 33];
    bytes[2..10].copy_from_slice(&both(place));
    bytes[10..18].copy_from_slice(&both(len));
    bytes[18..25].copy_from_slice(&dates.record);
    bytes[25] = if folder { 2 } else { 0 };
    bytes[28..32].copy_from_slice(&[1, 0, 0, 1]);
    bytes[32] = name.len() as u8;
    bytes.extend_from_slice(name);
    for part in [&[][..], system_use] {
        bytes.extend_from_slice(part);
        if !bytes.len().is_multiple_of(2) {
            bytes.push(0);
        }
    }
    bytes[0] = bytes.len() as u8;
    bytes
}

/// PX: mode, links, owner, group.
fn attributes(mode: usize, links: usize) -> Vec<u8> {
    [&b"PX\x24\x01"[..], &both(mode), &both(links), &both(0), &both(0)].concat()
}

/// CE: where the extension reference stands.
fn continuation(len: usize) -> Vec<u8> {
    [&b"CE\x1c\x01"[..], &both(EXTENSION), &both(0), &both(len)].concat()
}

/// ER: that these system use entries are Rock Ridge's.
fn rock_ridge_reference() -> Vec<u8> {
    let id = b"RRIP_1991A";
    let text = b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";
    let source = b"SEE PUBLISHER FOR SPECIFICATION";
    let len = 8 + id.len() + text.len() + source.len();
    let lengths = [len as u8, 1, id.len() as u8, text.len() as u8, source.len() as u8, 1];
    [&b"ER"[..], &lengths, id, text, source].concat()
}
