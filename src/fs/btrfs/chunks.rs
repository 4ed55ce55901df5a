//! From logical addresses to bytes of the device: chunks, each a run of logical addresses with its stripes.

use std::collections::BTreeMap;

use super::tree::Key;
use crate::base::bytes::{le16, le64};
use crate::base::{Error, Result};

/// Key type of a chunk, and the object id of all of them.
pub const CHUNK_ITEM: u8 = 228;
pub const CHUNKS: u64 = 256;
/// Bytes in front of the stripes, and of a stripe.
const HEAD: usize = 48;
const STRIPE: usize = 32;
/// `type`: profiles that keep the whole chunk in every stripe, and those that do not.
const DUP: u64 = 0x20;
const PROFILES: u64 = 0x7f8;

/// A run of logical addresses.
struct Chunk {
    len: u64,
    /// Where its copies begin on the device.
    copies: Vec<u64>,
}

/// All chunks that are known.
#[derive(Default)]
pub struct Chunks(BTreeMap<u64, Chunk>);

impl Chunks {
    /// Adds the chunk of an item; answers the item's length.
    ///
    /// # Errors
    /// A profile or device that is not read; a chunk outside the device or over another one.
    pub fn add(&mut self, logical: u64, item: &[u8], device: u64, device_len: u64) -> Result<usize> {
        let bad = |what: String| Error::corrupt(format!("btrfs: chunk at {logical}: {what}"));
        let (len, kind, stripes) = (le64(item, 0), le64(item, 24), usize::from(le16(item, 44)));
        let size = HEAD + stripes * STRIPE;
        if item.len() < size || stripes == 0 {
            return Err(bad(format!("{stripes} stripes in {} bytes", item.len())));
        }
        if kind & PROFILES & !DUP != 0 && stripes > 1 {
            let profile = kind & PROFILES;
            return Err(Error::unsupported(format!("btrfs: chunk at {logical}: profile {profile:#x} is not read yet")));
        }
        let end = logical.checked_add(len).filter(|end| *end > logical);
        let end = end.ok_or_else(|| bad(format!("its length is {len}")))?;
        let mut copies = Vec::new();
        for stripe in item[HEAD..size].chunks_exact(STRIPE) {
            let (of, at) = (le64(stripe, 0), le64(stripe, 8));
            if of != device {
                return Err(Error::unsupported(format!("btrfs: chunk at {logical}: it lies on device {of}")));
            }
            if at.checked_add(len).is_none_or(|end| end > device_len) {
                return Err(bad(format!("{len} bytes at {at} are outside the device of {device_len}")));
            }
            copies.push(at);
        }
        let before = self.0.range(..end).next_back();
        if let Some((at, chunk)) = before.filter(|(at, chunk)| **at + chunk.len > logical) {
            if *at != logical || chunk.len != len {
                return Err(bad("it overlaps another one".into()));
            }
            return Ok(size);
        }
        self.0.insert(logical, Chunk { len, copies });
        Ok(size)
    }

    /// The places on the device of `len` bytes at a logical address, one for each copy.
    ///
    /// # Errors
    /// No chunk has all of them.
    pub fn places(&self, logical: u64, len: u64) -> Result<Vec<u64>> {
        let found = self.0.range(..=logical).next_back();
        let chunk = found.filter(|(at, chunk)| len <= chunk.len && logical - **at <= chunk.len - len);
        match chunk {
            Some((at, chunk)) => Ok(chunk.copies.iter().map(|copy| copy + (logical - at)).collect()),
            None => Err(Error::corrupt(format!("btrfs: no chunk has {len} bytes at {logical}"))),
        }
    }
}

/// The chunks that the superblock lists: keys and items one after the other.
pub fn system(mut array: &[u8], device: u64, device_len: u64) -> Result<Chunks> {
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
        let size = chunks.add(key.offset, rest, device, device_len)?;
        array = rest.get(size..).unwrap_or_default();
    }
    Ok(chunks)
}
