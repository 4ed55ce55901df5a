//! Persistent dirty bitmaps. A commit notes what it changes in those with the `auto` flag, as part of its one switch;
//! all others stay as they are. The byte tables and the rules are in `docs/formats/qcow2.md`.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::commit::Roots;
use super::header::{BITMAPS, BitmapExtension, EXT_BITMAPS, Header, SECTOR, shown};
use super::map::{Image, OFFSET, entries, to_bytes};
use super::refcount::Refcounts;
use super::storage::read_metadata;
use super::write::Writer;
use crate::base::bytes::{be16, be32, be64, put_be32, put_be64, u8_at};
use crate::base::{Error, Result};

/// Most bytes of the directory: for 8000 bitmaps with the longest names.
const DIRECTORY_LIMIT: u64 = 8 << 20;
/// As in QEMU: most bitmaps.
const COUNT_LIMIT: u32 = 65_535;
/// Most bytes of the tables of all bitmaps: 16 TiB of bits at clusters of 64 KiB.
const TABLE_LIMIT: u64 = 16 << 20;
/// Bytes of a directory entry before extra data and name.
const FIXED: usize = 24;

/// Flag 0: was not saved well, or is outdated.
const IN_USE: u32 = 1;
/// Flag 1: all changes of the disk are to be noted in it.
const AUTO: u32 = 1 << 1;
/// Flag 2: who does not know the extra data may use the bitmap all the same.
const EXTRA_COMPATIBLE: u32 = 1 << 2;
/// The one type there is: which parts of the disk have changed.
const TRACKING: u8 = 1;
/// Table entries without an offset: all bits are 1.
const ONES: u64 = 1;

/// The bitmaps of an image.
struct Directory {
    bitmaps: Vec<Bitmap>,
    /// The clusters that the directory, the tables and the bits lie in.
    used: Vec<u64>,
    /// Those of the directory alone.
    place: Range<u64>,
}

struct Bitmap {
    /// The directory entry as on disk, filled up to 8 bytes.
    entry: Vec<u8>,
    table: Vec<u64>,
    /// The clusters of the table.
    place: Range<u64>,
}

/// The clusters that bitmaps use.
pub(super) fn used(image: &Image) -> Result<Vec<u64>> {
    Ok(read(image)?.map(|directory| directory.used).unwrap_or_default())
}

/// The clusters that bitmaps use. Each is used once, is no table of the disk, and its refcount is not 0.
pub(super) fn verify(image: &Image, counts: &Refcounts) -> Result<HashSet<u64>> {
    let mut seen = HashSet::new();
    for cluster in used(image)? {
        if counts.is_reserved(cluster) || matches!(counts.get(cluster), Ok(0)) || !seen.insert(cluster) {
            return Err(corrupt(image, format!("cluster {cluster} is free, or something else too"))
                .hint("nothing was changed; qemu-img check tells more"));
        }
    }
    Ok(seen)
}

/// Whether there are bitmaps that all changes are to be noted in.
pub(super) fn has_active(image: &Image) -> Result<bool> {
    Ok(read(image)?.is_some_and(|directory| directory.bitmaps.iter().any(Bitmap::is_active)))
}

/// Refuses to replace the disk by another state of it: as QEMU does while there are bitmaps.
pub(super) fn refuse_replacing(image: &Image) -> Result<()> {
    match read(image)?.as_ref().and_then(|directory| directory.bitmaps.first()) {
        Some(bitmap) => Err(Error::unsupported(format!(
            "qcow2: bitmap {}: it would not know what differs between now and the snapshot",
            bitmap.name()
        ))
        .at(image.path.display())
        .hint("remove the bitmaps first: qemu-img bitmap --remove IMAGE NAME")),
        None => Ok(()),
    }
}

fn corrupt(image: &Image, what: String) -> Error {
    Error::corrupt(format!("qcow2: bitmaps: {what}")).at(image.path.display())
}

fn read(image: &Image) -> Result<Option<Directory>> {
    // Without the autoclear bit the extension means nothing and may point anywhere.
    match image.header.bitmaps.as_ref().filter(|_| image.header.autoclear & BITMAPS != 0) {
        Some(extension) => Directory::read(image, extension).map(Some),
        None => Ok(None),
    }
}

