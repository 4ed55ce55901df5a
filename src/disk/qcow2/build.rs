//! Writing a whole new image from front to back: data as it comes, tables behind it, the header last.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::compress::Codec;
use super::header::{
    COMPRESSION, DATA_FILE, EXT_BACKING_FORMAT, EXT_DATA_FILE, EXTENDED_L2, L1_LIMIT, MAGIC, RAW_DATA, TABLE_LIMIT,
};
use super::map::{COPIED, PACKED, to_bytes};
use super::refcount::{most, set_count};
use crate::base::bytes::{put_be32, put_be64};
use crate::base::{Error, Kind, Result};

/// Bytes of data that are put together to one write.
const BATCH: usize = 4 << 20;

/// What a new image is like.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub version: u32,
    pub cluster_bits: u32,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Refcounts have `1 << refcount_order` bits.
    pub refcount_order: u32,
    pub extended: bool,
    pub lazy: bool,
    pub codec: Codec,
    pub backing: Option<(Vec<u8>, &'static str)>,
    /// Name of the data file, and whether it is to be the disk as a raw image.
    pub data_file: Option<(Vec<u8>, bool)>,
}

impl Shape {
    /// Bytes of a cluster.
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn width(&self) -> u64 {
        if self.extended { 2 } else { 1 }
    }

    fn per_table(&self) -> u64 {
        self.cluster() / 8 / self.width()
    }

    fn l1_size(&self) -> u64 {
        self.size.div_ceil(self.cluster() * self.per_table()).max(1)
    }

    /// Whether such an image can be.
    pub fn check(&self) -> Result<()> {
        let size = self.size;
        if i64::try_from(size).is_err() || self.l1_size() * 8 > L1_LIMIT {
            let cluster = self.cluster();
            return Err(Error::new(
                Kind::FileTooBig,
                format!("{size} bytes are too many for clusters of {cluster} bytes"),
            )
            .hint("give a bigger clustersize"));
        }
        Ok(())
    }

    /// The header cluster, with the roots that `built` says.
    fn header(&self, built: &Built) -> Result<Vec<u8>> {
        let mut header = vec![0; 1 << self.cluster_bits];
        put_be32(&mut header, 0, MAGIC);
        put_be32(&mut header, 4, self.version);
        put_be32(&mut header, 20, self.cluster_bits);
        put_be64(&mut header, 24, self.size);
        put_be32(&mut header, 36, self.l1_size() as u32);
        put_be64(&mut header, 40, built.l1 << self.cluster_bits);
        put_be64(&mut header, 48, built.table << self.cluster_bits);
        put_be32(&mut header, 56, built.table_clusters as u32);
        let mut at = 72;
        if self.version == 3 {
            at = 112;
            let bit = |on: bool, bit: u64| if on { bit } else { 0 };
            let zstd = self.codec == Codec::Zstd;
            let incompatible =
                bit(self.data_file.is_some(), DATA_FILE) | bit(zstd, COMPRESSION) | bit(self.extended, EXTENDED_L2);
            put_be64(&mut header, 72, incompatible);
            put_be64(&mut header, 80, bit(self.lazy, 1));
            put_be64(&mut header, 88, bit(self.data_file.as_ref().is_some_and(|(_, raw)| *raw), RAW_DATA));
            put_be32(&mut header, 96, self.refcount_order);
            put_be32(&mut header, 100, at as u32);
            if let Some(kind) = header.get_mut(104) {
                *kind = zstd.into();
            }
        }
        let mut put = |at: usize, bytes: &[u8]| match header.get_mut(at..at + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Ok(())
            }
            None => {
                Err(Error::new(Kind::NameTooLong, "the names of the other files do not fit into the first cluster")
                    .hint("give a bigger clustersize, or shorter names"))
            }
        };
        let extension = |kind: u32, data: &[u8]| {
            let mut bytes = [kind.to_be_bytes(), (data.len() as u32).to_be_bytes()].concat();
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes
        };
        let mut extensions = Vec::new();
        if let Some((_, format)) = &self.backing {
            extensions.extend(extension(EXT_BACKING_FORMAT, format.as_bytes()));
        }
        if let Some((name, _)) = &self.data_file {
            extensions.extend(extension(EXT_DATA_FILE, name));
        }
        extensions.extend([0; 8]);
        put(at, &extensions)?;
        if let Some((name, _)) = &self.backing {
            let at = at + extensions.len();
            put(at, name)?;
            put_be64(&mut header, 8, at as u64);
            put_be32(&mut header, 16, name.len() as u32);
        }
        Ok(header)
    }
}

