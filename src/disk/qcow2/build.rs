//! Writing a whole new image from front to back: data as it comes, tables behind it, the header last.

use std::mem::take;
use std::ops::Range;

use super::compress::Codec;
use super::header::{
    COMPRESSION, DATA_FILE, EXT_BACKING_FORMAT, EXT_DATA_FILE, EXTENDED_L2, L1_LIMIT, MAGIC, RAW_DATA, TABLE_LIMIT,
};
use super::map::{COPIED, PACKED, to_bytes};
use super::refcount::{most, set_count};
use crate::base::bytes::{put_be32, put_be64};
use crate::base::{Error, Kind, Result};
use crate::disk::convert::Output;

/// Bytes of tables that wait for being written, at most.
const WAITING: usize = 4 << 20;
/// Small parts are put together to writes of so many bytes.
const JOINED: usize = 1 << 20;
/// Parts of this size are written from where they are.
const LARGE: usize = 32 << 10;

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

/// Bytes of a new image, and where they are until they are written.
#[derive(Debug)]
pub(super) enum Bytes {
    /// In the plain bytes that a lane has read.
    Plain(Range<usize>),
    /// In the streams that a lane has made of them.
    Stream(Range<usize>),
    /// A table of the format.
    Table(Vec<u8>),
}

/// A part of a new image: its place in the file and its bytes.
pub(super) type Part = (u64, Bytes);

/// Writes parts, with what is in a lane's buffers; small neighbours are joined in `joined`.
pub(super) fn write_parts(
    output: &Output,
    parts: &[Part],
    plain: &[u8],
    streams: &[u8],
    joined: &mut Vec<u8>,
) -> Result<()> {
    joined.clear();
    let mut start = 0;
    for (at, bytes) in parts {
        let bytes = match bytes {
            Bytes::Plain(range) => plain.get(range.clone()).unwrap_or_default(),
            Bytes::Stream(range) => streams.get(range.clone()).unwrap_or_default(),
            Bytes::Table(table) => table,
        };
        let follows = start + joined.len() as u64 == *at && joined.len() + bytes.len() <= JOINED;
        if !joined.is_empty() && (!follows || bytes.len() >= LARGE) {
            output.write(start, joined)?;
            joined.clear();
        }
        if bytes.len() >= LARGE {
            output.write(*at, bytes)?;
            continue;
        }
        if joined.is_empty() {
            start = *at;
        }
        joined.extend_from_slice(bytes);
    }
    match joined.is_empty() {
        true => Ok(()),
        false => output.write(start, joined),
    }
}

/// An image that is being written: gives everything its place, and makes the tables.
pub(super) struct Builder<'a> {
    shape: &'a Shape,
    output: &'a Output<'a>,
    /// Refcounts by cluster; its length is the end of what is in use.
    counts: Vec<u32>,
    /// What has its place and is not written yet.
    parts: Vec<Part>,
    /// Bytes of tables in there.
    waiting: usize,
    /// Where the next stream may go, to the byte, in a cluster of streams.
    streams: u64,
    l1: Vec<u64>,
    table: Option<(u64, Vec<u64>)>,
}

impl<'a> Builder<'a> {
    /// An empty image in a file that is empty.
    pub fn new(shape: &'a Shape, output: &'a Output<'a>) -> Self {
        Builder {
            shape,
            output,
            counts: vec![1],
            parts: Vec::new(),
            waiting: 0,
            streams: 0,
            l1: vec![0; shape.l1_size() as usize],
            table: None,
        }
    }

    /// The parts that were given a place since the last time; whoever takes them writes them.
    pub fn take_parts(&mut self) -> Vec<Part> {
        self.waiting = 0;
        take(&mut self.parts)
    }

    /// Takes clusters at the end.
    fn take(&mut self, clusters: u64) -> u64 {
        let first = self.counts.len() as u64;
        self.counts.resize(self.counts.len() + clusters as usize, 1);
        first
    }

    /// Gives bytes of a lane their place; neighbours become one part.
    fn put(&mut self, at: u64, bytes: Bytes) {
        let joined = match (self.parts.last_mut(), &bytes) {
            (Some((start, Bytes::Plain(last))), Bytes::Plain(next))
            | (Some((start, Bytes::Stream(last))), Bytes::Stream(next))
                if last.end == next.start && *start + last.len() as u64 == at =>
            {
                last.end = next.end;
                true
            }
            _ => false,
        };
        if !joined {
            self.parts.push((at, bytes));
        }
    }

