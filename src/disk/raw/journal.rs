//! The redo journal of a raw image: what a commit is about to write, on disk before the image is touched.
//!
//! The format is ours; `docs/formats/raw-journal.md` has the byte tables.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use super::{Place, Storage};
use crate::base::bytes::{le32, le64, put_le32, put_le64};
use crate::base::{Error, Kind, Result, progress};
use crate::disk::{Change, Changes};

const MAGIC: &[u8; 8] = b"IMGSHLOG";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const RECORD: usize = 32;
const SECTOR: u64 = 512;
/// Longest record: what is held in memory at once.
const RECORD_MAX: u64 = 1 << 20;

const DATA: u32 = 1;
const ZERO: u32 = 2;
const COMMIT: u32 = 3;

/// One record of a valid journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Bytes of the image.
    pub range: Range<u64>,
    /// Where the new bytes stand in the journal; `None` for zeros.
    data: Option<u64>,
    /// Where the checksums stand in the journal.
    sums: u64,
}

/// The parts of a range between sector borders.
fn sectors(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let Range { mut start, end } = *range;
    std::iter::from_fn(move || {
        let next = (start / SECTOR + 1).saturating_mul(SECTOR).min(end);
        (start < end).then(|| std::mem::replace(&mut start, next)..next)
    })
}

fn sector_count(range: &Range<u64>) -> u64 {
    range.end.div_ceil(SECTOR) - range.start / SECTOR
}

/// The checksum of every sector of `bytes`, which are at `range`.
fn sums<'a>(range: &Range<u64>, bytes: &'a [u8]) -> impl Iterator<Item = u32> + use<'a> {
    let start = range.start;
    sectors(range).map(move |s| {
        let part = (s.start - start) as usize..(s.end - start) as usize;
        crc32c::crc32c(bytes.get(part).unwrap_or_default())
    })
}

/// Writes records one after another.
struct Writer {
    file: Box<dyn Storage>,
    at: u64,
    crc: u32,
    records: u64,
    id: [u8; 16],
}

