//! Files packed with LZ4: clusters of blocks, found through a map that has a word for each block of the file.
//!
//! Facts: Linux's `erofs_fs.h` and what its `zmap.c` makes of the words.

use std::cell::RefCell;
use std::sync::Arc;

use super::Erofs;
use super::inode::{Inode, Layout};
use super::superblock::{FRAGMENTS, PADDED};
use crate::base::bytes::{le16, le32, u8_at};
use crate::base::{Error, Result};
use crate::fs::unpack::Codec;
use crate::fs::{Segment, Stored};

/// Bits of the map's header: two bytes for a word, clusters of several blocks, the last cluster behind the map.
const SHORT_WORDS: u16 = 1;
const BIG: u16 = 2;
/// Of clusters of a second algorithm, whose words are refused.
const BIG_SECOND: u16 = 4;
const IN_MAP: u16 = 8;
const ALGORITHMS: [&str; 4] = ["lz4", "lzma", "deflate", "zstd"];
/// Kinds of words: the start of a cluster that is stored as it is, of one that is packed, neither.
const PLAIN: u32 = 0;
const HEAD: u32 = 1;
const NONHEAD: u32 = 2;
/// In the word behind the start: the rest are the blocks of the cluster.
const COUNT: u32 = 1 << 11;
/// Most bytes of a cluster, packed and unpacked (Z_EROFS_PCLUSTER_MAX_SIZE, Z_EROFS_PCLUSTER_MAX_DSIZE).
const PACKED_MAX: u64 = 1 << 20;
const PLAIN_MAX: u64 = 12 << 20;

/// A cluster.
#[derive(Debug, Clone, Copy)]
struct Cluster {
    /// First byte of the file, and of the device.
    at: u64,
    place: u64,
    /// Bytes of the device.
    stored: u64,
    packed: bool,
}

/// What is kept of packed files.
#[derive(Default)]
pub(super) struct Kept {
    /// The clusters of the file that was read last, by its number.
    map: RefCell<Option<(u64, Arc<Vec<Cluster>>)>>,
    /// The cluster that was unpacked last, by its place.
    cluster: RefCell<Option<(u64, Arc<Vec<u8>>)>>,
}

/// A word of the map.
#[derive(Debug, Clone, Copy)]
struct Word {
    kind: u32,
    /// Where in the block a cluster starts; of a word that is no start, how far that is back, or [`COUNT`].
    low: u32,
    /// Of a start: its first block on the device.
    block: u32,
}

/// The map's header.
struct Map {
    advice: u16,
    /// Bytes of the last cluster, if that lies behind the map.
    in_map: u64,
    /// First word.
    start: u64,
    words: u64,
    /// Logarithm of the bytes of a block.
    log: u32,
}

impl Map {
    /// The pack that a word of a short map is in: its first byte, its words, and the bytes for each.
    fn pack(&self, number: u64) -> (u64, u64, u64, u64) {
        // Words of 4 bytes up to a multiple of 32, then of 2 bytes in packs of 16 as far as they go, then of 4 again.
        let long = (32 - self.start % 32) / 4 % 8;
        let short = match self.advice & SHORT_WORDS != 0 && long < self.words {
            true => (self.words - long) / 16 * 16,
            false => 0,
        };
        let (area, number, count, size) = if number < long {
            (self.start, number, 2, 4)
        } else if number < long + short {
            (self.start + long * 4, number - long, 16, 2)
        } else {
            (self.start + long * 4 + short * 2, number - long - short, 2, 4)
        };
        (area + number / count * count * size, number % count, count, size)
    }

    /// A word of a pack.
    fn bits(&self, pack: &[u8], count: u64, number: u64) -> (u32, u32) {
        let width = (pack.len() as u64 - 4) * 8 / count;
        let at = number * width;
        let value = le32(pack, (at / 8) as usize) >> (at % 8);
        let low = self.log.max(12);
        (value >> low & 3, value & ((1 << low) - 1))
    }
}

