//! More groups at the end.

use std::ops::Range;

use super::super::Ext4;
use super::super::alloc::set_bits;
use super::super::cache::bitmap_crc;
use super::super::copies;
use super::super::geometry::Geometry;
use super::super::group::{BLOCK_UNINIT, Group, GroupMut, INODE_UNINIT, INODE_ZEROED};
use super::super::make::Space;
use crate::base::{Error, Kind, Result};
use crate::fs::FileSystem;

/// Where the metadata of a new group lies.
#[derive(Clone, Copy)]
struct Places {
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
}

impl Ext4 {
    /// Grows to `blocks` blocks.
    pub(super) fn grow(&mut self, blocks: u64) -> Result<()> {
        let old = self.geometry.clone();
        let (mut sb, new) = self.resized(blocks, None)?;
        let last = old.groups - 1;
        self.init_block_bitmap(last)?;
        let mut space = Space::default();
        for group in old.groups..new.groups {
            let head = new.group_start(group)..new.group_start(group) + new.head_blocks(group);
            if !head.is_empty() {
                space.take(head.clone());
                self.base.zero(head.start * new.bs()..head.end * new.bs())?;
            }
        }
        let places = self.place_groups(&old, &new, &mut space)?;
        let mut descs = self.descriptors(&new)?;
        let mut free_blocks = self.superblock.free_blocks();

        // The last group so far gets longer.
        let (before, after) = (old.group_range(last), new.group_range(last));
        let used: Vec<Range<u64>> = space.used(before.end..after.end).collect();
        let (number, bitmap) = self.bitmap(last, true)?;
        let mut bitmap = bitmap.to_vec();
        let bit = |block: u64| (block - before.start) as u32;
        set_bits(&mut bitmap, bit(before.end)..bit(after.end), false);
        used.iter().for_each(|run| set_bits(&mut bitmap, bit(run.start)..bit(run.end), true));
        let desc = &mut descs[last as usize * new.desc_size..][..new.desc_size];
        // It may lose a copy of the superblock, with the descriptors behind it, to the new last group.
        let lost = before.start + new.head_blocks(last)..before.start + old.head_blocks(last);
        let lost_len = lost.end.saturating_sub(lost.start);
        set_bits(&mut bitmap, bit(lost.start)..bit(lost.start + lost_len), false);
        let gain = after.end - before.end - space.count(before.end..after.end) + lost_len;
        free_blocks = u64::saturating_add(free_blocks, gain);
        desc.copy_from_slice(&self.group(last)?);
        self.touch_blocks(lost.start, lost_len);
        let free = Group(desc).free_blocks().saturating_add(gain as u32);
        if u64::from(free) > after.end - after.start {
            return Err(Error::corrupt(format!("ext4: group {last}: its count of free blocks is wrong")));
        }
        GroupMut(desc).set_free_blocks(free);
        self.put_bitmap(&new, last, number, &bitmap, desc, true)?;

        for (group, place) in (old.groups..new.groups).zip(&places) {
            let desc = &mut descs[group as usize * new.desc_size..][..new.desc_size];
            free_blocks = free_blocks.saturating_add(self.new_group(&new, group, *place, &space, desc)?);
        }
        let uuid = sb.uuid().0;
        for (group, desc) in (0..new.groups).zip(descs.chunks_exact_mut(new.desc_size)) {
            copies::stamp_descriptor(&new, &uuid, group, desc);
        }
        sb.set_free_blocks(free_blocks);
        sb.set_free_inodes(sb.free_inodes().saturating_add((new.groups - old.groups) * new.inodes_per_group));
        copies::write_descriptors(self.base.as_ref(), &new, &descs)?;
        copies::write_superblocks(self.base.as_ref(), &new, &sb)?;
        // What lies there may have been another partition or volume, which the committed state uses.
        self.allocator.end_fresh(old.blocks);
        self.reload()?;
        self.begin_edit()?;
        self.write_resize_inode()
    }

