//! The superblock: the first sector, big-endian. Copies in the other groups are not read.
//!
//! Offsets and bits: "XFS Algorithms & Data Structures", chapter "Superblocks".

use crate::base::bytes::{be16, be32, be64, u8_at};
use crate::base::{Error, Result, Uuid};
use crate::disk::BlockDevice;

/// Bytes that are read of it.
const SIZE: usize = 512;
const MAGIC: &[u8] = b"XFSB";
/// Place of the checksum of version 5.
const CRC: usize = 224;

/// `versionnum` of version 4: directories of version 2, more bits in `features2`.
const V4_DIRV2: u16 = 0x2000;
const V4_MOREBITS: u16 = 0x8000;
/// `versionnum` of both: names are looked for without regard to case.
const ASCII_CI: u16 = 0x4000;
/// `features2` of version 4: entries have types.
const V4_FTYPE: u32 = 0x200;
/// `versionnum`: there are attributes, the log has version 2, sectors of the log may have another size; `features2`: attributes of version 2,
/// counts that are not kept.
const ATTR: u16 = 0x10;
const LOG_V2: u16 = 0x400;
const SECTORS: u16 = 0x800;
const ATTR2: u32 = 0x8;
const LAZY: u32 = 0x2;
/// Incompatible features of version 5.
const FTYPE: u32 = 0x1;
const META_UUID: u32 = 0x4;
const NEEDSREPAIR: u32 = 0x10;
/// Those that change nothing for reading, or are handled.
const KNOWN: &[(u32, &str)] = &[
    (FTYPE, "ftype"),
    (0x2, "sparse inodes"),
    (META_UUID, "meta_uuid"),
    (0x8, "bigtime"),
    (NEEDSREPAIR, "needsrepair"),
    (0x20, "nrext64"),
    (0x40, "exchange-range"),
    (0x80, "parent pointers"),
];
/// Those that are known and not handled.
const REFUSED: &[(u32, &str)] = &[(0x100, "metadir"), (0x200, "zoned"), (0x400, "zone gaps")];

/// A superblock whose numbers are in range.
#[derive(Debug, Clone)]
pub struct Superblock {
    /// 4 or 5. Version 5 has checksums.
    pub version: u8,
    /// The UUID that the user sees, and the one in metadata.
    pub uuid: Uuid,
    pub meta_uuid: [u8; 16],
    pub label: Vec<u8>,
    pub block: usize,
    /// Bytes of a sector, in which the groups have their headers.
    pub sector: usize,
    pub inode: usize,
    pub blocks: u64,
    pub free: u64,
    pub inodes: u64,
    pub free_inodes: u64,
    /// First block of the log inside the file system, 0 for one elsewhere, and its blocks.
    pub log_start: u64,
    pub log_blocks: u32,
    /// Most of the space that inodes may take, in percent; 0 for all.
    pub inodes_most: u8,
    pub root: u64,
    /// Blocks of a group, and number of groups.
    pub group_blocks: u32,
    pub groups: u32,
    /// Bits of a block's number inside its group, and of an inode's inside its block.
    pub group_log: u32,
    pub inode_log: u32,
    /// Bytes of a directory block.
    pub dir_block: usize,
    /// Whether directory entries have types.
    pub has_types: bool,
    pub needs_repair: bool,
    /// Features that the log needs while it is not empty.
    pub log_features: u32,
}

/// What `xfs_info` tells of a file system, as it is in the superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of an inode.
    pub inode: u32,
    /// Number of groups, and blocks of each but the last.
    pub groups: u32,
    /// See [`Geometry::groups`].
    pub group_blocks: u32,
    /// Bytes of a sector.
    pub sector: u32,
    /// Version of attributes: 0 (there have been none), 1 or 2.
    pub attributes: u32,
    /// Bytes of a block.
    pub block: u32,
    /// Number of blocks.
    pub blocks: u64,
    /// Most of the space that inodes may take, in percent.
    pub inodes_most: u32,
    /// Blocks of a stripe's unit, and of a stripe.
    pub stripe_unit: u32,
    /// See [`Geometry::stripe_unit`].
    pub stripe: u32,
    /// Bytes of a directory block.
    pub dir_block: u32,
    /// Whether the log lies inside.
    pub log_inside: bool,
    /// Blocks of the log, its version, bytes of its sectors, blocks of its stripe's unit.
    pub log_blocks: u32,
    /// See [`Geometry::log_blocks`].
    pub log_version: u32,
    /// See [`Geometry::log_blocks`].
    pub log_sector: u32,
    /// See [`Geometry::log_blocks`].
    pub log_stripe_unit: u32,
    /// Whether counts are summed up over the groups.
    pub lazy_counts: bool,
    /// Bytes of an extent of the realtime device, its blocks and extents.
    pub realtime_extent: u32,
    /// See [`Geometry::realtime_extent`].
    pub realtime_blocks: u64,
    /// See [`Geometry::realtime_extent`].
    pub realtime_extents: u64,
}

