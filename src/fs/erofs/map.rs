//! The maps of packed files: a word for each block of the file, or a list of clusters, says where the clusters are.
//!
//! Facts: Linux's `erofs_fs.h` and what its `zmap.c` makes of the words.

use std::sync::Arc;

use super::Erofs;
use super::inode::{Inode, Layout};
use super::superblock::PADDED;
use crate::base::bytes::{le16, le32, le64, u8_at};
use crate::base::{Error, Result};
use crate::fs::unpack::Codec;

/// Bits of the map's header. Words of 2 bytes in a compact map; a list of clusters in a full one.
const SHORT_WORDS: u16 = 1;
const LIST: u16 = 1;
/// Of a list, the logarithm of the bytes of an entry, less 2.
const LIST_SIZE: u16 = 6;
/// Clusters of several blocks; of a second algorithm, or as they are.
const BIG: u16 = 2;
const BIG_SECOND: u16 = 4;
/// The last cluster lies behind the map.
const IN_MAP: u16 = 8;
/// Clusters that are stored as they are begin in the middle of their block, and go on at its front.
const TURNED: u16 = 16;
/// The last cluster lies in the packed inode.
const FRAGMENT: u16 = 32;
/// In the header's last byte: the whole file does.
const ALL_FRAGMENT: u8 = 0x80;
const ALGORITHMS: [Codec; 4] = [Codec::Lz4, Codec::MicroLzma, Codec::Deflate, Codec::Zstd];
/// Kinds of words: the start of a cluster that is stored as it is, of one that is packed, neither, packed with the second algorithm.
const PLAIN: u32 = 0;
const HEAD: u32 = 1;
const NONHEAD: u32 = 2;
const HEAD_SECOND: u32 = 3;
/// In a start of a full map: more is in the cluster than is used.
const PARTIAL: u16 = 1 << 15;
/// In the word behind the start: the rest are the blocks of the cluster.
const COUNT: u32 = 1 << 11;
/// In an entry of a list: bits of the bytes that are stored; [`PARTIAL`]; the algorithm and one.
const LIST_LEN: u32 = (1 << 21) - 1;
const LIST_PARTIAL: u32 = 1 << 27;
const LIST_FORM: u32 = 28;
/// Most bytes of a cluster, packed and unpacked (Z_EROFS_PCLUSTER_MAX_SIZE, Z_EROFS_PCLUSTER_MAX_DSIZE).
const PACKED_MAX: u64 = 1 << 20;
const PLAIN_MAX: u64 = 12 << 20;
/// Most clusters and words of a file's map.
const CLUSTERS: usize = 1 << 23;
const WORDS: u64 = 1 << 28;

/// How a cluster is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Nowhere: zeros.
    Hole,
    Plain,
    /// As it is, but turned in its block: see [`TURNED`].
    Turned,
    Packed(Codec),
    /// In the packed inode.
    Fragment,
}

/// A cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cluster {
    /// First byte of the file, and of the device; of a fragment, of the packed inode.
    pub at: u64,
    pub place: u64,
    /// Bytes of the device.
    pub stored: u32,
    pub form: Form,
    /// The stream goes on behind what the file has of it.
    pub partial: bool,
}

/// A word of the map.
#[derive(Debug, Clone, Copy)]
struct Word {
    kind: u32,
    /// Where in the block a cluster starts; of a word that is no start, how far that is back, or [`COUNT`].
    low: u32,
    /// Of a start: its first block on the device.
    block: u32,
    partial: bool,
}

/// The map's header.
struct Map {
    advice: u16,
    /// Bytes of the last cluster, if that lies behind the map.
    in_map: u32,
    /// Where the last cluster begins in the packed inode, if it does; of a full map the lower half.
    fragment: u64,
    /// The header's bytes 6 and 7.
    forms: (u8, u8),
    full: bool,
    /// First word.
    start: u64,
    words: u64,
    /// Logarithm of the bytes of a block.
    log: u32,
}

impl Map {
    /// The pack that a word of a compact map is in: its first byte, its words, and the bytes for each.
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
    /// The clusters of a file, all of them: a word of the map is little against the block that it is for.
    pub(super) fn clusters(&self, inode: &Inode) -> Result<Arc<Vec<Cluster>>> {
        let kept = &self.kept(inode).map;
        if let Some((number, clusters)) = &*kept.borrow()
            && *number == inode.number
        {
            return Ok(clusters.clone());
        }
        let clusters = Arc::new(self.read_map(inode)?);
        kept.replace(Some((inode.number, clusters.clone())));
        Ok(clusters)
    }

