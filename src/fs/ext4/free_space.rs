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
            let range = self.geometry.group_range(group);
            let bits = self.geometry.group_bits(group);
            let usage = self.usage(group)?;
            let word = |index: u32| le64(&usage, index as usize * 8);
            let mut at = next_bit(&word, 0, bits, false);
            while at < bits {
                let end = next_bit(&word, at, bits, true);
                let place = |bit: u32| self.geometry.bit_block(group, bit).min(range.end);
                match runs.last_mut() {
                    Some(last) if last.end == place(at) => last.end = place(end),
                    _ => runs.push(place(at)..place(end)),
                }
                at = next_bit(&word, end, bits, false);
            }
        }
        Ok(runs)
    }

    /// See [`crate::fs::Edit::zero_free`].
    pub(super) fn zero_free_runs(&mut self, within: Range<u64>, minimum: u64) -> Result<u64> {
        self.sync()?;
        let bs = self.geometry.bs();
        let mut done = 0;
        let runs = self.free_runs()?;
        runs.iter().for_each(|run| progress::expect((run.end - run.start) * bs));
        for run in runs {
            if let Some(zone) = self.zones_in(run.clone()).next() {
                return Err(Error::corrupt(format!("ext4: block {} is metadata but marked free", zone.start)));
            }
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
