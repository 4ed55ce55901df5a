//! What fast commits amount to: their records are gathered by inode, names are changed as they come, and in the end each inode
//! is written with its map, its blocks are marked as used, and its space is counted.
//!
//! Records say what a node became, not how, so that the order of records of different nodes does not matter for maps: all
//! old blocks are given back first, then all new ones are taken. A block that is taken twice is damage, and nothing is replayed.

use std::collections::BTreeMap;
use std::ops::Range;

use super::fast::{Deed, Record};
use crate::base::bytes::le32;
use crate::base::{Error, Result, Timestamp};
use crate::fs::FileType;
use crate::fs::ext4::Ext4;
use crate::fs::ext4::dirent;
use crate::fs::ext4::extent::Run;
use crate::fs::ext4::inode::{FLAG_EXTENTS, FLAG_INLINE_DATA, Inode, ROOT, Time};
use crate::fs::ext4::map::Map;
use crate::fs::ext4::names::NewEntry;

/// Bytes of an inode in front of `i_block`, and those behind it.
const BEFORE_MAP: usize = 0x28;
const BEHIND_MAP: usize = 0x64;
/// Bytes that every inode has.
const CORE: usize = 128;

/// An inode that records speak of.
struct Draft {
    inode: Inode,
    /// Whether it is in the file system: it was, or is a directory that was made by a record.
    stored: bool,
    /// What it had on disk.
    old: Map,
    /// What it has now, by file block.
    runs: BTreeMap<u64, Run>,
    /// Whether a record changed the map.
    remapped: bool,
    /// Number of names; of a directory without those of the directories below.
    names: i64,
}

impl Draft {
    /// Takes blocks `from..to` of the file out of the map.
    fn cut(&mut self, from: u64, to: u64) {
        self.remapped = true;
        let first = self.runs.range(..from).next_back().filter(|(_, run)| run.end() > from).map(|(key, _)| *key);
        let keys: Vec<u64> = first.into_iter().chain(self.runs.range(from..to).map(|(key, _)| *key)).collect();
        for key in keys {
            let Some(run) = self.runs.remove(&key) else { continue };
            for part in [run.clip(0, from), run.clip(to, u64::MAX)].into_iter().flatten() {
                self.runs.insert(part.logical, part);
            }
        }
    }
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("ext4: fast commit: {what}"))
}

impl Ext4 {
    /// Makes the file system what the records say. On an error the device has to be taken anew.
    pub(super) fn apply_fast(&mut self, records: Vec<Record>) -> Result<()> {
        if self.geometry.ratio() > 1 {
            return Err(Error::unsupported("ext4: fast commits on a file system with bigalloc are not replayed"));
        }
        self.load_zones()?;
        let held = self.hold_new_blocks(&records)?;
        let mut drafts = BTreeMap::new();
        for record in records {
            match record {
                Record::Inode { number, bytes } => {
                    let draft = self.draft(&mut drafts, number)?;
                    if draft.stored && draft.names <= 0 {
                        // Deleted, and used again for another node.
                        self.remove_stored(number)?;
                        drafts.remove(&number);
                    }
                    let draft = self.draft(&mut drafts, number)?;
                    take_inode(draft, &bytes)?;
                    if draft.stored && draft.inode.is_dir() {
                        self.put_attributes(draft)?;
                    }
                }
                Record::Add { inode, run } => {
                    let draft = self.draft(&mut drafts, inode)?;
                    draft.cut(run.logical, run.end());
                    draft.runs.insert(run.logical, run);
                }
                Record::Cut { inode, from, to } => self.draft(&mut drafts, inode)?.cut(from, to),
                Record::Name { deed, parent, inode, name } => {
                    self.draft(&mut drafts, inode)?;
                    self.apply_name(&mut drafts, deed, parent, inode, &name)?;
                }
            }
        }
        held.into_iter().try_for_each(|run| self.release(run.start, run.end - run.start))?;
        self.store_drafts(drafts)
    }

    /// Marks the free blocks that files are about to get as used, so that directories do not grow into them meanwhile.
    fn hold_new_blocks(&mut self, records: &[Record]) -> Result<Vec<Range<u64>>> {
        let mut runs = Vec::new();
        for record in records {
            if let Record::Add { inode, run } = record {
                self.check_run(&self.blank(*inode), run)?;
                runs.push(run.physical..run.behind());
            }
        }
        runs.sort_unstable_by_key(|run| run.start);
        let mut held = Vec::new();
        let mut from = 0;
        for run in runs {
            let run = run.start.max(from)..run.end;
            from = from.max(run.end);
            if !run.is_empty() {
                held.extend(self.claim_free(run)?);
            }
        }
        Ok(held)
    }