    fn read_map(&self, inode: &Inode) -> Result<Vec<Cluster>> {
        let number = inode.number;
        let refuse = |what: String| Err(Error::unsupported(format!("erofs: inode {number}: {what}")));
        let full = inode.layout == Layout::PackedFull;
        let at = inode.behind().next_multiple_of(8);
        let mut header = [0; 8];
        self.metadata(at, &mut header)?;
        let (advice, forms) = (le16(&header, 4), (u8_at(&header, 6), u8_at(&header, 7)));
        if inode.size == 0 {
            return Ok(Vec::new());
        }
        if forms.1 & ALL_FRAGMENT != 0 {
            let place = le64(&header, 0) & !(1 << 63);
            return Ok(vec![Cluster { at: 0, place, stored: 0, form: Form::Fragment, partial: false }]);
        }
        if full && advice & LIST != 0 {
            return self.read_list(inode, at + 8, &header);
        }
        let known = if full { 0 } else { SHORT_WORDS } | BIG | BIG_SECOND | IN_MAP | TURNED | FRAGMENT;
        if advice & !known != 0 || forms.1 != 0 {
            return refuse(format!("a map of the form {advice:#x}, {}", forms.1));
        }
        let log = self.superblock.log;
        if !full && (log > 14 || advice & SHORT_WORDS != 0 && log > 12) {
            return refuse(format!("a short map with blocks of {} bytes", self.superblock.block()));
        }
        let words = inode.size.div_ceil(self.superblock.block());
        if words > WORDS {
            return refuse(format!("a map of {words} words"));
        }
        let fragment = if advice & FRAGMENT != 0 { le32(&header, 0).into() } else { 0 };
        // The fragment goes before.
        let in_map = if advice & (IN_MAP | FRAGMENT) == IN_MAP { le16(&header, 2).into() } else { 0 };
        let start = at + if full { 16 } else { 8 };
        self.read_words(inode, &Map { advice, in_map, fragment, forms, full, start, words, log })
    }

    /// A word of a map, and the first byte behind its pack.
    fn word(&self, inode: &Inode, map: &Map, number: u64) -> Result<(Word, u64)> {
        if !map.full {
            return self.compact_word(inode, map, number);
        }
        let mut word = [0; 8];
        let at = map.start + number * 8;
        self.metadata(at, &mut word)?;
        let (form, block) = (le16(&word, 0), le32(&word, 4));
        let kind = u32::from(form & 3);
        let low = if kind == NONHEAD { block & 0xffff } else { le16(&word, 2).into() };
        Ok((Word { kind, low, block, partial: form & PARTIAL != 0 }, at + 8))
    }

