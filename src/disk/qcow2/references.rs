//! Who refers to which host cluster: what refcounts should be.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::bitmaps;
use super::map::{Image, OFFSET};
use super::refcount::{Refcounts, most, set_count};
use super::snapshot;
use crate::base::{Error, Result};

/// Table entries that are looked at before an image counts as too big to be walked: 16 TiB of disk at 64 KiB clusters.
const ENTRY_LIMIT: u64 = 1 << 28;
/// Clusters of a file that are counted at once: 4 TiB at 64 KiB clusters.
const CLUSTER_LIMIT: u64 = 1 << 26;
/// References so far past the end of the file are damage.
const PAST_END: u64 = 64 << 20;
/// A cluster holds a table.
const TABLE: u32 = 1 << 31;

impl Image {
    /// Calls `each` for the clusters of all tables and data that an L1 table refers to, `true` for a table.
    pub fn references(
        &self,
        l1: &[u64],
        budget: &mut Budget,
        mut each: impl FnMut(Range<u64>, bool) -> Result<()>,
    ) -> Result<()> {
        let per_table = self.header.l2_entries();
        let mut seen = HashSet::new();
        budget.spend(l1.len() as u64, self)?;
        for (index, entry) in (0..).zip(l1) {
            let Some(table) = self.table_of(index, *entry)? else { continue };
            budget.spend(per_table, self)?;
            let host = (entry & OFFSET) >> self.header.cluster_bits;
            if !seen.insert(host) {
                return Err(Error::corrupt(format!("qcow2: L1 entry {index}: its L2 table has another entry too"))
                    .at(self.path.display()));
            }
            each(host..host + 1, true)?;
            for slot in 0..per_table {
                let used = self.clusters_of(index * per_table + slot, self.entry(&table, slot as usize))?;
                if !used.is_empty() {
                    each(used, false)?;
                }
            }
        }
        Ok(())
    }
}

/// How much may still be walked: a damaged image must not keep anybody busy for ever.
pub(super) struct Budget(u64);

impl Budget {
    /// The usual one.
    pub fn new() -> Self {
        Budget(ENTRY_LIMIT)
    }

    fn spend(&mut self, entries: u64, image: &Image) -> Result<()> {
        match self.0.checked_sub(entries) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(Error::unsupported("qcow2: there are too many tables to look through")
                .at(image.path.display())
                .hint("qemu-img check does it, given time")),
        }
    }
}

/// The number of references to every cluster.
pub(super) struct References {
    counts: Vec<u32>,
    limit: u64,
}

impl References {
    /// Walks everything that an image refers to: tables, data, snapshots, bitmaps, and the refcounts on disk.
    pub fn count(image: &Image, on_disk: &Refcounts) -> Result<Self> {
        let size = image.header.cluster_size();
        let clusters = image.storage.len()?.div_ceil(size);
        if clusters > CLUSTER_LIMIT {
            return Err(Error::unsupported(format!("qcow2: {clusters} clusters are too many to be counted"))
                .at(image.path.display())
                .hint("qemu-img check -r all repairs the image"));
        }
        let mut all = References { counts: vec![0; clusters as usize], limit: clusters + PAST_END / size };
        let mut budget = Budget::new();
        all.alone(0..1, image)?;
        all.alone(image.l1_place(), image)?;
        all.alone(on_disk.table_place(), image)?;
        let blocks = on_disk.old_blocks();
        if blocks.len() != on_disk.indexes().count() {
            return Err(Error::corrupt("qcow2: refcount table: blocks that are not on a cluster, or have two entries")
                .at(image.path.display())
                .hint("nothing was changed; qemu-img check -r all may help"));
        }
        for block in blocks {
            all.alone(block..block + 1, image)?;
        }
        let snapshots = snapshot::read(image)?;
        all.alone(snapshots.place.clone(), image)?;
        all.alone(image.header.encryption_place(), image)?;
        for cluster in bitmaps::used(image)? {
            all.alone(cluster..cluster + 1, image)?;
        }
        for record in &snapshots.records {
            all.alone(record.l1_place(image), image)?;
        }
        image.references(&image.l1, &mut budget, |used, table| all.share(used, table, image))?;
        for record in &snapshots.records {
            let l1 = record.l1(image)?;
            image.references(&l1, &mut budget, |used, table| all.share(used, table, image))?;
        }
        Ok(all)
    }

    /// The references to a cluster.
    pub fn of(&self, cluster: u64) -> u64 {
        let count = usize::try_from(cluster).ok().and_then(|at| self.counts.get(at)).copied().unwrap_or(0);
        (count & !TABLE).into()
    }

    /// Clusters from here on have none.
    pub fn end(&self) -> u64 {
        self.counts.len() as u64
    }

    /// These clusters are a table that nothing else may refer to.
    fn alone(&mut self, clusters: Range<u64>, image: &Image) -> Result<()> {
        for cluster in clusters {
            match self.place(cluster, image)? {
                count if *count == 0 => *count = TABLE | 1,
                _ => return Err(overlap(cluster, image)),
            }
        }
        Ok(())
    }

    /// One more reference to an L2 table or to data.
    fn share(&mut self, clusters: Range<u64>, table: bool, image: &Image) -> Result<()> {
        for cluster in clusters {
            let count = self.place(cluster, image)?;
            match (*count, table) {
                (0, true) => *count = TABLE | 1,
                (old, _) if (old & TABLE != 0) != table => return Err(overlap(cluster, image)),
                _ => *count += 1,
            }
        }
        Ok(())
    }

    fn place(&mut self, cluster: u64, image: &Image) -> Result<&mut u32> {
        let past = || {
            Error::corrupt(format!("qcow2: cluster {cluster} is referred to, far past the end of the file"))
                .at(image.path.display())
        };
        let at = usize::try_from(cluster).map_err(|_| past())?;
        if cluster >= self.limit {
            return Err(past());
        }
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts.get_mut(at).ok_or_else(past)
    }

    /// The refcount blocks that say so, those that are not empty.
    pub fn blocks(&self, order: u32, per_block: u64, image: &Image) -> Result<BTreeMap<u64, Vec<u8>>> {
        let mut blocks = BTreeMap::new();
        for (cluster, count) in (0..).zip(&self.counts).filter(|(_, count)| **count != 0) {
            let count = u64::from(count & !TABLE);
            if count > most(order) {
                return Err(Error::corrupt(format!(
                    "qcow2: cluster {cluster} has {count} references, more than refcounts of {} bits can say",
                    1 << order
                ))
                .at(image.path.display()));
            }
            let block = blocks.entry(cluster / per_block).or_insert_with(|| vec![0; 1 << image.header.cluster_bits]);
            set_count(block, (cluster % per_block) as usize, order, count);
        }
        Ok(blocks)
    }
}

fn overlap(cluster: u64, image: &Image) -> Error {
    Error::corrupt(format!("qcow2: cluster {cluster} is a table and something else too"))
        .at(image.path.display())
        .hint("nothing was changed; this cannot be repaired without loss: restore the image from a backup")
}
