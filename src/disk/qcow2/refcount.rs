//! Refcounts: reading them at any width, finding free clusters, and writing changed ones to a new place.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::cache::Cache;
use super::deltas::{Deltas, Impossible};
use super::header::{Header, TABLE_LIMIT};
use super::map::{Image, OFFSET, entries, to_bytes};
use super::storage::{Storage, read_metadata};
use super::write::RunWriter;
use crate::base::bytes::{be16, be32, be64, put_be16, put_be32, put_be64, u8_at};
use crate::base::{Error, Kind, Result};

const BLOCK_CACHE: usize = 8 << 20;
/// A big write skips free runs shorter than this, so that it does not end up in crumbs.
const WORTHWHILE: u64 = 32;
/// So many bytes past the end of the file may be marked used before the refcounts count as damaged.
const PAST_END: u64 = 64 << 20;

/// The refcounts on disk, and the clusters taken since the last commit.
pub(super) struct Refcounts {
    storage: Arc<dyn Storage>,
    cluster_bits: u32,
    order: u32,
    table: Vec<u64>,
    place: Range<u64>,
    blocks: Cache<Vec<u8>>,
    /// All blocks that are not empty, counted anew, where those on disk are not to be believed.
    counted: Option<BTreeMap<u64, Arc<Vec<u8>>>>,
    /// Clusters that hold tables on disk: their refcount is not 0, whatever the refcounts say.
    reserved: HashSet<u64>,
    taken: Clusters,
    /// Where the next search begins. Nothing before it is looked at again until the next commit.
    next: u64,
    /// No cluster before this one is taken.
    floor: u64,
}

/// A set of clusters as runs, start to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Clusters(BTreeMap<u64, u64>);

impl Clusters {
    /// Adds a run that is not in the set yet.
    pub fn insert(&mut self, run: Range<u64>) {
        let mut run = run;
        if let Some((&start, &end)) = self.0.range(..run.start).next_back()
            && end == run.start
        {
            run.start = start;
        }
        if let Some(end) = self.0.remove(&run.end) {
            run.end = end;
        }
        self.0.insert(run.start, run.end);
    }

    /// Removes a run that is in the set as a whole.
    pub fn remove(&mut self, run: Range<u64>) {
        let Some((&start, &end)) = self.0.range(..=run.start).next_back() else { return };
        self.0.remove(&start);
        if start < run.start {
            self.0.insert(start, run.start);
        }
        if run.end < end {
            self.0.insert(run.end, end);
        }
    }

    /// The end of the run that holds a cluster.
    fn end_of(&self, cluster: u64) -> Option<u64> {
        self.0.range(..=cluster).next_back().map(|(_, end)| *end).filter(|end| cluster < *end)
    }

    /// All runs, ascending.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }
}

/// What was taken up to some moment.
#[derive(Debug, Default)]
pub(super) struct Taken {
    clusters: Clusters,
    next: u64,
}

/// New roots of the refcounts, on disk but not switched to yet.
pub(super) struct NewRefcounts {
    /// Clusters of the new table.
    pub place: Range<u64>,
    /// Clusters that nothing refers to any more, ascending.
    pub freed: Vec<u64>,
    table: Vec<u64>,
}

impl Refcounts {
    /// Reads the refcount table of an image that is now open for writing.
    pub fn new(image: &Image) -> Result<Self> {
        let header = &image.header;
        let place = table_place(header);
        let size = (place.end - place.start) << header.cluster_bits;
        let mut bytes = vec![0; size as usize];
        read_metadata(image.storage.as_ref(), header.table_offset, &mut bytes, "the refcount table")?;
        let table = entries(&bytes);
        let mut counts = Refcounts {
            storage: image.storage.clone(),
            cluster_bits: header.cluster_bits,
            order: header.refcount_order,
            table,
            place,
            blocks: Cache::new(BLOCK_CACHE),
            counted: None,
            reserved: HashSet::new(),
            taken: Clusters::default(),
            next: 0,
            floor: 0,
        };
        if let Some(index) = counts.table.iter().position(|entry| entry & !OFFSET != 0) {
            return Err(counts.corrupt(format!("refcount table entry {index}: no place of a block")));
        }
        counts.reserve(image);
        Ok(counts)
    }

    /// Believes these blocks from now on, and not those on disk. The next commit writes them; the clusters of the
    /// old blocks must be counted in them.
    pub fn believe(&mut self, counted: BTreeMap<u64, Vec<u8>>) {
        self.counted = Some(counted.into_iter().map(|(index, block)| (index, Arc::new(block))).collect());
    }

