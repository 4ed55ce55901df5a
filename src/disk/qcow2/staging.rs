//! Changes of a commit, put together to whole clusters that go to free places. Clusters that are fresh are not written to
//! either: a commit that fails leaves them for another try.

use std::collections::BTreeMap;
use std::ops::Range;

use super::draft::Draft;
use super::map::{Entry, Fresh, Image};
use super::write::{BATCH, Writer};
use crate::base::{Error, Kind, Result};
use crate::disk::Change;

/// Guest clusters without data of their own from now on, with their L2 entries.
pub(super) type Cleared = BTreeMap<u64, Entry>;

/// Collects changes into whole clusters.
pub(super) struct Stager<'a> {
    writer: &'a mut Writer,
    state: (&'a mut Fresh, &'a Image),
    /// What is to read as zeros.
    pub cleared: Cleared,
    /// The cluster that is being put together.
    open: Option<Draft>,
    batch: Batch,
}

/// Finished clusters that follow each other, to be written at once.
#[derive(Default)]
struct Batch {
    first: u64,
    bytes: Vec<u8>,
}

impl<'a> Stager<'a> {
    /// Nothing collected yet.
    pub fn new(writer: &'a mut Writer, fresh: &'a mut Fresh, image: &'a Image) -> Self {
        Stager { writer, state: (fresh, image), cleared: Cleared::new(), open: None, batch: Batch::default() }
    }

    /// One change; they come ascending.
    pub fn change(&mut self, offset: u64, change: Change<'_>) -> Result<()> {
        let image = self.state.1;
        let (bits, size) = (image.header.cluster_bits, image.header.size);
        let len = match change {
            Change::Data(data) => data.len() as u64,
            Change::Zero(len) => len,
        };
        let end = offset.checked_add(len).filter(|end| *end <= size).ok_or_else(|| {
            Error::new(Kind::Io, format!("a change of {len} bytes at {offset} is outside the disk of {size} bytes"))
        })?;
        let mut at = offset;
        while at < end {
            let cluster = at >> bits;
            let stop = ((cluster + 1) << bits).min(end);
            let whole = at == cluster << bits && (stop == (cluster + 1) << bits || stop == size);
            match change {
                Change::Zero(_) if whole => {
                    // Up to the last whole cluster, or the cut one at the end of the disk.
                    let last = if end == size { ((end - 1) >> bits) + 1 } else { end >> bits };
                    self.close()?;
                    self.clear(cluster..last)?;
                    at = (last << bits).min(end);
                    continue;
                }
                Change::Zero(_) => self.piece(cluster, at, &vec![0; (stop - at) as usize])?,
                Change::Data(data) => {
                    let part = data.get((at - offset) as usize..(stop - offset) as usize).unwrap_or_default();
                    self.piece(cluster, at, part)?;
                }
            }
            at = stop;
        }
        Ok(())
    }

    /// Lays `data` over its place in one cluster.
    fn piece(&mut self, cluster: u64, at: u64, data: &[u8]) -> Result<()> {
        if self.open.as_ref().is_none_or(|open| open.cluster != cluster) {
            self.close()?;
        }
        let (fresh, image) = &self.state;
        self.open.get_or_insert_with(|| Draft::new(image, cluster)).lay(image, fresh, at, data)
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut draft) = self.open.take() else { return Ok(()) };
        let (fresh, image) = &mut self.state;
        draft.complete(image, fresh)?;
        let has_data = draft.thin(image);
        match draft.whole(image) {
            Some(bytes) => self.push(draft.cluster, bytes),
            None if has_data => self.writer.put(image, fresh, &draft),
            None => {
                let bitmap = draft.bitmap(image);
                self.empty(draft.cluster, bitmap)
            }
        }
    }

    /// Leaves a cluster without data: what of it is not zeros stays with the backing file.
    fn empty(&mut self, cluster: u64, bitmap: u64) -> Result<()> {
        let entry = Entry { word: 0, bitmap };
        let image = self.state.1;
        if !image.header.extended() || entry == image.zero_entry() || cluster >= self.below() {
            return self.clear(cluster..cluster + 1);
        }
        self.unfresh(cluster);
        if image.committed(cluster)? != entry {
            self.cleared.insert(cluster, entry);
        }
        Ok(())
    }

    /// The clusters that a backing file may say something about.
    fn below(&self) -> u64 {
        let image = self.state.1;
        image.backing.as_ref().map_or(0, |node| node.len().div_ceil(image.header.cluster_size()))
    }

    fn push(&mut self, cluster: u64, bytes: &[u8]) -> Result<()> {
        let bits = self.state.1.header.cluster_bits;
        let next = self.batch.first + (self.batch.bytes.len() as u64 >> bits);
        if next != cluster || self.batch.bytes.len() >= BATCH {
            self.flush()?;
            self.batch.first = cluster;
        }
        self.batch.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.batch.bytes.is_empty() {
            self.writer.whole(self.state.1, self.state.0, self.batch.first, &self.batch.bytes)?;
            self.batch.bytes.clear();
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(&mut self) -> Result<()> {
        self.close()?;
        self.flush()
    }

    /// Makes whole clusters read as zeros: without an entry where nothing is below, with the zero flag in
    /// version 3, as data in version 2.
    fn clear(&mut self, clusters: Range<u64>) -> Result<()> {
        let image = self.state.1;
        let header = &image.header;
        let per_table = header.l2_entries();
        let below = self.below();
        let mut cluster = clusters.start;
        while cluster < clusters.end {
            let Some(table) = image.table(cluster / per_table)? else {
                if cluster >= below {
                    // Nothing on disk until the end of this table's span: only fresh clusters count.
                    let end = clusters.end.min((cluster / per_table + 1) * per_table);
                    while let Some((&next, _)) = self.state.0.range(cluster..end).next() {
                        self.unfresh(next);
                    }
                    cluster = end;
                    continue;
                }
                self.clear_one(cluster, Entry::default(), true)?;
                cluster += 1;
                continue;
            };
            let old = image.entry(&table, (cluster % per_table) as usize);
            self.clear_one(cluster, old, cluster < below)?;
            cluster += 1;
        }
        Ok(())
    }

    fn clear_one(&mut self, cluster: u64, old: Entry, covers: bool) -> Result<()> {
        let header = &self.state.1.header;
        if covers && header.version < 3 {
            return self.push(cluster, &vec![0; header.cluster_size() as usize]);
        }
        self.unfresh(cluster);
        let image = self.state.1;
        let entry = if covers { image.zero_entry() } else { Entry::default() };
        if old != entry && !(header.version == 3 && old == image.zero_entry()) {
            self.cleared.insert(cluster, entry);
        }
        Ok(())
    }

    fn unfresh(&mut self, cluster: u64) {
        if let Some(entry) = self.state.0.remove(&cluster) {
            self.writer.release(self.state.1, entry);
        }
    }
}
