//! Internal snapshots: their table, and making, applying and deleting one, each as one commit.
//!
//! Here a snapshot never shares an L2 table with the active state: making or applying one copies the tables
//! (2 MiB for 16 GiB of disk), so that the "refcount is one" flags of the active tables can be right.

use std::ops::Range;
use std::path::Path;

use super::State;
use super::bitmaps;
use super::cache::Cache;
use super::chain;
use super::commit::{Roots, commit, finish, settle};
use super::deltas::Deltas;
use super::header::{L1_LIMIT, SNAPSHOT_LIMIT};
use super::map::{COPIED, OFFSET, PACKED, to_bytes};
use super::map::{Image, entries};
use super::refcount::{Refcounts, count};
use super::references::Budget;
use super::storage::read_metadata;
use super::write::{Mark, RunWriter, Writer};
use crate::base::bytes::{be16, be32, be64, put_be16, put_be32, put_be64};
use crate::base::{Error, Kind, Result, Timestamp, printable};
use crate::disk::{Change, Changes};

/// Bytes of an entry before its extra data.
const FIXED: usize = 40;
/// Extra data that is written: size of the VM state, size of the disk, instruction count.
const EXTRA: usize = 24;
/// As in QEMU.
const EXTRA_LIMIT: usize = 1024;
/// Bytes of the whole table, as in QEMU.
const TABLE_LIMIT: u64 = 64 << 20;
const BLOCKS_AFTER: usize = 16 << 20;

/// An internal snapshot, for listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// QEMU's number for it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub time: Timestamp,
    /// Bytes of a virtual machine's state that it holds, 0 for a snapshot of the disk alone.
    pub vm_state: u64,
    /// Size of the disk then, in bytes.
    pub disk_size: u64,
}

/// What a new snapshot is called.
pub(super) struct Label<'a> {
    pub name: &'a str,
    pub now: Timestamp,
}

/// The table of snapshots.
pub(super) struct Table {
    pub records: Vec<Record>,
    /// The clusters that it lies in.
    pub place: Range<u64>,
}

/// One entry, with its bytes as they are on disk.
pub(super) struct Record {
    bytes: Vec<u8>,
}

impl Record {
    fn extra(&self) -> usize {
        be32(&self.bytes, 36) as usize
    }

    fn text(&self, at: usize, len: usize) -> &[u8] {
        self.bytes.get(at..at + len).unwrap_or_default()
    }

    fn id(&self) -> &[u8] {
        self.text(FIXED + self.extra(), be16(&self.bytes, 12).into())
    }

    fn name(&self) -> &[u8] {
        self.text(FIXED + self.extra() + usize::from(be16(&self.bytes, 12)), be16(&self.bytes, 14).into())
    }

    fn l1_size(&self) -> u32 {
        be32(&self.bytes, 8)
    }

    /// Size of the disk; old entries do not say, then it is that of the image.
    fn disk_size(&self, image: &Image) -> u64 {
        if self.extra() >= 16 { be64(&self.bytes, FIXED + 8) } else { image.header.size }
    }

    fn shown(&self, image: &Image) -> Snapshot {
        let text = |bytes: &[u8]| printable(bytes).to_string();
        let vm_state = if self.extra() >= 8 { be64(&self.bytes, FIXED) } else { be32(&self.bytes, 32).into() };
        Snapshot {
            id: text(self.id()),
            name: text(self.name()),
            time: Timestamp { seconds: be32(&self.bytes, 16).into(), nanos: be32(&self.bytes, 20) },
            vm_state,
            disk_size: self.disk_size(image),
        }
    }

    /// The clusters of its L1 table.
    pub fn l1_place(&self, image: &Image) -> Range<u64> {
        let start = be64(&self.bytes, 0) >> image.header.cluster_bits;
        start..start.saturating_add((u64::from(self.l1_size()) * 8).div_ceil(image.header.cluster_size()))
    }