    /// Removes a node that lost its last name.
    fn remove_stored(&mut self, number: u32) -> Result<()> {
        let mut inode = self.inode(number)?;
        if inode.is_dir() && !self.is_empty_dir(&inode)? {
            return Err(bad(format!("directory inode {number} is removed and not empty")));
        }
        self.now = inode.time(Time::Change).unwrap_or_default();
        self.remove_node(&mut inode)
    }

    /// The draft of an inode, made from what is on disk.
    fn draft<'a>(&self, drafts: &'a mut BTreeMap<u32, Draft>, number: u32) -> Result<&'a mut Draft> {
        if number < self.geometry.first_inode || number > self.geometry.inodes {
            return Err(bad(format!("inode {number} is none of files")));
        }
        let draft = match drafts.remove(&number) {
            Some(draft) => draft,
            None => {
                let stored = self.inode_is_used(number)?;
                let inode = if stored { self.inode(number)? } else { self.blank(number) };
                let old = if self.has_map(&inode) { self.map(&inode)? } else { Map::default() };
                let runs = old.runs.iter().map(|run| (run.logical, *run)).collect();
                let names = match inode.file_type() {
                    Some(FileType::Directory) => 1,
                    Some(_) => i64::from(inode.links()),
                    None => 0,
                };
                Draft { inode, stored, old, runs, remapped: false, names }
            }
        };
        Ok(drafts.entry(number).or_insert(draft))
    }

    fn blank(&self, number: u32) -> Inode {
        Inode::new(number, &vec![0; self.geometry.inode_size])
    }

    fn has_map(&self, inode: &Inode) -> bool {
        match inode.file_type() {
            Some(FileType::Regular | FileType::Directory) => !inode.has(FLAG_INLINE_DATA),
            Some(FileType::Symlink) => !self.is_fast_link(inode),
            _ => false,
        }
    }

    /// Gives a directory that is stored the attributes of its draft; its map and names stay.
    fn put_attributes(&mut self, draft: &Draft) -> Result<()> {
        let mut dir = self.inode(draft.inode.number())?;
        dir.set_mode(draft.inode.mode());
        dir.set_uid(draft.inode.uid());
        dir.set_gid(draft.inode.gid());
        for which in [Time::Access, Time::Modify, Time::Change] {
            dir.set_time(which, draft.inode.time(which).unwrap_or_default());
        }
        self.put_inode(&dir)
    }

    /// A directory that a record names as parent.
    fn parent(&self, number: u32) -> Result<Inode> {
        let known = number == ROOT || number >= self.geometry.first_inode && number <= self.geometry.inodes;
        if !known || !self.inode_is_used(number)? {
            return Err(bad(format!("directory inode {number} is not there")));
        }
        let dir = self.inode(number)?;
        self.check_dir(&dir).map_err(|_| bad(format!("inode {number} is no directory")))?;
        Ok(dir)
    }

    fn apply_name(
        &mut self,
        drafts: &mut BTreeMap<u32, Draft>,
        deed: Deed,
        parent: u32,
        number: u32,
        name: &[u8],
    ) -> Result<()> {
        let draft = self.draft(drafts, number)?;
        let Some(file_type) = draft.inode.file_type() else {
            return Err(bad(format!("a name for inode {number}, which is nothing")));
        };
        let is_dir = file_type == FileType::Directory;
        let mut dir = self.parent(parent)?;
        // Records do not have a directory's times: those of the node are the best that is known.
        self.now = draft.inode.time(Time::Change).unwrap_or_default();
        let found = self.find(&dir, name)?;
        let same = found.as_ref().is_some_and(|place| place.inode == number);
        match deed {
            Deed::Unlink => {
                let Some(place) = found.filter(|_| same) else { return Ok(()) };
                draft.names -= 1;
                let times = [Time::Modify, Time::Change].map(|which| (which, dir.time(which)));
                self.remove_entry(&mut dir, &place)?;
                for (which, time) in times {
                    dir.set_time(which, time.unwrap_or_default().max(self.now));
                }
                if is_dir {
                    dir.set_links(if dir.links() > 2 { dir.links() - 1 } else { dir.links() });
                }
            }
            _ if same => {}
            _ if found.is_some() => return Err(bad(format!("a name of inode {number} in {parent} is taken"))),
            Deed::Create | Deed::Link => {
                super::super::guard::check_name(name).map_err(|_| bad("a name that cannot be"))?;
                if is_dir && !draft.stored {
                    self.make_dir(draft, parent)?;
                } else if is_dir {
                    let mut own = self.inode(number)?;
                    self.set_parent(&mut own, parent)?;
                    self.put_inode(&own)?;
                }
                draft.names = if deed == Deed::Create { 1 } else { draft.names + 1 };
                self.add_entry(&mut dir, &NewEntry { name, inode: number, kind: dirent::kind_of(file_type) })?;
                if is_dir {
                    self.add_subdir(&mut dir)?;
                }
            }
        }
        self.put_inode(&dir)
    }

    /// Puts a new directory into the file system, with `.` and `..`.
    fn make_dir(&mut self, draft: &mut Draft, parent: u32) -> Result<()> {
        self.claim_inode(draft.inode.number(), true)?;
        let mut dir = draft.inode.clone();
        dir.set_links(2);
        dir.set_size(0);
        dir.set_flags(dir.flags() & !(FLAG_INLINE_DATA | super::super::inode::FLAG_INDEX));
        self.init_map(&mut dir);
        self.init_dir(&mut dir, parent)?;
        self.put_inode(&dir)?;
        draft.stored = true;
        Ok(())
    }

    /// Writes the gathered inodes.
    fn store_drafts(&mut self, drafts: BTreeMap<u32, Draft>) -> Result<()> {
        let mut live = Vec::new();
        for (number, draft) in drafts {
            if draft.names > 0 && draft.inode.file_type().is_some() {
                live.push(draft);
            } else if draft.stored {
                self.remove_stored(number)?;
            }
        }
        // The maps of directories were changed when their names were.
        live.retain(|draft| !draft.inode.is_dir());
        for draft in live.iter().filter(|draft| draft.remapped) {
            if !draft.inode.has(FLAG_EXTENTS) || draft.stored && !self.had_extents(draft)? {
                let number = draft.inode.number();
                return Err(Error::unsupported(format!(
                    "ext4: fast commit: blocks of inode {number}, which has no extents"
                )));
            }
            draft.old.runs.iter().try_for_each(|run| self.release(run.physical, run.len.into()))?;
        }
        for draft in live.iter().filter(|draft| draft.remapped) {
            draft.runs.values().try_for_each(|run| self.claim_blocks(run.physical, run.len.into()))?;
        }
        for draft in &mut live {
            self.store_draft(draft)?;
        }
        self.now = Timestamp::default();
        Ok(())
    }

    /// Whether an inode on disk has its blocks in extents, or no blocks at all.
    fn had_extents(&self, draft: &Draft) -> Result<bool> {
        Ok(draft.old == Map::default() || self.inode(draft.inode.number())?.has(FLAG_EXTENTS))
    }

    fn store_draft(&mut self, draft: &mut Draft) -> Result<()> {
        let inode = &mut draft.inode;
        if !draft.stored {
            self.claim_inode(inode.number(), false)?;
        }
        inode.set_links(u16::try_from(draft.names).map_err(|_| bad("a node with too many names"))?);
        if inode.has(FLAG_EXTENTS) {
            let mut map = Map { runs: draft.runs.values().copied().collect(), nodes: draft.old.nodes.clone() };
            self.store_map(inode, &mut map)?;
        }
        self.put_inode(inode)
    }
}

