//! What a commit does to refcounts: references that come and go, kept by refcount block until the blocks are written.

use std::collections::BTreeMap;
use std::ops::Range;

use super::refcount::{count, most, set_count};

/// References to add and to drop. One cluster may be named more than once.
pub(super) struct Deltas {
    per_block: u64,
    blocks: BTreeMap<u64, Vec<Delta>>,
}

struct Delta {
    clusters: Range<u64>,
    add: bool,
}

/// Why a refcount cannot be changed so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Impossible {
    /// A reference of this cluster is dropped that it does not have.
    Below(u64),
    /// This cluster would have more references than the width of its count allows.
    Over(u64),
}

impl Deltas {
    /// None yet; `per_block` refcounts are in a block.
    pub fn new(per_block: u64) -> Self {
        Deltas { per_block, blocks: BTreeMap::new() }
    }

    /// One more reference to each cluster of a run.
    pub fn add(&mut self, clusters: Range<u64>) {
        self.push(clusters, true);
    }

    /// One reference less to each cluster of a run.
    pub fn drop(&mut self, clusters: Range<u64>) {
        self.push(clusters, false);
    }

    fn push(&mut self, clusters: Range<u64>, add: bool) {
        let mut start = clusters.start;
        while start < clusters.end {
            let index = start / self.per_block;
            let end = clusters.end.min((index + 1) * self.per_block);
            let list = self.blocks.entry(index).or_default();
            match list.last_mut() {
                Some(last) if last.add == add && last.clusters.end == start => last.clusters.end = end,
                _ => list.push(Delta { clusters: start..end, add }),
            }
            start = end;
        }
    }

    /// The blocks whose counts change, ascending.
    pub fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.keys().copied()
    }

    /// Changes the counts of one block, additions first; gives the clusters that nothing refers to any more.
    pub fn apply(&self, index: u64, block: &mut [u8], order: u32) -> Result<Vec<u64>, Impossible> {
        let list = self.blocks.get(&index).map(Vec::as_slice).unwrap_or_default();
        let mut freed = Vec::new();
        let clusters = |add: bool| list.iter().filter(move |d| d.add == add).flat_map(|d| d.clusters.clone());
        for cluster in clusters(true) {
            let slot = (cluster % self.per_block) as usize;
            let old = count(block, slot, order);
            if old >= most(order) {
                return Err(Impossible::Over(cluster));
            }
            set_count(block, slot, order, old + 1);
        }
        for cluster in clusters(false) {
            let slot = (cluster % self.per_block) as usize;
            let left = count(block, slot, order).checked_sub(1).ok_or(Impossible::Below(cluster))?;
            set_count(block, slot, order, left);
            if left == 0 {
                freed.push(cluster);
            }
        }
        freed.sort_unstable();
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_split_at_blocks_and_merged() {
        let mut deltas = Deltas::new(16);
        deltas.add(3..5);
        deltas.add(5..20);
        deltas.drop(3..4);
        assert_eq!(deltas.blocks().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(deltas.blocks[&0].len(), 2);
        let mut block = vec![0; 16];
        assert_eq!(deltas.apply(0, &mut block, 3), Ok(vec![3]));
        assert_eq!(block, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        deltas.drop(2..3);
        assert_eq!(deltas.apply(0, &mut [0; 16], 3), Err(Impossible::Below(2)));
        assert_eq!(deltas.apply(1, &mut [0xff; 16], 3), Err(Impossible::Over(16)));
    }
}
