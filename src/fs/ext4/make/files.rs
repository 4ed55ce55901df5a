//! The files that a new file system begins with: root, `lost+found`, the resize inode, journal, quota and orphan file.

use std::ops::Range;

use super::layout::{FIRST_INODE, extra_size};
use super::{Builder, JOURNAL_INODE};
use crate::base::bytes::put_le32;
use crate::base::{Error, Kind, Result};
use crate::fs::FileType;
use crate::fs::ext4::inode::{FLAG_EXTENTS, FLAG_IMMUTABLE, Inode, ROOT, Time};
use crate::fs::ext4::journal::JournalSuper;
use crate::fs::ext4::{checksum, dirent, extent, mmp, quota};

/// The inodes of what users and groups use.
const USER_QUOTA_INODE: u32 = 3;
const GROUP_QUOTA_INODE: u32 = 4;
/// The inode that holds the blocks reserved for growth.
const RESIZE_INODE: u32 = 7;
/// `i_block` index of the double indirect block.
const DOUBLE: usize = 13;
/// Blocks that an inode maps directly.
const DIRECT: u64 = 12;

/// A map of blocks: the fifteen words of `i_block`, and the indirect blocks with their words.
struct BlockMap {
    root: [u32; 15],
    indirect: Vec<(u64, Vec<u32>)>,
}

