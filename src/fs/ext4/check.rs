//! A check of what can be checked without another opinion: every inode, map, directory and name, the bitmaps and
//! counts against them. Nothing is written; [`super::mend`] mends what a finding says enough about.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Ext4;
use super::alloc::{bit_is_set, set_bits};
use super::features::{Compat, Incompat};
use super::group::{Group, INODE_UNINIT};
use super::inode::{FLAG_EA_INODE, FLAG_EXTENTS, FLAG_INLINE_DATA, Inode, ROOT};
use super::map::Map;
use crate::base::bytes::le32;
use crate::base::{Kind, Result};
use crate::fs::FileType;

/// Problems that are listed at most.
const MOST: usize = 50;
/// The inode of the blocks kept for descriptors, which are mapped by rules of their own.
const RESIZE_INODE: u32 = 7;
/// The list of bad blocks.
const BAD_BLOCKS: u32 = 1;
/// `h_refcount` of a block of attributes: how many inodes share it.
pub(super) const SHARED_BY: usize = 4;

/// A name of a directory.
pub(super) type Named = (u32, Vec<u8>);

/// What a check found.
#[derive(Default)]
pub(super) struct Findings {
    /// What is wrong, for people; at most 50 things.
    pub problems: Vec<String>,
    /// The first of them that nothing below mends.
    pub hopeless: Option<String>,
    /// Inodes with a wrong `i_blocks`, and the sectors that they have.
    pub sectors: Vec<(u32, u64)>,
    /// Inodes with a wrong count of names, and the names that they have.
    pub links: Vec<(u32, u16)>,
    /// Inodes in use that bear a time of deletion, and deleted ones (`false`) that bear none.
    pub deletions: Vec<(u32, bool)>,
    /// Names of inodes that are not in use.
    pub dead_names: Vec<Named>,
    /// Names that say another type than their inode.
    pub mistyped: Vec<Named>,
    /// Inodes in use that are in no directory.
    pub unattached: Vec<u32>,
    /// Attribute blocks with a wrong count of inodes that share them, and the right one.
    pub shared: Vec<(u64, u32)>,
    /// Groups whose bitmaps or counts are wrong.
    pub groups: BTreeSet<u32>,
    /// By group: clusters that something has, a bit each.
    pub blocks: Vec<Vec<u8>>,
    /// By group: inodes that are in use, a bit each.
    pub inodes: Vec<Vec<u8>>,
    /// By group: directories.
    pub directories: Vec<u32>,
}

/// What a check has seen so far.
struct Seen {
    found: Findings,
    /// Attribute blocks, which may be shared, with the number of inodes that have them.
    shared: HashMap<u64, u32>,
    /// By inode with names: the names that were found, and those that it says it has.
    links: HashMap<u32, (u64, u64, bool)>,
    directories: Vec<u32>,
    /// By directory: the one that has it.
    parents: HashMap<u32, u32>,
}

impl Findings {
    /// Something that can be mended.
    fn mendable(&mut self, text: String) {
        if self.problems.len() < MOST {
            self.problems.push(text);
        }
    }

    /// Something that cannot.
    fn hopeless(&mut self, text: String) {
        self.hopeless.get_or_insert_with(|| text.clone());
        self.mendable(text);
    }

    /// Something that is wrong with the bitmaps or counts of a group.
    fn wrong_group(&mut self, group: u32, what: &str) {
        self.mendable(format!("ext4: group {group}: {what}"));
        self.groups.insert(group);
    }