impl Directory {
    fn read(image: &Image, extension: &BitmapExtension) -> Result<Self> {
        let file = image.storage.len()?;
        let BitmapExtension { count, size, directory: offset, .. } = *extension;
        if size > DIRECTORY_LIMIT.min(file) || count > COUNT_LIMIT {
            return Err(corrupt(image, format!("directory of {size} bytes with {count} entries")));
        }
        let mut all = Directory { bitmaps: Vec::new(), used: Vec::new(), place: 0..0 };
        all.place = all.add(image, offset, size, "directory")?;
        let mut bytes = vec![0; size as usize];
        read_metadata(image.storage.as_ref(), offset, &mut bytes, "the bitmap directory")?;
        let (mut at, mut left) = (0, TABLE_LIMIT.min(file));
        for number in 0..count {
            let short = || corrupt(image, format!("entry {number} is past the end of the directory"));
            let fixed = bytes.get(at..).filter(|entry| entry.len() >= FIXED).ok_or_else(short)?;
            let len = FIXED + usize::from(be16(fixed, 18)) + be32(fixed, 20) as usize;
            let mut entry = fixed.get(..len).ok_or_else(short)?.to_vec();
            entry.resize(len.next_multiple_of(8), 0);
            at += entry.len();
            let length = u64::from(be32(&entry, 8)) * 8;
            left =
                left.checked_sub(length).ok_or_else(|| corrupt(image, format!("table {number} of {length} bytes")))?;
            let bitmap = all.bitmap(image, entry)?;
            all.bitmaps.push(bitmap);
        }
        Ok(all)
    }

    /// Follows a directory entry.
    fn bitmap(&mut self, image: &Image, entry: Vec<u8>) -> Result<Bitmap> {
        let (offset, length) = (be64(&entry, 0), u64::from(be32(&entry, 8)) * 8);
        let mut bitmap = Bitmap { entry, table: Vec::new(), place: 0..0 };
        if length == 0 {
            return Ok(bitmap);
        }
        bitmap.place = self.add(image, offset, length, "table")?;
        let mut table = vec![0; length as usize];
        read_metadata(image.storage.as_ref(), offset, &mut table, "a bitmap table")?;
        bitmap.table = entries(&table);
        for entry in bitmap.table.iter().filter(|entry| **entry > ONES) {
            if entry & !OFFSET != 0 {
                return Err(corrupt(image, format!("{}: table entry {entry:#x}", bitmap.name())));
            }
            self.add(image, *entry, image.header.cluster_size(), "data")?;
        }
        Ok(bitmap)
    }

    /// Notes clusters as used.
    fn add(&mut self, image: &Image, offset: u64, bytes: u64, what: &str) -> Result<Range<u64>> {
        let size = image.header.cluster_size();
        let wrong = || corrupt(image, format!("{what} of {bytes} bytes at {offset}"));
        let place = offset / size..offset.checked_add(bytes).ok_or_else(wrong)?.div_ceil(size);
        let most = image.storage.len()?.div_ceil(size);
        // No cluster is used twice, so all together are no more than there are in the file.
        let all = (self.used.len() as u64).saturating_add(place.end.saturating_sub(place.start));
        if offset == 0 || !offset.is_multiple_of(size) || place.is_empty() || place.end > most || all > most {
            return Err(wrong());
        }
        self.used.extend(place.clone());
        Ok(place)
    }
}

impl Bitmap {
    fn flags(&self) -> u32 {
        be32(&self.entry, 12)
    }

    /// Whether changes are to be noted in it.
    fn is_active(&self) -> bool {
        self.flags() & (AUTO | IN_USE) == AUTO
    }

    /// A bit stands for `1 << granularity` bytes of the disk.
    fn granularity(&self) -> u32 {
        u8_at(&self.entry, 17).into()
    }

    fn name(&self) -> String {
        let (name, extra) = (usize::from(be16(&self.entry, 18)), be32(&self.entry, 20) as usize);
        shown(self.entry.get(FIXED + extra..FIXED + extra + name).unwrap_or_default())
    }

    /// Entries of the table for a disk of `size` bytes.
    fn needed(&self, size: u64, cluster: u64) -> u64 {
        size.div_ceil(1 << self.granularity()).div_ceil(cluster * 8).max(1)
    }

    /// Whether all of it is understood, and it covers a disk of `size` bytes.
    fn is_known(&self, size: u64, cluster: u64) -> bool {
        let flags = self.flags();
        u8_at(&self.entry, 16) == TRACKING
            && flags & !(IN_USE | AUTO | EXTRA_COMPATIBLE) == 0
            && (be32(&self.entry, 20) == 0 || flags & EXTRA_COMPATIBLE != 0)
            && self.granularity() < 64
            && self.table.len() as u64 >= self.needed(size, cluster)
    }
}

