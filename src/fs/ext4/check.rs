//! A check of what can be checked without another opinion: every inode, map, directory and name, the bitmaps and
//! counts against them. Nothing is written.

use std::collections::HashMap;

use super::Ext4;
use super::alloc::set_bits;
use super::features::{Compat, Incompat};
use super::group::{Group, INODE_UNINIT};
use super::inode::{FLAG_EA_INODE, FLAG_EXTENTS, FLAG_INLINE_DATA, Inode, ROOT};
use crate::base::bytes::u8_at;
use crate::base::{Error, Result};
use crate::fs::FileType;

/// Problems that are listed at most.
const MOST: usize = 50;
/// The inode of the blocks kept for descriptors, which are mapped by rules of their own.
const RESIZE_INODE: u32 = 7;
/// The list of bad blocks.
const BAD_BLOCKS: u32 = 1;

/// What a check has seen so far.
struct Seen {
    problems: Vec<String>,
    /// By group: blocks that something has.
    blocks: Vec<Vec<u8>>,
    /// Attribute blocks, which may be shared.
    shared: HashMap<u64, u32>,
    /// By inode with names: the names that were found, and those that it says it has.
    links: HashMap<u32, (u64, u64, bool)>,
}

impl Seen {
    fn problem(&mut self, text: String) {
        if self.problems.len() < MOST {
            self.problems.push(text);
        }
    }
}

impl Ext4 {
    /// Checks the whole file system; answers what is wrong, at most 50 things. Empty for a clean one.
    ///
    /// # Errors
    /// The device cannot be read; damage is part of the answer.
    pub fn check(&mut self) -> Result<Vec<String>> {
        if let Err(error) = self.load_zones() {
            return Ok(vec![error.to_string()]);
        }
        let mut seen = Seen {
            problems: Vec::new(),
            blocks: vec![vec![0; self.geometry.block_size]; self.geometry.groups as usize],
            shared: HashMap::new(),
            links: HashMap::new(),
        };
        for group in 0..self.geometry.groups {
            let range = self.geometry.group_range(group);
            for zone in self.zones_in(range.clone()) {
                let (from, to) = (zone.start.max(range.start), zone.end.min(range.end));
                set_bits(
                    &mut seen.blocks[group as usize],
                    (from - range.start) as u32..(to - range.start) as u32,
                    true,
                );
            }
        }
        if self.geometry.incompat.has(Incompat::MMP) {
            self.claim(&mut seen, 0, self.superblock.mmp_block(), 1);
        }
        for group in 0..self.geometry.groups {
            if let Err(error) = self.check_inodes(group, &mut seen) {
                seen.problem(error.to_string());
            }
        }
        self.check_links(&mut seen);
        for group in 0..self.geometry.groups {
            if let Err(error) = self.check_group(group, &mut seen) {
                seen.problem(error.to_string());
            }
        }
        self.check_totals(&mut seen)?;
        Ok(seen.problems)
    }

    /// The inodes of a group that are in use.
    fn check_inodes(&self, group: u32, seen: &mut Seen) -> Result<()> {
        let desc = self.group(group)?;
        if self.geometry.has_group_checksums() && Group(&desc).flags() & INODE_UNINIT != 0 {
            return Ok(());
        }
        let per = self.geometry.inodes_per_group;
        let (_, bitmap) = self.bitmap(group, false)?;
        let mut free = 0;
        for index in 0..per {
            let number = group * per + index + 1;
            if u8_at(&bitmap, index as usize / 8) >> (index % 8) & 1 == 0 {
                free += 1;
                continue;
            }
            match self.inode(number).and_then(|inode| self.check_inode(&inode, seen)) {
                Ok(()) => {}
                Err(error) if error.kind() == crate::base::Kind::Io => return Err(error),
                Err(error) => seen.problem(error.to_string()),
            }
        }
        if free != Group(&desc).free_inodes() {
            let says = Group(&desc).free_inodes();
            seen.problem(format!("ext4: group {group}: {free} inodes are free, its descriptor says {says}"));
        }
        Ok(())
    }

