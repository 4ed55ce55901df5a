//! The superblock: 4096 bytes at 64 KiB. Copies lie at 64 MiB and 256 GiB; the first one counts, as for the kernel.
//!
//! Offsets: btrfs documentation, "On-disk Format", and the kernel's `uapi/linux/btrfs_tree.h`. All words are little-endian.

use blake2::digest::consts::U32;
use sha2::Digest;

use crate::base::bytes::{is_zero, le16, le32, le64, u8_at};
use crate::base::{Error, Result, Uuid};
use crate::disk::BlockDevice;

/// Where it is, and its length.
pub const AT: u64 = 0x1_0000;
pub const SIZE: usize = 4096;
const MAGIC: &[u8] = b"_BHRfS_M";
/// Bytes in front of what a checksum covers, in the superblock and in tree nodes.
pub const SUM_SIZE: usize = 32;
/// Room for the chunks that everything else is found through.
const SYSTEM_CHUNKS_MAX: usize = 2048;
/// Largest tree node.
const NODE_MAX: usize = 65536;

/// Incompatible features that change nothing for reading, or are handled.
const INCOMPAT: &[(u64, &str)] = &[
    (0x1, "mixed_backref"),
    (0x2, "default_subvol"),
    (0x4, "mixed_groups"),
    (0x8, "compress_lzo"),
    (0x10, "compress_zstd"),
    (0x20, "big_metadata"),
    (0x40, "extended_iref"),
    (0x80, "raid56"),
    (0x100, "skinny_metadata"),
    (0x200, "no_holes"),
    (METADATA_UUID, "metadata_uuid"),
    (0x800, "raid1c34"),
    (0x1_0000, "simple_quota"),
];
/// Those that are known and not handled.
const REFUSED: &[(u64, &str)] = &[(0x1000, "zoned"), (0x2000, "extent_tree_v2"), (0x4000, "raid_stripe_tree")];
const METADATA_UUID: u64 = 0x400;

/// How blocks are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// crc32c, 4 bytes.
    Crc32c,
    /// XXH64 with seed 0, 8 bytes.
    Xxhash64,
    /// SHA-256, 32 bytes.
    Sha256,
    /// BLAKE2b of 256 bits, 32 bytes.
    Blake2b,
}

impl Sums {
    /// Whether the sum at the start of a block fits the rest.
    pub fn is_good(self, block: &[u8]) -> bool {
        let (Some(sum), Some(rest)) = (block.get(..SUM_SIZE), block.get(SUM_SIZE..)) else { return false };
        match self {
            Sums::Crc32c => le32(sum, 0) == crc32c::crc32c(rest),
            Sums::Xxhash64 => le64(sum, 0) == twox_hash::XxHash64::oneshot(0, rest),
            Sums::Blake2b => blake2::Blake2b::<U32>::digest(rest).as_slice() == sum,
            Sums::Sha256 => sha2::Sha256::digest(rest).as_slice() == sum,
        }
    }
}

/// The root of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// Logical address of its node.
    pub at: u64,
    /// The node's level, 0 for a leaf.
    pub level: u8,
}

/// A superblock whose numbers are in range.
#[derive(Debug, Clone)]
pub struct Superblock {
    /// What the user sees as UUID.
    pub uuid: Uuid,
    /// The UUID in tree nodes.
    pub node_uuid: [u8; 16],
    /// Label without the padding.
    pub label: Vec<u8>,
    /// The root tree.
    pub root: Root,
    /// The chunk tree.
    pub chunks: Root,
    /// The tree of the logs that fsync left, if it left any.
    pub log: Option<Root>,
    /// Bits of incompatible features.
    pub incompat: u64,
    /// Bytes in all and bytes in use.
    pub total: u64,
    pub used: u64,
    /// Directory in the root tree that names the default subvolume.
    pub root_dir: u64,
    /// Bytes of a sector and of a tree node.
    pub sector: u32,
    pub node: usize,
    /// Number of this device, and how many there are.
    pub device: u64,
    pub devices: u64,
    /// The transaction that wrote it.
    pub generation: u64,
    /// How blocks are summed.
    pub sums: Sums,
    /// Chunks that hold the chunk tree: keys and items one after the other.
    pub system_chunks: Vec<u8>,
}

