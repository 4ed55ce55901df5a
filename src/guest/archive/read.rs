//! A tar archive as a source.

use std::io::{self, Read};

use super::fields::{self, Block};
use super::{BLOCK, Compression};
use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp};
use crate::guest::transfer::{Entry, EntryKind, Source};

/// Largest pax header or GNU long name that is read into memory.
const EXTENSION_MAX: u64 = 4 << 20;
/// Most pieces of a sparse file.
const PIECES_MAX: usize = 1 << 20;

/// Extensions that hold for the next entry, or (`g`) for all that follow.
#[derive(Debug, Default, Clone)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<Timestamp>,
    accessed: Option<Timestamp>,
    xattrs: Vec<(Name, Vec<u8>)>,
    sparse: Sparse,
}

/// GNU's pax records of a sparse file, versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default, Clone)]
struct Sparse {
    /// Version 1.0: the map stands in front of the data.
    map_in_data: bool,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    pieces: Vec<(u64, u64)>,
    seen: bool,
}

/// A tar archive, read as it comes: memory does not grow with it.
pub struct TarSource<'r> {
    reader: Box<dyn Read + 'r>,
    /// Bytes read, for messages.
    offset: u64,
    /// Bytes of the last entry's data that were not asked for, with the padding to the next header.
    left: u64,
    padding: u64,
    global: Extensions,
    ended: bool,
}

impl<'r> TarSource<'r> {
    /// An archive from a stream.
    pub fn new(reader: Box<dyn Read + 'r>, compression: Compression) -> Result<Self> {
        let reader = compression.reader(reader)?;
        Ok(TarSource { reader, offset: 0, left: 0, padding: 0, global: Extensions::default(), ended: false })
    }

    fn cut_off(&self) -> Error {
        Error::corrupt(format!("tar: the archive ends after {} bytes, in the middle of an entry", self.offset))
    }