    /// Gives a table its place.
    fn put_table(&mut self, cluster: u64, table: Vec<u8>) {
        self.waiting += table.len();
        self.parts.push((cluster << self.shape.cluster_bits, Bytes::Table(table)));
    }

    /// Writes tables, if many are waiting and nothing else.
    fn flush(&mut self, least: usize) -> Result<()> {
        if self.waiting < least {
            return Ok(());
        }
        write_parts(self.output, &self.take_parts(), &[], &[], &mut Vec::new())
    }

    /// The entry of a guest cluster; they come ascending.
    fn set(&mut self, cluster: u64, word: u64, bitmap: u64) {
        let (per_table, width) = (self.shape.per_table(), self.shape.width());
        let index = cluster / per_table;
        if self.table.as_ref().is_none_or(|(open, _)| *open != index) {
            self.close();
            self.table = Some((index, vec![0; (per_table * width) as usize]));
        }
        let at = ((cluster % per_table) * width) as usize;
        if let Some((_, table)) = &mut self.table {
            for (place, value) in table.iter_mut().skip(at).take(width as usize).zip([word, bitmap]) {
                *place = value;
            }
        }
    }

    /// Gives the open L2 table its place.
    fn close(&mut self) {
        let Some((index, table)) = self.table.take() else { return };
        let home = self.take(1);
        self.put_table(home, to_bytes(&table));
        if let Some(entry) = self.l1.get_mut(index as usize) {
            *entry = home << self.shape.cluster_bits | COPIED;
        }
    }

    /// A guest cluster with its data, which is at `plain` in the buffer of who takes the parts.
    pub fn data(&mut self, cluster: u64, plain: Range<usize>) {
        let home = self.take(1);
        // Ahead of a table that is full now and comes behind it.
        self.put(home << self.shape.cluster_bits, Bytes::Plain(plain));
        self.set_data(cluster, home);
    }

    fn set_data(&mut self, cluster: u64, home: u64) {
        let bitmap = if self.shape.extended { 0xffff_ffff } else { 0 };
        self.set(cluster, home << self.shape.cluster_bits | COPIED, bitmap);
    }

    /// A guest cluster with a place and without data: it reads as zeros, since nothing was ever written there.
    ///
    /// # Errors
    /// The host's: tables are written when there are many.
    pub fn reserve(&mut self, cluster: u64) -> Result<()> {
        let home = self.take(1);
        self.set_data(cluster, home);
        self.flush(WAITING)
    }

    /// A guest cluster as a stream, which is at `stream` in the buffer of who takes the parts.
    pub fn packed(&mut self, cluster: u64, stream: Range<usize>) {
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
        self.put(at, Bytes::Stream(stream));
        let x = 62 - (bits - 8);
        let sectors = (at + len - 1) / 512 - at / 512;
        self.set(cluster, PACKED | sectors << x | at, 0);
    }

    /// Writes tables and header. Answers the length of the file.
    pub fn finish(mut self) -> Result<u64> {
        self.close();
        let bits = self.shape.cluster_bits;
        let size = self.shape.cluster();
        let mut l1 = to_bytes(&self.l1);
        l1.resize(l1.len().next_multiple_of(size as usize), 0);
        let l1_home = self.take(l1.len() as u64 >> bits);
        self.put_table(l1_home, l1);
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
            return Err(Kind::FileTooBig.into());
        }
        let table = self.take(table_clusters);
        let first = self.take(blocks);
        let entries: Vec<u64> = (first..first + blocks).map(|block| block << bits).collect();
        let mut bytes = to_bytes(&entries);
        bytes.resize((table_clusters * size) as usize, 0);
        self.put_table(table, bytes);
        for block in 0..blocks {
            let mut bytes = vec![0; size as usize];
            let counts = self.counts.iter().skip((block * per_block) as usize).take(per_block as usize);
            for (slot, count) in counts.enumerate() {
                set_count(&mut bytes, slot, self.shape.refcount_order, u64::from(*count));
            }
            self.put_table(first + block, bytes);
            self.flush(WAITING)?;
        }
        self.flush(0)?;
        let end = (self.counts.len() as u64) << bits;
        let header = self.shape.header(&Built { l1: l1_home, table, table_clusters })?;
        self.output.write(0, &header)?;
        Ok(end)
    }
}