impl Writer {
    fn new(file: Box<dyn Storage>, image_len: u64) -> Result<Self> {
        // Random enough to tell two transactions apart; nothing more hangs on it.
        let random = || RandomState::new().hash_one(0u8).to_le_bytes();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random());
        id[8..].copy_from_slice(&random());
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        put_le32(&mut header, 8, VERSION);
        header[16..32].copy_from_slice(&id);
        put_le64(&mut header, 32, image_len);
        let crc = crc32c::crc32c(&header[..HEADER - 4]);
        put_le32(&mut header, HEADER - 4, crc);
        let mut writer = Writer { file, at: 0, crc: 0, records: 0, id };
        writer.append(&header)?;
        Ok(writer)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(self.at, bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn record(&mut self, range: &Range<u64>, old: &[u8], new: Option<&[u8]>) -> Result<()> {
        let mut record = vec![0; RECORD];
        put_le32(&mut record, 0, if new.is_some() { DATA } else { ZERO });
        put_le64(&mut record, 8, range.start);
        put_le64(&mut record, 16, range.end - range.start);
        let zeros = [0; SECTOR as usize];
        sums(range, old).for_each(|sum| record.extend_from_slice(&sum.to_le_bytes()));
        match new {
            Some(new) => sums(range, new).for_each(|sum| record.extend_from_slice(&sum.to_le_bytes())),
            None => sectors(range).for_each(|s| {
                let sum = crc32c::crc32c(&zeros[..(s.end - s.start) as usize]);
                record.extend_from_slice(&sum.to_le_bytes());
            }),
        }
        record.extend_from_slice(new.unwrap_or_default());
        self.records += 1;
        self.append(&record)
    }

    fn finish(mut self) -> Result<Box<dyn Storage>> {
        let mut record = [0; RECORD];
        put_le32(&mut record, 0, COMMIT);
        put_le32(&mut record, 4, self.crc);
        put_le64(&mut record, 8, self.records);
        record[16..32].copy_from_slice(&self.id);
        self.append(&record)?;
        self.file.sync()?;
        Ok(self.file)
    }
}

/// Reserves the holes of a range of the image, noting them, so that the image does not run out of space
/// after the commit point.
pub(super) fn reserve(image: &dyn Storage, range: &Range<u64>, reserved: &mut Vec<Range<u64>>) -> Result<()> {
    for run in image.runs(range.clone())?.into_iter().filter(|run| run.hole) {
        match reserved.last_mut() {
            Some(last) if last.end == run.range.start => last.end = run.range.end,
            _ => reserved.push(run.range.clone()),
        }
        image.reserve(run.range)?;
    }
    Ok(())
}

/// Writes the journal of a transaction and makes it durable: the commit point. `None` if there is
/// nothing to write. On an error the journal is gone again and the image is as it was.
pub(super) fn write(place: &dyn Place, image_len: u64, changes: &dyn Changes) -> Result<Option<Box<dyn Storage>>> {
    let mut reserved = Vec::new();
    let mut writer = None;
    let mut begun = false;
    let result = write_records(place, image_len, changes, (&mut writer, &mut begun), &mut reserved);
    let result = result.and_then(|()| match writer {
        None => Ok(None),
        Some(writer) => {
            let journal = writer.finish()?;
            place.sync_folder()?;
            Ok(Some(journal))
        }
    });
    result.map_err(|error| {
        for range in reserved {
            // Only space is lost if this fails.
            place.image().zero(range).ok();
        }
        if begun && let Err(second) = place.remove_journal() {
            let journal = place.journal_path();
            return Error::new(error.kind(), format!("{error}; and its journal could not be removed ({second})"))
                .hint(format!("nothing was changed; remove {} before you open the image again", journal.display()));
        }
        error
    })
}

fn write_records(
    place: &dyn Place,
    image_len: u64,
    changes: &dyn Changes,
    (writer, begun): (&mut Option<Writer>, &mut bool),
    reserved: &mut Vec<Range<u64>>,
) -> Result<()> {
    let image = place.image();
    let mut old = Vec::new();
    changes.visit(&mut |offset, change| {
        let len = change.len();
        let whole = match offset.checked_add(len) {
            Some(end) if end <= image_len => offset..end,
            _ => return Err(Error::new(Kind::Io, format!("a change of {len} bytes at {offset} is outside the image"))),
        };
        let parts = match change {
            Change::Data(data) => {
                progress::add(data.len() as u64);
                vec![whole]
            }
            Change::Zero(_) => {
                image.runs(whole)?.into_iter().filter(|run| !run.hole).map(|run| run.range).collect::<Vec<_>>()
            }
        };
        for part in parts {
            let mut at = part.start;
            while at < part.end {
                let range = at..part.end.min((at / SECTOR * SECTOR).saturating_add(RECORD_MAX));
                at = range.end;
                let new = match change {
                    Change::Data(data) => {
                        reserve(image, &range, reserved)?;
                        data.get((range.start - offset) as usize..(range.end - offset) as usize)
                    }
                    Change::Zero(_) => None,
                };
                old.resize((range.end - range.start) as usize, 0);
                image.read_at(range.start, &mut old)?;
                let writer = match writer {
                    Some(writer) => writer,
                    None => {
                        let file = place.create_journal()?;
                        *begun = true;
                        writer.insert(Writer::new(file, image_len)?)
                    }
                };
                writer.record(&range, &old, new)?;
            }
        }
        Ok(())
    })
}

/// The records of a journal, if it is complete. `Ok(None)`: it was not finished, nothing of it counts.
///
/// # Errors
/// A newer version of the format; a journal for an image of another size.
pub(super) fn records(journal: &dyn Storage, image_len: u64) -> Result<Option<Vec<Record>>> {
    let end = journal.len()?;
    let mut header = [0; HEADER];
    journal.read_at(0, &mut header)?;
    let sum = crc32c::crc32c(&header[..HEADER - 4]);
    if end < HEADER as u64 || &header[..8] != MAGIC || sum != le32(&header, HEADER - 4) {
        return Ok(None);
    }
    if le32(&header, 8) != VERSION {
        let version = le32(&header, 8);
        return Err(Error::unsupported(format!("the journal has version {version}, only {VERSION} is known")));
    }
    let mut crc = crc32c::crc32c(&header);
    let (mut at, mut found) = (HEADER as u64, Vec::new());
    let mut body = Vec::new();
    while at + (RECORD as u64) <= end {
        let mut head = [0; RECORD];
        journal.read_at(at, &mut head)?;
        let kind = le32(&head, 0);
        if kind == COMMIT {
            let right = le32(&head, 4) == crc && le64(&head, 8) == found.len() as u64 && head[16..] == header[16..32];
            if right && le64(&header, 32) != image_len {
                return Err(Error::new(Kind::Corrupt, "the journal is for an image of another size"));
            }
            return Ok(right.then_some(found));
        }
        let (start, len) = (le64(&head, 8), le64(&head, 16));
        let range = match start.checked_add(len) {
            Some(end) if (1..=RECORD_MAX).contains(&len) && end <= le64(&header, 32) => start..end,
            _ => return Ok(None),
        };
        let sums = at + RECORD as u64;
        let data = sums + sector_count(&range) * 8;
        let next = match kind {
            DATA => data + len,
            ZERO => data,
            _ => return Ok(None),
        };
        if next > end {
            return Ok(None);
        }
        body.resize((next - sums) as usize, 0);
        journal.read_at(sums, &mut body)?;
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &head), &body);
        found.push(Record { range, data: (kind == DATA).then_some(data), sums });
        at = next;
    }
    Ok(None)
}