    fn claim(&self, seen: &mut Seen, owner: u32, start: u64, len: u64) {
        for block in start..start.saturating_add(len).min(self.geometry.blocks) {
            let (group, bit) = self.geometry.place(block);
            let Some(byte) = seen.blocks.get_mut(group as usize).and_then(|map| map.get_mut(bit as usize / 8)) else {
                continue;
            };
            let mask = 1 << (bit % 8);
            let twice = *byte & mask != 0;
            *byte |= mask;
            if twice {
                seen.problem(format!("ext4: inode {owner}: block {block} belongs to something else too"));
            }
        }
    }

    fn check_inode(&self, inode: &Inode, seen: &mut Seen) -> Result<()> {
        let number = inode.number();
        let has_map = match inode.file_type() {
            Some(FileType::Regular | FileType::Directory) => !inode.has(FLAG_INLINE_DATA),
            Some(FileType::Symlink) => !inode.has(FLAG_INLINE_DATA) && !self.is_fast_link(inode),
            Some(_) => false,
            None => false,
        };
        let mut blocks = self.all_value_clusters(inode)?;
        if inode.xattr_block() != 0 {
            blocks += 1;
            self.attributes_outside(inode)?;
            let uses = seen.shared.entry(inode.xattr_block()).or_insert(0);
            *uses += 1;
            if *uses == 1 {
                self.claim(seen, number, inode.xattr_block(), 1);
            }
        }
        self.attributes_inside(inode)?;
        if number == RESIZE_INODE && !inode.has(FLAG_EXTENTS) {
            // Its blocks are those kept behind the descriptors, and one that lists them.
            let double = crate::base::bytes::le32(inode.area(), 13 * 4);
            if double != 0 {
                self.claim(seen, number, double.into(), 1);
            }
            return Ok(());
        }
        if has_map || number == BAD_BLOCKS && inode.sectors(self.geometry.bs()) > 0 {
            let map = self.map(inode)?;
            blocks += map.clusters(1) + map.nodes.len() as u64;
            map.nodes.iter().for_each(|node| self.claim(seen, number, *node, 1));
            map.runs.iter().for_each(|run| self.claim(seen, number, run.physical, run.len.into()));
            let end = map.runs.last().map_or(0, |run| if run.unwritten { 0 } else { run.end() });
            if end.saturating_sub(1).saturating_mul(self.geometry.bs()) >= inode.size() && end > 0 {
                seen.problem(format!("ext4: inode {number}: blocks past its size of {} bytes", inode.size()));
            }
        }
        let sectors = blocks * (self.geometry.bs() / 512);
        if inode.sectors(self.geometry.bs()) != sectors {
            let says = inode.sectors(self.geometry.bs());
            seen.problem(format!("ext4: inode {number}: i_blocks is {says}, its blocks are {sectors} sectors"));
        }
        let orphans = self.superblock.compat().has(Compat::ORPHAN_FILE) && number == self.superblock.orphan_file();
        let named = !orphans && !inode.has(FLAG_EA_INODE);
        if (number >= self.geometry.first_inode || number == ROOT) && named {
            let entry = seen.links.entry(number).or_default();
            entry.1 = inode.links().into();
            entry.2 = inode.is_dir();
        }
        if inode.is_dir() {
            self.check_names(inode, seen)?;
        }
        Ok(())
    }