    /// Its L1 table.
    pub fn l1(&self, image: &Image) -> Result<Vec<u64>> {
        let (offset, size) = (be64(&self.bytes, 0), u64::from(self.l1_size()) * 8);
        if size > L1_LIMIT || offset % image.header.cluster_size() != 0 {
            return Err(Error::corrupt(format!(
                "qcow2: snapshot {}: L1 table of {size} bytes at {offset}",
                printable(self.name())
            ))
            .at(image.path.display()));
        }
        let mut bytes = vec![0; size as usize];
        if !bytes.is_empty() {
            read_metadata(image.storage.as_ref(), offset, &mut bytes, "the L1 table of a snapshot")?;
        }
        Ok(entries(&bytes))
    }
}

/// Reads the table of snapshots.
pub(super) fn read(image: &Image) -> Result<Table> {
    let header = &image.header;
    let (start, bits) = (header.snapshots_offset, header.cluster_bits);
    if header.snapshots == 0 {
        return Ok(Table { records: Vec::new(), place: 0..0 });
    }
    let corrupt = |what: String| Error::corrupt(format!("qcow2: snapshot table: {what}")).at(image.path.display());
    if start == 0 || start % header.cluster_size() != 0 {
        return Err(corrupt(format!("at {start}, not on a cluster")));
    }
    let mut at = start;
    let mut records = Vec::new();
    for number in 0..header.snapshots {
        let mut fixed = vec![0; FIXED];
        read_metadata(image.storage.as_ref(), at, &mut fixed, "the snapshot table")?;
        let extra = be32(&fixed, 36) as usize;
        if extra > EXTRA_LIMIT {
            return Err(corrupt(format!("entry {number} with {extra} bytes of extra data, over {EXTRA_LIMIT}")));
        }
        let len = (FIXED + extra + usize::from(be16(&fixed, 12)) + usize::from(be16(&fixed, 14))).next_multiple_of(8);
        let mut bytes = vec![0; len];
        // The last entry need not be filled up.
        let got = image.storage.read_at(at, &mut bytes)?;
        if got + 7 < len {
            return Err(corrupt(format!("entry {number} is past the end of the file")));
        }
        records.push(Record { bytes });
        at = at.saturating_add(len as u64);
        if at - start > TABLE_LIMIT {
            return Err(corrupt(format!("longer than {TABLE_LIMIT} bytes")));
        }
    }
    Ok(Table { records, place: start >> bits..at.div_ceil(header.cluster_size()) })
}

/// Puts a snapshot of the committed state into new roots. Its L1 table is the one on disk.
pub(super) fn record(image: &Image, writer: &mut Writer, new: &mut Roots, label: &Label) -> Result<()> {
    let mut table = read(image)?;
    let name = label.name.as_bytes();
    if name.is_empty() || name.len() > 255 || name.contains(&0) {
        return Err(Error::usage("a snapshot's name has 1 to 255 bytes"));
    }
    if table.records.iter().any(|old| old.name() == name) {
        return Err(
            Error::new(Kind::Exists, format!("there is a snapshot {} already", label.name)).at(image.path.display())
        );
    }
    if table.records.len() as u32 >= SNAPSHOT_LIMIT {
        return Err(
            Error::new(Kind::NoSpace, format!("there are {SNAPSHOT_LIMIT} snapshots already")).at(image.path.display())
        );
    }
    let number = |old: &Record| std::str::from_utf8(old.id()).ok().and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
    let id = (table.records.iter().map(number).max().unwrap_or(0).saturating_add(1)).to_string();
    let mut bytes = vec![0; FIXED + EXTRA];
    put_be64(&mut bytes, 0, image.header.l1_offset);
    put_be32(&mut bytes, 8, image.header.l1_size);
    put_be16(&mut bytes, 12, id.len() as u16);
    put_be16(&mut bytes, 14, name.len() as u16);
    put_be32(&mut bytes, 16, u32::try_from(label.now.seconds).unwrap_or(0));
    put_be32(&mut bytes, 20, label.now.nanos);
    put_be32(&mut bytes, 36, EXTRA as u32);
    put_be64(&mut bytes, FIXED + 8, image.header.size);
    // No instruction count.
    put_be64(&mut bytes, FIXED + 16, u64::MAX);
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(name);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    table.records.push(Record { bytes });
    write(image, writer, new, &table)
}

