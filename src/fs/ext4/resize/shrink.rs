//! Fewer blocks: what lies past the new end moves in front of it, inodes of groups that go get other numbers.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::Ext4;
use super::super::alloc::{bit_is_set, set_bits};
use super::super::cache::Role;
use super::super::copies;
use super::super::extent::Run;
use super::super::features::{Compat, Incompat};
use super::super::geometry::Geometry;
use super::super::group::{Group, GroupMut};
use super::super::inode::{FLAG_EXTENTS, FLAG_INLINE_DATA, Inode};
use super::super::map::Map;
use super::BATCH;
use super::resize_inode::{DOUBLE, RESIZE_INODE};
use crate::base::bytes::{le32, put_le32};
use crate::base::{Error, Kind, Result};
use crate::fs::{Edit, FileSystem, FileType};

/// Bytes that are copied at once.
const COPY: u64 = 1 << 20;

/// What is left: all from the new end on, and the place of a copy of the superblock.
struct Leave {
    end: u64,
    copy: Range<u64>,
}

impl Leave {
    /// Whether a block can stay.
    fn keeps(&self, block: u64) -> bool {
        block < self.end && !self.copy.contains(&block)
    }

    /// How many of `len` blocks from `start` on can stay, up to the first that cannot.
    fn stays(&self, start: u64, len: u64) -> u64 {
        let stop = if start < self.copy.end && !self.copy.is_empty() { self.copy.start } else { self.end };
        stop.saturating_sub(start).min(len)
    }

    /// The pieces of a run that stay or go as a whole.
    fn pieces(&self, run: Run) -> Vec<Run> {
        let mut cuts = [self.copy.start, self.copy.end, self.end].map(|block| block.saturating_sub(run.physical));
        cuts.sort_unstable();
        let ends = cuts.iter().map(|cut| run.logical + *cut).filter(|end| *end < run.end()).chain([run.end()]);
        let mut from = run.logical;
        ends.filter_map(|to| run.clip(std::mem::replace(&mut from, to), to)).collect()
    }
}

impl Ext4 {
    /// Shrinks to `blocks` blocks.
    pub(super) fn shrink(&mut self, blocks: u64) -> Result<()> {
        if self.superblock.compat().has(Compat::STABLE_INODES) {
            return Err(Error::unsupported("ext4: feature 'stable_inodes' (compat 0x800) forbids moving inodes"));
        }
        let (least, bs) = (self.minimum_blocks()?, self.geometry.bs());
        if blocks < least {
            let detail = format!("{} bytes are too few for what is in it", blocks * bs);
            return Err(Error::new(Kind::NoSpace, detail).hint(format!("it needs {} bytes", least * bs)));
        }
        let (mut sb, mut new) = self.resized(blocks, None)?;
        let ends = self.metadata_ends()?;
        let end = ends.get(new.groups as usize - 1).copied().unwrap_or(0);
        if blocks < end {
            let detail = format!("metadata of the groups that stay lies up to block {end}");
            return Err(Error::new(Kind::NoSpace, detail).hint(format!("choose {} bytes or more", end * new.bs())));
        }
        self.allocator.set_limit(Some(blocks));
        let mut leave = Leave { end: blocks, copy: self.place_of_copy(&new) };
        if self.is_fixed(&new, &leave.copy)? {
            // One copy fewer: its place in the new last group is taken by what does not move.
            leave.copy = 0..0;
            let backups = sb.backup_groups().map(|group| if group == new.groups - 1 { 0 } else { group });
            (sb, new) = self.resized(blocks, Some(backups))?;
        }
        let moved = self.move_inodes(&new)?;
        self.point_to_moved(&moved)?;
        self.sync()?;
        self.drop_groups(&new)?;
        self.claim_free(leave.copy.clone())?;
        self.sync()?;
        self.move_blocks(&new, &leave)?;
        self.move_mmp(&leave)?;
        self.move_resize_map(&leave)?;
        self.drop_heads(&new)?;
        self.sync()?;
        self.cut(blocks, sb.backup_groups())?;
        self.begin_edit()?;
        self.write_resize_inode()
    }

    /// The blocks at the start of the new last group that a copy of the superblock, which follows it there under sparse_super2,
    /// takes.
    fn place_of_copy(&self, new: &Geometry) -> Range<u64> {
        let last = new.groups - 1;
        let start = new.group_start(last);
        let from = start + self.geometry.head_blocks(last);
        from..(start + new.head_blocks(last)).max(from)
    }