impl Erofs {
    fn map_of(&self, inode: &Inode) -> Result<Map> {
        let number = inode.number;
        let refuse = |what: String| Err(Error::unsupported(format!("erofs: inode {number}: {what}")));
        if inode.layout == Layout::PackedFull {
            return refuse("packed files with a full map (legacy-compress) are not read".into());
        }
        let at = inode.behind().next_multiple_of(8);
        let mut header = [0; 8];
        self.metadata(at, &mut header)?;
        if self.superblock.features & FRAGMENTS != 0 || u8_at(&header, 7) & 0x80 != 0 {
            return refuse("packed files with the features fragments, dedupe are not read".into());
        }
        let (advice, algorithm, log) = (le16(&header, 4), u8_at(&header, 6), u8_at(&header, 7));
        if advice & !(SHORT_WORDS | BIG | BIG_SECOND | IN_MAP) != 0 || log != 0 {
            return refuse(format!("a map of the form {advice:#x}, {log} is not read"));
        }
        if algorithm & 15 != 0 {
            let name = ALGORITHMS.get(usize::from(algorithm & 15)).unwrap_or(&"an unknown algorithm");
            return refuse(format!("files packed with {name} are not read, with lz4 they are"));
        }
        if self.superblock.features & PADDED == 0 {
            return refuse("packed files without the feature 0padding are not read".into());
        }
        if self.superblock.log > 14 || advice & SHORT_WORDS != 0 && self.superblock.log > 12 {
            return refuse(format!("a short map with blocks of {} bytes", self.superblock.block()));
        }
        let start = at + 8;
        let words = inode.size.div_ceil(self.superblock.block());
        let in_map = if advice & IN_MAP != 0 { le16(&header, 2).into() } else { 0 };
        Ok(Map { advice, in_map, start, words, log: self.superblock.log })
    }

    /// A word of the map, and the first byte behind its pack.
    fn word(&self, inode: &Inode, map: &Map, number: u64) -> Result<(Word, u64)> {
        let (at, index, count, size) = map.pack(number);
        let mut pack = [0; 32];
        let pack = &mut pack[..(count * size) as usize];
        self.metadata(at, pack)?;
        let pack = &*pack;
        let behind = at + count * size;
        let (kind, low) = map.bits(pack, count, index);
        if kind == NONHEAD {
            return Ok((Word { kind, low, block: 0 }, behind));
        }
        // The pack has one number of a block: that in front of its first start. Those of others follow from the starts between.
        let bad = || inode.bad(format!("word {number} of its map does not fit those before"));
        let big = map.advice & BIG != 0;
        let mut blocks: u64 = if big { 0 } else { 1 };
        let mut left = index;
        while left > 0 {
            left -= 1;
            let (kind, low) = map.bits(pack, count, left);
            match (kind == NONHEAD, big) {
                (false, _) => blocks += 1,
                (true, false) => match left.checked_sub(low.into()) {
                    Some(rest) => {
                        left = rest;
                        blocks += 1;
                    }
                    None => left = 0,
                },
                (true, true) if low & COUNT != 0 => {
                    blocks += u64::from(low & !COUNT);
                    left = left.saturating_sub(1);
                }
                (true, true) => left = left.saturating_sub(u64::from(low.checked_sub(2).ok_or_else(bad)?)),
            }
        }
        let first = u64::from(le32(pack, pack.len() - 4));
        let block = u32::try_from(first + blocks).map_err(|_| bad())?;
        Ok((Word { kind, low, block }, behind))
    }