/// Writes the table to a free place and gives the old one up.
fn write(image: &Image, writer: &mut Writer, new: &mut Roots, table: &Table) -> Result<()> {
    let bits = image.header.cluster_bits;
    new.deltas.drop(table.place.clone());
    new.header.snapshots = table.records.len() as u32;
    new.header.snapshots_offset = 0;
    let mut bytes = table.records.iter().map(|record| record.bytes.as_slice()).collect::<Vec<_>>().concat();
    if bytes.is_empty() {
        return Ok(());
    }
    let clusters = (bytes.len() as u64).div_ceil(1 << bits);
    bytes.resize((clusters << bits) as usize, 0);
    let place = writer.counts.take(clusters, true)?;
    new.header.snapshots_offset = place.start << bits;
    image.storage.write_at(place.start << bits, &bytes)
}

/// Writes the tables of the new L1 table anew whose "refcount is one" flags are not as they will be; all of them if
/// they are to be `copied`. Tables that are not copied belong to the active state.
pub(super) fn flag(image: &Image, writer: &mut Writer, new: &mut Roots, copied: bool) -> Result<()> {
    let (bits, per_table) = (image.header.cluster_bits, image.header.l2_entries());
    let mut run = RunWriter::new(image.storage.as_ref());
    let after = After { blocks: Cache::new(BLOCKS_AFTER), order: writer.counts.order(), bits };
    let mut given_up = Vec::new();
    for index in 0..new.l1.len() {
        let entry = new.l1.get(index).copied().unwrap_or(0);
        let Some(old) = image.table_of(index as u64, entry)? else { continue };
        let host = (entry & OFFSET) >> bits;
        let mut table = old.to_vec();
        for slot in 0..per_table as usize {
            let mut entry = image.entry(&table, slot);
            let used = image.clusters_of(index as u64 * per_table + slot as u64, entry)?;
            if used.is_empty() || entry.word & PACKED != 0 {
                continue;
            }
            entry.word &= !COPIED;
            if after.count(&writer.counts, &new.deltas, used.start)? == 1 {
                entry.word |= COPIED;
            }
            image.put_entry(&mut table, slot, entry);
        }
        let entry = if !copied && table == *old {
            let alone = after.count(&writer.counts, &new.deltas, host)? == 1;
            host << bits | if alone { COPIED } else { 0 }
        } else {
            let home = writer.counts.take(1, true)?.start << bits;
            run.write(home, &to_bytes(&table))?;
            given_up.extend((!copied).then_some(host));
            home | COPIED
        };
        if let Some(place) = new.l1.get_mut(index) {
            *place = entry;
        }
    }
    given_up.into_iter().for_each(|host| new.deltas.drop(host..host + 1));
    run.finish()
}

/// Refcounts as they will be.
struct After {
    blocks: Cache<Vec<u8>>,
    order: u32,
    bits: u32,
}

impl After {
    fn count(&self, counts: &Refcounts, deltas: &Deltas, cluster: u64) -> Result<u64> {
        let (index, slot) = (cluster / counts.per_block(), cluster % counts.per_block());
        let block = self.blocks.get(index, 1 << self.bits, || counts.block_after(index, deltas))?;
        Ok(count(&block, slot as usize, self.order))
    }
}

/// The internal snapshots of an image, oldest first.
///
/// # Errors
/// No image, or a damaged table of snapshots.
pub fn snapshots(path: &Path) -> Result<Vec<Snapshot>> {
    let image = chain::open(path, true)?;
    Ok(read(&image)?.records.iter().map(|record| record.shown(&image)).collect())
}

/// Opens an image for one change of the whole.
pub(super) fn open(path: &Path) -> Result<State> {
    writing(State::new(chain::open(path, false)?))
}

