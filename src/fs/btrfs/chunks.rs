//! From logical addresses to bytes of the devices: chunks, each a run of logical addresses with its stripes.
//!
//! Facts: btrfs documentation, "On-disk Format" and "mkfs.btrfs" (profiles), the kernel's `uapi/linux/btrfs_tree.h`; how stripes follow
//! each other: what Linux makes of them.

use std::collections::BTreeMap;

use super::devices::Devices;
use super::tree::Key;
use crate::base::bytes::{le16, le64};
use crate::base::{Error, Result};

/// Key type of a chunk, and the object id of all of them.
pub const CHUNK_ITEM: u8 = 228;
pub const CHUNKS: u64 = 256;
/// Bytes in front of the stripes, and of a stripe.
const HEAD: usize = 48;
const STRIPE: usize = 32;
/// Bytes of a device that follow each other where a chunk is striped (BTRFS_STRIPE_LEN).
const STRIPE_LEN: u64 = 64 << 10;
/// Profiles in `type`.
const PROFILES: u64 = 0x7f8;
const RAID0: u64 = 0x8;
const RAID1: u64 = 0x10;
const DUP: u64 = 0x20;
const RAID10: u64 = 0x40;
const RAID5: u64 = 0x80;
const RAID6: u64 = 0x100;
const RAID1C3: u64 = 0x200;
const RAID1C4: u64 = 0x400;

/// A byte of a device: its index in [`Devices`], and where it is.
pub type Place = (usize, u64);

/// A run of logical addresses.
struct Chunk {
    len: u64,
    /// Where its stripes begin; `None` on a device that is not here.
    stripes: Vec<Option<Place>>,
    /// Stripes with the same bytes, one behind the other; the groups take turns.
    copies: usize,
    /// How many take turns: 1 where all stripes are the same.
    columns: u64,
    /// Stripes of parity, which move on by one with each turn.
    parity: usize,
}

impl Chunk {
    /// The index of the first stripe that has a byte of the chunk, the byte of it, and how many bytes follow there.
    fn find(&self, offset: u64) -> (usize, u64, u64) {
        let columns = self.columns;
        if columns == 1 && self.parity == 0 {
            return (0, offset, self.len - offset);
        }
        let (stripe, inside) = (offset / STRIPE_LEN, offset % STRIPE_LEN);
        let (turn, column) = (stripe / columns, stripe % columns);
        let index = match self.parity {
            0 => column as usize * self.copies,
            _ => ((turn + column) % self.stripes.len() as u64) as usize,
        };
        (index, turn * STRIPE_LEN + inside, STRIPE_LEN - inside)
    }
}

/// All chunks that are known.
#[derive(Default)]
pub struct Chunks(BTreeMap<u64, Chunk>);

impl Chunks {
    /// Adds the chunk of an item; answers the item's length.
    ///
    /// # Errors
    /// A profile that is not known; a chunk outside its devices or over another one; bytes that only devices have that are not here.
    pub fn add(&mut self, logical: u64, item: &[u8], devices: &Devices) -> Result<usize> {
        let bad = |what: String| Error::corrupt(format!("btrfs: chunk at {logical}: {what}"));
        let (len, kind, count) = (le64(item, 0), le64(item, 24), usize::from(le16(item, 44)));
        let size = HEAD + count * STRIPE;
        if item.len() < size || count == 0 {
            return Err(bad(format!("{count} stripes in {} bytes", item.len())));
        }
        let (copies, parity) = match kind & PROFILES {
            0 | RAID0 => (1, 0),
            DUP | RAID1 | RAID1C3 | RAID1C4 => (count, 0),
            RAID10 => (usize::from(le16(item, 46)), 0),
            RAID5 => (1, 1),
            RAID6 => (1, 2),
            other => {
                return Err(Error::unsupported(format!("btrfs: chunk at {logical}: profile {other:#x} is not known")));
            }
        };
        if copies == 0 || !count.is_multiple_of(copies) || count <= parity || kind & PROFILES == 0 && count > 1 {
            return Err(bad(format!("{count} stripes for profile {:#x}", kind & PROFILES)));
        }
        let end = logical.checked_add(len).filter(|end| *end > logical);
        let end = end.ok_or_else(|| bad(format!("its length is {len}")))?;
        let columns = (count / copies - parity) as u64;
        let mut chunk = Chunk { len, stripes: Vec::with_capacity(count), copies, columns, parity };
        let mut absent = Vec::new();
        if columns > 1 && le64(item, 16) != STRIPE_LEN {
            return Err(bad(format!("stripes of {} bytes", le64(item, 16))));
        }
        let on_device = if columns > 1 { len.div_ceil(columns * STRIPE_LEN) * STRIPE_LEN } else { len };
        for stripe in item[HEAD..size].chunks_exact(STRIPE) {
            let (id, at) = (le64(stripe, 0), le64(stripe, 8));
            let index = devices.index(id);
            if index.is_none() {
                absent.push(id);
            } else if at.checked_add(on_device).is_none_or(|end| end > devices.len_of(id)) {
                return Err(bad(format!(
                    "{on_device} bytes at {at} are outside device {id} of {}",
                    devices.len_of(id)
                )));
            }
            chunk.stripes.push(index.map(|index| (index, at)));
        }
        // Parity is not asked for what is missing.
        let groups = if parity > 0 { 1 } else { copies };
        if chunk.stripes.chunks(groups).any(|group| group.iter().all(Option::is_none)) {
            return Err(devices.missing(absent.first().copied().unwrap_or_default()));
        }
        let before = self.0.range(..end).next_back();
        if let Some((at, chunk)) = before.filter(|(at, chunk)| **at + chunk.len > logical) {
            if *at != logical || chunk.len != len {
                return Err(bad("it overlaps another one".into()));
            }
            return Ok(size);
        }
        self.0.insert(logical, chunk);
        Ok(size)
    }