impl Builder<'_> {
    /// Makes all of them. The order decides where they lie; it is mke2fs's.
    pub fn files(&mut self) -> Result<()> {
        let root = self.directory(ROOT, 0o755, 3, 1)?;
        let lost_found = self.directory(FIRST_INODE, 0o700, 2, self.layout.lost_found_blocks())?;
        self.root_names(root)?;
        self.lost_found_names(&lost_found)?;
        if self.features.has("resize_inode") {
            self.resize_inode()?;
        }
        if let Some(blocks) = self.journal {
            self.journal(blocks)?;
        }
        if self.features.has("mmp") {
            let block = self.take_block(self.layout.first)?;
            let seed = self.features.has("metadata_csum").then_some(self.seed);
            self.write_block(block, &mmp::clean(self.layout.block_size as usize, self.options.now, seed))?;
            self.guard = Some(block);
        }
        self.quota_files()?;
        if let Some(number) = self.orphan_inode() {
            self.orphan_file(number)?;
        }
        Ok(())
    }

    /// An inode with the times, size and space of a file of whole blocks.
    fn inode(&mut self, number: u32, mode: u16, links: u16, size: u64) -> &mut Inode {
        let (now, extra) = (self.options.now, extra_size(self.layout.inode_size));
        let inode = &mut self.inodes[number as usize - 1];
        inode.set_extra_size(extra);
        inode.set_mode(mode);
        inode.set_links(links);
        inode.set_size(size);
        for time in [Time::Access, Time::Change, Time::Modify, Time::Create] {
            inode.set_time(time, now);
        }
        inode
    }

    fn directory(&mut self, number: u32, mode: u16, links: u16, blocks: u64) -> Result<Vec<u64>> {
        let mode = FileType::Directory.mode_bits() as u16 | mode;
        self.inode(number, mode, links, blocks * self.layout.block_size);
        let runs = self.map_file(number, self.layout.first, blocks)?;
        Ok(runs.into_iter().flatten().collect())
    }

    /// A regular file of the system's own: mode 0600.
    fn system_file(&mut self, number: u32, size: u64) {
        self.inode(number, FileType::Regular.mode_bits() as u16 | 0o600, 1, size);
    }

    /// Allocates `count` blocks from `goal` on and maps them; the inode has its size already.
    fn map_file(&mut self, number: u32, goal: u64, count: u64) -> Result<Vec<Range<u64>>> {
        if self.features.has("extent") {
            return self.map_extents(number, goal, count);
        }
        let mut data = Vec::new();
        let map = self.block_map(count, &mut data)?;
        for (block, words) in &map.indirect {
            self.write_words(*block, words)?;
        }
        self.set_block_map(number, &map.root, count + map.indirect.len() as u64)?;
        let mut runs: Vec<Range<u64>> = Vec::new();
        for block in data {
            match runs.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        Ok(runs)
    }

    fn map_extents(&mut self, number: u32, goal: u64, count: u64) -> Result<Vec<Range<u64>>> {
        let runs = self.take_runs(goal, count)?;
        let mut entries = Vec::new();
        let mut logical = 0;
        for run in &runs {
            let mut physical = run.start;
            while physical < run.end {
                let len = (run.end - physical).min(u64::from(extent::MAX_LEN)) as u32;
                entries.push(extent::Run { logical, len, physical, unwritten: false });
                logical += u64::from(len);
                physical += u64::from(len);
            }
        }
        let (block_size, seed) = (self.layout.block_size, self.seed);
        let (cluster, whole) = (self.layout.cluster, self.layout.whole(count));
        let leaf = if entries.len() > extent::ROOT_ENTRIES { Some(self.take_block(goal)?) } else { None };
        let inode = &mut self.inodes[number as usize - 1];
        inode.set_flags(inode.flags() | FLAG_EXTENTS);
        inode.set_sectors((whole + leaf.map_or(0, |_| cluster)) * (block_size / 512), block_size, true)?;
        let area = inode.area_mut();
        let Some(leaf) = leaf else {
            extent::put_header(area, entries.len() as u16, extent::ROOT_ENTRIES as u16, 0);
            entries.iter().enumerate().for_each(|(i, run)| extent::put_run(area, i, run));
            return Ok(runs);
        };
        extent::put_header(area, 1, extent::ROOT_ENTRIES as u16, 1);
        extent::put_child(area, 0, 0, leaf);
        let mut block = vec![0; block_size as usize];
        let room = (block.len() - 12) / 12;
        if entries.len() > room {
            return Err(Error::new(Kind::NoSpace, "the free space is in too many pieces for the journal"));
        }
        extent::put_header(&mut block, entries.len() as u16, room as u16, 0);
        entries.iter().enumerate().for_each(|(i, run)| extent::put_run(&mut block, i, run));
        if self.features.has("metadata_csum") {
            checksum::stamp_extent(checksum::inode_seed(seed, number, 0), &mut block);
        }
        self.write_block(leaf, &block)?;
        Ok(runs)
    }

    /// Maps `count` blocks by indirect blocks, each of which lies in front of what it maps.
    fn block_map(&mut self, count: u64, data: &mut Vec<u64>) -> Result<BlockMap> {
        let mut map = BlockMap { root: [0; 15], indirect: Vec::new() };
        for slot in 0..map.root.len() {
            let left = count - data.len() as u64;
            if left == 0 {
                break;
            }
            let depth = (slot as u64).saturating_sub(DIRECT - 1) as u32;
            map.root[slot] = self.map_below(depth, left, data, &mut map.indirect)?;
        }
        Ok(map)
    }

    /// A block of the map, `depth` levels above the data, for at most `left` blocks of data.
    fn map_below(
        &mut self,
        depth: u32,
        left: u64,
        data: &mut Vec<u64>,
        indirect: &mut Vec<(u64, Vec<u32>)>,
    ) -> Result<u32> {
        let block = self.take_block(self.layout.first)?;
        if depth == 0 {
            data.push(block);
            return Ok(block as u32);
        }
        let before = data.len() as u64;
        let mut words = Vec::new();
        while (words.len() as u64) < self.layout.block_size / 4 && (data.len() as u64) < before + left {
            let rest = before + left - data.len() as u64;
            words.push(self.map_below(depth - 1, rest, data, indirect)?);
        }
        indirect.push((block, words));
        Ok(block as u32)
    }

    /// Every block counts as its cluster: only the resize inode has a map where there are any, and mke2fs counts it so.
    fn set_block_map(&mut self, number: u32, root: &[u32], blocks: u64) -> Result<()> {
        let (block_size, cluster) = (self.layout.block_size, self.layout.cluster);
        let inode = &mut self.inodes[number as usize - 1];
        inode.set_sectors(blocks * cluster * (block_size / 512), block_size, false)?;
        root.iter().enumerate().for_each(|(i, word)| put_le32(inode.area_mut(), 4 * i, *word));
        Ok(())
    }

    fn write_words(&self, block: u64, words: &[u32]) -> Result<()> {
        let mut bytes = vec![0; self.layout.block_size as usize];
        words.iter().enumerate().for_each(|(i, word)| put_le32(&mut bytes, 4 * i, *word));
        self.write_block(block, &bytes)
    }

    /// Bytes of a directory block that entries may cover.
    fn leaf_room(&self) -> usize {
        self.layout.block_size as usize - if self.features.has("metadata_csum") { checksum::LEAF_TAIL } else { 0 }
    }

    fn write_leaf(&self, directory: u32, at: u64, mut block: Vec<u8>) -> Result<()> {
        if self.features.has("metadata_csum") {
            checksum::stamp_leaf(checksum::inode_seed(self.seed, directory, 0), &mut block);
        }
        self.write_block(at, &block)
    }

    /// The type byte of a directory, if entries have one.
    fn kind(&self) -> u8 {
        if self.features.has("filetype") { dirent::kind_of(FileType::Directory) } else { 0 }
    }

    fn root_names(&self, blocks: Vec<u64>) -> Result<()> {
        let (room, kind) = (self.leaf_room(), self.kind());
        for at in blocks {
            let mut block = vec![0; self.layout.block_size as usize];
            dirent::put(&mut block, 0, 12, ROOT, kind, b".");
            dirent::put(&mut block, 12, 12, ROOT, kind, b"..");
            dirent::put(&mut block, 24, room - 24, FIRST_INODE, kind, b"lost+found");
            self.write_leaf(ROOT, at, block)?;
        }
        Ok(())
    }

    /// Only the first block has names; the others wait for e2fsck, which must not need to allocate.
    fn lost_found_names(&self, blocks: &[u64]) -> Result<()> {
        let (room, kind) = (self.leaf_room(), self.kind());
        for (i, at) in blocks.iter().enumerate() {
            let mut block = vec![0; self.layout.block_size as usize];
            if i == 0 {
                dirent::put(&mut block, 0, 12, FIRST_INODE, kind, b".");
                dirent::put(&mut block, 12, room - 12, ROOT, kind, b"..");
            } else {
                dirent::put(&mut block, 0, room, 0, 0, b"");
            }
            self.write_leaf(FIRST_INODE, *at, block)?;
        }
        Ok(())
    }

    /// The resize inode maps every block reserved for descriptors: its double indirect block lists those of the
    /// first group, and each of these lists its twins in the groups with copies (observed in mke2fs's images).
    fn resize_inode(&mut self) -> Result<()> {
        let layout = self.layout.clone();
        let words = layout.block_size / 4;
        let copies: Vec<u64> = (1..layout.groups).filter(|g| layout.has_super(*g)).map(u64::from).collect();
        let double = self.take_block(layout.first)?;
        let mut list = vec![0; words as usize];
        for i in 0..layout.reserved_gdt {
            let block = layout.descriptors_at(0) + layout.desc_blocks + i;
            list[((layout.desc_blocks + i) % words) as usize] = block as u32;
            let twins: Vec<u32> = copies.iter().map(|group| (block + group * layout.blocks_per_group) as u32).collect();
            self.write_words(block, &twins)?;
        }
        self.write_words(double, &list)?;
        self.system_file(RESIZE_INODE, (DIRECT + words + words * words) * layout.block_size);
        let mut root = [0; 15];
        root[DOUBLE] = double as u32;
        self.set_block_map(RESIZE_INODE, &root, 1 + layout.reserved_gdt * (1 + copies.len() as u64))
    }

    /// An empty journal: its superblock, then zeros.
    fn journal(&mut self, blocks: u64) -> Result<()> {
        let block_size = self.layout.block_size;
        let extents = self.features.has("extent");
        let goal = if extents { self.layout.journal_goal(&self.space) } else { self.layout.first };
        self.system_file(JOURNAL_INODE, blocks * block_size);
        let runs = self.map_file(JOURNAL_INODE, goal, blocks)?;
        for run in &runs {
            self.device.zero(run.start * block_size..run.end * block_size)?;
        }
        let head = JournalSuper::empty(block_size as u32, blocks as u32, 1, self.options.uuid, 1);
        match runs.first() {
            Some(run) => self.device.write_at(run.start * block_size, &head),
            None => Ok(()),
        }
    }

    /// Inodes of the files of what users, groups and projects use; 0 for those that are not there.
    pub fn quota_inodes(&self) -> [u32; 3] {
        let projects = if self.features.quota_of_projects() { FIRST_INODE + 1 } else { 0 };
        if self.features.has("quota") { [USER_QUOTA_INODE, GROUP_QUOTA_INODE, projects] } else { [0; 3] }
    }

    /// The inode of the orphan file, if there is one: the last.
    pub fn orphan_inode(&self) -> Option<u32> {
        self.features.has("orphan_file").then_some(self.inodes.len() as u32)
    }

    /// Files of what users, groups and projects use: all that is there belongs to root.
    fn quota_files(&mut self) -> Result<()> {
        let block_size = self.layout.block_size;
        let counted = [ROOT, FIRST_INODE].map(|number| self.inodes[number as usize - 1].sectors(block_size) * 512);
        for (kind, number) in self.quota_inodes().into_iter().enumerate().filter(|(_, number)| *number != 0) {
            let bytes = quota::first_file(kind, counted.len() as u64, counted.iter().sum());
            self.system_file(number, bytes.len() as u64);
            let inode = &mut self.inodes[number as usize - 1];
            inode.set_flags(inode.flags() | FLAG_IMMUTABLE);
            let blocks = (bytes.len() as u64).div_ceil(block_size);
            let places = self.map_file(number, self.layout.first, blocks)?.into_iter().flatten();
            for (at, part) in places.zip(bytes.chunks(block_size as usize)) {
                let mut block = part.to_vec();
                block.resize(block_size as usize, 0);
                self.write_block(at, &block)?;
            }
        }
        Ok(())
    }

    /// An empty orphan file: blocks of zero words with a magic number and a checksum at the end.
    fn orphan_file(&mut self, number: u32) -> Result<()> {
        let (block_size, blocks) = (self.layout.block_size, self.layout.orphan_blocks());
        self.system_file(number, blocks * block_size);
        let seed = checksum::inode_seed(self.seed, number, 0);
        for at in self.map_file(number, self.layout.first, blocks)?.into_iter().flatten() {
            let mut block = vec![0; block_size as usize];
            let tail = block.len() - 8;
            put_le32(&mut block, tail, 0x0b10_ca04);
            if self.features.has("metadata_csum") {
                let crc = checksum::crc32c(checksum::crc32c(seed, &at.to_le_bytes()), &block[..tail]);
                put_le32(&mut block, tail + 4, crc);
            }
            self.write_block(at, &block)?;
        }
        Ok(())
    }

    /// Takes the first free block (of a cluster) from `goal` on, else the first of all.
    fn take_block(&mut self, goal: u64) -> Result<u64> {
        let (first, end, cluster) = (self.layout.first, self.layout.blocks, self.layout.cluster);
        let found = self.space.first_fit(goal..end, cluster).or_else(|| self.space.first_fit(first..end, cluster));
        found.ok_or_else(|| Error::new(Kind::NoSpace, "the device is too small for this file system"))
    }

    /// Takes `count` blocks in as few runs as lie there, from `goal` on, then from the start.
    fn take_runs(&mut self, goal: u64, count: u64) -> Result<Vec<Range<u64>>> {
        let (first, end) = (self.layout.first, self.layout.blocks);
        let mut left = count;
        let mut runs = Vec::new();
        for run in self.space.free(goal..end).chain(self.space.free(first..goal)) {
            let len = left.min(run.end - run.start);
            runs.push(run.start..run.start + len);
            left -= len;
            if left == 0 {
                break;
            }
        }
        if left > 0 {
            return Err(Error::new(Kind::NoSpace, "the device is too small for this file system")
                .hint("switch the journal off with the feature ^has_journal, or make the device larger"));
        }
        runs.iter().for_each(|run| self.space.take(run.start..run.start + self.layout.whole(run.end - run.start)));
        Ok(runs)
    }

    fn write_block(&self, block: u64, bytes: &[u8]) -> Result<()> {
        self.device.write_at(block * self.layout.block_size, bytes)
    }

    /// The first inodes as the table of group 0 begins with them, up to the last one in use.
    pub fn inode_table(&mut self) -> Vec<u8> {
        let mut table = Vec::new();
        for inode in &mut self.inodes {
            if self.features.has("metadata_csum") {
                let number = inode.number();
                checksum::stamp_inode(self.seed, number, inode.bytes_mut());
            }
            table.extend_from_slice(inode.bytes());
        }
        table
    }

    /// What the superblock remembers of the journal's inode: its map and its size.
    pub fn journal_backup(&self) -> [u8; 68] {
        let mut backup = [0; 68];
        let inode = &self.inodes[JOURNAL_INODE as usize - 1];
        backup[..60].copy_from_slice(inode.area());
        put_le32(&mut backup, 60, (inode.size() >> 32) as u32);
        put_le32(&mut backup, 64, inode.size() as u32);
        backup
    }
}

/// A bitmap of one block with the given runs set, and everything from `len` on.
pub fn bitmap(block_size: u64, len: u64, runs: impl Iterator<Item = Range<u64>>) -> Vec<u8> {
    let mut bytes = vec![0_u8; block_size as usize];
    for run in runs.chain(std::iter::once(len..block_size * 8)) {
        let mut bit = run.start;
        while bit < run.end {
            let at = (bit / 8) as usize;
            if bit % 8 == 0 && run.end - bit >= 8 {
                bytes[at] = 0xff;
                bit += 8;
            } else {
                bytes[at] |= 1 << (bit % 8);
                bit += 1;
            }
        }
    }
    bytes
}
