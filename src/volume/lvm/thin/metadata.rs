//! The metadata of a thin pool: its superblock, and the trees that say which chunks a volume has and where.
//!
//! Facts: Linux, drivers/md/dm-thin-metadata.c ("struct thin_disk_superblock", "struct disk_device_details") and
//! drivers/md/persistent-data (dm-btree-internal.h). All words are little-endian; a block has 4096 bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::bytes::{le32, le64};
use crate::base::{Error, Kind, Result};
use crate::disk::Device;

/// Bytes of a metadata block.
const BLOCK: usize = 4096;
const SECTOR: u64 = 512;
/// `magic` of the superblock, and its versions.
const MAGIC: u64 = 27_022_010;
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=2;
/// What is put over the checksums of superblock and tree nodes.
const SUPERBLOCK_XOR: u32 = 160_774;
const NODE_XOR: u32 = 121_107;
/// `flags` of the superblock: the pool wants `thin_check` before it is used.
const NEEDS_CHECK: u32 = 1;
/// Bytes in front of a node's keys; `flags` of an inner node and of a leaf.
const HEADER: usize = 32;
const INNER: u32 = 1;
const LEAF: u32 = 2;
/// Bytes of a value: a place, and the details of a device.
const PLACE: usize = 8;
const DETAILS: usize = 24;
/// Levels of a tree. A half filled node has more than a hundred entries: 16 levels are more than 64 bits can name.
const DEEPEST: usize = 16;
/// Nodes that are kept.
const KEPT: usize = 2048;
/// A place: the chunk of the pool above, the time of the mapping in the low 24 bits.
const TIME_BITS: u32 = 24;
/// Sizes that a chunk may have, in bytes: multiples of the first one, up to the second.
pub const CHUNK_MIN: u64 = 64 << 10;
pub const CHUNK_MAX: u64 = 1 << 30;

fn bad(what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("lvm: thin pool metadata: {what}"))
}

/// A block's checksum: CRC-32C without the inversion at its end, over all but its first word.
fn is_good(block: &[u8], xor: u32) -> bool {
    let body = block.get(4..).unwrap_or_default();
    le32(block, 0) == !crc32c::crc32c(body) ^ xor
}

/// A node of a tree whose checksum, number and sizes were checked.
struct Node {
    bytes: Vec<u8>,
    leaf: bool,
    count: usize,
    /// Entries that it has room for.
    room: usize,
}

impl Node {
    /// # Errors
    /// `Kind::Corrupt` with the field; `size` is that of a leaf's values.
    fn new(at: u64, bytes: Vec<u8>, size: usize) -> Result<Self> {
        let bad = |what: String| Err(bad(format_args!("tree node {at}: {what}")));
        if !is_good(&bytes, NODE_XOR) {
            return bad("its checksum is wrong".into());
        }
        if le64(&bytes, 8) != at {
            return bad(format!("it says that it is block {}", le64(&bytes, 8)));
        }
        let (flags, count, room, value) =
            (le32(&bytes, 4), le32(&bytes, 16) as usize, le32(&bytes, 20) as usize, le32(&bytes, 24) as usize);
        let size = match flags {
            INNER => PLACE,
            LEAF => size,
            _ => return bad(format!("flags {flags:#x} are those of no node")),
        };
        let fits = room.checked_mul(8 + size).is_some_and(|all| HEADER + all <= bytes.len());
        if value != size || !fits || count > room {
            return bad(format!("{count} of {room} entries with values of {value} bytes"));
        }
        let node = Node { bytes, leaf: flags == LEAF, count, room };
        match (1..count).all(|i| node.key(i - 1) < node.key(i)) {
            true => Ok(node),
            false => bad("its keys are out of order".into()),
        }
    }

    fn key(&self, i: usize) -> u64 {
        le64(&self.bytes, HEADER + i * 8)
    }

    /// Where the value of entry `i` begins, if values have `size` bytes.
    fn at(&self, i: usize, size: usize) -> usize {
        HEADER + self.room * 8 + i * size
    }

    fn place(&self, i: usize) -> u64 {
        le64(&self.bytes, self.at(i, PLACE))
    }