    /// Whether the counts are others than those on disk.
    pub fn recounted(&self) -> bool {
        self.counted.is_some()
    }

    fn reserve(&mut self, image: &Image) {
        let bits = self.cluster_bits;
        self.reserved.clear();
        self.reserved.insert(0);
        self.reserved.extend(self.place.clone());
        self.reserved.extend(image.header.encryption_place());
        self.reserved.extend(image.l1_place());
        self.reserved.extend(self.old_blocks());
        self.reserved.extend(image.l1.iter().map(|entry| (entry & OFFSET) >> bits).filter(|cluster| *cluster != 0));
    }

    /// Whether a cluster holds a table of the disk or of the refcounts.
    pub fn is_reserved(&self, cluster: u64) -> bool {
        self.reserved.contains(&cluster)
    }

    /// The clusters of the refcount blocks on disk.
    pub fn old_blocks(&self) -> BTreeSet<u64> {
        let bits = self.cluster_bits;
        let whole = |entry: &&u64| **entry != 0 && (**entry).is_multiple_of(1 << bits);
        self.table.iter().filter(whole).map(|entry| entry >> bits).collect()
    }

    /// The numbers of all blocks that there are, ascending. Each must have a place of its own.
    pub fn indexes(&self) -> impl Iterator<Item = u64> + '_ {
        (0..).zip(&self.table).filter(|(_, entry)| **entry != 0).map(|(index, _)| index)
    }

    /// The clusters of the refcount table on disk.
    pub fn table_place(&self) -> Range<u64> {
        self.place.clone()
    }

    /// `1 << order` bits are a count.
    pub fn order(&self) -> u32 {
        self.order
    }

    /// Refcounts in a block.
    pub fn per_block(&self) -> u64 {
        1 << (self.cluster_bits + 3 - self.order)
    }

    /// A refcount block; `None` where there is none: nothing is used there.
    pub fn block(&self, index: u64) -> Result<Option<Arc<Vec<u8>>>> {
        if let Some(counted) = &self.counted {
            return Ok(counted.get(&index).cloned());
        }
        let offset = usize::try_from(index).ok().and_then(|i| self.table.get(i)).copied().unwrap_or(0);
        if offset == 0 {
            return Ok(None);
        }
        let size = 1usize << self.cluster_bits;
        if offset % size as u64 != 0 {
            return Err(self.corrupt(format!("refcount table entry {index}: block at {offset}, not on a cluster")));
        }
        self.blocks
            .get(offset, size, || {
                let mut bytes = vec![0; size];
                read_metadata(self.storage.as_ref(), offset, &mut bytes, "a refcount block")?;
                Ok(bytes)
            })
            .map(Some)
    }

    fn corrupt(&self, what: String) -> Error {
        Error::corrupt(format!("qcow2: {what}"))
            .at(self.storage.path().display())
            .hint("nothing was changed; qemu-img check tells more")
    }

    /// The committed refcount of a cluster.
    pub fn get(&self, cluster: u64) -> Result<u64> {
        let per_block = self.per_block();
        Ok(self
            .block(cluster / per_block)?
            .map_or(0, |block| count(&block, (cluster % per_block) as usize, self.order)))
    }

    /// From now on clusters are taken from this one on.
    pub fn only_from(&mut self, floor: u64) {
        self.floor = floor;
        self.next = self.next.max(floor);
    }

    /// Takes up to `want` clusters in one run (`exact`: all of them), free in the committed state and not taken.
    pub fn take(&mut self, want: u64, exact: bool) -> Result<Range<u64>> {
        let file_end = self.storage.len()?.div_ceil(1 << self.cluster_bits);
        let enough = if exact { want } else { want.min(WORTHWHILE) };
        let mut past_end = 0;
        let mut run = self.next..self.next;
        let mut block = (u64::MAX, None);
        let per_block = self.per_block();
        while run.end - run.start < want {
            let cluster = run.end;
            if block.0 != cluster / per_block {
                block = (cluster / per_block, self.block(cluster / per_block)?);
            }
            let used = match (&block.1, self.taken.end_of(cluster)) {
                (_, Some(end)) => Some(end),
                (Some(block), None) if count(block, (cluster % per_block) as usize, self.order) != 0 => {
                    Some(cluster + 1)
                }
                _ => None,
            };
            match used {
                None => run.end += 1,
                Some(_) if run.end - run.start >= enough => break,
                Some(next) => {
                    past_end += if cluster >= file_end { next - cluster } else { 0 };
                    if past_end > PAST_END >> self.cluster_bits {
                        return Err(self.corrupt("refcounts: no free cluster near the end of the file".into()));
                    }
                    run = next..next;
                }
            }
        }
        if let Some(cluster) = run.clone().find(|cluster| self.reserved.contains(cluster)) {
            return Err(self.corrupt(format!("refcounts: cluster {cluster} holds a table and its refcount is 0")));
        }
        if (run.end << self.cluster_bits) > OFFSET
            || (!self.storage.grows() && run.end > self.storage.len()? >> self.cluster_bits)
        {
            return Err(Error::from(Kind::NoSpace).at(self.storage.path().display()));
        }
        self.taken.insert(run.clone());
        self.next = run.end;
        Ok(run)
    }

    /// Gives back clusters that were taken since the last commit.
    pub fn release(&mut self, run: Range<u64>) {
        self.taken.remove(run);
    }

    /// The clusters taken since the last commit.
    pub fn taken(&self) -> &Clusters {
        &self.taken
    }

    /// Forgets what was taken since the last commit.
    pub fn forget(&mut self) {
        self.back_to(Taken::default());
    }

    /// What is taken now.
    pub fn mark(&self) -> Taken {
        Taken { clusters: self.taken.clone(), next: self.next }
    }

    /// Forgets what was taken since a mark; gives these clusters, and where those of the mark end.
    pub fn back_to(&mut self, mark: Taken) -> (Vec<Range<u64>>, u64) {
        // Clusters are taken in ascending order.
        let later = |run: Range<u64>| run.start.max(mark.next)..run.end;
        let given = self.taken.runs().map(later).filter(|run| !run.is_empty()).collect();
        let end = mark.clusters.runs().last().map_or(0, |run| run.end);
        self.taken = mark.clusters;
        self.next = mark.next.max(self.floor);
        (given, end)
    }

    /// Writes all changed blocks and a new table to free places: each taken cluster gets the count 1, then `deltas`
    /// are made. The blocks' and the table's own old and new places change counts too, so the set of changed
    /// blocks is grown until it holds itself.
    pub fn rewrite(&mut self, mut deltas: Deltas) -> Result<NewRefcounts> {
        let bits = self.cluster_bits;
        let per_block = self.per_block();
        deltas.drop(self.place.clone());
        if self.counted.is_some() {
            self.old_blocks().into_iter().for_each(|block| deltas.drop(block..block + 1));
        }
        let mut homes: BTreeMap<u64, u64> = BTreeMap::new();
        let mut place = 0..0;
        loop {
            let mut changed: BTreeSet<u64> = deltas.blocks().collect();
            for run in self.taken.runs() {
                changed.extend(run.start / per_block..=(run.end - 1) / per_block);
            }
            changed.extend(self.counted.iter().flat_map(BTreeMap::keys));
            changed.retain(|index| !homes.contains_key(index));
            for index in &changed {
                homes.insert(*index, self.take(1, true)?.start);
                let old = usize::try_from(*index).ok().and_then(|i| self.table.get(i)).copied().unwrap_or(0);
                if old != 0 && self.counted.is_none() {
                    deltas.drop(old >> bits..(old >> bits) + 1);
                }
            }
            let last = homes.keys().next_back().map_or(0, |index| index + 1);
            let kept = if self.counted.is_some() { 0 } else { self.table.len() as u64 };
            let clusters = last.max(kept).saturating_mul(8).div_ceil(1 << bits);
            if clusters << bits > TABLE_LIMIT {
                return Err(Error::unsupported("qcow2: the refcount table would be over 8 MiB")
                    .at(self.storage.path().display()));
            }
            if place.end - place.start < clusters {
                if !place.is_empty() {
                    self.taken.remove(place);
                }
                place = self.take(clusters, true)?;
            } else if changed.is_empty() {
                break;
            }
        }
        let mut table = if self.counted.is_some() { Vec::new() } else { self.table.clone() };
        table.resize(((place.end - place.start) << bits) as usize / 8, 0);
        let mut freed = Vec::new();
        let mut writer = RunWriter::new(self.storage.as_ref());
        for (index, home) in &homes {
            let block = self.changed_block(*index, &deltas, &mut freed)?;
            writer.write(home << bits, &block)?;
            if let Some(entry) = table.get_mut(*index as usize) {
                *entry = home << bits;
            }
        }
        writer.write(place.start << bits, &to_bytes(&table))?;
        writer.finish()?;
        Ok(NewRefcounts { place, freed, table })
    }

    fn changed_block(&self, index: u64, deltas: &Deltas, freed: &mut Vec<u64>) -> Result<Vec<u8>> {
        let mut block = self.block(index)?.map_or_else(|| vec![0; 1 << self.cluster_bits], |block| block.to_vec());
        let span = index * self.per_block()..(index + 1) * self.per_block();
        for run in self.taken.runs() {
            for cluster in run.start.max(span.start)..run.end.min(span.end) {
                set_count(&mut block, (cluster - span.start) as usize, self.order, 1);
            }
        }
        freed.extend(deltas.apply(index, &mut block, self.order).map_err(|why| {
            match why {
                Impossible::Below(cluster) => {
                    self.corrupt(format!("refcounts: cluster {cluster} is in use and its refcount is 0"))
                }
                Impossible::Over(cluster) => Error::unsupported(format!(
                    "qcow2: cluster {cluster} would have more than {} references, the most of refcounts of {} bits",
                    most(self.order),
                    1 << self.order
                ))
                .at(self.storage.path().display()),
            }
        })?);
        Ok(block)
    }

    /// A block as it will be after `deltas`, without what has been taken since the last commit.
    pub fn block_after(&self, index: u64, deltas: &Deltas) -> Result<Vec<u8>> {
        let mut block = self.block(index)?.map_or_else(|| vec![0; 1 << self.cluster_bits], |block| block.to_vec());
        deltas
            .apply(index, &mut block, self.order)
            .map_err(|_| self.corrupt(format!("refcount block {index} does not fit what refers to its clusters")))?;
        Ok(block)
    }

    /// The header has been switched to `new`.
    pub fn switched(&mut self, new: NewRefcounts, image: &Image) {
        self.table = new.table;
        self.place = new.place;
        self.blocks.clear();
        self.counted = None;
        self.forget();
        self.reserve(image);
    }
}