/// Gives a draft the inode of a record.
fn take_inode(draft: &mut Draft, bytes: &[u8]) -> Result<()> {
    let number = draft.inode.number();
    if bytes.len() < CORE || bytes.len() > draft.inode.bytes().len() {
        return Err(bad(format!("inode {number} has {} bytes", bytes.len())));
    }
    let new = Inode::new(number, bytes);
    let Some(file_type) = new.file_type() else {
        return Err(bad(format!("inode {number} has mode {:#o}", new.mode())));
    };
    let was = draft.inode.file_type();
    if was.is_some_and(|was| was != file_type) && draft.names > 0 {
        return Err(bad(format!("inode {number} becomes another kind of node while it has a name")));
    }
    if new.xattr_block() != draft.inode.xattr_block() {
        return Err(Error::unsupported(format!("ext4: fast commit: inode {number} has another attribute block")));
    }
    let flags = le32(bytes, 0x20);
    let is_dir = file_type == FileType::Directory;
    // The map of extents is made anew from the records, a list of blocks stays; links, devices and inline data are in the area.
    let keeps_map =
        flags & FLAG_EXTENTS != 0 || file_type == FileType::Regular && flags & FLAG_INLINE_DATA == 0 || is_dir;
    let old = draft.inode.bytes_mut();
    old[..BEFORE_MAP].copy_from_slice(&bytes[..BEFORE_MAP]);
    if !keeps_map {
        old[BEFORE_MAP..BEHIND_MAP].copy_from_slice(&bytes[BEFORE_MAP..BEHIND_MAP]);
    }
    old[BEHIND_MAP..bytes.len()].copy_from_slice(&bytes[BEHIND_MAP..]);
    if flags & FLAG_EXTENTS == 0 && !keeps_map {
        draft.runs.clear();
    }
    if !is_dir {
        draft.names = new.links().into();
    }
    Ok(())
}
