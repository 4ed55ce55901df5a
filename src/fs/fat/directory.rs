//! One directory in memory: its slots, the entries in them, and the names that lead to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::boot::SLOT;
use super::name;
use crate::base::bytes::{le16, put_le16, put_le32, u8_at};
use crate::base::{Error, Kind, Result};

/// Attribute bits (fatgen103 page 23).
pub const READ_ONLY: u8 = 0x01;
/// See [`READ_ONLY`].
pub const VOLUME: u8 = 0x08;
/// See [`READ_ONLY`].
pub const DIRECTORY: u8 = 0x10;
/// See [`READ_ONLY`].
pub const ARCHIVE: u8 = 0x20;

/// First byte of a free slot; with 0 in its place this slot and all after it are free.
const DELETED: u8 = 0xe5;
/// Most slots of a directory (Linux: FAT_MAX_DIR_ENTRIES).
pub const MAX_SLOTS: usize = 65536;
/// Unit in which changes are written back.
const DIRTY_UNIT: usize = 512;

/// An entry: its slots, the last of which is the short entry, and its name.
#[derive(Debug, Clone)]
pub struct Entry {
    /// First slot.
    pub first: usize,
    /// The name, UTF-8.
    pub name: Vec<u8>,
}

/// A directory's slots.
#[derive(Default)]
pub struct Directory {
    /// The slots as on disk.
    pub bytes: Vec<u8>,
    /// Clusters in order; none for the root of FAT12 and FAT16.
    pub clusters: Vec<u32>,
    /// Entries by the number of their short entry's slot; without `.`, `..` and the label.
    pub entries: BTreeMap<usize, Entry>,
    /// Slot of the volume label.
    pub label: Option<usize>,
    /// First cluster that `..` names, in a directory that has one.
    pub parent: Option<u32>,
    names: HashMap<Vec<u8>, usize>,
    /// Two entries with one name: then names do not tell which one is meant, and nothing is changed here.
    twin: Option<Vec<u8>>,
    /// The slot at which the unused rest begins.
    end: usize,
    /// Free slots before `end`.
    holes: usize,
    dirty: BTreeSet<usize>,
}

/// First cluster of an entry.
pub fn first_cluster(entry: &[u8], fat32: bool) -> u32 {
    let high = if fat32 { u32::from(le16(entry, 20)) << 16 } else { 0 };
    high | u32::from(le16(entry, 26))
}

/// Sets the first cluster of an entry.
pub fn set_first_cluster(entry: &mut [u8], cluster: u32, fat32: bool) {
    put_le16(entry, 26, cluster as u16);
    put_le16(entry, 20, if fat32 { (cluster >> 16) as u16 } else { 0 });
}

/// Whether a slot holds a short entry of a file or directory that is in use.
pub fn is_node(slot: &[u8]) -> bool {
    !matches!(u8_at(slot, 0), 0 | DELETED)
        && u8_at(slot, 11) & name::LONG_MASK != name::LONG
        && u8_at(slot, 11) & VOLUME == 0
}

impl Directory {
    /// Reads the slots of a directory.
    pub fn parse(bytes: Vec<u8>, clusters: Vec<u32>, fat32: bool) -> Self {
        let mut dir = Directory { clusters, end: bytes.len() / SLOT, ..Directory::default() };
        let mut long = LongName::default();
        for (number, slot) in bytes.chunks_exact(SLOT).enumerate() {
            let attributes = u8_at(slot, 11);
            match u8_at(slot, 0) {
                0 => {
                    dir.end = number;
                    break;
                }
                DELETED => {
                    dir.holes += 1;
                    long = LongName::default();
                }
                _ if attributes & name::LONG_MASK == name::LONG => long.add(number, slot),
                _ if attributes & VOLUME != 0 => {
                    dir.label = dir.label.or(Some(number));
                    long = LongName::default();
                }
                b'.' if slot.starts_with(b".          ") => long = LongName::default(),
                b'.' if slot.starts_with(b"..         ") => {
                    dir.parent = Some(first_cluster(slot, fat32));
                    long = LongName::default();
                }
                _ => {
                    let (first, name) = std::mem::take(&mut long).finish(number, slot);
                    dir.enter(number, Entry { first, name }, slot);
                }
            }
        }
        dir.bytes = bytes;
        dir
    }

