//! The shadow commit: changes into fresh clusters, new tables beside the old ones, one switch of the header.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::State;
use super::bitmaps;
use super::header::Header;
use super::map::{COPIED, OFFSET, PACKED, ZERO, to_bytes};
use super::refcount::NewRefcounts;
use super::write::{BATCH, RunWriter, Writer};
use crate::base::bytes::is_zero;
use crate::base::{Error, Kind, Result};
use crate::disk::{Change, Changes};

/// Why an object does no more writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// A commit failed before the switch: the image is as it was, what was written fresh is gone.
    Failed,
    /// The switch itself failed: the image may be in the old or in the new state.
    Unknown,
}

/// Guest clusters without data of their own from now on, with their L2 entries.
type Cleared = BTreeMap<u64, u64>;

/// Everything written, nothing switched.
struct Prepared {
    header: Header,
    l1: Vec<u64>,
    counts: NewRefcounts,
}

/// Commits; `state.writer` is open.
pub(super) fn commit(state: &mut State, changes: &dyn Changes) -> Result<()> {
    let Some(writer) = state.writer.as_mut() else { return Ok(()) };
    let mut stager = Stager {
        writer,
        state: (&mut state.fresh, &state.image),
        cleared: Cleared::new(),
        open: None,
        batch: Batch::default(),
    };
    let staged = changes.visit(&mut |offset, change| stager.change(offset, change)).and_then(|()| stager.finish());
    let prepared = staged.map(|()| stager.cleared).and_then(|cleared| prepare(state, cleared));
    match prepared {
        Ok(None) => Ok(()),
        Ok(Some(prepared)) => switch(state, prepared),
        Err(error) => {
            state.broken = Some(Broken::Failed);
            if let Some(writer) = state.writer.as_mut() {
                // The first error is the one to tell.
                writer.abandon(&state.image, &mut state.fresh).ok();
            }
            Err(error)
        }
    }
}

/// Collects changes into whole clusters.
struct Stager<'a> {
    writer: &'a mut Writer,
    state: (&'a mut super::map::Fresh, &'a super::map::Image),
    cleared: Cleared,
    /// The cluster that is being put together.
    open: Option<(u64, Vec<u8>)>,
    batch: Batch,
}

/// Finished clusters that follow each other, to be written at once.
#[derive(Default)]
struct Batch {
    first: u64,
    bytes: Vec<u8>,
}

impl Stager<'_> {
    fn change(&mut self, offset: u64, change: Change<'_>) -> Result<()> {
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
                    let last = if end == size { (end - 1 >> bits) + 1 } else { end >> bits };
                    self.close()?;
                    self.clear(cluster..last)?;
                    at = (last << bits).min(end);
                    continue;
                }
                Change::Zero(_) => self.piece(cluster, at, &vec![0; (stop - at) as usize], whole)?,
                Change::Data(data) => {
                    let part = data.get((at - offset) as usize..(stop - offset) as usize).unwrap_or_default();
                    self.piece(cluster, at, part, whole)?;
                }
            }
            at = stop;
        }
        Ok(())
    }

    /// Lays `data` over its place in one cluster.
    fn piece(&mut self, cluster: u64, at: u64, data: &[u8], whole: bool) -> Result<()> {
        let (fresh, image) = (&mut *self.state.0, self.state.1);
        if fresh.contains_key(&cluster) {
            return self.writer.write(image, fresh, at, data);
        }
        let bits = image.header.cluster_bits;
        let start = cluster << bits;
        if self.open.as_ref().is_none_or(|(open, _)| *open != cluster) {
            self.close()?;
            let mut bytes = vec![0; 1 << bits];
            let inside = (image.header.size - start).min(1 << bits) as usize;
            if !whole && let Some(old) = bytes.get_mut(..inside) {
                image.read(self.state.0, start, old)?;
            }
            self.open = Some((cluster, bytes));
        }
        if let Some((_, bytes)) = &mut self.open
            && let Some(place) = bytes.get_mut((at - start) as usize..(at - start) as usize + data.len())
        {
            place.copy_from_slice(data);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some((cluster, bytes)) = self.open.take() else { return Ok(()) };
        if is_zero(&bytes) { self.clear(cluster..cluster + 1) } else { self.push(cluster, &bytes) }
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

    fn finish(&mut self) -> Result<()> {
        self.close()?;
        self.flush()
    }

    /// Makes whole clusters read as zeros: without an entry where nothing is below, with the zero flag in
    /// version 3, as data in version 2.
    fn clear(&mut self, clusters: Range<u64>) -> Result<()> {
        let image = self.state.1;
        let header = &image.header;
        let per_table = header.l2_entries();
        let below = image.backing.as_ref().map_or(0, |node| node.len().div_ceil(header.cluster_size()));
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
                self.clear_one(cluster, 0, true)?;
                cluster += 1;
                continue;
            };
            let old = table.get((cluster % per_table) as usize).copied().unwrap_or(0);
            self.clear_one(cluster, old, cluster < below)?;
            cluster += 1;
        }
        Ok(())
    }

    fn clear_one(&mut self, cluster: u64, old: u64, covers: bool) -> Result<()> {
        let header = &self.state.1.header;
        if covers && header.version < 3 {
            let zeros = vec![0; header.cluster_size() as usize];
            if self.state.0.contains_key(&cluster) {
                return self.writer.write(self.state.1, self.state.0, cluster << header.cluster_bits, &zeros);
            }
            return self.push(cluster, &zeros);
        }
        self.unfresh(cluster);
        let entry = if covers { ZERO } else { 0 };
        if old != entry && !(header.version == 3 && old == ZERO) {
            self.cleared.insert(cluster, entry);
        }
        Ok(())
    }

    fn unfresh(&mut self, cluster: u64) {
        if let Some(host) = self.state.0.remove(&cluster) {
            let host = host >> self.state.1.header.cluster_bits;
            self.writer.counts.release(host..host + 1);
        }
    }
}