/// The UUID of the file system on a device, if it lies on several devices.
pub fn shared(device: &dyn BlockDevice) -> Result<Option<Uuid>> {
    Ok(read(device)?.filter(|block| le64(block, 0x88) > 1).map(|block| uuid(&block, 0x20)))
}

/// Whether there is a superblock at all: label and UUID of it.
pub fn probe(device: &dyn BlockDevice) -> Result<Option<(Vec<u8>, Uuid)>> {
    let Some(block) = read(device)? else { return Ok(None) };
    Ok(Some((label(&block), uuid(&block, 0x20))))
}

fn read(device: &dyn BlockDevice) -> Result<Option<Vec<u8>>> {
    if device.len() < AT + SIZE as u64 {
        return Ok(None);
    }
    let mut block = vec![0; SIZE];
    device.read_at(AT, &mut block)?;
    Ok((block[0x40..0x48] == *MAGIC).then_some(block))
}

fn uuid(block: &[u8], at: usize) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&block[at..at + 16]);
    Uuid(bytes)
}

fn label(block: &[u8]) -> Vec<u8> {
    let field = &block[0x12b..0x22b];
    field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())].to_vec()
}

impl Superblock {
    /// Reads and checks it.
    ///
    /// # Errors
    /// `Kind::Unsupported` names the feature, `Kind::Corrupt` the field.
    pub fn open(device: &dyn BlockDevice) -> Result<Self> {
        let bad = |what: String| Err(Error::corrupt(format!("btrfs: superblock: {what}")));
        let Some(block) = read(device)? else { return bad("it is not there".into()) };
        let word = |at: usize| le64(&block, at);
        let sums = match le16(&block, 0xc4) {
            0 => Sums::Crc32c,
            1 => Sums::Xxhash64,
            2 => Sums::Sha256,
            3 => Sums::Blake2b,
            other => return Err(Error::unsupported(format!("btrfs: checksums of type {other} are not known"))),
        };
        if !sums.is_good(&block) {
            return bad("its checksum is wrong".into());
        }
        let incompat = word(0xbc);
        if let Some((bit, name)) = REFUSED.iter().find(|(bit, _)| incompat & bit != 0) {
            return Err(Error::unsupported(format!("btrfs: feature '{name}' (incompat {bit:#x}) is not read yet")));
        }
        let unknown = incompat & !INCOMPAT.iter().fold(0, |bits, (bit, _)| bits | bit);
        if unknown != 0 {
            return Err(Error::unsupported(format!("btrfs: unknown features (incompat {unknown:#x})")));
        }
        let (sector, node) = (le32(&block, 0x90), le32(&block, 0x94) as usize);
        if !sector.is_power_of_two() || !(512..=NODE_MAX as u32).contains(&sector) {
            return bad(format!("sectorsize is {sector}"));
        }
        if !node.is_power_of_two() || !(4096..=NODE_MAX).contains(&node) {
            return bad(format!("nodesize is {node}"));
        }
        let system = le32(&block, 0xa0) as usize;
        if system > SYSTEM_CHUNKS_MAX {
            return bad(format!("sys_chunk_array_size is {system}"));
        }
        let uuid_at = if incompat & METADATA_UUID != 0 && !is_zero(&block[0x23b..0x24b]) { 0x23b } else { 0x20 };
        let total = word(0x70);
        if word(0xd1) > device.len() {
            let (says, len) = (word(0xd1), device.len());
            return bad(format!("the device is to have {says} bytes and has {len}"));
        }
        Ok(Superblock {
            uuid: uuid(&block, 0x20),
            node_uuid: uuid(&block, uuid_at).0,
            label: label(&block),
            root: Root { at: word(0x50), level: u8_at(&block, 0xc6) },
            chunks: Root { at: word(0x58), level: u8_at(&block, 0xc7) },
            log: (word(0x60) != 0).then(|| Root { at: word(0x60), level: u8_at(&block, 0xc8) }),
            incompat,
            total,
            used: word(0x78),
            root_dir: word(0x80),
            sector,
            node,
            device: word(0xc9),
            devices: word(0x88),
            generation: word(0x48),
            sums,
            system_chunks: block[0x32b..0x32b + system].to_vec(),
        })
    }
}
