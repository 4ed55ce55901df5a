//! Directories: inside the inode, one block, or many with an index by hash. "XFS Algorithms & Data Structures", chapter "Directories".

use super::inode::{Format, Inode};
use super::map::Run;
use super::{Sum, Xfs};
use crate::base::bytes::{be16, be32, be64, u8_at};
use crate::base::{Error, Name, Result};
use crate::fs::{DirEntry, FileType, NodeId};

/// Where the index begins in the directory's own space, in bytes.
const INDEX: u64 = 1 << 35;
/// Magics of version 4 and of version 5: one block, one of many.
const BLOCK: [u32; 2] = [0x5844_3242, 0x5844_4233];
const DATA: [u32; 2] = [0x5844_3244, 0x5844_4433];
/// Magics of index blocks: the only leaf, one of many, a node above.
const LEAF_1: [u16; 2] = [0xd2f1, 0x3df1];
const LEAF_N: [u16; 2] = [0xd2ff, 0x3dff];
const NODE: [u16; 2] = [0xfebe, 0x3ebe];
/// Headers of data blocks; of index blocks.
const DATA_HEADERS: [usize; 2] = [16, 64];
const INDEX_HEADERS: [usize; 2] = [16, 64];
/// What free space in a data block begins with.
const FREE: u16 = 0xffff;
/// Deepest index (XFS_DA_NODE_MAXDEPTH).
const DEEPEST: usize = 5;

/// Places of sums, owners and places in data and in index blocks.
const DATA_SUM: Sum = Sum { crc: 4, owner: 40, place: 8 };
pub(super) const INDEX_SUM: Sum = Sum { crc: 12, owner: 48, place: 16 };

/// An entry of a data block.
struct Entry<'a> {
    inode: u64,
    name: &'a [u8],
    kind: u8,
}

/// The hash of a name, in the index of directories and of attributes.
pub(super) fn hash(name: &[u8]) -> u32 {
    let mut groups = name.chunks_exact(4);
    let mut hash = 0_u32;
    for group in &mut groups {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| u32::from(group[i]));
        hash = a << 21 ^ b << 14 ^ c << 7 ^ d ^ hash.rotate_left(28);
    }
    let rest = groups.remainder();
    let folded = rest.iter().fold(0, |sum, byte| sum << 7 ^ u32::from(*byte));
    if rest.is_empty() { hash } else { folded ^ hash.rotate_left(7 * rest.len() as u32) }
}

fn broken(dir: &Inode, what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("xfs: directory inode {}: {what}", dir.number))
}

impl Xfs {
    fn version(&self) -> usize {
        usize::from(self.superblock.has_sums())
    }

