//! The shadow commit: changes into fresh clusters, new tables beside the old ones, one switch of the header.

use std::collections::BTreeSet;
use std::ops::Range;

use super::State;
use super::bitmaps;
use super::deltas::Deltas;
use super::header::Header;
use super::map::{COPIED, Image, OFFSET, PACKED, to_bytes};
use super::refcount::NewRefcounts;
use super::snapshot::{self, Label};
use super::staging::{Cleared, Stager};
use super::write::{Mark, RunWriter, Writer};
use crate::base::{Error, Kind, Result, progress};
use crate::disk::raw::LOST_HINT;
use crate::disk::{Change, Changes};

/// Why an object does no more writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The flush before the switch failed: the image is as it was, what was written fresh may be gone.
    Lost,
    /// The switch itself failed: the image may be in the old or in the new state.
    Unknown,
}

/// Everything written, nothing switched.
pub(super) struct Prepared {
    header: Header,
    l1: Vec<u64>,
    counts: NewRefcounts,
}

/// What the new state is read from: roots that are not on disk yet, and what they do to refcounts.
pub(super) struct Roots {
    /// With the new size and snapshot table, if they change.
    pub header: Header,
    /// The new L1 table.
    pub l1: Vec<u64>,
    /// References that come and go; those of new tables and fresh clusters not among them.
    pub deltas: Deltas,
    /// Bytes of the disk that are others now, ascending.
    pub changed: Vec<Range<u64>>,
}

impl Roots {
    /// The roots of the committed state.
    pub fn of(image: &Image, writer: &Writer) -> Self {
        let deltas = Deltas::new(writer.counts.per_block());
        Roots { header: image.header.clone(), l1: image.l1.clone(), deltas, changed: Vec::new() }
    }

    /// Notes that a cluster is another one now; they come ascending.
    fn change(&mut self, cluster: u64) {
        let bits = self.header.cluster_bits;
        let range = cluster << bits..(cluster + 1) << bits;
        match self.changed.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.changed.push(range),
        }
    }
}

/// Commits changes; `state.writer` is open. With `keep` the state before them stays as an internal snapshot.
pub(super) fn commit(state: &mut State, changes: &dyn Changes, keep: Option<&Label>) -> Result<()> {
    let State { image, fresh, writer: Some(writer), .. } = state else { return Ok(()) };
    let mark = writer.mark(fresh);
    let mut stager = Stager::new(writer, fresh, image);
    let staged = changes.visit(&mut |offset, change| {
        if let Change::Data(data) = change {
            progress::add(data.len() as u64);
        }
        stager.change(offset, change)
    });
    let staged = staged.and_then(|()| stager.finish());
    let prepared = staged.map(|()| stager.cleared).and_then(|cleared| prepare(state, cleared, keep));
    finish(state, mark, prepared)
}

/// Makes what was prepared durable and switches to it, or goes back to a mark.
pub(super) fn finish(state: &mut State, mark: Mark, prepared: Result<Option<Prepared>>) -> Result<()> {
    let header = &state.image.header;
    let prepared = prepared.and_then(|prepared| {
        // Locks are advice. Here is the last moment at which what a program without them did is not written over.
        header.refuse_changed(state.image.storage.as_ref()).map(|()| prepared)
    });
    match prepared {
        Ok(None) => Ok(()),
        Ok(Some(prepared)) => {
            if let Err(error) = state.image.storage.flush() {
                state.broken = Some(Broken::Lost);
                return Err(error.hint(LOST_HINT));
            }
            switch(state, prepared)
        }
        Err(error) => {
            if let Some(writer) = state.writer.as_mut() {
                // What is given up need not arrive.
                state.image.storage.settle().ok();
                // The first error is the one to tell.
                writer.back_to(&state.image, &mut state.fresh, mark).ok();
            }
            Err(error)
        }
    }
}

/// Writes new L2 tables, the new L1 table and the new refcounts; `None`: there is nothing to commit.
fn prepare(state: &mut State, cleared: Cleared, keep: Option<&Label>) -> Result<Option<Prepared>> {
    let State { image, fresh, writer: Some(writer), .. } = state else { return Ok(None) };
    if fresh.is_empty() && cleared.is_empty() && keep.is_none() {
        return Ok(None);
    }
    let mut new = Roots::of(image, writer);
    if let Some(label) = keep {
        snapshot::record(image, writer, &mut new, label)?;
    }
    tables(state, &cleared, &mut new, keep.is_some())?;
    settle(state, new, keep.is_some()).map(Some)
}

