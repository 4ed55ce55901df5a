//! Comparing refcounts with references, and writing them anew.

use std::path::Path;

use super::State;
use super::chain;
use super::commit::{Roots, finish, settle};
use super::header::{CORRUPT, DIRTY};
use super::map::{COPIED, Image, OFFSET, PACKED};
use super::refcount::{Refcounts, count};
use super::references::{Budget, References};
use super::snapshot::flag;
use super::write::{Mark, Writer};
use crate::base::{Error, Result};

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Clusters that are marked used and that nothing refers to: space is lost, nothing else.
    pub leaks: u64,
    /// Clusters with fewer references noted than there are, and flags that are wrong: writing to the image may destroy
    /// data.
    pub errors: u64,
    /// Words for the first errors.
    pub examples: Vec<String>,
    /// Whether the dirty or the corrupt bit is set.
    pub marked: bool,
    /// Clusters in use.
    pub used: u64,
    /// Whether the refcounts were written anew; the figures are those from before.
    pub repaired: bool,
}

impl CheckReport {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.leaks == 0 && self.errors == 0 && !self.marked
    }

    fn error(&mut self, what: String) {
        self.errors += 1;
        if self.examples.len() < 10 {
            self.examples.push(what);
        }
    }
}

/// Compares the refcounts of an image with what refers to its clusters. With `repair` wrong ones are written anew, in one
/// commit, and the dirty and corrupt bits are taken away.
///
/// # Errors
/// Damage that refcounts cannot mend: tables outside the file, clusters that are a table and something else, streams
/// that are no tables. Then nothing is changed.
pub fn check(path: &Path, repair: bool) -> Result<CheckReport> {
    let mut state = State::new(chain::open(path, true)?);
    let counts = Refcounts::new(&state.image)?;
    let mut report = compare(&state.image, &counts)?;
    drop(counts);
    if !repair || report.is_clean() {
        return Ok(report);
    }
    state.writer = Some(Writer::repairing(&mut state.image)?);
    let prepared = mend(&mut state).map(Some);
    finish(&mut state, Mark::default(), prepared)?;
    report.repaired = true;
    Ok(report)
}

fn mend(state: &mut State) -> Result<super::commit::Prepared> {
    let State { image, writer: Some(writer), .. } = state else {
        return Err(Error::new(crate::base::Kind::Internal, "qcow2: not open for writing"));
    };
    let mut new = Roots::of(image, writer);
    flag(image, writer, &mut new, false)?;
    settle(state, new, false)
}

fn compare(image: &Image, counts: &Refcounts) -> Result<CheckReport> {
    let mut report = CheckReport { marked: image.header.incompatible & (DIRTY | CORRUPT) != 0, ..Default::default() };
    let references = References::count(image, counts)?;
    let (per_block, order) = (counts.per_block(), counts.order());
    let mut at = 0;
    for index in counts.indexes() {
        for cluster in at..(index * per_block).min(references.end()) {
            missing(&mut report, cluster, 0, references.of(cluster));
        }
        let Some(block) = counts.block(index)? else { continue };
        for (slot, cluster) in (index * per_block..(index + 1) * per_block).enumerate() {
            let (noted, there) = (count(&block, slot, order), references.of(cluster));
            report.used += u64::from(there > 0);
            report.leaks += u64::from(noted > there);
            missing(&mut report, cluster, noted, there);
        }
        at = (index + 1) * per_block;
    }
    for cluster in at..references.end() {
        missing(&mut report, cluster, 0, references.of(cluster));
    }
    flags(image, counts, &mut report)?;
    Ok(report)
}

fn missing(report: &mut CheckReport, cluster: u64, noted: u64, there: u64) {
    if noted < there {
        report.error(format!("cluster {cluster} has {there} references and refcount {noted}"));
    }
}

/// The "refcount is one" flags of the active tables.
fn flags(image: &Image, counts: &Refcounts, report: &mut CheckReport) -> Result<()> {
    let (bits, per_table) = (image.header.cluster_bits, image.header.l2_entries());
    let budget = &mut Budget::new();
    image.references(&image.l1, budget, |_, _| Ok(()))?;
    for (index, l1) in (0..).zip(&image.l1) {
        let Some(table) = image.table_of(index, *l1)? else { continue };
        if (counts.get((l1 & OFFSET) >> bits)? == 1) != (l1 & COPIED != 0) {
            report.error(format!("L1 entry {index}: its flag does not fit the refcount of its table"));
        }
        for slot in 0..per_table {
            let entry = image.entry(&table, slot as usize);
            let used = image.clusters_of(index * per_table + slot, entry)?;
            if !used.is_empty()
                && entry.word & PACKED == 0
                && (counts.get(used.start)? == 1) != (entry.word & COPIED != 0)
            {
                report.error(format!(
                    "guest cluster {}: its flag does not fit the refcount of host cluster {}",
                    index * per_table + slot,
                    used.start
                ));
            }
        }
    }
    Ok(())
}
