//! Zeros that a commit brings to space that is free before it and after it. Nothing reads them, so they need no log: gigabytes
//! of free space are made zero without a word in the journal.

use std::collections::{BTreeMap, BTreeSet};

use super::Ext4;
use crate::base::Result;
use crate::base::bytes::{le64, put_le64};
use crate::disk::guest_log::{cut, gaps};
use crate::disk::{Change, Changes};
use crate::fs::ext4::group::{BLOCK_UNINIT, Group};

/// Fewer bytes of zeros are not worth the reading of bitmaps.
const WORTHWHILE: u64 = 1 << 20;

/// Bytes of a device, start to end, that are free in both states and get zeros.
pub(super) type Idle = BTreeMap<u64, u64>;

/// Changes without idle zeros.
pub(super) struct Busy<'a> {
    /// All changes.
    pub changes: &'a dyn Changes,
    /// What is left out.
    pub idle: &'a Idle,
    /// A block that is logged as it is, at a byte of the device: a transaction has at least one.
    pub same: Option<(u64, &'a [u8])>,
}

impl Changes for Busy<'_> {
    fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        if let Some((at, bytes)) = self.same {
            each(at, Change::Data(bytes))?;
        }
        self.changes.visit(&mut |offset, change| match change {
            Change::Data(_) => each(offset, change),
            Change::Zero(len) => gaps(offset..offset.saturating_add(len), self.idle)
                .filter(|gap| gap.start < gap.end)
                .try_for_each(|gap| each(gap.start, Change::Zero(gap.end - gap.start))),
        })
    }
}

impl Ext4 {
    /// The idle zeros among changes of this file system, as it is before them; none if there are few zeros.
    pub(super) fn idle_zeros(&self, changes: &dyn Changes) -> Result<Idle> {
        let (bs, geometry) = (self.geometry.bs(), &self.geometry);
        let (mut total, mut groups) = (0u64, BTreeSet::new());
        changes.visit(&mut |offset, change| {
            if let Change::Zero(len) = change {
                total = total.saturating_add(len);
                let last = (offset.saturating_add(len).saturating_sub(1) / bs).min(geometry.blocks.saturating_sub(1));
                groups.extend(geometry.place(offset / bs).0..=geometry.place(last).0);
            }
            Ok(())
        })?;
        if total < WORTHWHILE {
            return Ok(Idle::new());
        }
        // A bitmap that is not in use before may be afterwards, when its descriptor says so: then what is in its block counts.
        let places = groups
            .iter()
            .filter(|group| **group < geometry.groups)
            .map(|group| Ok((Group(&self.group(*group)?).block_bitmap(), *group)))
            .collect::<Result<BTreeMap<u64, u32>>>()?;
        let mut watched: BTreeSet<u64> = places.keys().copied().collect();
        for group in places.values() {
            watched.insert(self.group_place(*group)?.0);
        }
        let mut after: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        changes.visit(&mut |offset, change| {
            let end = offset.saturating_add(change.len());
            for &block in watched.range(offset / bs..end.div_ceil(bs)) {
                let Some((at, part)) = cut(offset, change, &(block * bs..(block + 1) * bs)) else { continue };
                let mut bytes = match after.remove(&block) {
                    Some(bytes) => bytes,
                    None => self.block_now(block)?,
                };
                let from = (at - block * bs) as usize;
                match (bytes.get_mut(from..from + part.len() as usize), part) {
                    (Some(place), Change::Data(data)) => place.copy_from_slice(data),
                    (Some(place), Change::Zero(_)) => place.fill(0),
                    (None, _) => {}
                }
                after.insert(block, bytes);
            }
            Ok(())
        })?;
        let mut idle = Idle::new();
        for (block, group) in places {
            let mut used = self.usage(group)?;
            let (number, _, place) = self.group_place(group)?;
            let descriptor = match after.get(&number).and_then(|descriptors| descriptors.get(place)) {
                Some(descriptor) => descriptor.to_vec(),
                None => self.group(group)?.to_vec(),
            };
            let new = match after.get(&block) {
                _ if self.is_uninit(&descriptor, BLOCK_UNINIT) => Vec::new(),
                Some(new) => new.clone(),
                None => self.block_now(block)?,
            };
            for at in (0..used.len().min(new.len())).step_by(8) {
                let word = le64(&used, at) | le64(&new, at);
                put_le64(&mut used, at, word);
            }
            idle.extend(self.free_in(group, &used).map(|run| (run.start * bs, run.end * bs)));
        }
        Ok(idle)
    }

    /// What is in a block.
    pub(super) fn block_now(&self, block: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.geometry.block_size];
        self.device.read_at(block * self.geometry.bs(), &mut bytes)?;
        Ok(bytes)
    }
}