/// Whether every sector of the image that the journal concerns is as it was before or as it is to be.
/// Anything else means that somebody wrote to the image since.
pub(super) fn verify(image: &dyn Storage, journal: &dyn Storage, records: &[Record]) -> Result<()> {
    let (mut present, mut table) = (Vec::new(), Vec::new());
    for record in records {
        let count = sector_count(&record.range) as usize;
        present.resize((record.range.end - record.range.start) as usize, 0);
        table.resize(count * 8, 0);
        image.read_at(record.range.start, &mut present)?;
        journal.read_at(record.sums, &mut table)?;
        for (i, sum) in sums(&record.range, &present).enumerate() {
            if sum != le32(&table, i * 4) && sum != le32(&table, (count + i) * 4) {
                let sector = record.range.start / SECTOR + i as u64;
                return Err(Error::corrupt(format!(
                    "sector {sector} was changed by another program after an interrupted commit"
                )));
            }
        }
    }
    Ok(())
}

/// Writes what the journal says to its place and makes it durable. May be done again.
pub(super) fn apply(image: &dyn Storage, journal: &dyn Storage, records: &[Record]) -> Result<()> {
    let mut data = Vec::new();
    for record in records {
        match record.data {
            None => image.zero(record.range.clone())?,
            Some(at) => {
                data.resize((record.range.end - record.range.start) as usize, 0);
                journal.read_at(at, &mut data)?;
                image.write_at(record.range.start, &data)?;
                progress::add(data.len() as u64);
            }
        }
    }
    image.sync()
}

/// A finished journal laid over an image that is only read: reads see the state after the commit.
pub(super) struct Overlay {
    journal: Box<dyn Storage>,
    records: BTreeMap<u64, Record>,
}

impl Overlay {
    pub(super) fn new(journal: Box<dyn Storage>, records: Vec<Record>) -> Self {
        Overlay { journal, records: records.into_iter().map(|r| (r.range.start, r)).collect() }
    }

    /// Puts the journal's bytes over what was read from the image at `offset`.
    pub(super) fn patch(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        let from = self.records.range(..=offset).next_back().map_or(offset, |(start, _)| *start);
        for record in self.records.range(from..end).map(|(_, record)| record) {
            let (start, stop) = (record.range.start.max(offset), record.range.end.min(end));
            if start >= stop {
                continue;
            }
            let Some(part) = buf.get_mut((start - offset) as usize..(stop - offset) as usize) else { continue };
            match record.data {
                None => part.fill(0),
                Some(at) => self.journal.read_at(at + (start - record.range.start), part)?,
            }
        }
        Ok(())
    }
}
