//! The header: fixed fields, feature words, extensions, backing name; every check that can be made
//! before any table is followed. Byte tables and sources: `docs/formats/qcow2.md`.

use std::ops::Range;

use super::compress::Codec;
use super::storage::{Storage, read_metadata};
use crate::base::bytes::{be32, be64, put_be32, put_be64, u8_at};
use crate::base::{Error, Kind, Result, printable};

/// `QFI` and 0xfb.
pub(super) const MAGIC: u32 = 0x5146_49fb;
/// Bytes 0..511: written in one piece by a commit, which is what makes it atomic.
pub(super) const SECTOR: usize = 512;

/// Incompatible feature 0: refcounts may be wrong.
pub(super) const DIRTY: u64 = 1;
/// Incompatible feature 1: a program has found damage.
pub(super) const CORRUPT: u64 = 1 << 1;
/// Incompatible feature 2: guest data is in another file.
pub(super) const DATA_FILE: u64 = 1 << 2;
/// Incompatible feature 3: byte 104 names the compression.
pub(super) const COMPRESSION: u64 = 1 << 3;
/// Incompatible feature 4: L2 entries of 128 bits with 32 subclusters.
pub(super) const EXTENDED_L2: u64 = 1 << 4;
const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
/// Autoclear feature 0: the bitmaps extension agrees with the data.
pub(super) const BITMAPS: u64 = 1;

/// Autoclear feature 1: the data file is the disk as a raw image.
pub(super) const RAW_DATA: u64 = 2;

/// Header extension: the backing file's format.
pub(super) const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
/// `crypt_method` of images whose data is encrypted with LUKS.
const LUKS: u32 = 2;

const EXT_FEATURE_NAMES: u32 = 0x6803_f857;
/// Header extension: where the bitmaps are.
pub(super) const EXT_BITMAPS: u32 = 0x2385_2875;
/// Header extension: where the LUKS header is.
const EXT_ENCRYPTION: u32 = 0x0537_be77;
/// Header extension: the data file's name.
pub(super) const EXT_DATA_FILE: u32 = 0x4441_5441;

/// Most bytes of an L1 table, as in QEMU.
pub(super) const L1_LIMIT: u64 = 32 << 20;
/// Most bytes of a refcount table, as in QEMU.
pub(super) const TABLE_LIMIT: u64 = 8 << 20;
/// Most bytes of a backing file's name.
pub(super) const NAME_LIMIT: u32 = 1023;
/// Most internal snapshots, as in QEMU.
pub(super) const SNAPSHOT_LIMIT: u32 = 65_536;

/// The bitmaps extension: where the directory of bitmaps is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BitmapExtension {
    /// Offset of the extension in the file.
    pub at: usize,
    /// Count of directory entries.
    pub count: u32,
    /// Host offset of the directory.
    pub directory: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// The encryption extension: where the LUKS header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EncryptionExtension {
    /// Its host offset.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// A checked header.
#[derive(Debug, Clone)]
pub(super) struct Header {
    /// Bytes 0..511 as they are on disk.
    pub sector: Vec<u8>,
    /// 2 or 3.
    pub version: u32,
    /// 9 to 21.
    pub cluster_bits: u32,
    /// Size of the virtual disk in bytes.
    pub size: u64,
    /// Host offset of the L1 table.
    pub l1_offset: u64,
    /// Entries of the L1 table.
    pub l1_size: u32,
    /// Host offset of the refcount table.
    pub table_offset: u64,
    /// Its length in clusters.
    pub table_clusters: u32,
    /// Count of internal snapshots.
    pub snapshots: u32,
    /// Host offset of their table.
    pub snapshots_offset: u64,
    /// Incompatible features.
    pub incompatible: u64,
    /// Autoclear features.
    pub autoclear: u64,
    /// Refcounts have `1 << refcount_order` bits.
    pub refcount_order: u32,
    /// How compressed clusters are packed.
    pub codec: Codec,
    /// The backing file's name.
    pub backing: Option<Vec<u8>>,
    /// The backing file's format.
    pub backing_format: Option<Vec<u8>>,
    /// The external data file's name.
    pub data_file: Option<Vec<u8>>,
    /// The bitmaps extension, if there is one.
    pub bitmaps: Option<BitmapExtension>,
    /// Where the LUKS header is, if data is encrypted.
    pub encryption: Option<EncryptionExtension>,
    /// Where in the first sector the list of extensions can be ended so that only bitmaps and feature names are lost.
    pub end_of_extensions: Option<usize>,
}