    /// The number of keys at or below one.
    fn up_to(&self, key: u64) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            if self.key(middle) <= key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// A leaf, the number of its keys at or below the one that was looked for, and the first key that is behind it.
type Found = (Arc<Node>, usize, Option<u64>);

/// A thin volume in the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// The block of its tree's root.
    root: u64,
    /// Mappings that are older than this moment are shared with a snapshot, or may be.
    snapshotted: u64,
}

/// Chunks of a thin volume that follow each other, in the pool too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// The first one's number in the pool; `None` for chunks that the volume does not have.
    pub first: Option<u64>,
    /// Whether another volume may have them too.
    pub shared: bool,
    /// Number of chunks, at least 1.
    pub count: u64,
}

/// The metadata of a pool.
pub struct Metadata {
    device: Device,
    /// Blocks that it says it has.
    blocks: u64,
    mappings: u64,
    details: u64,
    /// Bytes of a chunk.
    pub chunk: u64,
    /// Counts the changes that LVM asked for.
    pub transaction: u64,
    /// Why nothing is to be written into the pool.
    pub unsettled: Option<String>,
    nodes: Mutex<HashMap<u64, Arc<Node>>>,
}

impl Metadata {
    /// Reads and checks the superblock.
    ///
    /// # Errors
    /// `Kind::Corrupt` names the field, `Kind::Unsupported` the version or feature.
    pub fn open(device: Device) -> Result<Self> {
        if device.len() < BLOCK as u64 {
            return Err(bad(format_args!("it has {} bytes", device.len())));
        }
        let mut block = vec![0; BLOCK];
        device.read_at(0, &mut block)?;
        if le64(&block, 32) != MAGIC {
            return Err(bad("superblock: it is not there"));
        }
        if !is_good(&block, SUPERBLOCK_XOR) || le64(&block, 8) != 0 {
            return Err(bad("superblock: its checksum is wrong"));
        }
        let version = le32(&block, 40);
        if !VERSIONS.contains(&version) {
            return Err(Error::unsupported(format!("lvm: thin pool metadata of version {version} is not known")));
        }
        let (writable, incompat) = (le32(&block, 356), le32(&block, 360));
        if incompat != 0 {
            return Err(Error::unsupported(format!(
                "lvm: thin pool metadata: unknown features (incompat {incompat:#x})"
            )));
        }
        let chunk = u64::from(le32(&block, 336)) * SECTOR;
        if !(CHUNK_MIN..=CHUNK_MAX).contains(&chunk) || !chunk.is_multiple_of(CHUNK_MIN) {
            return Err(bad(format_args!("superblock: chunks of {chunk} bytes")));
        }
        let (sectors, blocks) = (le32(&block, 340), le64(&block, 344));
        if u64::from(sectors) * SECTOR != BLOCK as u64 || blocks > device.len() / BLOCK as u64 {
            return Err(bad(format_args!(
                "superblock: {blocks} blocks of {sectors} sectors in {} bytes",
                device.len()
            )));
        }
        let unsettled = if le32(&block, 4) & NEEDS_CHECK != 0 {
            Some("its pool is marked as damaged (needs_check): run thin_check and lvconvert --repair".to_string())
        } else if writable != 0 {
            Some(format!("its pool has unknown features (compat_ro {writable:#x})"))
        } else if le64(&block, 56) != 0 {
            Some("a snapshot of its pool's metadata is held".to_string())
        } else {
            None
        };
        Ok(Metadata {
            device,
            blocks,
            mappings: le64(&block, 320),
            details: le64(&block, 328),
            chunk,
            transaction: le64(&block, 48),
            unsettled,
            nodes: Mutex::default(),
        })
    }