    /// The names of a directory: each once, each of an inode that is there.
    fn check_names(&self, dir: &Inode, seen: &mut Seen) -> Result<()> {
        seen.links.entry(dir.number()).or_default().0 += 1;
        if !dir.has(FLAG_INLINE_DATA) {
            seen.links.entry(self.parent_of(dir)?).or_default().0 += 1;
        }
        let mut names = std::collections::HashSet::new();
        for entry in self.list_dir(dir)? {
            let number = entry.node.0 as u32;
            let known = self.geometry.inode_place(number).is_ok() && self.inode_is_used(number)?;
            if !known {
                seen.problem(format!(
                    "ext4: directory inode {}: {} is inode {number}, which is free",
                    dir.number(),
                    entry.name
                ));
                continue;
            }
            let inode = self.inode(number)?;
            if entry.file_type.is_some() && entry.file_type != inode.file_type() {
                seen.problem(format!(
                    "ext4: directory inode {}: {} has another type than its inode",
                    dir.number(),
                    entry.name
                ));
            }
            if self.find(dir, &entry.name)?.is_none_or(|place| place.inode != number) {
                seen.problem(format!(
                    "ext4: directory inode {}: {} is not found by its hash",
                    dir.number(),
                    entry.name
                ));
            }
            if !inode.is_dir() {
                seen.links.entry(number).or_default().0 += 1;
            } else if self.parent_of(&inode)? != dir.number() {
                seen.problem(format!("ext4: directory inode {number}: '..' is not the directory that has it"));
            } else {
                seen.links.entry(number).or_default().0 += 1;
            }
            if !names.insert(entry.name.0) {
                seen.problem(format!("ext4: directory inode {}: a name twice", dir.number()));
            }
        }
        Ok(())
    }

    fn check_links(&self, seen: &mut Seen) {
        let mut links: Vec<_> = seen.links.iter().map(|(number, links)| (*number, *links)).collect();
        links.sort_unstable();
        for (number, (found, says, is_dir)) in links {
            // A directory with very many others in it says 1.
            if found != says && !(is_dir && says == 1) && says != 0 {
                seen.problem(format!("ext4: inode {number}: links count is {says}, {found} names were found"));
            }
            // A directory counts itself, so one that nobody names has one name less than it needs.
            if says > 0 && found <= u64::from(is_dir) && number != ROOT {
                seen.problem(format!("ext4: inode {number}: in use, but in no directory"));
            }
        }
    }

    /// The block bitmap of a group and its counts.
    fn check_group(&self, group: u32, seen: &mut Seen) -> Result<()> {
        let range = self.geometry.group_range(group);
        let usage = self.usage(group)?;
        let mut free = 0;
        for bit in 0..(range.end - range.start) as u32 {
            let of = |map: &[u8]| u8_at(map, bit as usize / 8) >> (bit % 8) & 1 == 1;
            let block = range.start + u64::from(bit);
            match (of(&usage), of(&seen.blocks[group as usize])) {
                (true, false) => {
                    seen.problem(format!("ext4: group {group}: block {block} is marked used, nothing has it"))
                }
                (false, true) => seen.problem(format!("ext4: group {group}: block {block} is in use but marked free")),
                _ => {}
            }
            free += u32::from(!of(&usage));
        }
        let says = Group(&self.group(group)?).free_blocks();
        if says != free {
            seen.problem(format!("ext4: group {group}: {free} blocks are free, its descriptor says {says}"));
        }
        Ok(())
    }

    /// The superblock's counts are the sums of the groups'.
    fn check_totals(&self, seen: &mut Seen) -> Result<()> {
        let (mut blocks, mut inodes) = (0, 0);
        for group in 0..self.geometry.groups {
            let desc = self.group(group)?;
            blocks += u64::from(Group(&desc).free_blocks());
            inodes += u64::from(Group(&desc).free_inodes());
        }
        let says = (self.superblock.free_blocks(), u64::from(self.superblock.free_inodes()));
        if says != (blocks, inodes) {
            seen.problem(format!(
                "ext4: superblock: free blocks and inodes are {says:?}, those of the groups {:?}",
                (blocks, inodes)
            ));
        }
        Ok(())
    }

    /// What a check needs before it can be made: no clusters, whose shared blocks are counted otherwise.
    pub fn check_is_possible(&self) -> Result<()> {
        if self.geometry.ro_compat.has(super::features::RoCompat::BIGALLOC) {
            return Err(Error::unsupported("ext4: feature 'bigalloc' (ro_compat 0x200) cannot be checked yet"));
        }
        Ok(())
    }
}