/// Where the roots are, in clusters.
struct Built {
    l1: u64,
    table: u64,
    table_clusters: u64,
}

/// An image that is being written.
pub(super) struct Builder<'a> {
    shape: &'a Shape,
    file: &'a File,
    path: &'a Path,
    /// Refcounts by cluster; its length is the end of what is in use.
    counts: Vec<u32>,
    /// Bytes not written yet, which begin at this cluster.
    pending: (u64, Vec<u8>),
    /// Where the next stream may go, to the byte, in a cluster of streams.
    streams: u64,
    l1: Vec<u64>,
    table: Option<(u64, Vec<u64>)>,
}

impl<'a> Builder<'a> {
    /// An empty image in `file`, which is empty.
    pub fn new(shape: &'a Shape, file: &'a File, path: &'a Path) -> Self {
        Builder {
            shape,
            file,
            path,
            counts: vec![1],
            pending: (1, Vec::new()),
            streams: 0,
            l1: vec![0; shape.l1_size() as usize],
            table: None,
        }
    }

    fn io(&self, error: std::io::Error) -> Error {
        Error::io(self.path.display(), error)
    }

    /// Takes clusters at the end.
    fn take(&mut self, clusters: u64) -> u64 {
        let first = self.counts.len() as u64;
        self.counts.resize(self.counts.len() + clusters as usize, 1);
        first
    }

    /// Writes whole clusters at a place that was taken at the end.
    fn put(&mut self, cluster: u64, bytes: &[u8]) -> Result<()> {
        let (first, pending) = &self.pending;
        let next = first + (pending.len() as u64 >> self.shape.cluster_bits);
        if next != cluster || pending.len() >= BATCH {
            self.flush()?;
            self.pending.0 = cluster;
        }
        self.pending.1.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let (first, bytes) = &mut self.pending;
        let done = self.file.write_all_at(bytes, *first << self.shape.cluster_bits);
        bytes.clear();
        done.map_err(|e| self.io(e))
    }

    /// The entry of a guest cluster; they come ascending.
    fn set(&mut self, cluster: u64, word: u64, bitmap: u64) -> Result<()> {
        let (per_table, width) = (self.shape.per_table(), self.shape.width());
        let index = cluster / per_table;
        if self.table.as_ref().is_none_or(|(open, _)| *open != index) {
            self.close()?;
            self.table = Some((index, vec![0; (per_table * width) as usize]));
        }
        let at = ((cluster % per_table) * width) as usize;
        if let Some((_, table)) = &mut self.table {
            for (place, value) in table.iter_mut().skip(at).take(width as usize).zip([word, bitmap]) {
                *place = value;
            }
        }
        Ok(())
    }

    /// Writes the open L2 table.
    fn close(&mut self) -> Result<()> {
        let Some((index, table)) = self.table.take() else { return Ok(()) };
        let home = self.take(1);
        self.put(home, &to_bytes(&table))?;
        if let Some(entry) = self.l1.get_mut(index as usize) {
            *entry = home << self.shape.cluster_bits | COPIED;
        }
        Ok(())
    }

    /// A guest cluster with its data.
    pub fn data(&mut self, cluster: u64, bytes: &[u8]) -> Result<()> {
        let home = self.take(1);
        self.put(home, bytes)?;
        self.set(cluster, home << self.shape.cluster_bits | COPIED, if self.shape.extended { 0xffff_ffff } else { 0 })
    }

