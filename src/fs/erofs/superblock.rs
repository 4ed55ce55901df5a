//! The superblock: 128 bytes or more at byte 1024. Places: Linux's `erofs_fs.h`.

use crate::base::bytes::{le16, le32, le64, put_le32, u8_at};
use crate::base::{Error, Result, Timestamp, Uuid};
use crate::disk::BlockDevice;

const AT: u64 = 1024;
const SIZE: usize = 128;
/// Of one with the number of the metabox.
const LONG: usize = 144;
const MAGIC: u32 = 0xe0f5_e1e2;

/// Streams end at the end of their blocks, with zeros in front.
pub(super) const PADDED: u32 = 0x1;
/// Packed clusters share blocks or parts of other clusters.
pub(super) const FRAGMENTS: u32 = 0x20;
/// The numbers of inodes in the metabox have this bit; so have places in it.
pub(super) const METABOX: u64 = 1 << 63;
/// Features that are no obstacle to those who do not know them: shared attributes are in the metabox; prefixes are not.
const SHARED_BOXED: u32 = 0x8;
const PLAIN_PREFIXES: u32 = 0x10;
const PREFIXES: u32 = 0x40;
const WIDE: u32 = 0x80;
const BOXED: u32 = 0x100;
/// All features that must be known to read it: the highest is [`BOXED`].
const KNOWN: u32 = (BOXED << 1) - 1;

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
    /// Inodes with the ends of files, and with metadata.
    pub packed: Option<u64>,
    pub metabox: Option<u64>,
    /// [`METABOX`] if the shared attributes are there.
    pub xattrs_in: u64,
    /// Prefixes of names of attributes: their number, the first byte of them, and the inode that has them.
    pub prefixes: (u8, u64, Option<u64>),
}

fn read(device: &dyn BlockDevice) -> Result<Option<[u8; LONG]>> {
    let mut sb = [0; LONG];
    if device.len() < AT + SIZE as u64 {
        return Ok(None);
    }
    device.read_at(AT, &mut sb[..LONG.min((device.len() - AT) as usize)])?;
    Ok((le32(&sb, 0) == MAGIC).then_some(sb))
}

/// Label and UUID.
pub(super) fn probe(device: &dyn BlockDevice) -> Result<Option<(String, Uuid)>> {
    Ok(read(device)?.map(|sb| (label(&sb), uuid(&sb))))
}

fn label(sb: &[u8; LONG]) -> String {
    let name = sb[64..80].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn uuid(sb: &[u8; LONG]) -> Uuid {
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
        if features & !KNOWN != 0 {
            return Err(Error::unsupported(format!("erofs: unknown features {:#x}", features & !KNOWN)));
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
        let wide = features & WIDE != 0 && le64(&sb, 112) != 0;
        let special = |feature: u32, number: u64| (features & feature != 0 && number != 0).then_some(number);
        let packed = special(FRAGMENTS, le64(&sb, 96));
        let metabox = match features & BOXED {
            0 => None,
            _ if u8_at(&sb, 13) == 0 => return Err(bad("it has no room for the number of the metabox".into())),
            _ => special(BOXED, le64(&sb, 128)),
        };
        if packed.max(metabox).is_some_and(|number| number & METABOX != 0) {
            return Err(bad("the metabox or the packed inode is in the metabox".into()));
        }
        let compatible = le32(&sb, 8);
        let prefixes = if features & PREFIXES == 0 { 0 } else { u8_at(&sb, 91) };
        let holder = metabox.or(packed).filter(|_| compatible & PLAIN_PREFIXES == 0);
        Ok(Superblock {
            log,
            root: if wide { le64(&sb, 112) } else { le16(&sb, 14).into() },
            packed,
            metabox,
            xattrs_in: if compatible & SHARED_BOXED != 0 { METABOX } else { 0 },
            prefixes: (prefixes, u64::from(le32(&sb, 92)) << 2, holder),
            inodes: le64(&sb, 16),
            made: Timestamp {
                seconds: i64::try_from(le64(&sb, 24)).unwrap_or(i64::MAX),
                nanos: le32(&sb, 32).min(999_999_999),
            },
            blocks: u64::from(le32(&sb, 36)) | if wide { u64::from(le16(&sb, 14)) << 32 } else { 0 },
            meta: le32(&sb, 40).into(),
            xattrs: le32(&sb, 44).into(),
            uuid: uuid(&sb),
            label: label(&sb),
            features,
        })
    }

    /// The number of an inode as Linux shows it: with a metabox, without the highest bit.
    pub fn shown(&self, number: u64) -> u64 {
        match self.metabox {
            None => number,
            Some(_) => number << 1 & !0xffff_ffff | number & 0x7fff_ffff | number >> 63 << 31,
        }
    }

    /// Bytes of a block.
    pub fn block(&self) -> u64 {
        1 << self.log
    }
}