impl Geometry {
    /// Reads it.
    ///
    /// # Errors
    /// Those of opening the file system's superblock; its log is not looked at.
    pub fn read(device: &dyn BlockDevice) -> Result<Self> {
        let checked = Superblock::open(device)?;
        // `open` has seen that it is there.
        let sb = read(device)?.unwrap_or_default();
        let (bits, more) = (be16(&sb, 100), be32(&sb, 200));
        let version_5 = checked.version == 5;
        let block = checked.block as u32;
        Ok(Geometry {
            inode: checked.inode as u32,
            groups: checked.groups,
            group_blocks: checked.group_blocks,
            sector: checked.sector as u32,
            attributes: match bits & ATTR != 0 {
                _ if version_5 || bits & V4_MOREBITS != 0 && more & ATTR2 != 0 => 2,
                true => 1,
                false => 0,
            },
            block,
            blocks: checked.blocks,
            inodes_most: u8_at(&sb, 127).into(),
            stripe_unit: be32(&sb, 184),
            stripe: be32(&sb, 188),
            dir_block: checked.dir_block as u32,
            log_inside: checked.log_start != 0,
            log_blocks: checked.log_blocks,
            log_version: if version_5 || bits & LOG_V2 != 0 { 2 } else { 1 },
            log_sector: if bits & SECTORS != 0 { be16(&sb, 194).into() } else { 512 },
            log_stripe_unit: be32(&sb, 196) / block,
            lazy_counts: version_5 || bits & V4_MOREBITS != 0 && more & LAZY != 0,
            realtime_extent: be32(&sb, 80).saturating_mul(block),
            realtime_blocks: be64(&sb, 16),
            realtime_extents: be64(&sb, 24),
        })
    }
}

/// Whether the sum of a block of version 5 is right, whose field at `field` counts as zero.
pub fn crc_is_good(block: &[u8], field: usize) -> bool {
    let (Some(before), Some(stored), Some(after)) =
        (block.get(..field), block.get(field..field + 4), block.get(field + 4..))
    else {
        return false;
    };
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]), after);
    stored == crc.to_le_bytes()
}

fn read(device: &dyn BlockDevice) -> Result<Option<Vec<u8>>> {
    if device.len() < SIZE as u64 {
        return Ok(None);
    }
    let mut block = vec![0; SIZE];
    device.read_at(0, &mut block)?;
    Ok(block.starts_with(MAGIC).then_some(block))
}

fn uuid(block: &[u8], at: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&block[at..at + 16]);
    bytes
}

fn label(block: &[u8]) -> Vec<u8> {
    let field = &block[108..120];
    field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())].to_vec()
}

/// Label and UUID if there is a superblock.
pub fn probe(device: &dyn BlockDevice) -> Result<Option<(Vec<u8>, Uuid)>> {
    Ok(read(device)?.map(|block| (label(&block), Uuid(uuid(&block, 32)))))
}

