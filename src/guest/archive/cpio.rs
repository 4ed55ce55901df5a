//! cpio archives in the "new ASCII" form (SVR4's, without and with checksums), and initrds, which are made of them.
//!
//! A header is 110 characters: a magic (`070701`, with checksums `070702`) and thirteen fields of eight hex digits:
//! inode, mode, uid, gid, links, mtime, size, device major and minor, rdev major and minor, length of the name with its
//! NUL, checksum. Name and data are padded to four bytes; an entry `TRAILER!!!` ends the archive. An initrd is any
//! number of such archives, plain or compressed, with zero bytes between (the kernel's buffer-format.rst).

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};

use super::Compression;
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::fs::FileType;
use crate::guest::Guest;

const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
/// Longest name, as Linux has it, and room for those of other systems.
const NAME_MAX: u64 = 64 << 10;
/// Compressed archives inside of compressed archives.
const DEPTH_MAX: u32 = 4;

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpioEntry {
    /// As it stands in the archive.
    pub name: Vec<u8>,
    /// `st_mode`.
    pub mode: u32,
    /// Bytes of its data.
    pub size: u64,
}

impl CpioEntry {
    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        FileType::from_mode(self.mode) == Some(FileType::Regular)
    }
}

/// Whether an archive begins with these bytes.
pub fn is_cpio(start: &[u8]) -> bool {
    start.starts_with(b"070701") || start.starts_with(b"070702")
}

/// What is done with each entry and its data; answers whether to go on.
pub type EachEntry<'e> = &'e mut dyn FnMut(&CpioEntry, &mut dyn Read) -> Result<bool>;

/// Visits the entries of all archives of an initrd, in order; answers whether all were visited.
///
/// # Errors
/// What is no initrd, damage, what `each` says.
pub fn read_initrd(source: Box<dyn Read + '_>, each: EachEntry<'_>) -> Result<bool> {
    segments(source, each, 0)
}

fn segments(source: Box<dyn Read + '_>, each: EachEntry<'_>, depth: u32) -> Result<bool> {
    let mut source = Counted { reader: BufReader::with_capacity(1 << 16, source), at: 0 };
    let mut any = false;
    loop {
        let start = source.peek()?;
        if start.is_empty() {
            return match any || depth > 0 {
                true => Ok(true),
                false => Err(Error::corrupt("initrd: the file is empty")),
            };
        }
        if start[0] == 0 {
            source.byte()?;
            continue;
        }
        if is_cpio(start) {
            any = true;
            if !archive(&mut source, each)? {
                return Ok(false);
            }
            continue;
        }
        let compression = Compression::of(start);
        return match compression {
            Compression::None if any => Ok(true),
            Compression::None => Err(Error::new(Kind::Invalid, "this is no initrd: neither cpio nor compressed")),
            _ if depth == DEPTH_MAX => Err(Error::corrupt("initrd: too many compressions inside of each other")),
            known => segments(known.reader(Box::new(source))?, each, depth + 1),
        };
    }
}

/// A reader that knows how far it is, for padding.
struct Counted<R> {
    reader: BufReader<R>,
    at: u64,
}

impl<R: Read> Counted<R> {
    fn peek(&mut self) -> Result<&[u8]> {
        Ok(self.reader.fill_buf()?)
    }

    fn byte(&mut self) -> Result<()> {
        let mut byte = [0];
        Ok(self.read_exact(&mut byte)?)
    }

    fn pad(&mut self) -> Result<()> {
        while !self.at.is_multiple_of(4) {
            self.byte()?;
        }
        Ok(())
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buf)?;
        self.at += got as u64;
        Ok(got)
    }
}

fn field(header: &[u8; HEADER], index: usize) -> Result<u32> {
    let digits = &header[6 + index * 8..][..8];
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|text| u32::from_str_radix(text, 16).ok())
        .ok_or_else(|| Error::corrupt(format!("cpio: field {index} of a header is no number")))
}

/// One archive; answers whether to go on.
fn archive<R: Read>(source: &mut Counted<R>, each: EachEntry<'_>) -> Result<bool> {
    // Padding counts from where the archive begins.
    source.at = 0;
    loop {
        let mut header = [0; HEADER];
        source.read_exact(&mut header).map_err(|_| Error::corrupt("cpio: the archive is cut off"))?;
        if !is_cpio(&header) {
            return Err(Error::corrupt("cpio: an entry does not begin with 070701 or 070702"));
        }
        let (mode, size, length) = (field(&header, 1)?, u64::from(field(&header, 6)?), u64::from(field(&header, 11)?));
        if length == 0 || length > NAME_MAX {
            return Err(Error::corrupt(format!("cpio: a name of {length} bytes")));
        }
        let mut name = Vec::new();
        source.by_ref().take(length).read_to_end(&mut name)?;
        if name.pop() != Some(0) {
            return Err(Error::corrupt("cpio: a name without its end"));
        }
        source.pad()?;
        if name == TRAILER {
            return Ok(true);
        }
        let entry = CpioEntry { name, mode, size };
        let mut data = source.by_ref().take(size);
        let more = each(&entry, &mut data)?;
        if !more {
            return Ok(false);
        }
        io::copy(&mut data, &mut io::sink())?;
        if data.limit() > 0 {
            return Err(Error::corrupt("cpio: the archive is cut off"));
        }
        source.pad()?;
    }
}