    /// A node of a tree whose leaves have values of `size` bytes.
    fn node(&self, at: u64, size: usize) -> Result<Arc<Node>> {
        // Nobody panics while it is locked, and what is in it is whole at any time.
        let nodes = || self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = nodes().get(&at).cloned();
        if let Some(node) = known {
            // The other tree's leaf under this number is no node of this one.
            return match !node.leaf || le32(&node.bytes, 24) as usize == size {
                true => Ok(node),
                false => Err(bad(format_args!("tree node {at}: it belongs to another tree"))),
            };
        }
        if at == 0 || at >= self.blocks {
            return Err(bad(format_args!("tree node {at} is outside of {} blocks", self.blocks)));
        }
        let mut bytes = vec![0; BLOCK];
        self.device.read_at(at * BLOCK as u64, &mut bytes)?;
        let node = Arc::new(Node::new(at, bytes, size)?);
        let mut nodes = nodes();
        if nodes.len() >= KEPT {
            nodes.clear();
        }
        nodes.insert(at, node.clone());
        Ok(node)
    }

    /// Goes down to the leaf where a key belongs. Every node's keys must lie between those of the pointers above it,
    /// so no tree shows an entry twice.
    fn descend(&self, root: u64, key: u64, size: usize) -> Result<Found> {
        let (mut at, mut low, mut high) = (root, 0, None);
        for depth in 0..DEEPEST {
            let node = self.node(at, size)?;
            let Some(last) = node.count.checked_sub(1) else {
                // A volume without any chunk has an empty leaf.
                return match depth == 0 && node.leaf {
                    true => Ok((node, 0, None)),
                    false => Err(bad(format_args!("tree node {at}: it is empty"))),
                };
            };
            if node.key(0) < low || high.is_some_and(|high| node.key(last) >= high) {
                return Err(bad(format_args!("tree node {at}: it has keys that belong into another one")));
            }
            let below = node.up_to(key);
            if node.leaf {
                return Ok((node, below, high));
            }
            let i = below.saturating_sub(1);
            low = node.key(i);
            high = if i < last { Some(node.key(i + 1)) } else { high };
            at = node.place(i);
        }
        Err(bad(format_args!("the tree at block {root} has more than {DEEPEST} levels")))
    }

    /// The leaf and the index of a key.
    fn find(&self, root: u64, key: u64, size: usize) -> Result<Option<(Arc<Node>, usize)>> {
        let (leaf, below, _) = self.descend(root, key, size)?;
        let found = below.checked_sub(1).filter(|i| leaf.key(*i) == key);
        Ok(found.map(|i| (leaf, i)))
    }

    /// The volume with a number.
    ///
    /// # Errors
    /// `Kind::NotFound` for a number that the pool does not know.
    pub fn volume(&self, id: u64) -> Result<Volume> {
        let (details, mappings) = (self.find(self.details, id, DETAILS)?, self.find(self.mappings, id, PLACE)?);
        match (details, mappings) {
            (Some((details, i)), Some((mappings, j))) => {
                let snapshotted = u64::from(le32(&details.bytes, details.at(i, DETAILS) + 20));
                Ok(Volume { root: mappings.place(j), snapshotted })
            }
            (None, None) => Err(Error::new(Kind::NotFound, format!("lvm: the thin pool knows no device {id}"))),
            _ => Err(bad(format_args!("device {id} is in one of its trees only"))),
        }
    }

    /// The chunks of a volume from the one with number `chunk` on.
    ///
    /// # Errors
    /// `Kind::Corrupt` for damaged nodes.
    pub fn chunks(&self, volume: Volume, chunk: u64) -> Result<Chunks> {
        let (leaf, below, high) = self.descend(volume.root, chunk, PLACE)?;
        let entry = |i: usize| (leaf.place(i) >> TIME_BITS, leaf.place(i) & ((1 << TIME_BITS) - 1));
        let shared = |time: u64| volume.snapshotted > time;
        let Some(found) = below.checked_sub(1).filter(|i| leaf.key(*i) == chunk) else {
            let next = if below < leaf.count { Some(leaf.key(below)) } else { high };
            return Ok(Chunks { first: None, shared: false, count: next.unwrap_or(u64::MAX) - chunk });
        };
        let (first, time) = entry(found);
        let follows = |i: usize| {
            let (place, other) = entry(i);
            let count = (i - found) as u64;
            leaf.key(i) == chunk + count && place == first + count && shared(other) == shared(time)
        };
        let end = (found + 1..leaf.count).find(|i| !follows(*i)).unwrap_or(leaf.count);
        Ok(Chunks { first: Some(first), shared: shared(time), count: (end - found) as u64 })
    }
}