    fn compact_word(&self, inode: &Inode, map: &Map, number: u64) -> Result<(Word, u64)> {
        let (at, index, count, size) = map.pack(number);
        let mut pack = [0; 32];
        let pack = &mut pack[..(count * size) as usize];
        self.metadata(at, pack)?;
        let pack = &*pack;
        let behind = at + count * size;
        let (kind, low) = map.bits(pack, count, index);
        if kind == NONHEAD {
            return Ok((Word { kind, low, block: 0, partial: false }, behind));
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
        Ok((Word { kind, low, block, partial: false }, behind))
    }

    fn read_words(&self, inode: &Inode, map: &Map) -> Result<Vec<Cluster>> {
        let block = self.superblock.block();
        let plain = if map.advice & TURNED != 0 { Form::Turned } else { Form::Plain };
        let mut clusters: Vec<Cluster> = Vec::new();
        let mut behind = map.start;
        // The start of the last cluster, as its word has it.
        let mut last_block = 0;
        // Whether the word before was a start, behind which the blocks may be counted.
        let mut after_start = false;
        for number in 0..map.words {
            let (word, end) = self.word(inode, map, number)?;
            behind = end;
            let bad = |what: String| inode.bad(format!("word {number} of its map: {what}"));
            if word.kind == NONHEAD {
                let last = clusters.last_mut().ok_or_else(|| bad("there is no start before it".into()))?;
                if word.low & COUNT != 0 {
                    let count = u64::from(word.low & !COUNT);
                    let many = map.advice & (BIG | BIG_SECOND) != 0 && count * block <= PACKED_MAX;
                    // Of a fragment there are none.
                    if !after_start || !many || count == 0 && map.advice & FRAGMENT == 0 {
                        return Err(bad(format!("a cluster of {count} blocks")));
                    }
                    last.stored = (count * block) as u32;
                }
                if map.advice & FRAGMENT == 0 && number * block - last.at > PLAIN_MAX {
                    return Err(bad(format!("a cluster from byte {} on", last.at)));
                }
                after_start = false;
                continue;
            }
            if u64::from(word.low) >= block {
                return Err(bad(format!("a cluster at byte {} of its block", word.low)));
            }
            let at = number * block + u64::from(word.low);
            // The end of the file is marked by a start there.
            if at >= inode.size {
                continue;
            }
            let form = match word.kind {
                PLAIN => plain,
                HEAD => self.algorithm(inode, map.forms.0 & 15)?,
                HEAD_SECOND => self.algorithm(inode, map.forms.0 >> 4)?,
                kind => return Err(bad(format!("kind {kind}"))),
            };
            let place = u64::from(word.block) << self.superblock.log;
            let cluster = Cluster { at, place, stored: block as u32, form, partial: word.partial };
            push(inode, &mut clusters, cluster)?;
            last_block = word.block;
            after_start = true;
        }
        let last = clusters.last_mut().ok_or_else(|| inode.bad("its map has no cluster".into()))?;
        if map.in_map > 0 {
            (last.place, last.stored) = (behind, map.in_map);
            // Turned are those in blocks of their own.
            last.form = if last.form == Form::Turned { Form::Plain } else { last.form };
        } else if map.advice & FRAGMENT != 0 {
            // A full map has the upper half as the block of the start.
            let high = if map.full { u64::from(last_block) << 32 } else { 0 };
            *last = Cluster { place: map.fragment | high, stored: 0, form: Form::Fragment, ..*last };
        }
        ended(inode, clusters)
    }

    /// A list of clusters, from byte `at` on: entries of 4 bytes (bytes stored) and 8 (place) for clusters of one size, of 16
    /// (place of 8, first byte of the file) and 32 (first byte of the file of 8) for others.
    fn read_list(&self, inode: &Inode, at: u64, header: &[u8; 8]) -> Result<Vec<Cluster>> {
        let advice = le16(header, 4);
        if advice & !(LIST | LIST_SIZE | TURNED | FRAGMENT) != 0 {
            let number = inode.number;
            return Err(Error::unsupported(format!(
                "erofs: inode {number}: a list of clusters of the form {advice:#x}"
            )));
        }
        let size = 4_u64 << ((advice & LIST_SIZE) >> 1);
        let step = 1_u64 << (self.superblock.log + u32::from(u8_at(header, 7) & 15));
        let count = match size {
            4 | 8 => inode.size.div_ceil(step),
            _ => u64::from(le32(header, 0)) | u64::from(le16(header, 6)) << 32,
        };
        let mut start = at.next_multiple_of(size);
        // Of those of 4 bytes each follows the one before.
        let mut next = [0; 8];
        if size == 4 {
            self.metadata(start, &mut next)?;
            start += 8;
        }
        let mut next = le64(&next, 0);
        let mut clusters = Vec::new();
        for index in 0..count {
            let mut entry = [0; 32];
            self.metadata(start.saturating_add(index.saturating_mul(size)), &mut entry[..size as usize])?;
            let word = le32(&entry, 0);
            let (mut stored, form) = (word & LIST_LEN, word >> LIST_FORM);
            let (mut place, at) = match size {
                4 => (next, index * step),
                8 => (le32(&entry, 4).into(), index * step),
                16 => (le64(&entry, 4), le32(&entry, 12).into()),
                _ => (le64(&entry, 4), le64(&entry, 12)),
            };
            next = next.saturating_add(stored.into());
            let mask = self.superblock.block() - 1;
            let form = match form {
                _ if advice & FRAGMENT != 0 && index + 1 == count => {
                    place = u64::from(word) | if size > 4 { place << 32 } else { 0 };
                    stored = 0;
                    Form::Fragment
                }
                _ if stored == 0 => Form::Hole,
                0 if advice & TURNED != 0 && (place | u64::from(stored)) & mask == 0 => Form::Turned,
                0 => Form::Plain,
                form => self.algorithm(inode, (form - 1) as u8)?,
            };
            if u64::from(stored) > PACKED_MAX {
                return Err(inode.bad(format!("cluster {index} has {stored} bytes")));
            }
            push(inode, &mut clusters, Cluster { at, place, stored, form, partial: word & LIST_PARTIAL != 0 })?;
        }
        ended(inode, clusters)
    }

    fn algorithm(&self, inode: &Inode, number: u8) -> Result<Form> {
        let refuse = |what: String| Error::unsupported(format!("erofs: inode {}: {what}", inode.number));
        let codec = ALGORITHMS.get(usize::from(number));
        let codec = codec.ok_or_else(|| refuse(format!("packed with algorithm {number}, which is not known")))?;
        if self.superblock.features & PADDED == 0 && *codec != Codec::Lz4 {
            return Err(refuse("packed files without the feature 0padding".into()));
        }
        Ok(Form::Packed(*codec))
    }
}

/// Adds a cluster, which must lie behind those before.
fn push(inode: &Inode, clusters: &mut Vec<Cluster>, cluster: Cluster) -> Result<()> {
    let fits = match clusters.last() {
        None => cluster.at == 0,
        Some(last) => cluster.at > last.at && spans(last, cluster.at),
    };
    if !fits || cluster.at >= inode.size {
        return Err(inode.bad(format!("a cluster at byte {}", cluster.at)));
    }
    if clusters.len() == CLUSTERS {
        return Err(Error::unsupported(format!("erofs: inode {}: more than {CLUSTERS} clusters", inode.number)));
    }
    clusters.push(cluster);
    Ok(())
}

/// Whether a cluster can reach to byte `end` of its file.
fn spans(cluster: &Cluster, end: u64) -> bool {
    matches!(cluster.form, Form::Hole | Form::Fragment) || end - cluster.at <= PLAIN_MAX
}

/// The clusters, if the last one can reach to the end of the file.
fn ended(inode: &Inode, clusters: Vec<Cluster>) -> Result<Vec<Cluster>> {
    match clusters.last() {
        Some(last) if spans(last, inode.size) => Ok(clusters),
        Some(last) => Err(inode.bad(format!("its last cluster begins at byte {}", last.at))),
        None => Err(inode.bad("its map has no cluster".into())),
    }
}
