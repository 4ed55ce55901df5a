//! The free space, from the bitmaps, and making it zero: nothing is read, and where the image can hold holes nothing
//! is written either.

use std::ops::Range;

use super::Ext4;
use super::alloc::next_bit;
use crate::base::bytes::le64;
use crate::base::{Error, Result, progress};
use crate::fs::Edit;

impl Ext4 {
    /// The free runs of blocks, ascending, neighbours merged.
    pub(super) fn free_runs(&self) -> Result<Vec<Range<u64>>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for group in 0..self.geometry.groups {
            let usage = self.usage(group)?;
            for run in self.free_in(group, &usage) {
                match runs.last_mut() {
                    Some(last) if last.end == run.start => last.end = run.end,
                    _ => runs.push(run),
                }
            }
        }
        Ok(runs)
    }

    /// The runs of blocks of a group that a bitmap calls free.
    pub(super) fn free_in<'a>(&'a self, group: u32, usage: &'a [u8]) -> impl Iterator<Item = Range<u64>> + 'a {
        let (bits, end) = (self.geometry.group_bits(group), self.geometry.group_range(group).end);
        let word = |index: u32| le64(usage, index as usize * 8);
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = next_bit(&word, from, bits, false);
            from = next_bit(&word, first, bits, true);
            let place = |bit: u32| self.geometry.bit_block(group, bit).min(end);
            (first < bits).then(|| place(first)..place(from))
        })
    }

    /// See [`crate::fs::Edit::zero_free`].
    pub(super) fn zero_free_runs(&mut self, within: Range<u64>, minimum: u64) -> Result<u64> {
        self.sync()?;
        (0..self.geometry.groups).try_for_each(|group| self.check_count(group, true))?;
        let bs = self.geometry.bs();
        let mut done = 0;
        let runs = self.free_runs()?;
        runs.iter().for_each(|run| progress::expect((run.end - run.start) * bs));
        for run in runs {
            if let Some(zone) = self.zones_in(run.clone()).next() {
                return Err(Error::corrupt(format!("ext4: block {} is metadata but marked free", zone.start)));
            }
            self.check_journal(&run)?;
            progress::add((run.end - run.start) * bs);
            let bytes = (run.start * bs).max(within.start)..(run.end * bs).min(within.end);
            if !bytes.is_empty() && bytes.end - bytes.start >= minimum {
                done += bytes.end - bytes.start;
                self.base.zero(bytes)?;
            }
        }
        Ok(done)
    }
}
