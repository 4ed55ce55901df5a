//! The boot sector: where everything lies (Microsoft FAT specification, "fatgen103", pages 7 to 14).

use crate::base::bytes::{le16, le32, put_le32, u8_at};
use crate::base::{Error, Result};

/// Bytes of the boot sector that are looked at.
pub const BOOT_BYTES: usize = 512;
/// Bytes of the FSInfo structure.
pub const INFO_BYTES: usize = 512;
/// The first cluster number that stands for data.
pub const FIRST_CLUSTER: u32 = 2;
/// Bytes of a directory entry.
pub const SLOT: usize = 32;

/// Width of the entries of the allocation table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Twelve bits.
    Fat12,
    /// Sixteen bits.
    Fat16,
    /// Thirty-two bits, of which the upper four are reserved.
    Fat32,
}

impl Width {
    /// Bits of an entry.
    pub fn bits(self) -> u64 {
        match self {
            Width::Fat12 => 12,
            Width::Fat16 => 16,
            Width::Fat32 => 32,
        }
    }

    /// The mark that ends a chain, as we write it. A value of at least this but the last three bits ends one too.
    pub fn end(self) -> u32 {
        match self {
            Width::Fat12 => 0xfff,
            Width::Fat16 => 0xffff,
            Width::Fat32 => 0x0fff_ffff,
        }
    }
}

/// What the boot sector says, checked: all places lie inside the volume and in 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Width of the table's entries.
    pub width: Width,
    /// Bytes of a sector: 512, 1024, 2048 or 4096.
    pub sector: u32,
    /// Bytes of a cluster, a power of two.
    pub cluster: u32,
    /// Sectors of the volume.
    pub sectors: u64,
    /// Byte at which the first table begins.
    pub table_at: u64,
    /// Bytes of one table.
    pub table_len: u64,
    /// Number of tables.
    pub tables: u64,
    /// FAT32: the only table in use, when they are not mirrored.
    pub active: Option<u64>,
    /// FAT12 and FAT16: the root directory's first byte and length.
    pub root_at: u64,
    /// See `root_at`; 0 on FAT32.
    pub root_len: u64,
    /// FAT32: the root directory's first cluster.
    pub root_cluster: u32,
    /// Byte of the first data cluster (number 2).
    pub data_at: u64,
    /// Number of data clusters.
    pub clusters: u32,
    /// FAT32: byte of the FSInfo sector.
    pub info_at: Option<u64>,
    /// Byte of the label in the boot sector, when it has one.
    pub label_at: Option<u64>,
    /// FAT32: byte of the boot sector's copy.
    pub copy_at: Option<u64>,
    /// Media byte.
    pub media: u8,
    /// Volume serial number, when the boot sector has one.
    pub serial: Option<u32>,
    /// The mark of a volume that was not unmounted (Linux: FAT_STATE_DIRTY; bit 0 of the reserved byte).
    pub dirty: bool,
}

impl Boot {
    /// Whether a sector looks like a FAT boot sector at all: a signature and a plausible parameter block.
    /// Boot sectors of partition tables, NTFS and exFAT carry the signature too and fail the second test.
    pub fn looks_like(sector: &[u8]) -> bool {
        let text = |at: usize, word: &[u8]| sector.get(at..at + word.len()) == Some(word);
        let named = text(0x52, b"FAT32   ")
            || [&b"FAT12   "[..], b"FAT16   ", b"FAT     ", b"MSDOS"].iter().any(|w| text(0x36, w));
        let signed = le16(sector, 510) == 0xaa55 && matches!(u8_at(sector, 0), 0xeb | 0xe9);
        let media = u8_at(sector, 21);
        (named || signed) && (media >= 0xf8 || media == 0xf0) && Self::parse(sector).is_ok()
    }

