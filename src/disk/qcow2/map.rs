//! Where guest bytes are: L1 and L2 tables, subclusters, compressed clusters, and reading through them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::cache::Cache;
use super::chain::{Node, push};
use super::encryption::Encryption;
use super::header::{DATA_FILE, Header};
use super::inflate::Inflated;
use super::storage::{Storage, read_data, read_metadata};
use crate::base::bytes::be64;
use crate::base::{Error, Result};
use crate::disk::raw::Raw;
use crate::disk::{Disk, Kept, Located, Run};

/// L1 and L2 entries, bits 9 to 55: a host offset.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// L1 and L2 entries, bit 63: the refcount of what is referred to is exactly one.
pub(super) const COPIED: u64 = 1 << 63;
/// L2 entries, bit 62: compressed.
pub(super) const PACKED: u64 = 1 << 62;
/// L2 entries of version 3 without subclusters, bit 0: reads as zeros.
const ZERO: u64 = 1;

/// Subclusters of a cluster: a bit of the lower half of their bitmap is for data, one of the upper half for zeros.
pub(super) const PARTS: u64 = 32;
/// Subclusters: all are data.
pub(super) const ALL_DATA: u64 = 0xffff_ffff;
/// Subclusters: all are zeros.
const ALL_ZERO: u64 = ALL_DATA << PARTS;

const L2_CACHE: usize = 32 << 20;

/// An L2 entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Entry {
    /// Host offset and flags.
    pub word: u64,
    /// With subclusters: which of them are data, and which are zeros; else 0.
    pub bitmap: u64,
}

/// Guest clusters written since the last commit, with the entries that they are to get: each has a place of its own.
pub(super) type Fresh = BTreeMap<u64, Entry>;

/// Where a run of guest bytes comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Zeros.
    Zero,
    /// The same bytes of the backing image.
    Backing,
    /// Bytes of the file that holds guest data, from this host offset.
    Data(u64),
    /// A part of one compressed cluster.
    Packed(Packed),
}

/// A compressed cluster in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed {
    /// Host offset, to the byte.
    pub offset: u64,
    /// Bytes, counted in whole sectors: the stream may end earlier.
    pub len: u64,
}

/// One image file of a chain.
pub(super) struct Image {
    pub path: PathBuf,
    pub storage: Arc<dyn Storage>,
    pub header: Header,
    pub l1: Vec<u64>,
    /// The file that holds the guest's data, if it is not this one.
    pub data: Option<Raw>,
    pub backing: Option<Node>,
    /// How the guest's data is encrypted, if it is.
    pub encryption: Option<Encryption>,
    tables: Cache<Vec<u64>>,
    pub inflated: Inflated,
}

impl Image {
    /// Reads the header and the L1 table; nothing else is read before it is asked for.
    pub fn new(storage: Arc<dyn Storage>) -> Result<Self> {
        let header = Header::read(storage.as_ref())?;
        let mut bytes = vec![0; header.l1_size as usize * 8];
        if !bytes.is_empty() {
            read_metadata(storage.as_ref(), header.l1_offset, &mut bytes, "the L1 table")?;
        }
        let encryption = Encryption::read(storage.as_ref(), &header)?;
        Ok(Image {
            path: storage.path().to_path_buf(),
            l1: entries(&bytes),
            storage,
            header,
            data: None,
            backing: None,
            encryption,
            tables: Cache::new(L2_CACHE),
            inflated: Inflated::new(),
        })
    }

    /// Forgets cached tables and data: their places may be something else now.
    pub fn forget(&self) {
        self.tables.clear();
        self.inflated.forget();
    }

    /// The clusters of the L1 table.
    pub fn l1_place(&self) -> Range<u64> {
        let start = self.header.l1_offset >> self.header.cluster_bits;
        start..start + (u64::from(self.header.l1_size) * 8).div_ceil(self.header.cluster_size())
    }

    fn corrupt(&self, what: String) -> Error {
        Error::corrupt(format!("qcow2: {what}")).at(self.path.display())
    }

    /// The L2 table at L1 entry `index`; `None` where there is none.
    pub fn table(&self, index: u64) -> Result<Option<Arc<Vec<u64>>>> {
        let entry = usize::try_from(index).ok().and_then(|i| self.l1.get(i)).copied().unwrap_or(0);
        self.table_of(index, entry)
    }