/// Writes the L2 tables that change. With `kept` the old ones belong to a snapshot from now on, and what both old and
/// new tables refer to is used once more; then every table is written, since no cluster is its own alone.
pub(super) fn tables(state: &mut State, cleared: &Cleared, new: &mut Roots, kept: bool) -> Result<()> {
    let State { image, fresh, writer: Some(writer), .. } = state else { return Ok(()) };
    let bits = image.header.cluster_bits;
    let per_table = image.header.l2_entries();
    let mut run = RunWriter::new(image.storage.as_ref());
    let changed: BTreeSet<u64> = fresh.keys().chain(cleared.keys()).copied().collect();
    changed.into_iter().for_each(|cluster| new.change(cluster));
    let mut indexes: BTreeSet<u64> = fresh.keys().chain(cleared.keys()).map(|cluster| cluster / per_table).collect();
    if kept {
        indexes.extend((0..).zip(&image.l1).filter(|(_, entry)| **entry & OFFSET != 0).map(|(index, _)| index));
    }
    for index in indexes {
        let mut table = match image.table(index)? {
            Some(table) => table.to_vec(),
            None => vec![0; per_table as usize * image.width()],
        };
        let span = index * per_table..(index + 1) * per_table;
        for (&cluster, &entry) in fresh.range(span.clone()).chain(cleared.range(span.clone())) {
            let slot = (cluster - span.start) as usize;
            let old = image.entry(&table, slot);
            image.put_entry(&mut table, slot, entry);
            if !kept {
                new.deltas.drop(image.clusters_of(cluster, old)?);
            }
        }
        if kept {
            for (slot, cluster) in span.clone().enumerate().filter(|(_, cluster)| !fresh.contains_key(cluster)) {
                let mut entry = image.entry(&table, slot);
                let used = image.clusters_of(cluster, entry)?;
                if !used.is_empty() && entry.word & PACKED == 0 {
                    entry.word &= !COPIED;
                    image.put_entry(&mut table, slot, entry);
                }
                new.deltas.add(used);
            }
        }
        let Some(entry) = new.l1.get_mut(index as usize) else {
            return Err(Error::new(Kind::Internal, format!("qcow2: no L1 entry {index}")));
        };
        let old = (*entry & OFFSET) >> bits;
        if old != 0 && !kept {
            new.deltas.drop(old..old + 1);
        }
        *entry = 0;
        if table.iter().any(|word| *word != 0) {
            let home = writer.counts.take(1, true)?.start << bits;
            run.write(home, &to_bytes(&table))?;
            *entry = home | COPIED;
        }
    }
    run.finish()
}

/// Writes the bitmaps, the new L1 table and the refcounts. With `kept` the old L1 table stays in use.
pub(super) fn settle(state: &mut State, mut new: Roots, kept: bool) -> Result<Prepared> {
    let State { image, writer: Some(writer), .. } = state else {
        return Err(Error::new(Kind::Internal, "qcow2: not open for writing"));
    };
    bitmaps::update(image, writer, &mut new)?;
    let Roots { mut header, l1, mut deltas, .. } = new;
    let bits = header.cluster_bits;
    if !kept {
        deltas.drop(image.l1_place());
    }
    let mut bytes = to_bytes(&l1);
    let clusters = (bytes.len() as u64).div_ceil(1 << bits);
    if clusters > 0 {
        let place = writer.counts.take(clusters, true)?;
        bytes.resize((clusters << bits) as usize, 0);
        image.storage.write_at(place.start << bits, &bytes)?;
        header.l1_offset = place.start << bits;
    }
    header.l1_size = l1.len() as u32;
    let counts = writer.counts.rewrite(deltas)?;
    header.table_offset = counts.place.start << bits;
    header.table_clusters = (counts.place.end - counts.place.start) as u32;
    header.switch(writer.counts.recounted());

    let end = writer.counts.taken().runs().last().map_or(0, |run| run.end << bits);
    if image.storage.grows() && image.storage.len()? < end {
        image.storage.set_len(end)?;
    }
    Ok(Prepared { header, l1, counts })
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
fn trim(writer: &Writer, image: &Image, freed: &[u64]) {
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