    /// Takes note of the damage that ended a part of the check; a device that cannot be read ends all of it.
    fn note(&mut self, checked: Result<()>) -> Result<()> {
        match checked {
            Err(error) if error.kind() == Kind::Io => Err(error),
            Err(error) => {
                self.hopeless(error.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Ext4 {
    /// Checks the whole file system; answers what is wrong, at most 50 things. Empty for a clean one.
    ///
    /// # Errors
    /// The device cannot be read; damage is part of the answer.
    pub fn check(&mut self) -> Result<Vec<String>> {
        Ok(self.examine()?.problems)
    }

    /// Whether a check finds what [`Ext4::mend`] refuses.
    ///
    /// # Errors
    /// The device cannot be read.
    pub fn is_hopeless(&mut self) -> Result<bool> {
        Ok(self.examine()?.hopeless.is_some())
    }

    /// See [`Ext4::check`].
    pub(super) fn examine(&mut self) -> Result<Findings> {
        let groups = self.geometry.groups as usize;
        let mut found = Findings::default();
        if let Err(error) = self.load_zones() {
            found.hopeless(error.to_string());
            return Ok(found);
        }
        let block = vec![0; self.geometry.block_size];
        found.blocks = (0..self.geometry.groups).map(|group| self.zone_bits(group)).collect();
        (found.inodes, found.directories) = (vec![block; groups], vec![0; groups]);
        let (shared, links, parents) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut seen = Seen { found, shared, links, directories: Vec::new(), parents };
        if self.geometry.incompat.has(Incompat::MMP) {
            self.claim(&mut seen, 0, self.superblock.mmp_block(), 1);
        }
        for group in 0..self.geometry.groups {
            let checked = self.check_inodes(group, &mut seen);
            seen.found.note(checked)?;
        }
        for number in std::mem::take(&mut seen.directories) {
            let checked = self.inode(number).and_then(|dir| self.check_names(&dir, &mut seen));
            seen.found.note(checked)?;
        }
        self.check_shared(&mut seen)?;
        self.check_links(&mut seen);
        self.check_reach(&mut seen);
        for group in 0..self.geometry.groups {
            let checked = self.check_group(group, &mut seen);
            seen.found.note(checked)?;
        }
        self.check_totals(&mut seen)?;
        Ok(seen.found)
    }

    /// How many inodes of a group may have been used, by its descriptor.
    fn inodes_to_look_at(&self, group: u32) -> Result<u32> {
        let desc = self.group(group)?;
        let all = self.geometry.inodes_per_group;
        if !self.geometry.has_group_checksums() {
            return Ok(all);
        }
        let unused = if Group(&desc).flags() & INODE_UNINIT != 0 { all } else { Group(&desc).itable_unused() };
        Ok(all.saturating_sub(unused))
    }

    /// Whether a node is there although the descriptor of its group says that none is so far behind.
    fn is_behind_used(&self, number: u32) -> bool {
        let Ok((group, index)) = self.geometry.inode_place(number) else { return false };
        self.inodes_to_look_at(group).is_ok_and(|end| index >= end)
            && self.raw_inode(number).is_ok_and(|inode| inode.links() > 0)
    }

    /// The inodes of a group that are in use, whatever the bitmap says.
    fn check_inodes(&self, group: u32, seen: &mut Seen) -> Result<()> {
        for index in 0..self.inodes_to_look_at(group)? {
            let number = group * self.geometry.inodes_per_group + index + 1;
            let raw = self.raw_inode(number)?;
            let reserved = number < self.geometry.first_inode;
            if raw.links() == 0 && !reserved {
                if raw.dtime() == 0 && raw.mode() != 0 {
                    seen.found.mendable(format!("ext4: inode {number}: deleted, without a time of deletion"));
                    seen.found.deletions.push((number, false));
                }
                continue;
            }
            set_bits(&mut seen.found.inodes[group as usize], index..index + 1, true);
            let checked = self.inode(number).and_then(|inode| self.check_inode(&inode, seen));
            seen.found.note(checked)?;
        }
        if group == 0 {
            set_bits(&mut seen.found.inodes[0], 0..self.geometry.first_inode.saturating_sub(1), true);
        }
        Ok(())
    }

    /// Takes note of blocks that something has.
    fn claim(&self, seen: &mut Seen, owner: u32, start: u64, len: u64) {
        let ratio = self.geometry.ratio();
        let mut at = start;
        while at < start.saturating_add(len).min(self.geometry.blocks) {
            let (group, index) = self.geometry.bit_place(at);
            let block = at;
            at = self.geometry.bit_block(group, index).saturating_add(ratio);
            let Some(map) = seen.found.blocks.get_mut(group as usize) else { continue };
            if bit_is_set(map, index) {
                seen.found.hopeless(format!("ext4: inode {owner}: block {block} belongs to something else too"));
            } else {
                set_bits(map, index..index + 1, true);
            }
        }
    }

    /// Takes note of the clusters of a map; neighbours in the file share theirs.
    fn claim_map(&self, seen: &mut Seen, owner: u32, map: &Map) {
        let ratio = self.geometry.ratio();
        map.nodes.iter().for_each(|node| self.claim(seen, owner, *node, 1));
        let mut next = 0;
        for run in &map.runs {
            let (first, end) = ((run.logical / ratio).max(next), run.end().div_ceil(ratio));
            let skipped = (first * ratio).saturating_sub(run.logical);
            let len = u64::from(run.len).saturating_sub(skipped);
            self.claim(seen, owner, run.physical + skipped, len);
            next = next.max(end);
        }
    }

    fn check_inode(&self, inode: &Inode, seen: &mut Seen) -> Result<()> {
        let number = inode.number();
        let has_map = match inode.file_type() {
            Some(FileType::Regular | FileType::Directory) => !inode.has(FLAG_INLINE_DATA),
            Some(FileType::Symlink) => !inode.has(FLAG_INLINE_DATA) && !self.is_fast_link(inode),
            Some(_) | None => false,
        };
        let mut clusters = self.all_value_clusters(inode)?;
        if inode.xattr_block() != 0 {
            clusters += 1;
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
            let double = le32(inode.area(), 13 * 4);
            if double != 0 {
                self.claim(seen, number, double.into(), 1);
            }
            return Ok(());
        }
        let bs = self.geometry.bs();
        if has_map || number == BAD_BLOCKS && inode.sectors(bs) > 0 {
            let map = self.map(inode)?;
            clusters += map.clusters(self.geometry.ratio()) + map.nodes.len() as u64;
            self.claim_map(seen, number, &map);
            let end = map.runs.last().map_or(0, |run| if run.unwritten { 0 } else { run.end() });
            if end.saturating_sub(1).saturating_mul(bs) >= inode.size() && end > 0 {
                seen.found.hopeless(format!("ext4: inode {number}: blocks past its size of {} bytes", inode.size()));
            }
        }
        let (says, sectors) = (inode.sectors(bs), clusters * self.geometry.ratio() * (bs / 512));
        if says != sectors {
            seen.found.mendable(format!("ext4: inode {number}: i_blocks is {says}, its blocks are {sectors} sectors"));
            seen.found.sectors.push((number, sectors));
        }
        let of_the_system = self.superblock.quota_files().contains(&number)
            || self.superblock.compat().has(Compat::ORPHAN_FILE) && number == self.superblock.orphan_file();
        if (number < self.geometry.first_inode && number != ROOT) || of_the_system || inode.has(FLAG_EA_INODE) {
            return Ok(());
        }
        if inode.dtime() != 0 {
            seen.found.mendable(format!("ext4: inode {number}: in use, with a time of deletion"));
            seen.found.deletions.push((number, true));
        }
        if inode.file_type().is_none() {
            seen.found.hopeless(format!("ext4: inode {number}: in use, with mode {:#o}", inode.mode()));
        }
        let entry = seen.links.entry(number).or_default();
        (entry.1, entry.2) = (inode.links().into(), inode.is_dir());
        if inode.is_dir() {
            seen.directories.push(number);
            let (group, _) = self.geometry.inode_place(number)?;
            seen.found.directories[group as usize] += 1;
        }
        Ok(())
    }

    /// Whether an inode was found to be in use.
    fn is_alive(&self, seen: &Seen, number: u32) -> bool {
        let Ok((group, index)) = self.geometry.inode_place(number) else { return false };
        (number == ROOT || number >= self.geometry.first_inode)
            && seen.found.inodes.get(group as usize).is_some_and(|map| bit_is_set(map, index))
    }

    /// The names of a directory: each once, each of an inode that is there.
    fn check_names(&self, dir: &Inode, seen: &mut Seen) -> Result<()> {
        let owner = dir.number();
        seen.links.entry(owner).or_default().0 += 1;
        seen.links.entry(self.parent_of(dir)?).or_default().0 += 1;
        let mut names = HashSet::new();
        for entry in self.list_dir(dir)? {
            let number = entry.node.0 as u32;
            if !self.is_alive(seen, number) {
                // After a crash without a journal the file may be there, and the descriptor may be the one that is behind.
                if self.is_behind_used(number) {
                    seen.found.hopeless(format!(
                        "ext4: directory inode {owner}: {} is inode {number}, behind the used ones of its group",
                        entry.name
                    ));
                    continue;
                }
                seen.found.mendable(format!(
                    "ext4: directory inode {owner}: {} is inode {number}, which is free",
                    entry.name
                ));
                seen.found.dead_names.push((owner, entry.name.0));
                continue;
            }
            let inode = self.inode(number)?;
            if entry.file_type.is_some() && entry.file_type != inode.file_type() {
                seen.found
                    .mendable(format!("ext4: directory inode {owner}: {} has another type than its inode", entry.name));
                seen.found.mistyped.push((owner, entry.name.0.clone()));
            }
            if self.find(dir, &entry.name)?.is_none_or(|place| place.inode != number) {
                seen.found.hopeless(format!("ext4: directory inode {owner}: {} is not found by its hash", entry.name));
            }
            if inode.is_dir() && self.parent_of(&inode)? != owner {
                seen.found.hopeless(format!("ext4: directory inode {number}: '..' is not the directory that has it"));
            } else {
                seen.links.entry(number).or_default().0 += 1;
            }
            if inode.is_dir() && seen.parents.insert(number, owner).is_some() {
                seen.found.hopeless(format!("ext4: directory inode {number}: in two directories"));
            }
            if !names.insert(entry.name.0) {
                seen.found.hopeless(format!("ext4: directory inode {owner}: a name twice"));
            }
        }
        Ok(())
    }

    /// How many inodes share each block of attributes.
    fn check_shared(&self, seen: &mut Seen) -> Result<()> {
        let mut shared: Vec<(u64, u32)> = seen.shared.iter().map(|(block, uses)| (*block, *uses)).collect();
        shared.sort_unstable();
        for (block, uses) in shared {
            let says = le32(&self.block(block, super::cache::Role::Attributes)?, SHARED_BY);
            if says != uses {
                seen.found
                    .mendable(format!("ext4: attribute block {block}: its count of users is {says}, it has {uses}"));
                seen.found.shared.push((block, uses));
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
                seen.found.mendable(format!("ext4: inode {number}: links count is {says}, {found} names were found"));
                match u16::try_from(found) {
                    Ok(found) => seen.found.links.push((number, found)),
                    Err(_) => seen.found.hopeless(format!("ext4: inode {number}: {found} names")),
                }
            }
            // A directory counts itself, so one that nobody names has one name less than it needs.
            if says > 0
                && number != ROOT
                && (found <= u64::from(is_dir) || is_dir && !seen.parents.contains_key(&number))
            {
                seen.found.mendable(format!("ext4: inode {number}: in use, but in no directory"));
                seen.found.unattached.push(number);
            }
        }
    }

    /// Whether all directories lie below the root, or below one that is in no directory.
    fn check_reach(&self, seen: &mut Seen) {
        let mut good = HashSet::new();
        let directories: Vec<u32> = seen.parents.keys().copied().collect();
        for start in directories {
            let mut way = Vec::new();
            let mut at = start;
            while let Some(parent) = seen.parents.get(&at).filter(|_| at != ROOT && !good.contains(&at)) {
                way.push(at);
                at = *parent;
                if way.len() > seen.parents.len() {
                    seen.found.hopeless(format!("ext4: directory inode {start}: it lies in a circle of directories"));
                    break;
                }
            }
            good.extend(way);
        }
    }

    /// The bitmaps of a group and its counts.
    fn check_group(&self, group: u32, seen: &mut Seen) -> Result<()> {
        let place = group as usize;
        let usage = self.usage(group)?;
        let mut free = 0;
        for index in 0..self.geometry.group_bits(group) {
            let block = self.geometry.bit_block(group, index);
            match (bit_is_set(&usage, index), bit_is_set(&seen.found.blocks[place], index)) {
                (true, false) => {
                    seen.found.wrong_group(group, &format!("block {block} is marked used, nothing has it"));
                }
                (false, true) => seen.found.wrong_group(group, &format!("block {block} is in use but marked free")),
                _ => {}
            }
            free += u32::from(!bit_is_set(&usage, index));
        }
        let desc = self.group(group)?;
        let desc = Group(&desc);
        let per = self.geometry.inodes_per_group;
        let bare = self.geometry.has_group_checksums() && desc.flags() & INODE_UNINIT != 0;
        let bitmap = if bare { Default::default() } else { self.bitmap(group, false)?.1 };
        let mut free_inodes = 0;
        for index in 0..per {
            let number = group * per + index + 1;
            match (bit_is_set(&bitmap, index), bit_is_set(&seen.found.inodes[place], index)) {
                (true, false) => {
                    seen.found.wrong_group(group, &format!("inode {number} is marked used, but it is free"))
                }
                (false, true) => seen.found.wrong_group(group, &format!("inode {number} is in use but marked free")),
                _ => {}
            }
            free_inodes += u32::from(!bit_is_set(&bitmap, index));
        }
        let counts = [
            ("blocks are free", free, desc.free_blocks()),
            ("inodes are free", free_inodes, desc.free_inodes()),
            ("directories are there", seen.found.directories[place], desc.used_dirs()),
        ];
        for (what, count, says) in counts {
            if count != says {
                seen.found.wrong_group(group, &format!("{count} {what}, its descriptor says {says}"));
            }
        }
        Ok(())
    }

    /// The superblock's counts are the sums of the groups'.
    fn check_totals(&self, seen: &mut Seen) -> Result<()> {
        let (mut blocks, mut inodes) = (0, 0);
        for group in 0..self.geometry.groups {
            let desc = self.group(group)?;
            blocks += u64::from(Group(&desc).free_blocks()) * self.geometry.ratio();
            inodes += u64::from(Group(&desc).free_inodes());
        }
        let says = (self.superblock.free_blocks(), u64::from(self.superblock.free_inodes()));
        if says != (blocks, inodes) {
            let sums = (blocks, inodes);
            seen.found.mendable(format!(
                "ext4: superblock: free blocks and inodes are {says:?}, those of the groups {sums:?}"
            ));
        }
        Ok(())
    }
}