    /// Finds places for the metadata of new groups: side by side in the first new group of a flexible group, or each
    /// in its own.
    fn place_groups(&self, old: &Geometry, new: &Geometry, space: &mut Space) -> Result<Vec<Places>> {
        let flex = new.groups_per_flex(self.superblock.log_groups_per_flex());
        let mut places = Vec::new();
        let mut group = old.groups;
        while group < new.groups {
            let end = (group / flex + 1).saturating_mul(flex).min(new.groups);
            let many = u64::from(end - group);
            let limit = if flex > 1 { new.blocks } else { new.group_range(group).end };
            let near = new.group_start(group)..limit;
            let mut find = |len: u64| -> Result<Vec<u64>> {
                if let Some(start) = space.first_fit(near.clone(), len * many) {
                    return Ok((0..many).map(|i| start + i * len).collect());
                }
                (0..many)
                    .map(|_| {
                        space.first_fit(near.clone(), len).ok_or_else(|| {
                            let detail = format!("ext4: no room for the metadata of group {group}");
                            Error::new(Kind::NoSpace, detail).hint("choose another size")
                        })
                    })
                    .collect()
            };
            let (blocks, inodes, tables) = (find(1)?, find(1)?, find(new.table_blocks())?);
            for i in 0..many as usize {
                places.push(Places { block_bitmap: blocks[i], inode_bitmap: inodes[i], inode_table: tables[i] });
            }
            group = end;
        }
        Ok(places)
    }

    /// Writes bitmaps and table of a new group and fills in its descriptor; answers its free blocks.
    fn new_group(&self, new: &Geometry, group: u32, place: Places, space: &Space, desc: &mut [u8]) -> Result<u64> {
        let (range, bs) = (new.group_range(group), new.bs());
        let (table, per) = (place.inode_table, new.inodes_per_group);
        self.base.zero(table * bs..(table + new.table_blocks()) * bs)?;
        let head = range.start..range.start + new.head_blocks(group);
        let own = [
            head,
            place.block_bitmap..place.block_bitmap + 1,
            place.inode_bitmap..place.inode_bitmap + 1,
            table..table + new.table_blocks(),
        ];
        let own: u64 = own.iter().map(|run| run.end.min(range.end).saturating_sub(run.start.max(range.start))).sum();
        let used = space.count(range.clone());
        let free = range.end - range.start - used;
        let mut flags = INODE_ZEROED;
        if new.has_group_checksums() {
            flags |= INODE_UNINIT;
            if used == own && group + 1 < new.groups {
                flags |= BLOCK_UNINIT;
            }
        }
        let mut to = GroupMut(desc);
        to.set_block_bitmap(place.block_bitmap);
        to.set_inode_bitmap(place.inode_bitmap);
        to.set_inode_table(table);
        to.set_free_blocks(free as u32);
        to.set_free_inodes(per);
        to.set_flags(flags);
        if new.has_group_checksums() {
            to.set_itable_unused(per);
        }
        let bits = new.block_size as u32 * 8;
        if flags & BLOCK_UNINIT == 0 {
            let mut bitmap = vec![0; new.block_size];
            let bit = |block: u64| (block - range.start) as u32;
            space.used(range.clone()).for_each(|run| set_bits(&mut bitmap, bit(run.start)..bit(run.end), true));
            set_bits(&mut bitmap, bit(range.end)..bits, true);
            self.put_bitmap(new, group, place.block_bitmap, &bitmap, desc, true)?;
        }
        if flags & INODE_UNINIT == 0 {
            let mut bitmap = vec![0; new.block_size];
            set_bits(&mut bitmap, per..bits, true);
            self.put_bitmap(new, group, place.inode_bitmap, &bitmap, desc, false)?;
        }
        Ok(free)
    }

    /// Writes a bitmap and puts its checksum into the descriptor.
    pub(super) fn put_bitmap(
        &self,
        geometry: &Geometry,
        group: u32,
        number: u64,
        bitmap: &[u8],
        desc: &mut [u8],
        of_blocks: bool,
    ) -> Result<()> {
        if number <= geometry.first_block || number >= geometry.blocks {
            return Err(Error::corrupt(format!("ext4: group {group}: its bitmap is at block {number}")));
        }
        self.base.write_at(number * geometry.bs(), bitmap)?;
        if geometry.has_checksums() {
            let crc = bitmap_crc(geometry, bitmap, of_blocks);
            let mut desc = GroupMut(desc);
            if of_blocks { desc.set_block_bitmap_checksum(crc) } else { desc.set_inode_bitmap_checksum(crc) }
        }
        Ok(())
    }
}