    fn enter(&mut self, number: usize, entry: Entry, slot: &[u8]) {
        for key in keys(&entry.name, slot) {
            // The first one keeps the name.
            if *self.names.entry(key).or_insert(number) != number {
                self.twin.get_or_insert_with(|| entry.name.clone());
            }
        }
        self.entries.insert(number, entry);
    }

    /// The bytes of a slot.
    pub fn slot(&self, number: usize) -> &[u8] {
        self.bytes.get(number * SLOT..(number + 1) * SLOT).unwrap_or_default()
    }

    /// The bytes of a slot, to be changed.
    pub fn slot_mut(&mut self, number: usize) -> &mut [u8] {
        self.dirty.insert(number * SLOT / DIRTY_UNIT);
        self.bytes.get_mut(number * SLOT..(number + 1) * SLOT).unwrap_or_default()
    }

    /// The short-entry slot of a name, long or short, in any case.
    pub fn find(&self, wanted: &[u8]) -> Option<usize> {
        self.names.get(&name::folded(wanted)).copied()
    }

    /// Whether nothing but `.` and `..` is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Why entries may not be added or removed.
    pub fn check_writable(&self) -> Result<()> {
        match &self.twin {
            None => Ok(()),
            Some(name) => {
                Err(Error::corrupt(format!("vfat: two entries are named '{}'", crate::base::printable(name)))
                    .hint("run fsck.fat on this file system; nothing was changed"))
            }
        }
    }

    /// The slots of a new entry under this name, from long-name slots to short entry.
    ///
    /// # Errors
    /// `Kind::Exists` if the name is taken.
    pub fn slots_for(&self, wanted: &[u8]) -> Result<Vec<u8>> {
        self.check_writable()?;
        let new = name::check(wanted)?;
        if self.find(wanted).is_some() {
            return Err(Kind::Exists.into());
        }
        // A short alias must differ from all names, long ones too.
        new.slots(|short| {
            let mut entry = [0; SLOT];
            entry[..11].copy_from_slice(short);
            self.names.contains_key(&name::folded(&name::short(&entry)))
        })
    }

    /// Where `count` free slots in a row are; `None` if the directory must grow first.
    pub fn room(&self, count: usize) -> Option<usize> {
        if self.holes >= count {
            let mut run = 0;
            for number in 0..self.end {
                run = if u8_at(self.slot(number), 0) == DELETED { run + 1 } else { 0 };
                if run == count {
                    return Some(number + 1 - count);
                }
            }
        }
        (self.end + count <= self.bytes.len() / SLOT).then_some(self.end)
    }

    /// Slots that are there.
    pub fn capacity(&self) -> usize {
        self.bytes.len() / SLOT
    }

    /// Adds a cluster of zeros at the end.
    pub fn grow(&mut self, cluster: u32, len: usize) {
        let from = self.bytes.len();
        self.clusters.push(cluster);
        self.bytes.resize(from + len, 0);
        self.dirty.extend(from / DIRTY_UNIT..(from + len) / DIRTY_UNIT);
    }

    /// Begins a new directory with its dots.
    pub fn put_dots(&mut self, dots: &[u8], parent: u32) {
        for (number, slot) in dots.chunks_exact(SLOT).enumerate() {
            self.slot_mut(number).copy_from_slice(slot);
            self.end = number + 1;
        }
        self.parent = Some(parent);
    }

    /// Marks free slots as used.
    fn take(&mut self, first: usize, count: usize) {
        if first < self.end {
            self.holes -= count;
            return;
        }
        self.end = first + count;
        // What lies behind the end is not always zero on disks that others wrote.
        if u8_at(self.slot(self.end), 0) != 0 {
            self.slot_mut(self.end).fill(0);
        }
    }

    /// Puts the volume label's entry into its slot, or into a free one; whether there was one.
    pub fn put_label(&mut self, entry: &[u8; SLOT]) -> bool {
        let Some(number) = self.label.or_else(|| self.room(1)) else { return false };
        if self.label.replace(number).is_none() {
            self.take(number, 1);
        }
        self.slot_mut(number).copy_from_slice(entry);
        true
    }