    /// Reads and checks the parameter block.
    ///
    /// # Errors
    /// `Kind::Corrupt` naming the field; `Kind::Unsupported` for a FAT32 version above 0.0.
    pub fn parse(boot: &[u8]) -> Result<Boot> {
        let bad = |what: String| Err(Error::corrupt(format!("vfat: boot sector: {what}")));
        let sector = u64::from(le16(boot, 11));
        if !matches!(sector, 512 | 1024 | 2048 | 4096) {
            return bad(format!("sectors of {sector} bytes"));
        }
        let per_cluster = u64::from(u8_at(boot, 13));
        if !per_cluster.is_power_of_two() {
            return bad(format!("clusters of {per_cluster} sectors"));
        }
        let reserved = u64::from(le16(boot, 14));
        let tables = u64::from(u8_at(boot, 16));
        if reserved == 0 || tables == 0 {
            return bad(format!("{reserved} reserved sectors and {tables} tables"));
        }
        let root_entries = u64::from(le16(boot, 17));
        let sectors = match le16(boot, 19) {
            0 => u64::from(le32(boot, 32)),
            small => u64::from(small),
        };
        let (fat32, table_sectors) = match le16(boot, 22) {
            0 => (true, u64::from(le32(boot, 36))),
            small => (false, u64::from(small)),
        };
        if table_sectors == 0 {
            return bad("a table of no sectors".into());
        }
        // All factors are below 2^32 and 2^8: no overflow in 64 bits.
        let root_sectors = if fat32 { 0 } else { (root_entries * SLOT as u64).div_ceil(sector) };
        let data_sector = reserved + tables * table_sectors + root_sectors;
        let Some(data_sectors) = sectors.checked_sub(data_sector) else {
            return bad(format!("{sectors} sectors, of which {data_sector} are before the data"));
        };
        let clusters = data_sectors / per_cluster;
        let width = match clusters {
            _ if fat32 => Width::Fat32,
            0..4085 => Width::Fat12,
            _ => Width::Fat16,
        };
        // A table may be too short for the data area: what it cannot name does not exist (as Linux has it).
        let table_len = table_sectors * sector;
        let clusters = clusters.min((table_len * 8 / width.bits()).saturating_sub(u64::from(FIRST_CLUSTER)));
        let limit = u64::from(width.end()) - 11;
        if clusters == 0 || clusters > limit {
            return bad(format!("{clusters} clusters; 1 to {limit} are possible"));
        }
        if !fat32 && root_entries == 0 {
            return bad("a root directory of no entries".into());
        }
        let root_cluster = if fat32 { le32(boot, 44) } else { 0 };
        if fat32 && !(u64::from(FIRST_CLUSTER)..clusters + 2).contains(&u64::from(root_cluster)) {
            return bad(format!("root directory at cluster {root_cluster} of {clusters}"));
        }
        if fat32 && le16(boot, 42) != 0 {
            return Err(Error::unsupported(format!("vfat: FAT32 version {:#06x} is not 0.0", le16(boot, 42))));
        }
        let flags = if fat32 { le16(boot, 40) } else { 0 };
        let active = (flags & 0x80 != 0).then_some(u64::from(flags & 0x0f));
        if active.is_some_and(|n| n >= tables) {
            return bad(format!("active table {} of {tables}", flags & 0x0f));
        }
        let reserved_sector =
            |n: u16| (fat32 && (1..reserved).contains(&u64::from(n))).then_some(u64::from(n) * sector);
        let (info_at, copy_at) = (reserved_sector(le16(boot, 48)), reserved_sector(le16(boot, 50)));
        let extended = if fat32 { 64 } else { 36 };
        let root_at = (reserved + tables * table_sectors) * sector;
        Ok(Boot {
            width,
            sector: sector as u32,
            cluster: (per_cluster * sector) as u32,
            sectors,
            table_at: reserved * sector,
            table_len,
            tables,
            active,
            root_at,
            root_len: if fat32 { 0 } else { root_entries * SLOT as u64 },
            root_cluster,
            data_at: data_sector * sector,
            clusters: clusters as u32,
            info_at,
            label_at: (u8_at(boot, extended + 2) == 0x29).then_some(extended as u64 + 7),
            copy_at,
            media: u8_at(boot, 21),
            serial: matches!(u8_at(boot, extended + 2), 0x28 | 0x29).then(|| le32(boot, extended + 3)),
            dirty: u8_at(boot, extended + 1) & 1 != 0,
        })
    }

    /// Whether a number stands for a data cluster.
    pub fn has_cluster(&self, cluster: u32) -> bool {
        (FIRST_CLUSTER..self.clusters + FIRST_CLUSTER).contains(&cluster)
    }

    /// Byte of the volume at which a data cluster begins.
    pub fn cluster_at(&self, cluster: u32) -> u64 {
        self.data_at + u64::from(cluster.saturating_sub(FIRST_CLUSTER)) * u64::from(self.cluster)
    }

    /// The data cluster that a byte of the volume lies in.
    pub fn cluster_of(&self, at: u64) -> Option<u32> {
        let index = at.checked_sub(self.data_at)? / u64::from(self.cluster);
        u32::try_from(index).ok().filter(|i| *i < self.clusters).map(|i| i + FIRST_CLUSTER)
    }

    /// Clusters for so many bytes.
    pub fn clusters_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(u64::from(self.cluster))
    }

    /// Bytes of the volume.
    pub fn len(&self) -> u64 {
        self.sectors * u64::from(self.sector)
    }

    /// The serial number as blkid prints it.
    pub fn uuid(&self) -> String {
        match self.serial {
            Some(serial) => format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff),
            None => String::new(),
        }
    }
}

/// Whether these bytes are an FSInfo structure (fatgen103 page 21).
pub fn is_info(info: &[u8]) -> bool {
    le32(info, 0) == 0x4161_5252 && le32(info, 484) == 0x6141_7272
}

/// The next free cluster that an FSInfo structure advises to look at.
pub fn info_next(info: &[u8]) -> u32 {
    le32(info, 492)
}

/// Puts free count and next free cluster into an FSInfo structure; answers whether anything changed.
pub fn put_info(info: &mut [u8], free: u32, next: u32) -> bool {
    if le32(info, 488) == free && le32(info, 492) == next {
        return false;
    }
    put_le32(info, 488, free);
    put_le32(info, 492, next);
    true
}