    /// The clusters of a file, all of them: a word of the map is little against the block that it is for.
    fn clusters(&self, inode: &Inode) -> Result<Arc<Vec<Cluster>>> {
        if let Some((number, clusters)) = &*self.kept.map.borrow()
            && *number == inode.number
        {
            return Ok(clusters.clone());
        }
        let map = self.map_of(inode)?;
        let block = self.superblock.block();
        let mut clusters: Vec<Cluster> = Vec::new();
        let mut behind = map.start;
        // Whether the word before was a start, behind which the blocks may be counted.
        let mut after_start = false;
        for number in 0..map.words {
            let (word, end) = self.word(inode, &map, number)?;
            behind = end;
            let bad = |what: String| inode.bad(format!("word {number} of its map: {what}"));
            match word.kind {
                NONHEAD => {
                    let last = clusters.last_mut().ok_or_else(|| bad("there is no start before it".into()))?;
                    if word.low & COUNT != 0 {
                        let count = u64::from(word.low & !COUNT);
                        if !after_start || map.advice & BIG == 0 || count == 0 || count * block > PACKED_MAX {
                            return Err(bad(format!("a cluster of {count} blocks")));
                        }
                        last.stored = count * block;
                    }
                    after_start = false;
                }
                PLAIN | HEAD => {
                    if u64::from(word.low) >= block {
                        return Err(bad(format!("a cluster at byte {} of its block", word.low)));
                    }
                    let at = number * block + u64::from(word.low);
                    // The end of the file is marked by a start there.
                    if at >= inode.size {
                        continue;
                    }
                    let fits = |last: &Cluster| at > last.at && at - last.at <= PLAIN_MAX;
                    if !clusters.last().map_or(at == 0, fits) {
                        return Err(bad(format!("a cluster at byte {at}")));
                    }
                    let place = u64::from(word.block) << self.superblock.log;
                    clusters.push(Cluster { at, place, stored: block, packed: word.kind == HEAD });
                    after_start = true;
                }
                other => {
                    return Err(Error::unsupported(format!(
                        "erofs: inode {}: a word of kind {other:#x}",
                        inode.number
                    )));
                }
            }
        }
        if let Some(last) = clusters.last_mut() {
            if inode.size - last.at > PLAIN_MAX {
                return Err(inode.bad(format!("its last cluster begins at byte {}", last.at)));
            }
            if map.in_map > 0 {
                (last.place, last.stored) = (behind, map.in_map);
            }
        }
        let clusters = Arc::new(clusters);
        self.kept.map.replace(Some((inode.number, clusters.clone())));
        Ok(clusters)
    }

    /// Unpacks a cluster.
    fn unpacked(&self, inode: &Inode, cluster: &Cluster, len: usize) -> Result<Arc<Vec<u8>>> {
        if let Some((place, plain)) = &*self.kept.cluster.borrow()
            && *place == cluster.place
            && plain.len() == len
        {
            return Ok(plain.clone());
        }
        let bad = || inode.bad(format!("the cluster of byte {} cannot be unpacked", cluster.at));
        let mut stored = vec![0; cluster.stored as usize];
        self.stored(cluster.place, &mut stored)?;
        let plain = if cluster.packed {
            let mut plain = vec![0; len];
            // The padding is in front, in the first block only; no stream begins with a zero byte.
            let padding = stored.iter().take(self.superblock.block() as usize).take_while(|byte| **byte == 0).count();
            let got = Codec::Lz4.unpack(&stored[padding..], &mut plain);
            got.filter(|got| *got == len).ok_or_else(bad)?;
            plain
        } else {
            stored.get(..len).ok_or_else(bad)?.to_vec()
        };
        let plain = Arc::new(plain);
        self.kept.cluster.replace(Some((cluster.place, plain.clone())));
        Ok(plain)
    }

    /// Fills `buf` from a packed file; all of it lies inside.
    pub(super) fn read_packed(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        let clusters = self.clusters(inode)?;
        let end = offset + buf.len() as u64;
        let first = clusters.partition_point(|cluster| cluster.at <= offset).saturating_sub(1);
        for (index, cluster) in clusters.iter().enumerate().skip(first).take_while(|(_, cluster)| cluster.at < end) {
            let next = clusters.get(index + 1).map_or(inode.size, |next| next.at);
            let plain = self.unpacked(inode, cluster, (next - cluster.at) as usize)?;
            let (from, to) = (offset.max(cluster.at), end.min(next));
            buf[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&plain[(from - cluster.at) as usize..(to - cluster.at) as usize]);
        }
        Ok(())
    }

    /// Where the clusters of a packed file are.
    pub(super) fn packed_segments(&self, inode: &Inode) -> Result<Vec<Segment>> {
        let clusters = self.clusters(inode)?;
        let ends = clusters.iter().skip(1).map(|next| next.at).chain([inode.size]);
        let segments = clusters.iter().zip(ends).map(|(cluster, end)| {
            let stored = match cluster.packed {
                true => Stored::Compressed { at: cluster.place, len: cluster.stored },
                false => Stored::Data(cluster.place),
            };
            Segment {
                offset: cluster.at,
                len: end - cluster.at,
                block: Some(cluster.place >> self.superblock.log),
                stored,
            }
        });
        Ok(segments.collect())
    }
}
