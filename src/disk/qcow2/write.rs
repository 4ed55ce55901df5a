//! Writing guest data to clusters that are free on disk. Nothing that the committed state uses is touched.

use std::collections::HashMap;
use std::sync::Arc;

use super::bitmaps;
use super::data_file;
use super::draft::Draft;
use super::header::DIRTY;
use super::map::{ALL_DATA, Entry, Fresh, Image, OFFSET, Source};
use super::refcount::{Refcounts, Taken};
use super::references::References;
use super::snapshot;
use super::storage::Storage;
use crate::base::{Error, Result};

/// Bytes that are put together to one write.
pub(super) const BATCH: usize = 4 << 20;
/// Bytes of L2 tables that are looked through before the first write: 128 GiB of disk at 64 KiB clusters.
const VERIFY_LIMIT: u64 = 16 << 20;
/// The same on a device, where there is no place behind the end.
const DEVICE_LIMIT: u64 = 1 << 30;

/// Merges writes that follow each other on the host.
pub(super) struct RunWriter<'a> {
    storage: &'a dyn Storage,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> RunWriter<'a> {
    pub fn new(storage: &'a dyn Storage) -> Self {
        RunWriter { storage, start: 0, bytes: Vec::new() }
    }

    /// Writes `data` at `offset`, now or with what follows.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        if self.start + self.bytes.len() as u64 != offset || self.bytes.len() >= BATCH {
            self.flush()?;
            self.start = offset;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.bytes.is_empty() {
            self.storage.write_at(self.start, &self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<()> {
        self.flush()
    }
}

/// Sees that no L2 table stands for two places, that bitmaps have their clusters alone, and that nothing of the disk and of
/// internal snapshots is at a cluster that has more users than its refcount says: new data would go over it once one of them has
/// given it back. Where that is too much to look through, new data goes behind the end of the file alone.
fn verify(image: &Image, counts: &mut Refcounts) -> Result<()> {
    let bits = image.header.cluster_bits;
    let corrupt = |what: String| {
        Error::corrupt(format!("qcow2: {what}"))
            .at(image.path.display())
            .hint("nothing was changed; qemu-img check tells more")
    };
    // By L2 table: how many L1 entries have it. Snapshots share most tables with the disk and with each other.
    let mut tables: HashMap<u64, u64> = HashMap::new();
    let places = |l1: &[u64]| l1.iter().map(|entry| entry & OFFSET).filter(|place| *place != 0).collect::<Vec<_>>();
    for place in places(&image.l1) {
        if tables.insert(place, 1).is_some() {
            return Err(corrupt(format!("the L2 table at {place} has two L1 entries")));
        }
    }
    let bitmaps = bitmaps::verify(image, counts)?;
    let mut roots: Vec<Vec<u64>> = vec![image.l1.clone()];
    let snapshots = snapshot::read(image)?;
    let mut used: Vec<(u64, u64)> = snapshots.place.clone().map(|cluster| (cluster, 1)).collect();
    let mut size = 0;
    for record in &snapshots.records {
        used.extend(record.l1_place(image).map(|cluster| (cluster, 1)));
        size += (record.l1_place(image).end - record.l1_place(image).start) << bits;
        if size <= VERIFY_LIMIT {
            let l1 = record.l1(image)?;
            places(&l1).into_iter().for_each(|place| *tables.entry(place).or_default() += 1);
            roots.push(l1);
        }
    }
    let grows = image.storage.grows();
    if size > VERIFY_LIMIT || (tables.len() as u64) << bits > if grows { VERIFY_LIMIT } else { DEVICE_LIMIT } {
        if !grows {
            return Err(Error::unsupported("qcow2: there are too many tables to look through before a write")
                .at(image.path.display()));
        }
        counts.only_from(image.storage.len()?.div_ceil(1 << bits));
        return Ok(());
    }
    used.extend(tables.iter().map(|(place, users)| (place >> bits, *users)));
    let per_table = image.header.l2_entries();
    for l1 in &roots {
        for (index, entry) in (0..).zip(l1) {
            let Some(users) = tables.remove(&(entry & OFFSET)) else { continue };
            let Some(table) = image.table_of(index, *entry)? else { continue };
            for slot in 0..per_table {
                let cluster = index * per_table + slot;
                for host in image.clusters_of(cluster, image.entry(&table, slot as usize))? {
                    if bitmaps.contains(&host) {
                        return Err(corrupt(format!(
                            "guest cluster {cluster} is at {}, where a bitmap is",
                            host << bits
                        )));
                    }
                    used.push((host, users));
                }
            }
        }
    }
    used.sort_unstable();
    for users in used.chunk_by(|one, other| one.0 == other.0) {
        let (cluster, count) = (users[0].0, counts.get(users[0].0)?);
        let users: u64 = users.iter().map(|(_, users)| users).sum();
        if users > count {
            let place = cluster << bits;
            return Err(corrupt(format!("the cluster at {place} is used {users} times, its refcount is {count}")));
        }
    }
    Ok(())
}

/// What was written up to some moment.
#[derive(Default)]
pub(super) struct Mark {
    fresh: Fresh,
    taken: Taken,
}

/// What is needed to write: refcounts, and the way back.
pub(super) struct Writer {
    pub counts: Refcounts,
    /// Length of the file in the committed state.
    pub committed_len: u64,
}

impl Writer {
    /// Reopens the image for writing under a writer lock. Where the dirty bit says that the refcounts on disk may be
    /// wrong, references are counted anew, and the first commit writes the counts.
    pub fn new(image: &mut Image) -> Result<Self> {
        Self::open(image, image.header.incompatible & DIRTY != 0, false)
    }

    /// With refcounts that are counted anew, for a damaged image too.
    pub fn repairing(image: &mut Image) -> Result<Self> {
        Self::open(image, true, true)
    }

    fn open(image: &mut Image, recount: bool, repair: bool) -> Result<Self> {
        image.header.refuse_write(repair).map_err(|e| e.at(image.path.display()))?;
        if !repair {
            data_file::refuse_write(image)?;
        }
        let storage: Arc<dyn Storage> = image.storage.writable()?;
        image.header.refuse_changed(storage.as_ref())?;
        image.storage = storage;
        let mut counts = Refcounts::new(image)?;
        if recount {
            let counted = References::count(image, &counts)?;
            counts.believe(counted.blocks(counts.order(), counts.per_block(), image)?);
        }
        verify(image, &mut counts)?;
        Ok(Writer { counts, committed_len: image.storage.len()? })
    }

    /// Writes whole clusters, `data`, for the guest clusters from `first`. The place of one that is fresh already is free then.
    pub fn whole(&mut self, image: &Image, fresh: &mut Fresh, first: u64, data: &[u8]) -> Result<()> {
        let bits = image.header.cluster_bits;
        let (mut cluster, mut rest) = (first, data);
        while !rest.is_empty() {
            let run = self.counts.take(rest.len() as u64 >> bits, false)?;
            let count = run.end - run.start;
            let (now, later) = rest.split_at((count << bits) as usize);
            if let Err(e) = image.write_data(run.start << bits, now) {
                self.counts.release(run);
                return Err(e);
            }
            for i in 0..count {
                let entry = image.entry_at((run.start + i) << bits, ALL_DATA);
                if let Some(old) = fresh.insert(cluster + i, entry) {
                    self.release(image, old);
                }
            }
            cluster += count;
            rest = later;
        }
        Ok(())
    }

    /// Gives back the place of a cluster that was fresh.
    pub fn release(&mut self, image: &Image, entry: Entry) {
        let host = (entry.word & OFFSET) >> image.header.cluster_bits;
        self.counts.release(host..host + 1);
    }

    /// Gives a cluster a new place, which `write` fills; it answers which subclusters are there then. The place of one that is
    /// fresh already is free then.
    fn at_new_place(
        &mut self,
        image: &Image,
        fresh: &mut Fresh,
        cluster: u64,
        write: impl FnOnce(&Fresh, u64) -> Result<u64>,
    ) -> Result<()> {
        let run = self.counts.take(1, true)?;
        let host = run.start << image.header.cluster_bits;
        match write(fresh, host) {
            Ok(bitmap) => {
                if let Some(old) = fresh.insert(cluster, image.entry_at(host, bitmap)) {
                    self.release(image, old);
                }
                Ok(())
            }
            Err(e) => {
                self.counts.release(run);
                Err(e)
            }
        }
    }

    /// Writes a cluster that was put together.
    pub fn put(&mut self, image: &Image, fresh: &mut Fresh, draft: &Draft) -> Result<()> {
        self.at_new_place(image, fresh, draft.cluster, |_, host| draft.write(image, host))
    }

    /// Writes a part of a cluster that is not fresh, or is not all data there: what else belongs to the place comes from
    /// where it was.
    fn part(&mut self, image: &Image, fresh: &mut Fresh, at: u64, data: &[u8]) -> Result<()> {
        let bits = image.header.cluster_bits;
        let cluster = at >> bits;
        let (start, end) = (cluster << bits, ((cluster + 1) << bits).min(image.header.size));
        let mut draft = Draft::new(image, cluster);
        if let Some(entry) = fresh.get(&cluster).copied() {
            let host = entry.word & OFFSET;
            draft.lay(image, fresh, at, data)?;
            draft.write(image, host)?;
            fresh.insert(cluster, image.with_data(entry, host, at - start..at - start + data.len() as u64));
            return Ok(());
        }
        // Past the end of the file there are only zeros: where all of the cluster is, nothing else has to be written.
        let mut hole = image.storage.grows() && image.encryption.is_none() && !image.header.extended();
        image.pieces(fresh, start..end, |_, source| {
            hole &= source == Source::Zero;
            Ok(())
        })?;
        self.at_new_place(image, fresh, cluster, |fresh, host| {
            if hole && host >= image.storage.len()? {
                return image.storage.write_at(host + (at - start), data).map(|()| ALL_DATA);
            }
            draft.lay(image, fresh, at, data)?;
            draft.complete(image, fresh)?;
            draft.write(image, host)
        })
    }

    /// Writes anywhere: in place where a cluster is fresh, else into a new one.
    pub fn write(&mut self, image: &Image, fresh: &mut Fresh, offset: u64, data: &[u8]) -> Result<()> {
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let len = self.step(image, fresh, at, rest)?;
            rest = rest.get(len..).unwrap_or_default();
            at += len as u64;
        }
        Ok(())
    }

    /// Writes the first bytes of `data` that can be written in one way; gives their count.
    fn step(&mut self, image: &Image, fresh: &mut Fresh, at: u64, data: &[u8]) -> Result<usize> {
        let bits = image.header.cluster_bits;
        let size = 1u64 << bits;
        let (cluster, within) = (at >> bits, at & (size - 1));
        let upto = |bytes: u64| data.get(..bytes.min(data.len() as u64) as usize).unwrap_or(data);
        if let Some(&entry) = fresh.get(&cluster).filter(|entry| image.is_full(**entry)) {
            let host = entry.word & OFFSET;
            let mut len = size - within;
            let next = |len: u64| image.entry_at(host + within + len, ALL_DATA);
            while len < data.len() as u64 && fresh.get(&((at + len) >> bits)) == Some(&next(len)) {
                len += size;
            }
            image.write_data(host + within, upto(len))?;
            return Ok(upto(len).len());
        }
        let whole = data.len() as u64 >> bits;
        if within != 0 || whole == 0 || fresh.contains_key(&cluster) {
            let head = upto(size - within);
            self.part(image, fresh, at, head)?;
            return Ok(head.len());
        }
        let end = fresh.range(cluster..cluster + whole).next().map_or(cluster + whole, |(next, _)| *next);
        let run = upto((end - cluster) << bits);
        self.whole(image, fresh, cluster, run)?;
        Ok(run.len())
    }

    /// Forgets everything since the last commit and gives the space back.
    pub fn abandon(&mut self, image: &Image, fresh: &mut Fresh) -> Result<()> {
        // What is given up need not arrive.
        image.storage.settle().ok();
        self.back_to(image, fresh, Mark::default())
    }

    /// What is written now. A commit writes to none of its places.
    pub fn mark(&self, fresh: &Fresh) -> Mark {
        Mark { fresh: fresh.clone(), taken: self.counts.mark() }
    }

    /// Forgets everything since a mark and gives the space back.
    pub fn back_to(&mut self, image: &Image, fresh: &mut Fresh, mark: Mark) -> Result<()> {
        let bits = image.header.cluster_bits;
        *fresh = mark.fresh;
        let (runs, end) = self.counts.back_to(mark.taken);
        let kept = self.committed_len.max(end << bits);
        image.forget();
        if image.storage.grows() && image.storage.len()? > kept {
            image.storage.set_len(kept)?;
        }
        for run in runs {
            let (start, end) = (run.start << bits, (run.end << bits).min(kept));
            if start < end {
                // Free space on both sides: only the host's disk space is lost where it cannot be done.
                image.storage.punch(start, end - start).ok();
            }
        }
        Ok(())
    }
}