/// Writes a guest tree as an archive; names are relative to `directory`, which is `.` itself.
///
/// # Errors
/// `Kind::FileTooBig` for a file of 4 GiB or more.
pub fn write_cpio(guest: &Guest, directory: &GuestPathBuf, out: &mut dyn Write, checksums: bool) -> Result<()> {
    let mut seen = HashSet::new();
    guest.walk(directory, &mut |entry| {
        guest.check_interrupt()?;
        let metadata = &entry.metadata;
        let path = if entry.path.is_empty() { directory.clone() } else { directory.join(&entry.path) };
        // Further names of a file have no data of their own.
        let first = metadata.links < 2 || seen.insert(entry.place);
        let link = match metadata.file_type {
            FileType::Symlink => guest.read_link(&path)?.0,
            _ => Vec::new(),
        };
        let size = match metadata.file_type {
            FileType::Regular if first => metadata.size,
            _ => link.len() as u64,
        };
        let sum = match metadata.file_type {
            FileType::Regular if checksums && first => sum_of(guest.reader(&path)?.as_mut())?,
            _ => 0,
        };
        let name: &[u8] = if entry.path.is_empty() { b"." } else { &entry.path };
        let fields = [
            metadata.inode,
            u64::from(metadata.file_type.mode_bits() | metadata.mode),
            metadata.uid.into(),
            metadata.gid.into(),
            metadata.links,
            u64::try_from(metadata.modified.seconds).unwrap_or(0),
            size,
            0,
            entry.place.fs as u64,
            metadata.device.0.into(),
            metadata.device.1.into(),
            name.len() as u64 + 1,
            sum,
        ];
        header(out, checksums, &fields, name).map_err(|e| e.at(&path))?;
        match metadata.file_type {
            FileType::Regular if first => {
                let copied = io::copy(&mut guest.reader(&path)?, out)?;
                if copied != size {
                    return Err(Error::new(Kind::Io, "the file ended early").at(&path));
                }
            }
            _ => out.write_all(&link)?,
        }
        out.write_all(&[0; 3][..(size.wrapping_neg() % 4) as usize])?;
        Ok(true)
    })?;
    let mut fields = [0; 13];
    (fields[4], fields[11]) = (1, TRAILER.len() as u64 + 1);
    header(out, checksums, &fields, TRAILER)
}

fn header(out: &mut dyn Write, checksums: bool, fields: &[u64; 13], name: &[u8]) -> Result<()> {
    let mut block = if checksums { b"070702".to_vec() } else { b"070701".to_vec() };
    for (index, value) in fields.iter().enumerate() {
        // Inode numbers and times only have to be there; a size must be right.
        if index == 6 && u32::try_from(*value).is_err() {
            return Err(Error::new(Kind::FileTooBig, "cpio holds files of less than 4 GiB").hint("use tar-out"));
        }
        block.extend_from_slice(format!("{:08x}", *value as u32).as_bytes());
    }
    block.extend_from_slice(name);
    block.push(0);
    while !block.len().is_multiple_of(4) {
        block.push(0);
    }
    Ok(out.write_all(&block)?)
}

/// The sum of all bytes, which is the checksum of the form that has one.
fn sum_of(reader: &mut dyn Read) -> Result<u64> {
    let (mut sum, mut buffer) = (0_u32, vec![0; 1 << 16]);
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(sum.into());
        }
        sum = buffer[..count].iter().fold(sum, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, data: &[u8]) -> Vec<u8> {
        let mut fields = [0; 13];
        (fields[1], fields[6], fields[11]) = (0o100644, data.len() as u64, name.len() as u64 + 1);
        let mut out = Vec::new();
        header(&mut out, false, &fields, name.as_bytes()).unwrap();
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn listed(bytes: &[u8]) -> Result<Vec<(String, usize)>> {
        let mut found = Vec::new();
        read_initrd(Box::new(bytes), &mut |entry, data| {
            let mut content = Vec::new();
            data.take(1 << 16).read_to_end(&mut content)?;
            found.push((String::from_utf8_lossy(&entry.name).into_owned(), content.len()));
            Ok(true)
        })?;
        Ok(found)
    }

    #[test]
    fn archives_one_after_the_other_the_last_compressed() {
        let plain = [entry("kernel/x86", b"12345"), entry("TRAILER!!!", b""), vec![0; 300]].concat();
        let mut packed = Vec::new();
        let mut encoder = Compression::Zstd.writer(Box::new(&mut packed), None).unwrap();
        encoder.write_all(&[entry("bin/sh", b"abc"), entry("TRAILER!!!", b"")].concat()).unwrap();
        encoder.finish().unwrap();
        let wanted = vec![("kernel/x86".to_string(), 5), ("bin/sh".to_string(), 3)];
        let whole = [plain, packed].concat();
        assert_eq!(listed(&whole).unwrap(), wanted);
        for cut in 0..whole.len() {
            let _ = listed(&whole[..cut]);
            let mut damaged = whole.clone();
            damaged[cut] = damaged[cut].wrapping_add(1);
            let _ = listed(&damaged);
        }
        assert!(listed(b"hello").is_err() && listed(b"").is_err());
    }
}
