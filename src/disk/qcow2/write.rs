//! Writing guest data to clusters that are free on disk. Nothing that the committed state uses is touched.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::bitmaps;
use super::header::{DIRTY, SECTOR};
use super::map::{Fresh, Image, OFFSET, Source};
use super::refcount::Refcounts;
use super::references::References;
use super::storage::{Storage, read_metadata};
use crate::base::{Error, Kind, Result};

/// Bytes that are put together to one write.
pub(super) const BATCH: usize = 4 << 20;
/// Bytes of L2 tables that are looked through before the first write: 128 GiB of disk at 64 KiB clusters.
const VERIFY_LIMIT: u64 = 16 << 20;

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

/// Sees that no L2 table stands for two places, that bitmaps have their clusters alone, and that no guest data is at a cluster that the refcounts call free: new data would go over it. Disks whose
/// L2 tables are over the limit are not looked through; for those, the tables alone are protected.
fn verify(image: &Image, counts: &Refcounts) -> Result<()> {
    let bits = image.header.cluster_bits;
    let mut seen = HashSet::new();
    for (index, entry) in image.l1.iter().enumerate().filter(|(_, entry)| **entry & OFFSET != 0) {
        if !seen.insert(entry & OFFSET) {
            return Err(Error::corrupt(format!("qcow2: L1 entry {index}: its L2 table has another entry too"))
                .at(image.path.display())
                .hint("nothing was changed; qemu-img check tells more"));
        }
    }
    let bitmaps = bitmaps::verify(image, counts)?;
    let tables = image.l1.iter().filter(|entry| **entry != 0).count() as u64;
    if tables << bits > VERIFY_LIMIT {
        return Ok(());
    }
    let per_table = image.header.l2_entries();
    for index in 0..image.l1.len() as u64 {
        let Some(table) = image.table(index)? else { continue };
        for slot in 0..per_table {
            let cluster = index * per_table + slot;
            let used = image.clusters_of(cluster, image.entry(&table, slot as usize))?;
            let wrong = |host: &u64| bitmaps.contains(host) || matches!(counts.get(*host), Ok(0));
            if let Some(host) = used.into_iter().find(wrong) {
                let what = if bitmaps.contains(&host) { "a bitmap is" } else { "the refcount is 0" };
                return Err(Error::corrupt(format!(
                    "qcow2: guest cluster {cluster} is at {}, where {what}",
                    host << bits
                ))
                .at(image.path.display())
                .hint("nothing was changed; qemu-img check tells more"));
            }
        }
    }
    Ok(())
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
            bitmaps::refuse_write(image)?;
        }
        let storage: Arc<dyn Storage> = image.storage.writable()?;
        let mut sector = vec![0; SECTOR];
        read_metadata(storage.as_ref(), 0, &mut sector, "the header")?;
        if sector != image.header.sector {
            return Err(Error::new(Kind::Busy, "was changed by another program since it was opened")
                .at(image.path.display())
                .hint("open it again"));
        }
        image.storage = storage;
        let mut counts = Refcounts::new(image)?;
        if recount {
            let counted = References::count(image, &counts)?;
            counts.believe(counted.blocks(counts.order(), counts.per_block(), image)?);
        }
        verify(image, &counts)?;
        Ok(Writer { counts, committed_len: image.storage.len()? })
    }

    /// Writes whole clusters, `data`, for the guest clusters from `first`, none of which is fresh.
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
            fresh.extend((0..count).map(|i| (cluster + i, (run.start + i) << bits)));
            cluster += count;
            rest = later;
        }
        Ok(())
    }

    /// Writes a part of a cluster that is not fresh: the rest comes from where it was.
    fn part(&mut self, image: &Image, fresh: &mut Fresh, at: u64, data: &[u8]) -> Result<()> {
        let bits = image.header.cluster_bits;
        let cluster = at >> bits;
        let start = cluster << bits;
        let end = (start + (1 << bits)).min(image.header.size);
        let mut hole = true;
        image.pieces(fresh, start..end, |_, source| {
            hole &= source == Source::Zero;
            Ok(())
        })?;
        let run = self.counts.take(1, true)?;
        let host = run.start << bits;
        let written = image.storage.len().and_then(|len| {
            if hole && host >= len && image.storage.grows() && image.encryption.is_none() {
                // Past the end of the file there are only zeros.
                return image.storage.write_at(host + (at - start), data);
            }
            let mut whole = vec![0; 1 << bits];
            if let Some(old) = whole.get_mut(..(end - start) as usize) {
                image.read(fresh, start, old)?;
            }
            if let Some(new) = whole.get_mut((at - start) as usize..(at - start) as usize + data.len()) {
                new.copy_from_slice(data);
            }
            image.write_data(host, &whole)
        });
        if let Err(e) = written {
            self.counts.release(run);
            return Err(e);
        }
        fresh.insert(cluster, host);
        Ok(())
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
        if let Some(&host) = fresh.get(&cluster) {
            let mut len = size - within;
            while len < data.len() as u64 && fresh.get(&((at + len) >> bits)) == Some(&(host + within + len)) {
                len += size;
            }
            image.write_data(host + within, upto(len))?;
            return Ok(upto(len).len());
        }
        let whole = data.len() as u64 >> bits;
        if within != 0 || whole == 0 {
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
        let bits = image.header.cluster_bits;
        let runs: Vec<Range<u64>> = self.counts.taken().runs().collect();
        fresh.clear();
        self.counts.forget();
        image.forget();
        if image.storage.grows() && image.storage.len()? > self.committed_len {
            image.storage.set_len(self.committed_len)?;
        }
        for run in runs {
            let (start, end) = (run.start << bits, (run.end << bits).min(self.committed_len));
            if start < end {
                // Free space on both sides: only the host's disk space is lost where it cannot be done.
                image.storage.punch(start, end - start).ok();
            }
        }
        Ok(())
    }
}