    /// Puts slots made by [`Directory::slots_for`] at a place that [`Directory::room`] gave; answers the
    /// short entry's slot.
    pub fn insert(&mut self, first: usize, slots: &[u8], wanted: &[u8]) -> usize {
        let count = slots.len() / SLOT;
        let last = first + count - 1;
        self.take(first, count);
        for (i, slot) in slots.chunks_exact(SLOT).enumerate() {
            self.slot_mut(first + i).copy_from_slice(slot);
        }
        self.enter(last, Entry { first, name: wanted.to_vec() }, &slots[slots.len() - SLOT..]);
        last
    }

    /// Frees the slots of an entry.
    pub fn remove(&mut self, number: usize) {
        let Some(entry) = self.entries.remove(&number) else { return };
        for key in keys(&entry.name, self.slot(number)) {
            self.names.remove(&key);
        }
        for slot in entry.first..=number {
            if let Some(byte) = self.slot_mut(slot).first_mut() {
                *byte = DELETED;
            }
            self.holes += 1;
        }
    }

    /// Points `..` at another directory.
    pub fn set_parent(&mut self, cluster: u32, fat32: bool) {
        let dots = (0..self.end).find(|n| self.slot(*n).starts_with(b"..         "));
        if let Some(number) = dots {
            set_first_cluster(self.slot_mut(number), cluster, fat32);
            self.parent = Some(cluster);
        }
    }

    /// Whether it has changes.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Takes the ranges of bytes that changed, neighbours merged.
    pub fn take_dirty(&mut self) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for unit in std::mem::take(&mut self.dirty) {
            let range = unit * DIRTY_UNIT..((unit + 1) * DIRTY_UNIT).min(self.bytes.len());
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }
}

/// The compared forms of an entry's long and short name; one if they are the same.
fn keys(long: &[u8], slot: &[u8]) -> impl Iterator<Item = Vec<u8>> + use<> {
    let long = name::folded(long);
    let short = Some(name::folded(&name::short(slot))).filter(|short| *short != long);
    [Some(long), short].into_iter().flatten()
}

/// Long-name slots on the way to their short entry.
#[derive(Default)]
struct LongName {
    first: usize,
    /// The number that the next slot must have; 0 when complete.
    awaited: u8,
    sum: u8,
    units: Vec<u16>,
}

impl LongName {
    fn add(&mut self, number: usize, slot: &[u8]) {
        let (order, sum) = (u8_at(slot, 0), u8_at(slot, 13));
        let count = order & 0x3f;
        if order & 0x40 != 0 && (1..=20).contains(&count) {
            let units = vec![0xffff; usize::from(count) * name::UNITS_PER_SLOT];
            *self = LongName { first: number, awaited: count, sum, units };
        }
        if self.units.is_empty() || count != self.awaited || sum != self.sum || count == 0 {
            *self = LongName::default();
            return;
        }
        self.awaited = count - 1;
        let from = usize::from(self.awaited) * name::UNITS_PER_SLOT;
        for (place, unit) in self.units.iter_mut().skip(from).zip(name::units(slot)) {
            *place = unit;
        }
    }

    /// First slot and name of the entry whose short slot this is; a long name that is not its own is left alone.
    fn finish(self, number: usize, slot: &[u8]) -> (usize, Vec<u8>) {
        if !self.units.is_empty()
            && self.awaited == 0
            && self.sum == name::checksum(slot)
            && let Some(long) = name::long(&self.units)
        {
            return (self.first, long);
        }
        (number, name::short(slot))
    }
}

/// The slots of `.` and `..` of a new directory.
pub fn dots(own: u32, parent: u32, entry: &[u8], fat32: bool) -> Vec<u8> {
    let mut slots = Vec::with_capacity(2 * SLOT);
    for (dots, cluster) in [(b".          ", own), (b"..         ", parent)] {
        let mut slot: Vec<u8> = entry.to_vec();
        slot.resize(SLOT, 0);
        slot[..11].copy_from_slice(dots);
        slot[11] = DIRECTORY;
        slot[12] = 0;
        set_first_cluster(&mut slot, cluster, fat32);
        put_le32(&mut slot, 28, 0);
        slots.extend_from_slice(&slot);
    }
    slots
}
