//! The superblock: 128 bytes at byte 1024. Places: Linux's `erofs_fs.h`.

use crate::base::bytes::{le16, le32, le64, put_le32, u8_at};
use crate::base::{Error, Result, Timestamp, Uuid};
use crate::disk::BlockDevice;

const AT: u64 = 1024;
const SIZE: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;

/// Streams end at the end of their blocks, with zeros in front.
pub(super) const PADDED: u32 = 0x1;
/// Packed clusters share blocks or parts of other clusters.
pub(super) const FRAGMENTS: u32 = 0x20;
/// Features that must be known to read it, and whether files that do not use them can be read.
const FEATURES: [(u32, &str, bool); 9] = [
    (PADDED, "0padding", true),
    (0x2, "compr_cfgs, big_pcluster", true),
    (0x4, "chunked_file", true),
    (0x8, "device_table, compr_head2", true),
    (0x10, "ztailpacking", true),
    (FRAGMENTS, "fragments, dedupe", true),
    (0x40, "xattr_prefixes", true),
    (0x80, "48bit", false),
    (0x100, "metabox", false),
];

/// What is used of it.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    /// Logarithm of the bytes of a block.
    pub log: u32,
    pub root: u64,
    pub inodes: u64,
    /// Time of inodes that have none.
    pub made: Timestamp,
    pub blocks: u64,
    /// First block of the inodes, and of attributes that are shared.
    pub meta: u64,
    pub xattrs: u64,
    pub uuid: Uuid,
    pub label: String,
    pub features: u32,
}

fn read(device: &dyn BlockDevice) -> Result<Option<[u8; SIZE]>> {
    let mut sb = [0; SIZE];
    if device.len() < AT + SIZE as u64 {
        return Ok(None);
    }
    device.read_at(AT, &mut sb)?;
    Ok((le32(&sb, 0) == MAGIC).then_some(sb))
}

/// Label and UUID.
pub(super) fn probe(device: &dyn BlockDevice) -> Result<Option<(String, Uuid)>> {
    Ok(read(device)?.map(|sb| (label(&sb), uuid(&sb))))
}

fn label(sb: &[u8; SIZE]) -> String {
    let name = sb[64..80].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn uuid(sb: &[u8; SIZE]) -> Uuid {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&sb[48..64]);
    Uuid(uuid)
}

impl Superblock {
    /// # Errors
    /// Features that are not read, a wrong checksum, odd sizes.
    pub fn open(device: &dyn BlockDevice) -> Result<Self> {
        let bad = |what: String| Error::corrupt(format!("erofs: superblock: {what}"));
        let sb = read(device)?.ok_or_else(|| bad("it is not there".into()))?;
        let log = u32::from(u8_at(&sb, 12));
        if !(9..=16).contains(&log) {
            return Err(bad(format!("blocks of 2^{log} bytes")));
        }
        let features = le32(&sb, 80);
        let known = FEATURES.iter().fold(0, |all, (bit, _, _)| all | bit);
        if features & !known != 0 {
            return Err(Error::unsupported(format!("erofs: unknown features {:#x}", features & !known)));
        }
        if let Some((_, name, _)) = FEATURES.iter().find(|(bit, _, read)| !read && features & bit != 0) {
            return Err(Error::unsupported(format!("erofs: the feature {name} is not read")));
        }
        if u8_at(&sb, 90) != 0 {
            return Err(Error::unsupported(format!("erofs: directory blocks of 2^{} blocks", u8_at(&sb, 90))));
        }
        // The checksum is of everything from the superblock to the end of its block.
        if le32(&sb, 8) & 1 != 0 {
            let mut block = vec![0; ((1 << log) - AT as usize % (1 << log)).max(SIZE)];
            if AT + block.len() as u64 > device.len() {
                return Err(bad("its block is cut off".into()));
            }
            device.read_at(AT, &mut block)?;
            put_le32(&mut block, 4, 0);
            if !crc32c::crc32c(&block) != le32(&sb, 4) {
                return Err(bad("its checksum is wrong".into()));
            }
        }
        Ok(Superblock {
            log,
            root: le16(&sb, 14).into(),
            inodes: le64(&sb, 16),
            made: Timestamp {
                seconds: i64::try_from(le64(&sb, 24)).unwrap_or(i64::MAX),
                nanos: le32(&sb, 32).min(999_999_999),
            },
            blocks: le32(&sb, 36).into(),
            meta: le32(&sb, 40).into(),
            xattrs: le32(&sb, 44).into(),
            uuid: uuid(&sb),
            label: label(&sb),
            features,
        })
    }

    /// Bytes of a block.
    pub fn block(&self) -> u64 {
        1 << self.log
    }
}