/// Writes new L2 tables, the new L1 table and the new refcounts; `None`: there is nothing to commit.
fn prepare(state: &mut State, cleared: Cleared) -> Result<Option<Prepared>> {
    let State { image, fresh, writer: Some(writer), .. } = state else { return Ok(None) };
    if fresh.is_empty() && cleared.is_empty() {
        return Ok(None);
    }
    let bits = image.header.cluster_bits;
    let per_table = image.header.l2_entries();
    let mut header = image.header.clone();
    let mut drops = bitmaps::remove(image, &mut header)?;

    let mut l1 = image.l1.clone();
    let mut run = RunWriter::new(image.storage.as_ref());
    let indexes: BTreeSet<u64> = fresh.keys().chain(cleared.keys()).map(|cluster| cluster / per_table).collect();
    for index in indexes {
        let mut table = match image.table(index)? {
            Some(table) => table.to_vec(),
            None => vec![0; per_table as usize],
        };
        let span = index * per_table..(index + 1) * per_table;
        let new = fresh.range(span.clone()).map(|(cluster, host)| (*cluster, host | COPIED));
        for (cluster, entry) in new.chain(cleared.range(span.clone()).map(|(cluster, entry)| (*cluster, *entry))) {
            if let Some(slot) = table.get_mut((cluster - span.start) as usize) {
                let old = std::mem::replace(slot, entry);
                if old & PACKED != 0 {
                    let packed = image.packed(old);
                    drops.extend(packed.offset >> bits..=(packed.offset + packed.len - 1) >> bits);
                } else {
                    drops.extend(image.host(cluster, old)?.map(|host| host >> bits));
                }
            }
        }
        let Some(entry) = l1.get_mut(index as usize) else {
            return Err(Error::new(Kind::Internal, format!("qcow2: no L1 entry {index}")));
        };
        let old = (*entry & OFFSET) >> bits;
        drops.extend((old != 0).then_some(old));
        *entry = 0;
        if table.iter().any(|entry| *entry != 0) {
            let home = writer.counts.take(1, true)?.start << bits;
            run.write(home, &to_bytes(&table))?;
            *entry = home | COPIED;
        }
    }
    drops.extend(image.l1_place());
    let place = writer.counts.take(image.l1_place().count() as u64, true)?;
    let mut bytes = to_bytes(&l1);
    bytes.resize(((place.end - place.start) << bits) as usize, 0);
    run.write(place.start << bits, &bytes)?;
    run.finish()?;

    let counts = writer.counts.rewrite(drops)?;
    header.l1_offset = place.start << bits;
    header.table_offset = counts.place.start << bits;
    header.table_clusters = (counts.place.end - counts.place.start) as u32;
    header.switch();

    let end = writer.counts.taken().runs().last().map_or(0, |run| run.end << bits);
    if image.storage.grows() && image.storage.len()? < end {
        image.storage.set_len(end)?;
    }
    image.storage.flush()?;
    Ok(Some(Prepared { header, l1, counts }))
}

/// The one write that makes the new state the committed one.
fn switch(state: &mut State, new: Prepared) -> Result<()> {
    let State { image, fresh, writer: Some(writer), broken } = state else { return Ok(()) };
    let switched = image.storage.write_at(0, &new.header.sector).and_then(|()| image.storage.flush());
    if let Err(error) = switched {
        *broken = Some(Broken::Unknown);
        return Err(Error::new(error.kind(), format!("the last write of the commit failed ({error})"))
            .at(image.path.display())
            .hint("the image is in the old or in the new state, whole in both: open it again to see which"));
    }
    image.header = new.header;
    image.l1 = new.l1;
    image.forget();
    fresh.clear();
    let freed = new.counts.freed.clone();
    writer.counts.switched(new.counts, image);
    trim(writer, image, &freed);
    writer.committed_len = image.storage.len()?;
    Ok(())
}

/// Gives freed clusters back to the host. The image is right without it, so errors do not count.
fn trim(writer: &Writer, image: &super::map::Image, freed: &[u64]) {
    let bits = image.header.cluster_bits;
    let mut runs = super::refcount::Clusters::default();
    freed.iter().for_each(|cluster| runs.insert(*cluster..cluster + 1));
    let len = image.storage.len().unwrap_or(0);
    for run in runs.runs() {
        let (start, end) = (run.start << bits, (run.end << bits).min(len));
        if start >= end {
            continue;
        }
        let last = end == len && image.storage.grows();
        if last && writer.counts.get(run.end).is_ok_and(|count| count == 0) {
            image.storage.set_len(start).ok();
        } else {
            image.storage.punch(start, end - start).ok();
        }
    }
}