    /// Whether metadata of groups that stay, or the map of the resize inode, lies in a range, or the new end does.
    fn is_fixed(&self, new: &Geometry, range: &Range<u64>) -> Result<bool> {
        if range.is_empty() {
            return Ok(false);
        }
        let meets = |start: u64, len: u64| start < range.end && range.start < start.saturating_add(len);
        let mut fixed = range.end > new.blocks;
        if self.geometry.compat.has(Compat::RESIZE_INODE) {
            fixed |= meets(u64::from(le32(self.inode(RESIZE_INODE)?.area(), DOUBLE)), 1);
        }
        for group in 0..new.groups {
            let desc = self.group(group)?;
            let desc = Group(&desc);
            fixed |= meets(desc.block_bitmap(), 1) || meets(desc.inode_bitmap(), 1);
            fixed |= meets(desc.inode_table(), new.table_blocks());
        }
        Ok(fixed)
    }

    /// Frees what stood at the start of groups that stay and no longer does: descriptors of groups that go, copies of the
    /// superblock.
    fn drop_heads(&mut self, new: &Geometry) -> Result<()> {
        for group in 0..new.groups {
            let start = new.group_start(group);
            let gone = start + new.head_blocks(group)..start + self.geometry.head_blocks(group);
            if !gone.is_empty() {
                self.free_metadata(gone)?;
            }
        }
        Ok(())
    }

    /// Frees blocks of fixed metadata.
    fn free_metadata(&mut self, gone: Range<u64>) -> Result<()> {
        let mut at = gone.start;
        while at < gone.end {
            let (group, first) = self.geometry.place(at);
            let stop = self.geometry.group_range(group).end.min(gone.end);
            self.init_block_bitmap(group)?;
            let (number, _) = self.bitmap(group, true)?;
            let bits = first..first + (stop - at) as u32;
            set_bits(self.block_mut(number, Role::BlockBitmap(group))?, bits, false);
            self.count_blocks(group, (stop - at) as i64)?;
            self.touch_blocks(at, stop - at);
            at = stop;
        }
        Ok(())
    }

    /// Moves the block that guards against two mounts to where it can stay.
    fn move_mmp(&mut self, leave: &Leave) -> Result<()> {
        let number = self.superblock.mmp_block();
        if !self.geometry.incompat.has(Incompat::MMP) || leave.keeps(number) {
            return Ok(());
        }
        let bytes = self.block(number, Role::Plain)?;
        let to = self.allocate(self.geometry.first_block, 1)?.start;
        self.block_new(to, Role::Plain)?.copy_from_slice(&bytes);
        self.vacate(number, 1);
        self.superblock.set_mmp_block(to);
        self.superblock_changed = true;
        Ok(())
    }

    /// Finds another place for the resize inode's double indirect block; `write_resize_inode` fills it.
    fn move_resize_map(&mut self, leave: &Leave) -> Result<()> {
        if !self.geometry.compat.has(Compat::RESIZE_INODE) {
            return Ok(());
        }
        let mut inode = self.inode(RESIZE_INODE)?;
        let number = u64::from(le32(inode.area(), DOUBLE));
        if leave.keeps(number) {
            return Ok(());
        }
        let to = self.allocate(self.geometry.first_block, 1)?.start;
        self.vacate(number, 1);
        put_le32(inode.area_mut(), DOUBLE, to as u32);
        self.put_inode(&inode)
    }

    /// Moves the blocks of all inodes that lie where nothing can stay.
    fn move_blocks(&mut self, new: &Geometry, leave: &Leave) -> Result<()> {
        let mut shared = BTreeMap::new();
        for (count, number) in (1..).zip(self.used_inodes(0, new.groups)?) {
            let inode = self.inode(number)?;
            if number != RESIZE_INODE && inode.file_type().is_some() {
                self.move_blocks_of(inode, leave, &mut shared).map_err(|error| match error.kind() {
                    Kind::NoSpace => Error::new(Kind::NoSpace, "the content does not fit, its pieces need more space")
                        .hint("choose a larger size"),
                    _ => error,
                })?;
            }
            if u32::is_multiple_of(count, BATCH) {
                self.write_back()?;
            }
        }
        Ok(())
    }