    /// The entries inside an inode, without `.` and `..`.
    fn short_entries<'a>(&self, dir: &Inode, fork: &'a [u8]) -> Result<Vec<Entry<'a>>> {
        let (count, wide) = (u8_at(fork, 0), u8_at(fork, 1) > 0);
        let number = if wide { 8 } else { 4 };
        let mut at = 2 + number;
        let mut entries = Vec::new();
        for _ in 0..count {
            let len = usize::from(u8_at(fork, at));
            let behind = at + 3 + len + usize::from(self.superblock.has_types);
            let (Some(name), true) = (fork.get(at + 3..at + 3 + len), behind + number <= fork.len()) else {
                return Err(broken(dir, "its entries run out of the inode"));
            };
            let kind = if self.superblock.has_types { u8_at(fork, behind - 1) } else { 0 };
            let inode = if wide { be64(fork, behind) } else { be32(fork, behind).into() };
            entries.push(Entry { inode, name, kind });
            at = behind + number;
        }
        Ok(entries)
    }

    /// Reads a block of a directory; `at` is its first byte in the directory's own space.
    fn dir_block(&self, runs: &[Run], at: u64) -> Result<Vec<u8>> {
        let mut block = vec![0; self.superblock.dir_block];
        self.read_runs(runs, at, &mut block)?;
        Ok(block)
    }

    /// A data block, and the end of its entries.
    fn data_block(&self, dir: &Inode, runs: &[Run], at: u64) -> Result<(Vec<u8>, usize)> {
        let block = self.dir_block(runs, at)?;
        let (magic, version) = (be32(&block, 0), self.version());
        let end = if magic == BLOCK[version] {
            let count = be32(&block, block.len() - 8) as usize;
            count.checked_mul(8).and_then(|index| (block.len() - 8).checked_sub(index))
        } else {
            (magic == DATA[version]).then_some(block.len())
        };
        let Some(end) = end else { return Err(broken(dir, format!("data block at {at}: magic {magic:#x}"))) };
        self.check_sum(&block, DATA_SUM, dir.number, self.place_in(runs, at))
            .map_err(|what| broken(dir, format!("data block at {at}: {what}")))?;
        Ok((block, end))
    }

    /// The entry at a byte of a data block, and where the next one begins; `None` in the first for free space.
    fn entry_at<'a>(&self, dir: &Inode, block: &'a [u8], at: usize, end: usize) -> Result<(Option<Entry<'a>>, usize)> {
        let bad = || broken(dir, format!("a broken entry at byte {at} of a data block"));
        if be16(block, at) == FREE {
            let len = usize::from(be16(block, at + 2));
            return if len >= 8 && len.is_multiple_of(8) && len <= end - at {
                Ok((None, at + len))
            } else {
                Err(bad())
            };
        }
        let len = usize::from(u8_at(block, at + 8));
        let typed = usize::from(self.superblock.has_types);
        let next = at + (8 + 1 + len + typed + 2).next_multiple_of(8);
        if len == 0 || next > end {
            return Err(bad());
        }
        let name = &block[at + 9..at + 9 + len];
        let kind = if typed == 1 { u8_at(block, at + 9 + len) } else { 0 };
        Ok((Some(Entry { inode: be64(block, at), name, kind }), next))
    }

    /// See [`crate::fs::FileSystem::read_dir`].
    pub(super) fn list_dir(&self, dir: &Inode) -> Result<Vec<DirEntry>> {
        let fork = dir.data()?;
        let mut list = Vec::new();
        let mut add = |entry: Entry<'_>| {
            if entry.name.contains(&b'/') || entry.name.contains(&0) || entry.name.is_empty() {
                return Err(broken(dir, "a name that cannot be"));
            }
            if entry.name != b"." && entry.name != b".." {
                let name = Name(entry.name.to_vec());
                list.push(DirEntry { name, node: NodeId(entry.inode), file_type: FileType::from_code(entry.kind) });
            }
            Ok(())
        };
        if fork.format == Format::Local {
            self.short_entries(dir, fork.bytes)?.into_iter().try_for_each(&mut add)?;
            return Ok(list);
        }
        let runs = self.own_map(dir, &fork)?;
        let (bs, step) = (self.superblock.block as u64, self.superblock.dir_block as u64);
        let mut done = 0;
        for run in runs.iter().take_while(|run| run.logical * bs < INDEX) {
            let mut at = (run.logical * bs / step * step).max(done);
            while at < (run.end() * bs).min(INDEX) {
                let (block, end) = self.data_block(dir, &runs, at)?;
                let mut from = DATA_HEADERS[self.version()];
                while from < end {
                    let (entry, next) = self.entry_at(dir, &block, from, end)?;
                    entry.map_or(Ok(()), &mut add)?;
                    from = next;
                }
                at += step;
                done = at;
            }
        }
        Ok(list)
    }

    /// The inode of a name.
    pub(super) fn find(&self, dir: &Inode, name: &[u8]) -> Result<Option<u64>> {
        let fork = dir.data()?;
        if fork.format == Format::Local {
            return Ok(self.short_entries(dir, fork.bytes)?.iter().find(|e| e.name == name).map(|e| e.inode));
        }
        let runs = self.own_map(dir, &fork)?;
        let hash = hash(name);
        let single = runs.last().is_none_or(|run| run.logical.saturating_mul(self.superblock.block as u64) < INDEX);
        if single {
            let (block, end) = self.data_block(dir, &runs, 0)?;
            let mut from = DATA_HEADERS[self.version()];
            while from < end {
                let (entry, next) = self.entry_at(dir, &block, from, end)?;
                if let Some(entry) = entry.filter(|entry| entry.name == name) {
                    return Ok(Some(entry.inode));
                }
                from = next;
            }
            return Ok(None);
        }
        let mut at = self.index_leaf(dir, &runs, hash)?;
        // A hash may go on in the next leaf; no more leaves than blocks.
        let leaves = runs.iter().map(|run| run.len).sum::<u64>();
        for _ in 0..leaves {
            let Some(place) = at else { return Ok(None) };
            let leaf = self.index_block(dir, &runs, place)?;
            let (header, count) = (INDEX_HEADERS[self.version()], self.entries_of(&leaf));
            let room = (leaf.len() - header) / 8;
            let (magic, version) = (be16(&leaf, 8), self.version());
            if magic != LEAF_1[version] && magic != LEAF_N[version] || count > room {
                return Err(broken(dir, format!("index block at {place}: magic {magic:#x}, {count} entries")));
            }
            let key = |i: usize| be32(&leaf, header + i * 8);
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = (low + high) / 2;
                if key(middle) < hash { low = middle + 1 } else { high = middle }
            }
            while low < count && key(low) == hash {
                let address = u64::from(be32(&leaf, header + low * 8 + 4)) * 8;
                low += 1;
                if address == 0 {
                    continue;
                }
                let step = self.superblock.dir_block as u64;
                let (block, end) = self.data_block(dir, &runs, address / step * step)?;
                let inside = (address % step) as usize;
                if inside < DATA_HEADERS[version] || inside >= end {
                    return Err(broken(dir, format!("its index names byte {address}")));
                }
                if let (Some(entry), _) = self.entry_at(dir, &block, inside, end)?
                    && entry.name == name
                {
                    return Ok(Some(entry.inode));
                }
            }
            let next = be32(&leaf, 0);
            at = (low == count && magic == LEAF_N[version] && next != 0)
                .then(|| u64::from(next) * self.superblock.block as u64);
        }
        Err(broken(dir, "the leaves of its index go round in a circle"))
    }

    fn entries_of(&self, index: &[u8]) -> usize {
        be16(index, if self.superblock.has_sums() { 56 } else { 12 }).into()
    }

    /// A block of the index, its checksum checked.
    fn index_block(&self, dir: &Inode, runs: &[Run], at: u64) -> Result<Vec<u8>> {
        let block = self.dir_block(runs, at)?;
        self.check_sum(&block, INDEX_SUM, dir.number, self.place_in(runs, at))
            .map_err(|what| broken(dir, format!("index block at {at}: {what}")))?;
        Ok(block)
    }

    /// The first leaf that may have a hash; `None` if it is past all of them.
    fn index_leaf(&self, dir: &Inode, runs: &[Run], hash: u32) -> Result<Option<u64>> {
        let (version, mut at) = (self.version(), INDEX);
        for _ in 0..=DEEPEST {
            let block = self.index_block(dir, runs, at)?;
            if be16(&block, 8) != NODE[version] {
                return Ok(Some(at));
            }
            let (header, count) = (INDEX_HEADERS[version], self.entries_of(&block));
            if count > (block.len() - header) / 8 {
                return Err(broken(dir, format!("index node at {at}: {count} entries")));
            }
            let Some(i) = (0..count).find(|i| be32(&block, header + i * 8) >= hash) else { return Ok(None) };
            at = u64::from(be32(&block, header + i * 8 + 4)) * self.superblock.block as u64;
            if at < INDEX {
                return Err(broken(dir, format!("its index names block {at} of names")));
            }
        }
        Err(broken(dir, "its index is too deep"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn hashes() {
        assert_eq!([super::hash(b""), super::hash(b"."), super::hash(b"..")], [0, 0x2e, 0x172e]);
        assert_eq!(super::hash(b"abcd"), 0x61 << 21 ^ 0x62 << 14 ^ 0x63 << 7 ^ 0x64);
    }
}