/// Brings the bitmaps to the state that `new` is, in free clusters: what it changes is noted in those with the `auto`
/// flag, and all fit the size of the disk.
///
/// # Errors
/// Damage; another size of the disk and bitmaps that are outdated or not understood; a header that cannot say in one
/// write where they are, nor that they are gone.
pub(super) fn update(image: &Image, writer: &mut Writer, new: &mut Roots) -> Result<()> {
    let Some(mut directory) = read(image)? else { return Ok(()) };
    // What is on disk: in memory the size may have changed already.
    let before = be64(&image.header.sector, 24);
    let active = directory.bitmaps.iter().any(Bitmap::is_active);
    if before == new.header.size && (new.changed.is_empty() || !active) {
        return Ok(());
    }
    let Some(room) = new.header.room_for_bitmaps() else {
        directory.used.iter().for_each(|cluster| new.deltas.drop(*cluster..cluster + 1));
        return new.header.drop_bitmaps().map_err(|e| e.at(image.path.display()));
    };
    let mut is_new = false;
    for bitmap in &mut directory.bitmaps {
        is_new |= Update { image, writer, new, bitmap }.run(before)?;
    }
    if is_new {
        let bytes = directory.bitmaps.iter().map(|bitmap| bitmap.entry.as_slice()).collect::<Vec<_>>().concat();
        new.deltas.drop(directory.place);
        let place = write(image, writer, &bytes)?;
        new.header.point_to_bitmaps(room, place.start << image.header.cluster_bits, bytes.len() as u64);
    }
    Ok(())
}

/// Writes to free clusters, filled up with zeros.
fn write(image: &Image, writer: &mut Writer, bytes: &[u8]) -> Result<Range<u64>> {
    let bits = image.header.cluster_bits;
    let clusters = (bytes.len() as u64).div_ceil(1 << bits);
    let place = writer.counts.take(clusters, true)?;
    let mut whole = bytes.to_vec();
    whole.resize((clusters << bits) as usize, 0);
    image.storage.write_at(place.start << bits, &whole)?;
    Ok(place)
}

/// One bitmap on its way to the new state.
struct Update<'a> {
    image: &'a Image,
    writer: &'a mut Writer,
    new: &'a mut Roots,
    bitmap: &'a mut Bitmap,
}

impl Update<'_> {
    /// Does what is to be done; answers whether the directory entry is another one. `before`: the size of the disk so
    /// far.
    fn run(&mut self, before: u64) -> Result<bool> {
        let (size, cluster) = (self.new.header.size, self.image.header.cluster_size());
        let flags = self.bitmap.flags();
        let known = flags & IN_USE == 0 && self.bitmap.is_known(before, cluster);
        if size != before && !known {
            return Err(Error::unsupported(format!(
                "qcow2: bitmap {}: it is outdated or of an unknown kind, and does not fit another size of the disk",
                self.bitmap.name()
            ))
            .at(self.image.path.display())
            .hint("remove it first: qemu-img bitmap --remove IMAGE NAME"));
        }
        if !known {
            // What has to be noted and cannot be is outdated, and marked so; otherwise it is nobody's but its maker's.
            let outdated = self.bitmap.is_active() && !self.new.changed.is_empty();
            if outdated {
                put_be32(&mut self.bitmap.entry, 12, flags | IN_USE);
            }
            return Ok(outdated);
        }
        let old = self.bitmap.table.clone();
        if size != before {
            self.fit(size, size < before)?;
        }
        if flags & AUTO != 0 {
            self.note(size)?;
        }
        match old == self.bitmap.table {
            true => Ok(false),
            false => self.write_table().map(|()| true),
        }
    }

    /// Gives the table the length that the disk needs. Bits of a part that is cut off are cleared.
    fn fit(&mut self, size: u64, shorter: bool) -> Result<()> {
        let per_cluster = self.image.header.cluster_size() * 8;
        let needed = self.bitmap.needed(size, self.image.header.cluster_size()) as usize;
        for index in needed..self.bitmap.table.len() {
            self.give_up(index);
        }
        self.bitmap.table.resize(needed, 0);
        let end = size.div_ceil(1 << self.bitmap.granularity()) % per_cluster;
        let last = needed - 1;
        if shorter && end > 0 && self.bitmap.table.get(last).is_some_and(|entry| *entry != ONES) {
            self.change(last, |bits| clear_from(bits, end))?;
        }
        Ok(())
    }

    /// Sets the bits of all that has changed.
    fn note(&mut self, size: u64) -> Result<()> {
        let (granularity, per_cluster) = (self.bitmap.granularity(), self.image.header.cluster_size() * 8);
        let mut parts: BTreeMap<u64, Vec<Range<u64>>> = BTreeMap::new();
        for range in &self.new.changed {
            let end = range.end.min(size).div_ceil(1 << granularity);
            let mut at = range.start >> granularity;
            while at < end {
                let index = at / per_cluster;
                let stop = end.min((index + 1) * per_cluster);
                parts.entry(index).or_default().push(at - index * per_cluster..stop - index * per_cluster);
                at = stop;
            }
        }
        for (index, ranges) in parts {
            self.change(index as usize, |bits| ranges.into_iter().flatten().for_each(|bit| set(bits, bit)))?;
        }
        Ok(())
    }

    /// Changes the bits of one cluster.
    fn change(&mut self, index: usize, edit: impl FnOnce(&mut [u8])) -> Result<()> {
        let entry = self.bitmap.table.get(index).copied().unwrap_or(ONES);
        if entry == ONES {
            return Ok(());
        }
        let mut bits = vec![0; self.image.header.cluster_size() as usize];
        if entry != 0 {
            read_metadata(self.image.storage.as_ref(), entry, &mut bits, "the bits of a bitmap")?;
        }
        let old = bits.clone();
        edit(&mut bits);
        if bits == old {
            return Ok(());
        }
        self.give_up(index);
        let new = match bits.iter().all(|byte| *byte == 0xff) {
            true => ONES,
            false => write(self.image, self.writer, &bits)?.start << self.image.header.cluster_bits,
        };
        if let Some(place) = self.bitmap.table.get_mut(index) {
            *place = new;
        }
        Ok(())
    }

    /// Drops the reference to the bits of a table entry.
    fn give_up(&mut self, index: usize) {
        let entry = self.bitmap.table.get(index).copied().unwrap_or(0);
        if entry > ONES {
            let cluster = entry >> self.image.header.cluster_bits;
            self.new.deltas.drop(cluster..cluster + 1);
        }
    }

    fn write_table(&mut self) -> Result<()> {
        self.new.deltas.drop(self.bitmap.place.clone());
        let place = write(self.image, self.writer, &to_bytes(&self.bitmap.table))?;
        put_be64(&mut self.bitmap.entry, 0, place.start << self.image.header.cluster_bits);
        put_be32(&mut self.bitmap.entry, 8, self.bitmap.table.len() as u32);
        self.bitmap.place = place;
        Ok(())
    }
}