impl Header {
    /// Reads and checks a header.
    pub fn read(storage: &dyn Storage) -> Result<Self> {
        Self::read_unnamed(storage).map_err(|e| e.at(storage.path().display()))
    }

    fn read_unnamed(storage: &dyn Storage) -> Result<Self> {
        let mut sector = vec![0; SECTOR];
        let got = storage.read_at(0, &mut sector)?;
        if got < 72 || be32(&sector, 0) != MAGIC {
            return Err(Error::corrupt("qcow2: header: no qcow2 magic"));
        }
        let version = be32(&sector, 4);
        if !matches!(version, 2 | 3) {
            return Err(Error::unsupported(format!("qcow2: header: version {version}, not 2 or 3")));
        }
        if version == 3 && got < 104 {
            return Err(Error::corrupt("qcow2: header: the file ends inside it"));
        }
        let mut header = Header::fields(sector, version)?;
        header.features()?;
        header.geometry(storage.len()?)?;
        header.extensions(storage)?;
        Ok(header)
    }

    fn fields(sector: Vec<u8>, version: u32) -> Result<Self> {
        let v3 = |value: u64| if version == 3 { value } else { 0 };
        let s = &sector;
        match be32(s, 32) {
            0 | LUKS => {}
            1 => {
                return Err(Error::unsupported("qcow2: the image is encrypted (AES)")
                    .hint("make a plain copy with qemu-img convert, which asks for the key"));
            }
            other => return Err(Error::unsupported(format!("qcow2: header: crypt_method {other}"))),
        }
        let cluster_bits = be32(s, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(Error::corrupt(format!("qcow2: header: cluster_bits {cluster_bits} is not 9 to 21")));
        }
        let refcount_order = if version == 3 { be32(s, 96) } else { 4 };
        if refcount_order > 6 {
            return Err(Error::corrupt(format!("qcow2: header: refcount_order {refcount_order} is over 6")));
        }
        Ok(Header {
            version,
            cluster_bits,
            size: be64(s, 24),
            l1_size: be32(s, 36),
            l1_offset: be64(s, 40),
            table_offset: be64(s, 48),
            table_clusters: be32(s, 56),
            snapshots: be32(s, 60),
            snapshots_offset: be64(s, 64),
            incompatible: v3(be64(s, 72)),
            autoclear: v3(be64(s, 88)),
            refcount_order,
            codec: Codec::Deflate,
            backing: None,
            backing_format: None,
            data_file: None,
            bitmaps: None,
            encryption: None,
            end_of_extensions: None,
            sector,
        })
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The clusters of the LUKS header.
    pub fn encryption_place(&self) -> Range<u64> {
        let (bits, place) = (self.cluster_bits, self.encryption);
        place.map_or(0..0, |place| place.offset >> bits..place.offset.saturating_add(place.len).div_ceil(1 << bits))
    }

    /// Whether L2 entries have subclusters.
    pub fn extended(&self) -> bool {
        self.incompatible & EXTENDED_L2 != 0
    }

    /// Entries of an L2 table.
    pub fn l2_entries(&self) -> u64 {
        self.cluster_size() / if self.extended() { 16 } else { 8 }
    }

    fn length(&self) -> u32 {
        if self.version == 3 { be32(&self.sector, 100) } else { 72 }
    }

    fn features(&mut self) -> Result<()> {
        let unknown = self.incompatible & !KNOWN;
        if unknown != 0 {
            let bit = unknown.trailing_zeros();
            return Err(Error::unsupported(format!("qcow2: header: incompatible feature bit {bit}")));
        }
        let length = self.length();
        if length < 72
            || !length.is_multiple_of(8)
            || (self.version == 3 && length < 104)
            || u64::from(length) > self.cluster_size()
        {
            return Err(Error::corrupt(format!("qcow2: header: header_length {length}")));
        }
        let kind = if length > 104 { u8_at(&self.sector, 104) } else { 0 };
        self.codec = match (self.incompatible & COMPRESSION != 0, kind) {
            (_, 0) => Codec::Deflate,
            (true, 1) => Codec::Zstd,
            (true, other) => {
                return Err(Error::unsupported(format!("qcow2: header: compression type {other}")));
            }
            (false, other) => {
                return Err(Error::corrupt(format!(
                    "qcow2: header: compression type {other} without incompatible feature bit 3"
                )));
            }
        };
        if self.extended() && self.cluster_bits < 14 {
            return Err(Error::corrupt(format!("qcow2: header: extended L2 with cluster_bits {}", self.cluster_bits)));
        }
        Ok(())
    }

    fn geometry(&self, file: u64) -> Result<()> {
        let corrupt = |what: String| Err(Error::corrupt(format!("qcow2: header: {what}")));
        let cluster = self.cluster_size();
        if i64::try_from(self.size).is_err() {
            return corrupt(format!("size {}", self.size));
        }
        let l1_bytes = u64::from(self.l1_size) * 8;
        if l1_bytes > L1_LIMIT {
            return corrupt(format!("L1 table of {} entries, over {}", self.l1_size, L1_LIMIT / 8));
        }
        let needed = self.size.div_ceil(cluster * self.l2_entries());
        if u64::from(self.l1_size) < needed {
            return corrupt(format!("L1 table of {} entries, the disk needs {needed}", self.l1_size));
        }
        let table_bytes = u64::from(self.table_clusters) * cluster;
        if table_bytes == 0 || table_bytes > TABLE_LIMIT {
            return corrupt(format!("refcount table of {} clusters", self.table_clusters));
        }
        let l1 = self.l1_offset..self.l1_offset.saturating_add(l1_bytes);
        let table = self.table_offset..self.table_offset.saturating_add(table_bytes);
        for (what, range) in [("L1 table", &l1), ("refcount table", &table)] {
            if range.is_empty() {
                continue;
            }
            if range.start % cluster != 0 {
                return corrupt(format!("{what} at {}, not on a cluster", range.start));
            }
            if range.start == 0 || range.end > file {
                return corrupt(format!("{what} at {} is outside the file", range.start));
            }
        }
        if !l1.is_empty() && l1.start < table.end && table.start < l1.end {
            return corrupt("L1 table and refcount table overlap".into());
        }
        if self.snapshots > SNAPSHOT_LIMIT {
            return corrupt(format!("{} snapshots, over {SNAPSHOT_LIMIT}", self.snapshots));
        }
        Ok(())
    }

    /// Walks the extensions between the header and the backing name (or the end of the cluster).
    fn extensions(&mut self, storage: &dyn Storage) -> Result<()> {
        let (at, len) = (be64(&self.sector, 8), be32(&self.sector, 16));
        let cluster = self.cluster_size();
        let mut first = vec![0; usize::try_from(cluster.min(storage.len()?)).unwrap_or(0)];
        read_metadata(storage, 0, &mut first, "the header cluster")?;
        let mut end = first.len();
        if at != 0 {
            if len > NAME_LIMIT {
                return Err(Error::corrupt(format!("qcow2: header: backing name of {len} bytes, over {NAME_LIMIT}")));
            }
            end = usize::try_from(at).unwrap_or(usize::MAX);
            let name = end.checked_add(len as usize).and_then(|stop| first.get(end..stop)).ok_or_else(|| {
                Error::corrupt(format!("qcow2: header: backing name at {at} is outside the first cluster"))
            })?;
            self.backing = (!name.is_empty()).then(|| name.to_vec());
        }
        let mut pos = self.length() as usize;
        while pos.checked_add(8).is_some_and(|body| body <= end) {
            let (kind, len) = (be32(&first, pos), be32(&first, pos + 4) as usize);
            if kind == 0 {
                break;
            }
            let body = pos + 8;
            let stop = body.checked_add(len).filter(|stop| *stop <= end).ok_or_else(|| {
                Error::corrupt(format!("qcow2: header: extension {kind:#010x} of {len} bytes at {pos} overruns"))
            })?;
            let data = first.get(body..stop).unwrap_or_default();
            let disposable = matches!(kind, EXT_BITMAPS | EXT_FEATURE_NAMES);
            self.end_of_extensions = match self.end_of_extensions {
                _ if !disposable => None,
                None if body <= SECTOR => Some(pos),
                before => before,
            };
            match kind {
                EXT_BACKING_FORMAT => self.backing_format = Some(data.to_vec()),
                EXT_DATA_FILE => self.data_file = Some(data.to_vec()),
                EXT_ENCRYPTION if len == 16 => {
                    self.encryption = Some(EncryptionExtension { offset: be64(data, 0), len: be64(data, 8) });
                }
                EXT_BITMAPS if len == 24 => {
                    let (count, size, directory) = (be32(data, 0), be64(data, 8), be64(data, 16));
                    self.bitmaps = Some(BitmapExtension { at: pos, count, directory, size });
                }
                EXT_BITMAPS => {
                    return Err(Error::corrupt(format!("qcow2: header: bitmaps extension of {len} bytes, not 24")));
                }
                _ => {}
            }
            pos = stop.next_multiple_of(8);
        }
        if self.encryption.is_some() != (be32(&self.sector, 32) == LUKS) {
            return Err(Error::corrupt(
                "qcow2: header: crypt_method and the encryption extension do not fit each other",
            ));
        }
        if self.incompatible & DATA_FILE != 0 && self.encryption.is_some() {
            return Err(Error::unsupported("qcow2: an external data file that is encrypted"));
        }
        if self.incompatible & DATA_FILE != 0 && self.data_file.is_none() {
            return Err(Error::corrupt("qcow2: header: an external data file without a name"));
        }
        Ok(())
    }

    /// Puts size, roots and snapshots into bytes 0..511, and clears the autoclear features that this program does
    /// not keep up to date: all but the raw data file and bitmaps that are still there. `recounted`: the refcounts are right
    /// again, whatever was noted about them.
    pub fn switch(&mut self, recounted: bool) {
        put_be64(&mut self.sector, 24, self.size);
        put_be32(&mut self.sector, 36, self.l1_size);
        put_be64(&mut self.sector, 40, self.l1_offset);
        put_be64(&mut self.sector, 48, self.table_offset);
        put_be32(&mut self.sector, 56, self.table_clusters);
        put_be32(&mut self.sector, 60, self.snapshots);
        put_be64(&mut self.sector, 64, self.snapshots_offset);
        if self.version == 3 {
            self.incompatible &= if recounted { !(DIRTY | CORRUPT) } else { !0 };
            put_be64(&mut self.sector, 72, self.incompatible);
            self.autoclear &= if self.incompatible & DATA_FILE != 0 { RAW_DATA | BITMAPS } else { BITMAPS };
            self.autoclear &= if self.bitmaps.is_some() { !0 } else { !BITMAPS };
            put_be64(&mut self.sector, 88, self.autoclear);
        }
    }

    /// Fails if the first sector of the file is not the one that was read or written last.
    pub fn refuse_changed(&self, storage: &dyn Storage) -> Result<()> {
        let mut sector = vec![0; SECTOR];
        read_metadata(storage, 0, &mut sector, "the header")?;
        match sector == self.sector {
            true => Ok(()),
            false => Err(Error::new(Kind::Busy, "was changed by another program since it was opened")
                .at(storage.path().display())
                .hint("nothing was changed; open it again")),
        }
    }

    /// Why this image cannot be written, if so. `repair`: damage is no reason.
    pub fn refuse_write(&self, repair: bool) -> Result<()> {
        if self.incompatible & CORRUPT != 0 && !repair {
            return Err(Error::new(Kind::ReadOnly, "qcow2: the corrupt bit is set: read-only")
                .hint("disk-check IMAGE repair:true, or qemu-img check -r all, repairs the image"));
        }
        Ok(())
    }
}

/// A name from the header as text for messages.
pub(super) fn shown(name: &[u8]) -> String {
    printable(name).to_string()
}
