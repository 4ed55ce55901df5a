//! A set of numbers kept as ranges: a whole disk of zeros is one entry.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges that neither overlap nor touch, by start.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range, joining it with what it touches.
    pub(super) fn add(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.remove(range.clone());
        if let Some((start, end)) = self.0.range(..range.start).next_back().map(|(s, e)| (*s, *e))
            && end == range.start
        {
            range.start = start;
        }
        if let Some(end) = self.0.remove(&range.end) {
            range.end = end;
        }
        self.0.insert(range.start, range.end);
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        let found: Vec<Range<u64>> = self.touching(&range).collect();
        for old in found {
            self.0.remove(&old.start);
            if old.start < range.start {
                self.0.insert(old.start, range.start);
            }
            if old.end > range.end {
                self.0.insert(range.end, old.end);
            }
        }
    }

    /// The whole ranges that share a number with `range`, ascending.
    fn touching(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<'_> {
        let Range { start, end } = *range;
        let before = self.0.range(..start).next_back().filter(|(_, e)| **e > start);
        // An empty range starts nowhere inside itself.
        let inside = self.0.range(start..end.max(start));
        before.filter(|_| start < end).into_iter().chain(inside).map(|(s, e)| *s..*e)
    }

    /// What the set has in common with `range`, ascending.
    pub(super) fn within(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<'_> {
        let Range { start, end } = *range;
        self.touching(range).map(move |r| r.start.max(start)..r.end.min(end))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> + use<'_> {
        self.0.iter().map(|(s, e)| *s..*e)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_splits() {
        let mut set = Ranges::default();
        set.add(10..20);
        set.add(30..40);
        set.add(20..25);
        assert_eq!(set.iter().collect::<Vec<_>>(), [10..25, 30..40]);
        set.add(5..35);
        assert_eq!(set.iter().collect::<Vec<_>>(), [5..40]);
        set.remove(10..12);
        assert_eq!(set.within(&(8..14)).collect::<Vec<_>>(), [8..10, 12..14]);
        assert_eq!(set.within(&(9..9)).count(), 0);
        set.remove(0..100);
        assert!(set.is_empty());
    }
}