fn table_place(header: &Header) -> Range<u64> {
    let start = header.table_offset >> header.cluster_bits;
    start..start + u64::from(header.table_clusters)
}

/// The refcount at `slot` of a block; below 8 bits the first one is in the lowest bits of its byte.
pub(super) fn count(block: &[u8], slot: usize, order: u32) -> u64 {
    match order {
        0..=2 => {
            let (per_byte, bits) = (8 >> order, 1 << order);
            u64::from(u8_at(block, slot / per_byte) >> (slot % per_byte * bits) & ((1u16 << bits) - 1) as u8)
        }
        3 => u8_at(block, slot).into(),
        4 => be16(block, slot * 2).into(),
        5 => be32(block, slot * 4).into(),
        _ => be64(block, slot * 8),
    }
}

/// The greatest refcount of `1 << order` bits.
pub(super) fn most(order: u32) -> u64 {
    u64::MAX >> (64 - (1u32 << order.min(6)))
}

/// Sets a refcount to a value that fits.
pub(super) fn set_count(block: &mut [u8], slot: usize, order: u32, value: u64) {
    match order {
        0..=2 => {
            let (per_byte, bits) = (8 >> order, 1 << order);
            let shift = slot % per_byte * bits;
            let mask = ((1u16 << bits) - 1) as u8;
            if let Some(byte) = block.get_mut(slot / per_byte) {
                *byte = *byte & !(mask << shift) | (value as u8 & mask) << shift;
            }
        }
        3 => {
            if let Some(byte) = block.get_mut(slot) {
                *byte = value as u8;
            }
        }
        4 => put_be16(block, slot * 2, value as u16),
        5 => put_be32(block, slot * 4, value as u32),
        _ => put_be64(block, slot * 8, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_width() {
        for order in 0..=6 {
            let mut block = vec![0; 64];
            let most = most(order);
            let slots = (64 * 8) >> order;
            for slot in (0..slots).step_by(3) {
                set_count(&mut block, slot, order, most);
            }
            for slot in 0..slots {
                assert_eq!(
                    count(&block, slot, order),
                    if slot % 3 == 0 { most } else { 0 },
                    "order {order} slot {slot}"
                );
            }
        }
        assert_eq!((count(&[0b10], 1, 0), count(&[0b0100], 1, 1), count(&[0x30], 1, 2)), (1, 1, 3));
    }

    #[test]
    fn sets_of_clusters() {
        let mut set = Clusters::default();
        set.insert(10..20);
        set.insert(20..30);
        set.insert(5..10);
        assert!(set.runs().eq(std::iter::once(5..30)));
        set.remove(7..8);
        assert_eq!(set.runs().collect::<Vec<_>>(), [5..7, 8..30]);
        assert_eq!((set.end_of(7), set.end_of(8), set.end_of(30)), (None, Some(30), None));
        set.remove(8..30);
        set.remove(5..7);
        assert!(set.runs().next().is_none());
    }
}