    /// The same of one inode; `shared` holds attribute blocks that were moved for others.
    fn move_blocks_of(&mut self, mut inode: Inode, leave: &Leave, shared: &mut BTreeMap<u64, u64>) -> Result<()> {
        let before = inode.clone();
        let attributes = inode.xattr_block();
        if !leave.keeps(attributes) {
            let to = match shared.get(&attributes) {
                Some(to) => *to,
                None => {
                    let bytes = self.block(attributes, Role::Attributes)?;
                    let to = self.allocate(self.home_of(&inode), 1)?.start;
                    self.block_new(to, Role::Attributes)?.copy_from_slice(&bytes);
                    self.vacate(attributes, 1);
                    shared.insert(attributes, to);
                    to
                }
            };
            inode.set_xattr_block(to);
        }
        let mapped = match inode.file_type() {
            Some(FileType::Regular | FileType::Directory) => !inode.has(FLAG_INLINE_DATA),
            Some(FileType::Symlink) => !inode.has(FLAG_INLINE_DATA) && !self.is_fast_link(&before),
            _ => false,
        };
        let mut relocated = false;
        if mapped {
            let mut map = self.map(&before)?;
            let goes = |run: &Run| leave.stays(run.physical, run.len.into()) < run.len.into();
            if map.runs.iter().any(goes) || map.nodes.iter().any(|node| !leave.keeps(*node)) {
                self.move_runs(&inode, &mut map, leave)?;
                if !inode.has(FLAG_EXTENTS) {
                    // A block list is made anew: its pointer blocks stay where the inode says they are.
                    inode.area_mut().fill(0);
                    for node in std::mem::take(&mut map.nodes).into_iter().filter(|node| leave.keeps(*node)) {
                        self.release(node, 1)?;
                    }
                }
                self.store_map(&mut inode, &mut map)?;
                relocated = true;
            }
        }
        if inode != before {
            self.put_inode(&inode)?;
        }
        if relocated && inode.number() == self.superblock.journal_inode() {
            self.superblock.set_journal_backup(&inode);
            self.superblock_changed = true;
        }
        if relocated
            && self.superblock.compat().has(Compat::ORPHAN_FILE)
            && inode.number() == self.superblock.orphan_file()
        {
            self.sync()?;
            self.restamp_orphan_file(self.geometry.seed)?;
        }
        Ok(())
    }

    /// Finds other places for the runs and nodes of a map that cannot stay, and copies what is in them.
    fn move_runs(&mut self, inode: &Inode, map: &mut Map, leave: &Leave) -> Result<()> {
        let mut runs = Vec::with_capacity(map.runs.len());
        let mut freed = Vec::new();
        let mut goal = self.home_of(inode);
        for run in std::mem::take(&mut map.runs).into_iter().flat_map(|run| leave.pieces(run)) {
            if leave.keeps(run.physical) {
                runs.push(run);
                continue;
            }
            let mut rest = run;
            freed.push((rest.physical, u64::from(rest.len)));
            while rest.len > 0 {
                let grant = self.allocate(goal, rest.len)?;
                if !rest.unwritten {
                    self.copy_blocks(rest.physical, grant.start, grant.len.into())?;
                }
                runs.push(Run { physical: grant.start, len: grant.len, ..rest });
                rest.logical += u64::from(grant.len);
                rest.physical += u64::from(grant.len);
                rest.len -= grant.len;
                goal = grant.start + u64::from(grant.len);
            }
        }
        map.runs = runs;
        for node in map.nodes.iter_mut().filter(|node| !leave.keeps(**node)) {
            freed.push((*node, 1));
            if inode.has(FLAG_EXTENTS) {
                *node = self.allocate(goal, 1)?.start;
            }
        }
        freed.into_iter().for_each(|(start, len)| self.vacate(start, len));
        Ok(())
    }

    /// Blocks that were left are no longer their owner's. Their bits stay set: past the new end the bitmaps go too, or a copy of
    /// the superblock comes there. Until the commit nobody may write there.
    fn vacate(&mut self, start: u64, len: u64) {
        self.forget(start, len);
        self.touch_blocks(start, len);
    }

    /// Copies blocks on the device. Nothing of them waits in the cache: it was written before.
    fn copy_blocks(&mut self, from: u64, to: u64, len: u64) -> Result<()> {
        let bs = self.geometry.bs();
        let mut buffer = vec![0; COPY.min(len * bs) as usize];
        let mut done = 0;
        while done < len * bs {
            let part = &mut buffer[..(len * bs - done).min(COPY) as usize];
            self.base.read_at(from * bs + done, part)?;
            self.base.write_at(to * bs + done, part)?;
            done += part.len() as u64;
        }
        Ok(())
    }

    /// Frees the blocks in front of the new end that hold metadata of groups that go.
    fn drop_groups(&mut self, new: &Geometry) -> Result<()> {
        let table = new.table_blocks();
        for group in new.groups..self.geometry.groups {
            let desc = self.group(group)?;
            let desc = Group(&desc);
            for (start, len) in [(desc.block_bitmap(), 1), (desc.inode_bitmap(), 1), (desc.inode_table(), table)] {
                self.free_metadata(start..(start + len).min(new.blocks))?;
                self.allocator.remove_zone(start..start + len);
                self.forget(start, len);
            }
        }
        self.init_block_bitmap(new.groups - 1)
    }