    /// One block, or `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let got = read_some(&mut self.reader, &mut block[filled..])?;
            if got == 0 && filled == 0 {
                return Ok(None);
            }
            if got == 0 {
                return Err(self.cut_off());
            }
            filled += got;
            self.offset += got as u64;
        }
        Ok(Some(block))
    }

    /// Reads over what is left of the last entry.
    fn skip(&mut self) -> Result<()> {
        let mut rest = self.left.checked_add(self.padding).ok_or_else(|| self.cut_off())?;
        let mut buf = [0; 16 << 10];
        while rest > 0 {
            let part = rest.min(buf.len() as u64) as usize;
            let got = read_some(&mut self.reader, &mut buf[..part])?;
            if got == 0 {
                return Err(self.cut_off());
            }
            rest -= got as u64;
            self.offset += got as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// Expects this many bytes of data after the header.
    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// The data of an extension header.
    fn extension(&mut self, size: u64, what: &str) -> Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(Error::corrupt(format!("tar: {what} of {size} bytes is over {EXTENSION_MAX}")));
        }
        self.expect(size);
        let mut data = Vec::new();
        Data { source: self }.read_to_end(&mut data)?;
        self.skip()?;
        Ok(data)
    }

    /// The next header with the extensions before it; `None` at the end.
    fn header(&mut self) -> Result<Option<(Block, Extensions)>> {
        let mut extensions = self.global.clone();
        let mut pending = false;
        loop {
            self.skip()?;
            let Some(block) = self.block()? else {
                return if pending { Err(self.cut_off()) } else { Ok(None) };
            };
            if block == [0; BLOCK] {
                return if pending { Err(self.cut_off()) } else { Ok(None) };
            }
            self.check(&block)?;
            let size = self.size_of(&block)?;
            match block[fields::TYPE] {
                b'L' => extensions.path = Some(until_nul(self.extension(size, "a long name")?)),
                b'K' => extensions.link = Some(until_nul(self.extension(size, "a long link name")?)),
                b'x' | b'X' => {
                    let records = self.extension(size, "a pax header")?;
                    extensions.add(&records)?;
                }
                b'g' => {
                    let records = self.extension(size, "a global pax header")?;
                    self.global.add(&records)?;
                    extensions.add(&records)?;
                    continue;
                }
                // The name of the archive.
                b'V' => {
                    self.expect(size);
                    continue;
                }
                _ => return Ok(Some((block, extensions))),
            }
            pending = true;
        }
    }

    fn check(&self, block: &Block) -> Result<()> {
        let wanted = fields::number(&block[fields::CHECKSUM], "the checksum").ok();
        let (unsigned, signed) = fields::checksums(block);
        if wanted == Some(unsigned) || wanted == Some(signed) {
            return Ok(());
        }
        let at = self.offset.saturating_sub(BLOCK as u64);
        let error = Error::corrupt(format!("tar: the header at byte {at} has a wrong checksum"));
        Err(if at == 0 {
            error.hint("this is no tar archive, or it is compressed: compress:gzip, compress:zstd")
        } else {
            error
        })
    }

    fn size_of(&self, block: &Block) -> Result<u64> {
        let size = fields::number(&block[fields::SIZE], "the size")?;
        u64::try_from(size).map_err(|_| Error::corrupt("tar: the size is negative"))
    }

    /// What follows a GNU sparse header: its map, from the header and the blocks after it.
    fn sparse_map(&mut self, block: &Block) -> Result<Sparse> {
        let mut sparse = Sparse { seen: true, ..Sparse::default() };
        let real = fields::number(&block[483..495], "the real size")?;
        sparse.real_size = Some(u64::try_from(real).map_err(|_| Error::corrupt("tar: the real size is negative"))?);
        sparse.add_pieces(&block[386..482])?;
        let mut more = block[482] != 0;
        while more {
            let block = self.block()?.ok_or_else(|| self.cut_off())?;
            sparse.add_pieces(&block[..504])?;
            more = block[504] != 0;
        }
        Ok(sparse)
    }

    /// The map in front of the data (version 1.0): decimal lines, the first with their number, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>> {
        let bad = || Error::corrupt("tar: the map of a sparse file is damaged");
        let mut text: Vec<u8> = Vec::new();
        let mut lines = text_lines(&text);
        while lines.is_none() {
            let before = self.left;
            if before < BLOCK as u64 || text.len() > PIECES_MAX * 40 {
                return Err(bad());
            }
            let block = self.block()?.ok_or_else(|| self.cut_off())?;
            self.left = before - BLOCK as u64;
            text.extend_from_slice(&block);
            lines = text_lines(&text);
        }
        let numbers = lines.ok_or_else(bad)?;
        let (pairs, rest) = numbers.get(1..).ok_or_else(bad)?.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(bad());
        }
        Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
    }
}

/// The numbers of a version 1.0 map if all its lines are there.
fn text_lines(text: &[u8]) -> Option<Vec<u64>> {
    let mut lines = text.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n"));
    let mut number = || decimal(lines.next()?.strip_suffix(b"\n")?);
    let count = usize::try_from(number()?).ok().filter(|c| *c <= PIECES_MAX)?;
    let mut numbers = vec![count as u64];
    for _ in 0..count * 2 {
        numbers.push(number()?);
    }
    Some(numbers)
}

/// Reads again when a signal came between.
fn read_some(reader: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buf) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
    bytes
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A pax time: seconds with a sign and a fraction of any length.
fn pax_time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some(Timestamp { seconds: seconds.checked_sub(1)?, nanos: 1_000_000_000 - nanos });
    }
    Some(Timestamp { seconds, nanos })
}

impl Extensions {
    /// Reads the records `LENGTH KEY=VALUE\n` of a pax header.
    fn add(&mut self, mut records: &[u8]) -> Result<()> {
        let bad = || Error::corrupt("tar: a record of a pax header is damaged");
        while !records.is_empty() {
            let blank = records.iter().take(20).position(|b| *b == b' ').ok_or_else(bad)?;
            let length = decimal(&records[..blank]).and_then(|l| usize::try_from(l).ok()).ok_or_else(bad)?;
            let record = records.get(blank + 1..length).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(bad)?;
            records = &records[length..];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            self.set(&record[..equals], &record[equals + 1..]).ok_or_else(|| {
                Error::corrupt(format!("tar: the pax value of {} is damaged", Name::from(&record[..equals])))
            })?;
        }
        Ok(())
    }