    /// The L2 table that `entry`, number `index` of some L1 table, names.
    pub fn table_of(&self, index: u64, entry: u64) -> Result<Option<Arc<Vec<u64>>>> {
        let offset = entry & OFFSET;
        if offset == 0 {
            return Ok(None);
        }
        let size = self.header.cluster_size();
        if !offset.is_multiple_of(size) {
            return Err(self.corrupt(format!("L1 entry {index}: L2 table at {offset}, not on a cluster")));
        }
        self.tables
            .get(offset, size as usize, || {
                let mut bytes = vec![0; size as usize];
                read_metadata(self.storage.as_ref(), offset, &mut bytes, "an L2 table")?;
                Ok(entries(&bytes))
            })
            .map(Some)
    }

    /// Words of an L2 entry.
    pub fn width(&self) -> usize {
        if self.header.extended() { 2 } else { 1 }
    }

    /// Entry `slot` of an L2 table.
    pub fn entry(&self, table: &[u64], slot: usize) -> Entry {
        let at = slot * self.width();
        let word = table.get(at).copied().unwrap_or(0);
        Entry { word, bitmap: if self.header.extended() { table.get(at + 1).copied().unwrap_or(0) } else { 0 } }
    }

    /// Puts an entry into an L2 table.
    pub fn put_entry(&self, table: &mut [u64], slot: usize, entry: Entry) {
        let at = slot * self.width();
        let words = [entry.word, entry.bitmap];
        if let Some(place) = table.get_mut(at..at + self.width()) {
            place.copy_from_slice(&words[..self.width()]);
        }
    }

    /// The entry of a cluster at a host offset that nothing else uses; `bitmap` counts with subclusters only.
    pub fn entry_at(&self, host: u64, bitmap: u64) -> Entry {
        Entry { word: host | COPIED, bitmap: if self.header.extended() { bitmap } else { 0 } }
    }

    /// Whether all of a cluster with a place is data.
    pub fn is_full(&self, entry: Entry) -> bool {
        !self.header.extended() || entry.bitmap == ALL_DATA
    }

    /// The committed entry of a guest cluster.
    pub fn committed(&self, cluster: u64) -> Result<Entry> {
        let per_table = self.header.l2_entries();
        let table = self.table(cluster / per_table)?;
        Ok(table.map_or(Entry::default(), |table| self.entry(&table, (cluster % per_table) as usize)))
    }

    /// The entry of a cluster of zeros without a place; not for version 2.
    pub fn zero_entry(&self) -> Entry {
        match self.header.extended() {
            true => Entry { word: 0, bitmap: ALL_ZERO },
            false => Entry { word: ZERO, bitmap: 0 },
        }
    }

    /// The host clusters that an entry refers to: they are counted, so none in a data file.
    pub fn clusters_of(&self, cluster: u64, entry: Entry) -> Result<Range<u64>> {
        let bits = self.header.cluster_bits;
        if entry.word & PACKED != 0 {
            let packed = self.packed(entry.word);
            return Ok(packed.offset >> bits..((packed.offset + packed.len - 1) >> bits) + 1);
        }
        match self.host(cluster, entry.word)? {
            Some(host) if self.header.incompatible & DATA_FILE == 0 => Ok(host >> bits..(host >> bits) + 1),
            _ => Ok(0..0),
        }
    }

    fn hole(&self) -> Source {
        if self.backing.is_some() { Source::Backing } else { Source::Zero }
    }

    /// The compressed cluster that an L2 entry names: `x = 62 - (cluster_bits - 8)` bits of offset, then a
    /// count of further sectors.
    pub fn packed(&self, entry: u64) -> Packed {
        let bits = 62 - (self.header.cluster_bits - 8);
        let offset = entry & ((1 << bits) - 1);
        let sectors = ((entry & (PACKED - 1)) >> bits) + 1;
        Packed { offset, len: sectors * 512 - (offset & 511) }
    }