    /// Writes superblock, descriptors and the last bitmap for the new number of blocks.
    fn cut(&mut self, blocks: u64, backups: [u32; 2]) -> Result<()> {
        let (mut sb, new) = self.resized(blocks, Some(backups))?;
        let mut descs = self.descriptors(&new)?;
        let last = new.groups - 1;
        let (old_range, range) = (self.geometry.group_range(last), new.group_range(last));
        let (number, bitmap) = self.bitmap(last, true)?;
        let mut bitmap = bitmap.to_vec();
        let bit = |block: u64| (block - range.start) as u32;
        // Blocks past the end that were free counted; those that were vacated did not.
        let freed = (bit(range.end)..bit(old_range.end)).filter(|bit| !bit_is_set(&bitmap, *bit)).count() as u32;
        set_bits(&mut bitmap, bit(range.end)..new.block_size as u32 * 8, true);
        let desc = &mut descs[last as usize * new.desc_size..][..new.desc_size];
        let free = Group(desc).free_blocks().checked_sub(freed);
        let free =
            free.ok_or_else(|| Error::corrupt(format!("ext4: group {last}: its count of free blocks is wrong")))?;
        GroupMut(desc).set_free_blocks(free);
        self.put_bitmap(&new, last, number, &bitmap, desc, true)?;
        let uuid = sb.uuid().0;
        let (mut free_blocks, mut free_inodes) = (0, 0);
        for (group, desc) in (0..new.groups).zip(descs.chunks_exact_mut(new.desc_size)) {
            free_blocks += u64::from(Group(desc).free_blocks());
            free_inodes = u32::saturating_add(free_inodes, Group(desc).free_inodes());
            copies::stamp_descriptor(&new, &uuid, group, desc);
        }
        sb.set_free_blocks(free_blocks);
        sb.set_free_inodes(free_inodes);
        copies::write_descriptors(self.base.as_ref(), &new, &descs)?;
        copies::write_superblocks(self.base.as_ref(), &new, &sb)?;
        self.allocator.set_limit(None);
        self.allocator.end_fresh(blocks);
        self.reload()
    }

    /// The fewest blocks that the file system can be shrunk to: room for all content and inodes, for the trees of files
    /// that must be cut into pieces, and for the metadata of the groups that stay.
    pub(super) fn minimum_blocks(&self) -> Result<u64> {
        let geometry = &self.geometry;
        let ends = self.metadata_ends()?;
        let (mut used, mut inodes) = (0, 0);
        for group in 0..geometry.groups {
            let desc = self.group(group)?;
            let desc = Group(&desc);
            let range = geometry.group_range(group);
            used += (range.end - range.start).saturating_sub(desc.free_blocks().into());
            inodes += u64::from(geometry.inodes_per_group.saturating_sub(desc.free_inodes()));
        }
        let own = |group: u32| geometry.head_blocks(group) + 2 + geometry.table_blocks();
        let metadata: u64 = (0..geometry.groups).map(own).sum();
        let content = used.saturating_sub(metadata);
        let content = content + content / 128 + 64;
        let (mut capacity, mut before) = (0, geometry.first_block);
        for group in 0..geometry.groups {
            let range = geometry.group_range(group);
            let room = (range.end - range.start).saturating_sub(own(group));
            let enough = u64::from(group + 1) * u64::from(geometry.inodes_per_group) >= inodes;
            if enough && capacity + room >= content {
                let needed = before + own(group) + content.saturating_sub(capacity).max(super::LAST_GROUP_ROOM);
                let needed = needed.max(ends.get(group as usize).copied().unwrap_or(0)).min(range.end);
                return Ok(self.useful_at_least(needed).min(geometry.blocks));
            }
            capacity += room;
            before = range.end;
        }
        Ok(geometry.blocks)
    }

    /// By group: the block behind the last metadata of it and of all groups before it.
    fn metadata_ends(&self) -> Result<Vec<u64>> {
        let mut end = 0;
        let mut ends = Vec::new();
        for group in 0..self.geometry.groups {
            let desc = self.group(group)?;
            let desc = Group(&desc);
            let table = desc.inode_table().saturating_add(self.geometry.table_blocks());
            let bitmaps = desc.block_bitmap().max(desc.inode_bitmap()).saturating_add(1);
            end = end.max(bitmaps).max(table);
            ends.push(end);
        }
        Ok(ends)
    }

    /// The smallest useful number of blocks from `blocks` on.
    fn useful_at_least(&self, blocks: u64) -> u64 {
        (blocks..).find(|n| self.useful(*n) == *n).unwrap_or(blocks)
    }

    /// The fewest bytes that [`Ext4::set_size`] can shrink to.
    ///
    /// # Errors
    /// Descriptors that cannot be read.
    pub fn minimum_size(&self) -> Result<u64> {
        Ok(self.minimum_blocks()? * self.geometry.bs())
    }
}
