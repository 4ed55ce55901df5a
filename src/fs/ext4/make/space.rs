//! Blocks that a new file system uses, as runs: cheap for any size of device.

use std::collections::BTreeMap;
use std::ops::Range;

/// Used runs of blocks, first block to end, merged and without overlap.
#[derive(Debug, Default)]
pub struct Space(BTreeMap<u64, u64>);

impl Space {
    /// Marks a free run as used.
    pub fn take(&mut self, run: Range<u64>) {
        let mut run = run;
        if let Some((start, end)) = self.0.range(..=run.start).next_back()
            && *end == run.start
        {
            run.start = *start;
        }
        if let Some(end) = self.0.remove(&run.end) {
            run.end = end;
        }
        self.0.insert(run.start, run.end);
    }

    /// Marks the rest of each cluster of `cluster` blocks that is partly used.
    pub fn fill(&mut self, cluster: u64) {
        let mut whole: BTreeMap<u64, u64> = BTreeMap::new();
        for (start, end) in &self.0 {
            let (start, end) = (start / cluster * cluster, end.next_multiple_of(cluster));
            match whole.last_entry() {
                Some(mut last) if *last.get() >= start => {
                    last.insert(end);
                }
                _ => {
                    whole.insert(start, end);
                }
            }
        }
        self.0 = whole;
    }

    /// The used runs that touch `range`, clipped to it.
    pub fn used(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let before = self.0.range(..range.start).next_back();
        let inside = self.0.range(range.start..range.end.max(range.start));
        before.into_iter().chain(inside).filter_map(move |(start, end)| {
            let run = (*start).max(range.start)..(*end).min(range.end);
            (run.start < run.end).then_some(run)
        })
    }

    /// Number of used blocks in `range`.
    pub fn count(&self, range: Range<u64>) -> u64 {
        self.used(range).map(|run| run.end - run.start).sum()
    }

    /// The free runs in `range`, ascending.
    pub fn free(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let end = range.end;
        let mut at = range.start;
        let ends = self.used(range).chain(std::iter::once(end..end));
        ends.filter_map(move |used| {
            let run = at..used.start;
            at = used.end;
            (run.start < run.end).then_some(run)
        })
    }

    /// The first free run of `len` blocks in `range`, marked as used.
    pub fn first_fit(&mut self, range: Range<u64>, len: u64) -> Option<u64> {
        let start = self.free(range).find(|run| run.end - run.start >= len)?.start;
        self.take(start..start + len);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_merge_and_gaps_are_found() {
        let mut space = Space::default();
        space.take(10..20);
        space.take(30..40);
        assert_eq!(space.first_fit(0..50, 10), Some(0));
        assert_eq!(space.first_fit(0..50, 10), Some(20));
        assert!(space.used(0..100).eq(std::iter::once(0..40)));
        assert!(space.used(5..7).eq(std::iter::once(5..7)));
        assert_eq!(space.count(35..60), 5);
        assert_eq!(space.first_fit(0..50, 11), None);
        assert!(space.free(38..50).eq(std::iter::once(40..50)));
        space.take(63..66);
        space.take(70..71);
        space.take(90..91);
        space.fill(16);
        assert!(space.used(0..200).eq(std::iter::once(0..96)));
    }
}