    /// The longest run from `offset` that one entry of a table answers. `held` is the table that was used last.
    fn piece(&self, fresh: &Fresh, offset: u64, held: &mut Option<(u64, Arc<Vec<u64>>)>) -> Result<(Source, u64)> {
        let size = self.header.cluster_size();
        let cluster = offset >> self.header.cluster_bits;
        let within = offset & (size - 1);
        if let Some(entry) = fresh.get(&cluster) {
            return self.answer(cluster, *entry, within);
        }
        let per_table = self.header.l2_entries();
        let (index, slot) = (cluster / per_table, cluster % per_table);
        if held.as_ref().is_none_or(|(of, _)| *of != index) {
            *held = self.table(index)?.map(|table| (index, table));
        }
        let Some((_, table)) = held else {
            let end = (index + 1) * per_table;
            let end = fresh.range(cluster..end).next().map_or(end, |(next, _)| *next);
            return Ok((self.hole(), (end - cluster) * size - within));
        };
        self.answer(cluster, self.entry(table, slot as usize), within)
    }

    /// What an entry says of its cluster from byte `within` on, and for how many bytes.
    fn answer(&self, cluster: u64, entry: Entry, within: u64) -> Result<(Source, u64)> {
        let Entry { word: entry, bitmap } = entry;
        if self.header.extended() {
            return self.subcluster(cluster, entry, bitmap, within);
        }
        let left = self.header.cluster_size() - within;
        if entry & PACKED != 0 {
            return Ok((Source::Packed(self.packed(entry)), left));
        }
        if self.header.version == 3 && entry & ZERO != 0 {
            return Ok((Source::Zero, left));
        }
        Ok((self.host(cluster, entry)?.map_or(self.hole(), |host| Source::Data(host + within)), left))
    }

    /// The host offset that a standard L2 entry names, if it names one.
    pub fn host(&self, cluster: u64, entry: u64) -> Result<Option<u64>> {
        let host = entry & OFFSET;
        if !host.is_multiple_of(self.header.cluster_size()) {
            return Err(self.corrupt(format!("L2 entry of guest cluster {cluster}: host offset {host}")));
        }
        if self.header.incompatible & DATA_FILE == 0 {
            return Ok((host != 0).then_some(host));
        }
        // Only in a data file can offset 0 hold guest data; bit 63 says so.
        let there = host != 0 || entry & COPIED != 0;
        if there && host != cluster << self.header.cluster_bits {
            return Err(self.corrupt(format!(
                "L2 entry of guest cluster {cluster}: host offset {host} in the data file, not its own"
            )));
        }
        Ok(there.then_some(host))
    }

    fn subcluster(&self, cluster: u64, entry: u64, bitmap: u64, within: u64) -> Result<(Source, u64)> {
        let size = self.header.cluster_size();
        if entry & PACKED != 0 {
            return Ok((Source::Packed(self.packed(entry)), size - within));
        }
        let part = self.grain();
        let (number, inside) = (within / part, within % part);
        let (data, zero) = (bitmap >> number & 1 != 0, bitmap >> (PARTS + number) & 1 != 0);
        let source = match (data, zero) {
            (true, true) => {
                return Err(self.corrupt(format!(
                    "L2 entry of guest cluster {cluster}: subcluster {number} is both allocated and zero"
                )));
            }
            (false, true) => Source::Zero,
            (false, false) => self.hole(),
            (true, false) => match self.host(cluster, entry)? {
                Some(host) => Source::Data(host + within),
                None => {
                    return Err(self.corrupt(format!(
                        "L2 entry of guest cluster {cluster}: subcluster {number} is allocated nowhere"
                    )));
                }
            },
        };
        Ok((source, part - inside))
    }

    /// Calls `each` for every run of `range`, in order, neighbours merged.
    pub fn pieces(
        &self,
        fresh: &Fresh,
        range: Range<u64>,
        mut each: impl FnMut(Range<u64>, Source) -> Result<()>,
    ) -> Result<()> {
        let mut open: Option<(Range<u64>, Source)> = None;
        let mut held = None;
        let mut at = range.start;
        while at < range.end {
            let (source, len) = self.piece(fresh, at, &mut held)?;
            let end = at.saturating_add(len).min(range.end);
            match &mut open {
                Some((run, first)) if continues(*first, run.end - run.start, source) => run.end = end,
                _ => {
                    if let Some((run, source)) = open.replace((at..end, source)) {
                        each(run, source)?;
                    }
                }
            }
            at = end;
        }
        open.map_or(Ok(()), |(run, source)| each(run, source))
    }

    /// Fills `buf` from guest byte `offset`, which lies with all of `buf` inside the disk.
    pub fn read(&self, fresh: &Fresh, offset: u64, buf: &mut [u8]) -> Result<()> {
        let compressed = self.read_plain(fresh, offset, buf, false)?;
        if compressed.is_empty() {
            return Ok(());
        }
        self.read_packed(fresh, offset, buf, &compressed)
    }