    /// Takes one record; `None` if its value makes no sense. Unknown keys do not matter to the content.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        // An empty value takes back what a global header said.
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = if given { Some(decimal(value)?) } else { None },
            b"uid" => self.uid = if given { Some(decimal(value)?.try_into().ok()?) } else { None },
            b"gid" => self.gid = if given { Some(decimal(value)?.try_into().ok()?) } else { None },
            b"mtime" => self.modified = if given { Some(pax_time(value)?) } else { None },
            b"atime" => self.accessed = if given { Some(pax_time(value)?) } else { None },
            b"GNU.sparse.major" => {
                self.sparse.seen = true;
                self.sparse.map_in_data = value == b"1";
            }
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.seen = true;
                self.sparse.real_size = Some(decimal(value)?);
            }
            b"GNU.sparse.offset" => self.sparse.pieces.push((decimal(value)?, 0)),
            b"GNU.sparse.numbytes" => self.sparse.pieces.last_mut()?.1 = decimal(value)?,
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> = value.split(|b| *b == b',').map(decimal).collect();
                let (pairs, rest) = numbers.as_deref()?.as_chunks::<2>();
                self.sparse.pieces = pairs.iter().map(|[offset, length]| (*offset, *length)).collect();
                return rest.is_empty().then_some(());
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(old, _)| &**old != name);
                    self.xattrs.push((Name::from(name), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

impl Sparse {
    /// Offsets and lengths of twelve bytes each; unused ones are empty.
    fn add_pieces(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks_exact(24).filter(|p| p[0] != 0) {
            let offset = fields::number(&piece[..12], "an offset")?;
            let length = fields::number(&piece[12..], "a length")?;
            match (u64::try_from(offset), u64::try_from(length)) {
                (Ok(offset), Ok(length)) if self.pieces.len() < PIECES_MAX => self.pieces.push((offset, length)),
                _ => return Err(Error::corrupt("tar: the map of a sparse file is damaged")),
            }
        }
        Ok(())
    }

    /// Pieces must ascend, lie in the file, and together be as long as the data.
    fn check(&self, real_size: u64, stored: u64) -> Result<()> {
        let (mut end, mut sum) = (0, 0_u64);
        for (offset, length) in &self.pieces {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= real_size);
            end = next.ok_or_else(|| Error::corrupt("tar: the map of a sparse file is out of order"))?;
            sum += length;
        }
        if sum != stored {
            return Err(Error::corrupt("tar: the map of a sparse file does not fit its data"));
        }
        Ok(())
    }
}

/// The data of the present entry.
struct Data<'a, 'r> {
    source: &'a mut TarSource<'r>,
}

impl Read for Data<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let source = &mut *self.source;
        let part = source.left.min(buf.len() as u64) as usize;
        if part == 0 {
            return Ok(0);
        }
        let got = read_some(&mut source.reader, &mut buf[..part])?;
        if got == 0 {
            return Err(source.cut_off().into());
        }
        source.left -= got as u64;
        source.offset += got as u64;
        Ok(got)
    }
}

/// A name as an entry's path: without slashes at its start, as tar strips them.
fn relative(path: &[u8]) -> Result<GuestPathBuf> {
    let path = GuestPathBuf(path.iter().copied().skip_while(|b| *b == b'/').collect());
    if path.components().any(|c| c == b"..") || path.contains(&0) {
        return Err(Error::new(
            Kind::Denied,
            format!("the archive has the name '{path}', which would leave the directory"),
        ));
    }
    Ok(GuestPathBuf(path.components().collect::<Vec<_>>().join(&b'/')))
}