impl Superblock {
    /// Reads and checks it.
    ///
    /// # Errors
    /// `Kind::Unsupported` names the feature, `Kind::Corrupt` the field.
    pub fn open(device: &dyn BlockDevice) -> Result<Self> {
        let bad = |what: String| Err(Error::corrupt(format!("xfs: superblock: {what}")));
        let unsupported = |what: String| Err(Error::unsupported(format!("xfs: {what}")));
        let Some(mut block) = read(device)? else { return bad("it is not there".into()) };
        let (bits, sector) = (be16(&block, 100), usize::from(be16(&block, 102)));
        if !sector.is_power_of_two() || !(512..=32768).contains(&sector) || device.len() < sector as u64 {
            return bad(format!("sectsize is {sector}"));
        }
        block.resize(sector, 0);
        device.read_at(0, &mut block)?;
        let version = (bits & 15) as u8;
        if bits & ASCII_CI != 0 {
            return unsupported(format!("feature 'ascii-ci' (versionnum {ASCII_CI:#x}) is not read yet"));
        }
        let mut has_types = false;
        let mut meta_uuid = uuid(&block, 32);
        let mut needs_repair = false;
        match version {
            4 => {
                if bits & V4_DIRV2 == 0 {
                    return unsupported("version 4 with directories of version 1 is not read".into());
                }
                has_types = bits & V4_MOREBITS != 0 && be32(&block, 200) & V4_FTYPE != 0;
            }
            5 => {
                if !crc_is_good(&block, CRC) {
                    return bad("its checksum is wrong".into());
                }
                let incompat = be32(&block, 216);
                if let Some((bit, name)) = REFUSED.iter().find(|(bit, _)| incompat & bit != 0) {
                    return unsupported(format!("feature '{name}' (incompat {bit:#x}) is not read yet"));
                }
                let unknown = incompat & !KNOWN.iter().fold(0, |bits, (bit, _)| bits | bit);
                if unknown != 0 {
                    return unsupported(format!("unknown features (incompat {unknown:#x})"));
                }
                has_types |= incompat & FTYPE != 0;
                needs_repair = incompat & NEEDSREPAIR != 0;
                if incompat & META_UUID != 0 {
                    meta_uuid = uuid(&block, 248);
                }
            }
            other => return unsupported(format!("version {other} is not read")),
        }
        let (size, inode) = (be32(&block, 4) as usize, usize::from(be16(&block, 104)));
        let (block_log, inode_log) = (u32::from(u8_at(&block, 120)), u32::from(u8_at(&block, 123)));
        let (group_log, dir_log) = (u32::from(u8_at(&block, 124)), u32::from(u8_at(&block, 192)));
        if !(9..=16).contains(&block_log) || size != 1 << block_log {
            return bad(format!("blocksize is {size}, blocklog {block_log}"));
        }
        if !inode.is_power_of_two() || !(256..=2048).contains(&inode) || inode_log > 16 || inode << inode_log != size {
            return bad(format!("inodesize is {inode}, inopblog {inode_log}"));
        }
        if dir_log > 16 - block_log {
            return bad(format!("dirblklog is {dir_log}"));
        }
        let (group_blocks, groups, blocks) = (be32(&block, 84), be32(&block, 88), be64(&block, 8));
        let most = u64::from(group_blocks) * u64::from(groups);
        if group_blocks < 2 || groups == 0 || !(1..=31).contains(&group_log) || group_blocks > 1 << group_log {
            return bad(format!("agblocks is {group_blocks}, agcount {groups}, agblklog {group_log}"));
        }
        if blocks > most || most - blocks >= group_blocks.into() {
            return bad(format!("dblocks is {blocks}, not that of {groups} groups"));
        }
        let bytes = u128::from(blocks) * size as u128;
        if bytes > device.len().into() {
            return bad(format!("it is to have {bytes} bytes, the device has {}", device.len()));
        }
        Ok(Superblock {
            version,
            uuid: Uuid(uuid(&block, 32)),
            meta_uuid,
            label: label(&block),
            block: size,
            sector,
            inode,
            blocks,
            free: be64(&block, 144),
            inodes: be64(&block, 128),
            free_inodes: be64(&block, 136),
            log_start: be64(&block, 48),
            log_blocks: be32(&block, 96),
            inodes_most: u8_at(&block, 127),
            root: be64(&block, 56),
            group_blocks,
            groups,
            group_log,
            inode_log,
            dir_block: size << dir_log,
            has_types,
            needs_repair,
            log_features: if version == 5 { be32(&block, 220) } else { 0 },
        })
    }

    /// Whether everything but sizes and counts is the same.
    pub fn is_like(&self, other: &Self) -> bool {
        let geometry = |s: &Self| (s.version, s.block, s.inode, s.group_blocks, s.group_log, s.inode_log, s.meta_uuid);
        geometry(self) == geometry(other)
    }

    /// Whether metadata has checksums.
    pub fn has_sums(&self) -> bool {
        self.version == 5
    }

    /// The byte of the device at which a block begins, by its number with the group in the high bits.
    pub fn place(&self, number: u64) -> Option<u64> {
        let (group, inside) = (number >> self.group_log, number & ((1 << self.group_log) - 1));
        if group >= self.groups.into() || inside >= self.group_blocks.into() {
            return None;
        }
        let linear = group * u64::from(self.group_blocks) + inside;
        (linear < self.blocks).then(|| linear * self.block as u64)
    }
}
