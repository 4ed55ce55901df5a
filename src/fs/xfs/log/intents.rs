//! Work that was promised and is not said to be done. "XFS Algorithms & Data Structures", "Intents": freeing extents and counting
//! owners or references change nothing that is read; changes of a file's map do, and are made when the map is read.

use std::collections::BTreeMap;

use super::transaction::{Item, Transaction};
use crate::base::bytes::{le32, le64};
use crate::base::{Error, Result};
use crate::fs::xfs::map::Run;

/// Types of items: a promise, and that it is done behind it.
const MAP: u16 = 0x1244;
const ATTRIBUTE: u16 = 0x1246;
const EXCHANGE: u16 = 0x1248;
/// All types that are known: promises to free extents, then the rest.
const KNOWN: [std::ops::RangeInclusive<u16>; 2] = [0x1236..=0x1237, 0x123b..=0x124f];
/// First extent of a promise, bytes of one, and its flags: map and unmap, not written, attributes, realtime.
const EXTENT: usize = 16;
const EXTENT_SIZE: usize = 32;
const ADD: u32 = 1;
const REMOVE: u32 = 2;
const UNWRITTEN: u32 = 1 << 30;
const OTHERS: u32 = 1 << 31 | 1 << 29;

/// Bits that an extent has for the block of the file and of the device.
const LOGICAL_END: u64 = 1 << 54;
const PHYSICAL_END: u64 = 1 << 52;

/// A change of a file's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapChange {
    pub inode: u64,
    /// Whether the run is taken out, or put in.
    pub remove: bool,
    pub run: Run,
}

/// What is left to do.
#[derive(Debug, Default)]
pub struct Pending {
    pub maps: Vec<MapChange>,
    /// What is not done here, in words.
    pub left: Option<String>,
}

/// What was promised and not done.
///
/// # Errors
/// `Kind::Corrupt` names an unknown type of item.
pub fn pending(transactions: &[Transaction]) -> Result<Pending> {
    let mut open: BTreeMap<(u16, u64), (usize, &Item)> = BTreeMap::new();
    for (order, item) in transactions.iter().flat_map(|transaction| &transaction.items).enumerate() {
        let (kind, number) = (item.kind(), le64(item.region(0), 8));
        if !KNOWN.iter().any(|known| known.contains(&kind)) {
            return Err(Error::corrupt(format!("it has items of the unknown type {kind:#x}")));
        }
        match kind {
            MAP | ATTRIBUTE | EXCHANGE => drop(open.insert((kind, number), (order, item))),
            done if [MAP, ATTRIBUTE, EXCHANGE].contains(&(done - 1)) => drop(open.remove(&(done - 1, number))),
            _ => {}
        }
    }
    let mut pending = Pending::default();
    let count = |kind: u16| open.keys().filter(|(found, _)| *found == kind).count();
    let words: Vec<String> = [(count(ATTRIBUTE), "of an attribute"), (count(EXCHANGE), "of exchanged contents")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !words.is_empty() {
        pending.left = Some(words.join(", "));
    }
    let mut maps: Vec<_> = open.iter().filter(|((kind, _), _)| *kind == MAP).map(|(_, item)| *item).collect();
    maps.sort_by_key(|(order, _)| *order);
    for (_, item) in maps {
        pending.maps.extend(changes(item.region(0)));
    }
    Ok(pending)
}

fn changes(promise: &[u8]) -> impl Iterator<Item = MapChange> {
    let extents = promise.get(EXTENT..).unwrap_or_default().chunks_exact(EXTENT_SIZE).take(le32(promise, 4) as usize);
    extents.filter_map(|extent| {
        let flags = le32(extent, 28);
        let remove = match flags & 0xff {
            ADD => false,
            REMOVE => true,
            _ => return None,
        };
        let (logical, len) = (le64(extent, 16), u64::from(le32(extent, 24)));
        let physical = le64(extent, 8);
        if len == 0 || logical >= LOGICAL_END || physical >= PHYSICAL_END || flags & OTHERS != 0 {
            return None;
        }
        let run = Run { logical, len, physical, unwritten: flags & UNWRITTEN != 0 };
        Some(MapChange { inode: le64(extent, 0), remove, run })
    })
}

impl MapChange {
    /// Makes the change in a file's runs.
    pub fn apply(&self, runs: &mut Vec<Run>) {
        let (from, to) = (self.run.logical, self.run.end());
        let mut after = Vec::with_capacity(runs.len() + 2);
        for run in runs.iter() {
            if run.logical < from {
                after.push(Run { len: run.end().min(from) - run.logical, ..*run });
            }
            if run.end() > to {
                let skip = to.saturating_sub(run.logical);
                let (logical, len) = (run.logical + skip, run.len - skip);
                after.push(Run { logical, len, physical: run.physical + skip, ..*run });
            }
        }
        if !self.remove {
            let at = after.partition_point(|run| run.logical < from);
            after.insert(at, self.run);
        }
        *runs = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::bytes::{put_le16, put_le32, put_le64};

    fn run(logical: u64, len: u64, physical: u64) -> Run {
        Run { logical, len, physical, unwritten: false }
    }

    fn item(kind: u16, number: u64, extents: &[(u64, u32, Run)]) -> Item {
        let mut bytes = vec![0; EXTENT + extents.len() * EXTENT_SIZE];
        put_le16(&mut bytes, 0, kind);
        put_le32(&mut bytes, 4, extents.len() as u32);
        put_le64(&mut bytes, 8, number);
        for (i, (inode, flags, run)) in extents.iter().enumerate() {
            let at = EXTENT + i * EXTENT_SIZE;
            put_le64(&mut bytes, at, *inode);
            put_le64(&mut bytes, at + 8, run.physical);
            put_le64(&mut bytes, at + 16, run.logical);
            put_le32(&mut bytes, at + 24, run.len as u32);
            put_le32(&mut bytes, at + 28, *flags);
        }
        Item { regions: vec![bytes] }
    }

    #[test]
    fn what_is_not_done_is_left() {
        let items = vec![
            item(MAP, 9, &[(5, REMOVE, run(1, 2, 101))]),
            item(MAP, 8, &[(5, ADD, run(1, 2, 900))]),
            item(MAP, 7, &[(6, ADD, run(0, 1, 1))]),
            item(ATTRIBUTE, 7, &[]),
            item(MAP + 1, 7, &[]),
            item(EXCHANGE, 1, &[]),
            item(EXCHANGE + 1, 1, &[]),
        ];
        let pending = pending(&[Transaction { lsn: 1, items }]).unwrap();
        assert_eq!(pending.left.as_deref(), Some("1 of an attribute"));
        let mut runs = vec![run(0, 10, 100)];
        pending.maps.iter().for_each(|change| change.apply(&mut runs));
        assert_eq!(runs, [run(0, 1, 100), run(1, 2, 900), run(3, 7, 103)]);
        assert_eq!(pending.maps.len(), 2);
    }

    #[test]
    fn unknown_items_are_named() {
        let error = pending(&[Transaction { lsn: 1, items: vec![item(0x1250, 1, &[])] }]).unwrap_err();
        assert!(error.to_string().contains("unknown type 0x1250"), "{error}");
    }
}