/// An owner or permission field, or `what` is too large.
fn small(block: &Block, field: std::ops::Range<usize>, what: &str) -> Result<u32> {
    let value = fields::number(&block[field], what)?;
    u32::try_from(value).map_err(|_| Error::corrupt(format!("tar: {what} is out of range")))
}

/// The name in a header, with the prefix that ustar adds.
fn header_name(block: &Block) -> Vec<u8> {
    let name = fields::text(block, fields::NAME);
    let prefix = fields::text(block, fields::PREFIX);
    if &block[fields::MAGIC] == b"ustar\x0000" && !prefix.is_empty() {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

impl Source for TarSource<'_> {
    fn next(&mut self) -> Result<Option<Entry<'_>>> {
        if self.ended {
            return Ok(None);
        }
        let Some((block, extensions)) = self.header()? else {
            self.ended = true;
            // To the very end: it proves a compressed stream's checksum, and a pipe's writer is not cut off.
            while read_some(&mut self.reader, &mut [0; 16 << 10])? > 0 {}
            return Ok(None);
        };
        let stored = match extensions.size {
            Some(size) => size,
            None => self.size_of(&block)?,
        };
        let mut sparse = extensions.sparse;
        let name = sparse.name.take().or(extensions.path).unwrap_or_else(|| header_name(&block));
        let link = || relative(extensions.link.as_deref().unwrap_or_else(|| fields::text(&block, fields::LINK)));
        let device = || {
            Ok::<_, Error>((
                small(&block, fields::MAJOR, "the major number")?,
                small(&block, fields::MINOR, "the minor number")?,
            ))
        };
        let kind = match block[fields::TYPE] {
            // Archives older than ustar mark directories by a slash.
            0 | b'0' if name.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' => EntryKind::Regular(stored),
            b'1' => EntryKind::HardLink(link()?),
            b'2' => {
                let target = extensions.link.as_deref().unwrap_or_else(|| fields::text(&block, fields::LINK));
                EntryKind::Symlink(GuestPathBuf::from(target))
            }
            b'3' => device().map(|(major, minor)| EntryKind::CharDevice(major, minor))?,
            b'4' => device().map(|(major, minor)| EntryKind::BlockDevice(major, minor))?,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            // A directory with the names in it as data.
            b'D' => {
                self.expect(stored);
                self.skip()?;
                EntryKind::Directory
            }
            b'S' => {
                sparse = self.sparse_map(&block)?;
                EntryKind::Regular(stored)
            }
            other => {
                let name = GuestPathBuf(name);
                return Err(Error::unsupported(format!(
                    "tar: '{name}' has the unknown type '{}'",
                    other.escape_ascii()
                )));
            }
        };
        let mut entry = Entry {
            path: relative(&name)?,
            kind,
            mode: small(&block, fields::MODE, "the mode")? & 0o7777,
            uid: extensions.uid.map_or_else(|| small(&block, fields::UID, "the owner"), Ok)?,
            gid: extensions.gid.map_or_else(|| small(&block, fields::GID, "the group"), Ok)?,
            modified: match extensions.modified {
                Some(time) => time,
                None => Timestamp::from_seconds(fields::number(&block[fields::MTIME], "the time")?),
            },
            accessed: extensions.accessed,
            xattrs: extensions.xattrs,
            content: None,
            pieces: None,
        };
        if entry.kind == EntryKind::Regular(stored) {
            self.expect(stored);
            if sparse.seen {
                if sparse.map_in_data {
                    sparse.pieces = self.map_in_data()?;
                }
                let size = sparse.real_size.ok_or_else(|| Error::corrupt("tar: a sparse file has no real size"))?;
                sparse.check(size, self.left)?;
                entry.kind = EntryKind::Regular(size);
                let ranges = sparse.pieces.iter().map(|(offset, length)| *offset..offset + length);
                entry.pieces = Some(ranges.filter(|range| !range.is_empty()).collect());
            }
            entry.content = Some(Box::new(Data { source: self }));
        }
        Ok(Some(entry))
    }
}
