//! A guest cluster that is put together for a new place: new bytes over old ones. It is cut into grains, the smallest parts that
//! can be data on their own: its subclusters, or without them the cluster as a whole. Grains that nobody writes to and that
//! have no data so far get none.

use std::ops::Range;

use super::map::{Entry, Fresh, Image, PARTS, Source};
use crate::base::bytes::is_zero;
use crate::base::{Kind, Result};

/// A cluster on its way.
pub(super) struct Draft {
    /// Its number on the disk.
    pub cluster: u64,
    bytes: Vec<u8>,
    /// Which grains of `bytes` are what they are to be; the lowest bit is the first.
    here: u32,
    /// Which of the other grains are zeros, of subclusters.
    zero: u32,
}

/// The bits of grains from the first to before the last.
fn mask(grains: Range<u64>) -> u32 {
    let below = |end: u64| (1u64 << end.min(PARTS)) - 1;
    (below(grains.end) & !below(grains.start)) as u32
}

impl Draft {
    /// Nothing laid yet.
    pub fn new(image: &Image, cluster: u64) -> Self {
        Draft { cluster, bytes: vec![0; image.header.cluster_size() as usize], here: 0, zero: 0 }
    }

    /// Lays new bytes, all of this cluster, over their place at guest byte `at`. What else is in the grains at both ends is
    /// read from where it is.
    pub fn lay(&mut self, image: &Image, fresh: &Fresh, at: u64, data: &[u8]) -> Result<()> {
        let (grain, start) = (image.grain(), self.cluster << image.header.cluster_bits);
        let (from, to) = (at - start, at - start + data.len() as u64);
        let grains = from / grain..to.div_ceil(grain);
        for number in [grains.start, grains.end.saturating_sub(1)] {
            let range = number * grain..((number + 1) * grain).min(image.header.size - start);
            let whole = from <= range.start && range.end <= to;
            if !whole && self.here & mask(number..number + 1) == 0 {
                let place = self.bytes.get_mut(range.start as usize..range.end as usize).ok_or(Kind::Internal)?;
                image.read(fresh, start + range.start, place)?;
                self.here |= mask(number..number + 1);
            }
        }
        self.bytes.get_mut(from as usize..to as usize).ok_or(Kind::Internal)?.copy_from_slice(data);
        self.here |= mask(grains);
        Ok(())
    }

    /// Takes over what the other grains are: the data of those that have some.
    pub fn complete(&mut self, image: &Image, fresh: &Fresh) -> Result<()> {
        if !image.header.extended() {
            return Ok(());
        }
        let (grain, start) = (image.grain(), self.cluster << image.header.cluster_bits);
        let end = (start + image.header.cluster_size()).min(image.header.size);
        image.pieces(fresh, start..end, |part, source| {
            let grains = (part.start - start) / grain..(part.end - start).div_ceil(grain);
            let missing = mask(grains.clone()) & !self.here;
            match source {
                Source::Backing => {}
                Source::Zero => self.zero |= missing,
                Source::Data(_) | Source::Packed(_) if missing == 0 => {}
                Source::Data(_) | Source::Packed(_) => {
                    let mut old = vec![0; (part.end - part.start) as usize];
                    image.read(fresh, part.start, &mut old)?;
                    for (number, old) in grains.zip(old.chunks(grain as usize)) {
                        let at = (number * grain) as usize;
                        if missing & mask(number..number + 1) != 0 {
                            self.bytes.get_mut(at..at + old.len()).ok_or(Kind::Internal)?.copy_from_slice(old);
                        }
                    }
                    self.here |= missing;
                }
            }
            Ok(())
        })
    }

    /// Makes grains of zeros what they are; answers whether there is data left.
    pub fn thin(&mut self, image: &Image) -> bool {
        for (number, grain) in (0..).zip(self.bytes.chunks(image.grain() as usize)) {
            let bit = mask(number..number + 1);
            if self.here & bit != 0 && is_zero(grain) {
                self.here &= !bit;
                self.zero |= bit;
            }
        }
        self.here != 0
    }

    /// All of it, if all of it is data.
    pub fn whole(&self, image: &Image) -> Option<&[u8]> {
        (self.here == mask(0..image.header.cluster_size() / image.grain())).then_some(&self.bytes)
    }

    /// Writes its data to a place in the file; answers its subclusters.
    pub fn write(&self, image: &Image, host: u64) -> Result<u64> {
        self.runs(image).try_for_each(|(at, bytes)| image.write_data(host + at, bytes))?;
        Ok(self.bitmap(image))
    }

    /// The runs of data, by their offset in the cluster.
    fn runs(&self, image: &Image) -> impl Iterator<Item = (u64, &[u8])> {
        let grain = image.grain();
        let mut number = 0;
        std::iter::from_fn(move || {
            let left = self.here.checked_shr(number).filter(|left| *left != 0)?;
            let first = number + left.trailing_zeros();
            number = first + (self.here >> first).trailing_ones();
            let (start, end) = (u64::from(first) * grain, u64::from(number) * grain);
            self.bytes.get(start as usize..end as usize).map(|bytes| (start, bytes))
        })
    }

    /// The subclusters of an entry for it; 0 without subclusters.
    pub fn bitmap(&self, image: &Image) -> u64 {
        if image.header.extended() { u64::from(self.here) | u64::from(self.zero) << PARTS } else { 0 }
    }
}

impl Image {
    /// Bytes of the smallest part of a cluster that can be data on its own.
    pub fn grain(&self) -> u64 {
        if self.header.extended() { self.header.cluster_size() / PARTS } else { self.header.cluster_size() }
    }

    /// An entry with the grains of `range`, bytes of its cluster, as data too, at `host`.
    pub fn with_data(&self, entry: Entry, host: u64, range: Range<u64>) -> Entry {
        let grain = self.grain();
        let new = u64::from(mask(range.start / grain..range.end.div_ceil(grain)));
        self.entry_at(host, (entry.bitmap | new) & !(new << PARTS))
    }
}