fn set(bits: &mut [u8], bit: u64) {
    if let Some(byte) = bits.get_mut((bit / 8) as usize) {
        *byte |= 1 << (bit % 8);
    }
}

/// Clears all bits from `bit` on.
fn clear_from(bits: &mut [u8], bit: u64) {
    let rest = bits.get_mut((bit / 8) as usize..).unwrap_or_default();
    if let Some((first, others)) = rest.split_first_mut() {
        *first &= (1u8 << (bit % 8)) - 1;
        others.fill(0);
    }
}

/// Bytes of the extension with its type and length.
const EXTENSION: usize = 32;

impl Header {
    /// Where in the first sector, which is switched as one, an extension can say where the bitmaps are: where it is
    /// now, or in the place of the feature names, which are for messages alone.
    fn room_for_bitmaps(&self) -> Option<usize> {
        let now = self.bitmaps.as_ref().map(|extension| extension.at).filter(|at| at + EXTENSION <= SECTOR);
        now.or(self.end_of_extensions.filter(|at| at + EXTENSION + 8 <= SECTOR))
    }

    /// Says in the extension at `room` that the directory is at `directory` and has `size` bytes.
    fn point_to_bitmaps(&mut self, room: usize, directory: u64, size: u64) {
        let Some(extension) = &mut self.bitmaps else { return };
        if room != extension.at {
            put_be32(&mut self.sector, room, EXT_BITMAPS);
            put_be32(&mut self.sector, room + 4, EXTENSION as u32 - 8);
            put_be32(&mut self.sector, room + 8, extension.count);
            put_be32(&mut self.sector, room + 12, 0);
            put_be64(&mut self.sector, room + EXTENSION, 0);
        }
        put_be64(&mut self.sector, room + 16, size);
        put_be64(&mut self.sector, room + 24, directory);
        *extension = BitmapExtension { at: room, count: extension.count, directory, size };
    }

    /// Ends the list of extensions before the bitmaps extension, by the one field that says so. The list is only
    /// cut where nothing but feature names is lost with it.
    fn drop_bitmaps(&mut self) -> Result<()> {
        self.bitmaps = None;
        match self.end_of_extensions.take() {
            Some(at) if at + 8 <= self.sector.len() => {
                put_be64(&mut self.sector, at, 0);
                Ok(())
            }
            _ => Err(Error::unsupported("qcow2: bitmaps: their header extension cannot be replaced in one write")
                .hint("remove the bitmaps first: qemu-img bitmap --remove IMAGE NAME")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits() {
        let mut bits = vec![0; 3];
        (6..18).for_each(|bit| set(&mut bits, bit));
        set(&mut bits, 24);
        assert_eq!(bits, [0b1100_0000, 0xff, 0b11]);
        clear_from(&mut bits, 17);
        assert_eq!(bits, [0b1100_0000, 0xff, 0b1]);
        clear_from(&mut bits, 7);
        assert_eq!(bits, [0b0100_0000, 0, 0]);
        clear_from(&mut bits, 24);
        assert_eq!(bits, [0b0100_0000, 0, 0]);
    }
}