    /// Fills what is not compressed of `buf`; answers what is.
    pub fn read_plain(
        &self,
        fresh: &Fresh,
        offset: u64,
        buf: &mut [u8],
        beside: bool,
    ) -> Result<Vec<(Range<u64>, Packed)>> {
        let range = offset..offset + buf.len() as u64;
        let mut compressed = Vec::new();
        self.pieces(fresh, range, |run, source| {
            let part = (run.start - offset) as usize..(run.end - offset) as usize;
            let Some(out) = buf.get_mut(part) else { return Ok(()) };
            match source {
                Source::Zero => out.fill(0),
                Source::Backing => match &self.backing {
                    Some(node) => node.read(run.start, out, beside)?,
                    None => out.fill(0),
                },
                Source::Data(host) => match (&self.data, &self.encryption) {
                    (Some(data), _) => data.read_at(host, out)?,
                    (None, Some(encryption)) => encryption.read_at(self.storage.as_ref(), host, out)?,
                    (None, None) => read_data(self.storage.as_ref(), host, out)?,
                },
                Source::Packed(_) if self.encryption.is_some() => {
                    return Err(self.corrupt("a compressed cluster in an encrypted image".into()));
                }
                Source::Packed(packed) => compressed.push((run, packed)),
            }
            Ok(())
        })?;
        Ok(compressed)
    }

    /// Appends the runs of `range`: data and holes, as the maps say.
    pub fn runs(&self, fresh: &Fresh, range: Range<u64>, runs: &mut Vec<Run>) -> Result<()> {
        self.pieces(fresh, range, |part, source| {
            let below = match source {
                Source::Backing => self.backing.as_ref(),
                Source::Zero => None,
                Source::Data(_) | Source::Packed(_) => {
                    push(runs, Run { range: part, hole: false });
                    return Ok(());
                }
            };
            let end = below.map_or(0, Node::len).clamp(part.start, part.end);
            if let Some(node) = below.filter(|_| part.start < end) {
                node.runs(part.start..end, runs)?;
            }
            if end < part.end {
                push(runs, Run { range: end..part.end, hole: true });
            }
            Ok(())
        })
    }

    /// See [`Disk::locate`].
    pub fn locate(
        &self,
        fresh: &Fresh,
        range: Range<u64>,
        each: &mut dyn FnMut(Located<'_>) -> Result<()>,
    ) -> Result<()> {
        self.pieces(fresh, range, |part, source| {
            let (file, start) = (self.path.as_path(), self.storage.start());
            match (source, &self.backing, &self.data) {
                (Source::Backing, Some(node), _) => node.locate(part, file, each),
                (Source::Zero | Source::Backing, ..) => each(Located { range: part, file, kept: Kept::Zero }),
                (Source::Data(host), _, Some(data)) => {
                    let len = part.end - part.start;
                    let moved = |at: u64| at - host + part.start;
                    data.locate(host..host + len, &mut |found| {
                        each(Located { range: moved(found.range.start)..moved(found.range.end), ..found })
                    })
                }
                (Source::Data(host), _, None) => each(Located { range: part, file, kept: Kept::Data(start + host) }),
                (Source::Packed(Packed { offset, len }), ..) => {
                    each(Located { range: part, file, kept: Kept::Compressed { at: start + offset, len } })
                }
            }
        })
    }

    /// Names every file of the chain from here down.
    pub fn files(&self, list: &mut Vec<PathBuf>) {
        list.push(self.path.clone());
        list.extend(self.data.iter().flat_map(Disk::files));
        match &self.backing {
            Some(Node::Image(image)) => image.files(list),
            Some(Node::Raw(raw, _)) => list.extend(raw.files()),
            None => {}
        }
    }
}

fn continues(first: Source, len: u64, next: Source) -> bool {
    match (first, next) {
        (Source::Data(host), Source::Data(more)) => host.checked_add(len) == Some(more),
        (Source::Packed(_), _) => false,
        (first, next) => first == next,
    }
}

/// A table of big-endian 64-bit entries.
pub(super) fn entries(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|entry| be64(entry, 0)).collect()
}

/// The bytes of a table.
pub(super) fn to_bytes(table: &[u64]) -> Vec<u8> {
    table.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}