    /// A guest cluster with a place and without data: it reads as zeros, since nothing was ever written there.
    pub fn reserve(&mut self, cluster: u64) -> Result<()> {
        let home = self.take(1);
        self.set(cluster, home << self.shape.cluster_bits | COPIED, if self.shape.extended { 0xffff_ffff } else { 0 })
    }

    /// A guest cluster as a stream.
    pub fn packed(&mut self, cluster: u64, stream: &[u8]) -> Result<()> {
        let bits = self.shape.cluster_bits;
        let len = stream.len() as u64;
        let limit = most(self.shape.refcount_order).min(u32::MAX.into()) as u32;
        let last = |at: u64| (at + len - 1) >> bits;
        let full = |count: Option<&u32>| count.is_none_or(|count| *count >= limit);
        // The rest of the cluster of streams, and the one behind it where that is free.
        let fits = !self.streams.is_multiple_of(self.shape.cluster())
            && !full(self.counts.get((self.streams >> bits) as usize))
            && (last(self.streams) == self.streams >> bits || self.streams >> bits == self.counts.len() as u64 - 1);
        if !fits {
            self.streams = (self.counts.len() as u64) << bits;
        }
        let (at, end) = (self.streams, last(self.streams));
        for host in at >> bits..=end {
            match self.counts.get_mut(host as usize) {
                Some(count) => *count += 1,
                None => {
                    self.take(1);
                }
            }
        }
        self.streams = at + len;
        self.file.write_all_at(stream, at).map_err(|e| self.io(e))?;
        let x = 62 - (bits - 8);
        let sectors = (at + len - 1) / 512 - at / 512;
        self.set(cluster, PACKED | sectors << x | at, 0)
    }

    /// Writes tables and header, and makes all of it durable. Answers the length of the file.
    pub fn finish(mut self) -> Result<u64> {
        self.close()?;
        let bits = self.shape.cluster_bits;
        let size = self.shape.cluster();
        let mut l1 = to_bytes(&self.l1);
        l1.resize(l1.len().next_multiple_of(size as usize), 0);
        let l1_home = self.take(l1.len() as u64 >> bits);
        self.put(l1_home, &l1)?;
        let per_block = (size * 8) >> self.shape.refcount_order;
        let (mut blocks, mut table_clusters) = (1, 1);
        // The blocks count themselves and their table; both only grow, and by less than they cover.
        loop {
            let all = self.counts.len() as u64 + blocks + table_clusters;
            let (need, table) = (all.div_ceil(per_block), (blocks * 8).div_ceil(size));
            if need <= blocks && table <= table_clusters {
                break;
            }
            (blocks, table_clusters) = (need.max(blocks), table.max(table_clusters));
        }
        if table_clusters * size > TABLE_LIMIT {
            return Err(Error::from(Kind::FileTooBig).at(self.path.display()));
        }
        let table = self.take(table_clusters);
        let first = self.take(blocks);
        let entries: Vec<u64> = (first..first + blocks).map(|block| block << bits).collect();
        let mut bytes = to_bytes(&entries);
        bytes.resize((table_clusters * size) as usize, 0);
        self.put(table, &bytes)?;
        for block in 0..blocks {
            let mut bytes = vec![0; size as usize];
            let counts = self.counts.iter().skip((block * per_block) as usize).take(per_block as usize);
            for (slot, count) in counts.enumerate() {
                set_count(&mut bytes, slot, self.shape.refcount_order, u64::from(*count));
            }
            self.put(first + block, &bytes)?;
        }
        self.flush()?;
        let end = (self.counts.len() as u64) << bits;
        let header = self.shape.header(&Built { l1: l1_home, table, table_clusters })?;
        self.file.write_all_at(&header, 0).map_err(|e| self.io(e))?;
        Ok(end)
    }
}