/// Makes an image that is open for reading open for changes that are not of data.
pub(super) fn writing(mut state: State) -> Result<State> {
    if state.image.data.is_some() {
        return Err(Error::unsupported("qcow2: sizes and snapshots of an image with an external data file")
            .at(state.image.path.display())
            .hint("disk-convert makes a copy that is whole in itself"));
    }
    state.writer = Some(Writer::new(&mut state.image)?);
    Ok(state)
}

struct Nothing;

impl Changes for Nothing {
    fn visit(&self, _each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// Keeps the present state as an internal snapshot.
///
/// # Errors
/// A name that is empty or taken, refcounts too narrow for a second reference, an image in use or damaged.
pub fn create_snapshot(path: &Path, name: &str, now: Timestamp) -> Result<()> {
    commit(&mut open(path)?, &Nothing, Some(&Label { name, now }))
}

/// Where a snapshot is in the table, by number first, then by name, as QEMU finds it.
fn find(table: &Table, wanted: &str, path: &Path) -> Result<usize> {
    let by_id = table.records.iter().position(|record| record.id() == wanted.as_bytes());
    by_id.or_else(|| table.records.iter().position(|record| record.name() == wanted.as_bytes())).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no snapshot {wanted}"))
            .at(path.display())
            .hint("disk-snapshot-list shows them")
    })
}

/// Goes back to an internal snapshot, which stays. What was changed since is lost.
///
/// # Errors
/// No such snapshot, an image in use or damaged.
pub fn apply_snapshot(path: &Path, wanted: &str) -> Result<()> {
    let mut state = open(path)?;
    let prepared = apply(&mut state, wanted, path).map(Some);
    finish(&mut state, Mark::default(), prepared)
}

fn apply(state: &mut State, wanted: &str, path: &Path) -> Result<super::commit::Prepared> {
    let State { image, writer: Some(writer), .. } = state else {
        return Err(Error::new(Kind::Internal, "qcow2: not open for writing"));
    };
    let table = read(image)?;
    let record = table.records.get(find(&table, wanted, path)?).ok_or(Kind::NotFound)?;
    bitmaps::refuse_replacing(image)?;
    let mut new = Roots::of(image, writer);
    new.header.size = record.disk_size(image);
    new.l1 = record.l1(image)?;
    let needed = new.header.size.div_ceil(new.header.cluster_size() * new.header.l2_entries());
    if (new.l1.len() as u64) < needed || i64::try_from(new.header.size).is_err() {
        return Err(Error::corrupt(format!(
            "qcow2: snapshot {wanted}: an L1 table of {} entries for a disk of {} bytes",
            new.l1.len(),
            new.header.size
        ))
        .at(path.display()));
    }
    let mut budget = Budget::new();
    image.references(&image.l1, &mut budget, |used, _| {
        new.deltas.drop(used);
        Ok(())
    })?;
    let l1 = new.l1.clone();
    image.references(&l1, &mut budget, |used, table| {
        if !table {
            new.deltas.add(used);
        }
        Ok(())
    })?;
    flag(image, writer, &mut new, true)?;
    settle(state, new, false)
}

/// Deletes an internal snapshot; what only it used is free then.
///
/// # Errors
/// No such snapshot, an image in use or damaged.
pub fn delete_snapshot(path: &Path, wanted: &str) -> Result<()> {
    let mut state = open(path)?;
    let prepared = delete(&mut state, wanted, path).map(Some);
    finish(&mut state, Mark::default(), prepared)
}

fn delete(state: &mut State, wanted: &str, path: &Path) -> Result<super::commit::Prepared> {
    let State { image, writer: Some(writer), .. } = state else {
        return Err(Error::new(Kind::Internal, "qcow2: not open for writing"));
    };
    let mut table = read(image)?;
    let record = table.records.remove(find(&table, wanted, path)?);
    let mut new = Roots::of(image, writer);
    let l1 = record.l1(image)?;
    image.references(&l1, &mut Budget::new(), |used, _| {
        new.deltas.drop(used);
        Ok(())
    })?;
    new.deltas.drop(record.l1_place(image));
    write(image, writer, &mut new, &table)?;
    flag(image, writer, &mut new, false)?;
    settle(state, new, false)
}