    fn chunk(&self, logical: u64, len: u64) -> Result<(u64, &Chunk)> {
        let found = self.0.range(..=logical).next_back();
        match found.filter(|(at, chunk)| len <= chunk.len && logical - **at <= chunk.len - len) {
            Some((at, chunk)) => Ok((logical - at, chunk)),
            None => Err(Error::corrupt(format!("btrfs: no chunk has {len} bytes at {logical}"))),
        }
    }

    /// How many copies there are of `len` bytes at a logical address, those that are not here too.
    ///
    /// # Errors
    /// No chunk has all of the bytes.
    pub fn copies(&self, logical: u64, len: u64) -> Result<usize> {
        Ok(self.chunk(logical, len)?.1.copies)
    }

    /// Calls `each` for the places of `len` bytes at a logical address, with the number of bytes at each. Where copy `copy` is not here, it
    /// is another one.
    ///
    /// # Errors
    /// No chunk has all of the bytes; what `each` says.
    pub fn places(
        &self,
        logical: u64,
        len: u64,
        copy: usize,
        each: &mut dyn FnMut(Place, u64) -> Result<()>,
    ) -> Result<()> {
        let (mut offset, chunk) = self.chunk(logical, len)?;
        let end = offset + len;
        while offset < end {
            let (first, skip, follow) = chunk.find(offset);
            let here = (0..chunk.copies).find_map(|i| chunk.stripes[first + (copy + i) % chunk.copies]);
            let (device, at) =
                here.ok_or_else(|| Error::corrupt(format!("btrfs: chunk of {logical}: it is nowhere")))?;
            let some = follow.min(end - offset);
            each((device, at + skip), some)?;
            offset += some;
        }
        Ok(())
    }

    /// Where `len` bytes at a logical address are on the device that was opened, if all of them are there in one piece.
    ///
    /// # Errors
    /// No chunk has all of the bytes.
    pub fn place_on_first(&self, logical: u64, len: u64) -> Result<Option<u64>> {
        let (offset, chunk) = self.chunk(logical, len)?;
        let (first, skip, follow) = chunk.find(offset);
        let here = chunk.stripes[first..first + chunk.copies].iter().flatten().find(|(device, _)| *device == 0);
        Ok(here.map(|(_, at)| at + skip).filter(|_| len <= follow))
    }
}

/// The chunks that the superblock lists: keys and items one after the other.
pub fn system(mut array: &[u8], devices: &Devices) -> Result<Chunks> {
    let mut chunks = Chunks::default();
    while !array.is_empty() {
        let Some((key, rest)) = array.split_first_chunk::<{ Key::SIZE }>() else {
            return Err(Error::corrupt("btrfs: superblock: its list of chunks ends inside a key"));
        };
        let key = Key::read(key, 0);
        if key.kind != CHUNK_ITEM || key.object != CHUNKS {
            return Err(Error::corrupt(format!(
                "btrfs: superblock: its list of chunks has an item of type {}",
                key.kind
            )));
        }
        let size = chunks.add(key.offset, rest, devices)?;
        array = rest.get(size..).unwrap_or_default();
    }
    Ok(chunks)
}
