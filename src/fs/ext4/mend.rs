//! Mends what a check finds wrong, where what is right follows from the rest: counts, bitmaps, names of nothing, nodes
//! without a name. No byte of a file and no living name is dropped. Everything else is refused, and then nothing is mended.
//!
//! What is done in each case is what `e2fsck -p` does by itself (e2fsck(8); judged by `e2fsck -fn` in tests).

use super::Ext4;
use super::alloc::{bit_is_set, set_bits};
use super::cache::Role;
use super::check::{Findings, Named, SHARED_BY};
use super::edit::kind_byte;
use super::features::{Compat, RoCompat};
use super::group::{BLOCK_UNINIT, Group, INODE_UNINIT};
use super::inode::{ROOT, Time};
use super::names::NewEntry;
use super::superblock::{STATE_ERROR, STATE_VALID};
use crate::base::bytes::put_le32;
use crate::base::{Error, Kind, Result, Timestamp};

/// Checks and mendings in turn: what was mended can bring to light what was hidden behind it.
const ROUNDS: usize = 8;
/// Where nodes without a name go, as `#` and their number.
const LOST_FOUND: &[u8] = b"lost+found";

impl Ext4 {
    /// Checks the file system and mends it; answers what was wrong, at most 50 things a round. A clean one is not written.
    ///
    /// # Errors
    /// `Kind::Corrupt` with the first thing that cannot be mended; what a writer refuses. The caller goes back to what was.
    pub fn mend(&mut self, now: Timestamp) -> Result<Vec<String>> {
        if self.device.read_only() {
            return Err(Kind::ReadOnly.into());
        }
        self.now = now;
        self.begin_mending()?;
        let mut mended = Vec::new();
        for _ in 0..ROUNDS {
            let found = self.examine()?;
            if let Some(hopeless) = found.hopeless {
                return Err(Error::corrupt(hopeless));
            }
            if found.problems.is_empty() {
                self.set_clean(&mut mended)?;
                self.write_through()?;
                return Ok(mended);
            }
            if self.geometry.ro_compat.has(RoCompat::QUOTA) {
                let first = found.problems.first().cloned().unwrap_or_default();
                return Err(Error::unsupported(format!("{first}; with the feature 'quota' it is not mended")));
            }
            // What had to wait for something else is found again.
            let new = found.problems.iter().filter(|problem| !mended.contains(problem)).cloned().collect::<Vec<_>>();
            mended.extend(new);
            self.apply(found)?;
            self.write_through()?;
            self.forget_all();
        }
        Err(Error::corrupt("ext4: it is still damaged after it was mended several times"))
    }

    /// As the beginning of an edit, but a file system that is marked as damaged will do.
    fn begin_mending(&mut self) -> Result<()> {
        if let Some(why) = self.why_unhandled()? {
            return Err(Error::unsupported(format!("ext4: {why}")).hint("nothing was changed"));
        }
        self.replay()?;
        self.load_zones()?;
        self.allocator.mending = true;
        let cleaned = self.clean_orphans();
        self.allocator.mending = false;
        cleaned
    }

    /// Takes away the marks of a damaged file system.
    fn set_clean(&mut self, mended: &mut Vec<String>) -> Result<()> {
        let marked = self.superblock.state() & STATE_VALID == 0
            || self.superblock.state() & STATE_ERROR != 0
            || self.superblock.error_count() != 0;
        if marked {
            mended.push("ext4: superblock: it was marked as not clean".into());
        }
        if marked || !mended.is_empty() {
            self.superblock.set_checked(self.now);
            self.superblock_changed = true;
        }
        if self.superblock.compat().has(Compat::HAS_JOURNAL) && self.clear_journal_error()? {
            mended.push("ext4: journal: it recorded an error (s_errno)".into());
        }
        Ok(())
    }

    fn apply(&mut self, mut found: Findings) -> Result<()> {
        for group in std::mem::take(&mut found.groups) {
            let place = group as usize;
            self.rewrite_group(group, &found.blocks[place], &found.inodes[place], found.directories[place])?;
        }
        self.recount()?;
        self.superblock_changed = true;
        for (number, in_use) in &found.deletions {
            let mut inode = self.raw_inode(*number)?;
            inode.set_dtime(if *in_use { 0 } else { self.deletion_time() });
            self.put_inode(&inode)?;
        }
        let huge = self.geometry.ro_compat.has(RoCompat::HUGE_FILE);
        for (number, sectors) in &found.sectors {
            let mut inode = self.inode(*number)?;
            inode.set_sectors(*sectors, self.geometry.bs(), huge)?;
            self.put_inode(&inode)?;
        }
        for (block, uses) in &found.shared {
            put_le32(self.block_mut(*block, Role::Attributes)?, SHARED_BY, *uses);
        }
        found.dead_names.iter().try_for_each(|name| self.drop_name(name))?;
        found.mistyped.iter().try_for_each(|name| self.retype_name(name))?;
        if found.groups.is_empty() && found.dead_names.is_empty() && found.unattached.is_empty() {
            for (number, links) in &found.links {
                let mut inode = self.inode(*number)?;
                inode.set_links(*links);
                self.put_inode(&inode)?;
            }
        }
        found.unattached.iter().try_for_each(|number| self.attach(*number))
    }

    /// Writes the bitmaps and counts of a group as the check found them.
    fn rewrite_group(&mut self, group: u32, blocks: &[u8], inodes: &[u8], directories: u32) -> Result<()> {
        let block_bits = self.geometry.block_size as u32 * 8;
        let (clusters, per) = (self.geometry.group_bits(group), self.geometry.inodes_per_group);
        let used = |bits: &[u8], end: u32| (0..end).filter(|bit| bit_is_set(bits, *bit)).count();
        let free_blocks = clusters - used(blocks, clusters) as u32;
        let free_inodes = per - used(inodes, per) as u32;
        let desc = self.group(group)?;
        let desc = Group(&desc);
        let mut flags = desc.flags();
        self.block_new(desc.block_bitmap(), Role::BlockBitmap(group))?.copy_from_slice(blocks);
        // A group without inodes may stay as it is: nobody reads the bitmap that it has not.
        if flags & INODE_UNINIT == 0 || free_inodes != per || !self.geometry.has_group_checksums() {
            let bitmap = self.block_new(desc.inode_bitmap(), Role::InodeBitmap(group))?;
            bitmap.copy_from_slice(inodes);
            set_bits(bitmap, per..block_bits, true);
            flags &= !INODE_UNINIT;
        }
        let mut desc = self.group_mut(group)?;
        desc.set_flags(flags & !BLOCK_UNINIT);
        desc.set_free_blocks(free_blocks);
        desc.set_free_inodes(free_inodes);
        desc.set_used_dirs(directories);
        // What was marked free may be in use for the committed state, so it is not written before the commit.
        self.allocator.touch(self.geometry.block_size, group, 0..clusters);
        Ok(())
    }

    /// Takes a name of nothing out of its directory.
    fn drop_name(&mut self, (dir, name): &Named) -> Result<()> {
        let mut dir = self.inode(*dir)?;
        let Some(place) = self.find(&dir, name)? else { return Ok(()) };
        self.remove_entry(&mut dir, &place)?;
        self.put_inode(&dir)
    }

    /// Gives a name the type of its inode.
    fn retype_name(&mut self, (dir, name): &Named) -> Result<()> {
        let mut dir = self.inode(*dir)?;
        let Some(place) = self.find(&dir, name)? else { return Ok(()) };
        let kind = kind_byte(&self.inode(place.inode)?);
        self.replace_entry(&mut dir, &place, place.inode, kind)?;
        self.put_inode(&dir)
    }

    /// Gives a node without a name one in `/lost+found`; an empty file is deleted.
    fn attach(&mut self, number: u32) -> Result<()> {
        let mut inode = self.inode(number)?;
        if !inode.is_dir() && inode.size() == 0 && inode.sectors(self.geometry.bs()) == 0 {
            inode.set_links(0);
            inode.set_dtime(self.deletion_time());
            self.put_inode(&inode)?;
            return self.release_inode(number, false);
        }
        let missing =
            || Error::corrupt(format!("ext4: inode {number} is in no directory, and there is no /lost+found"));
        let place = self.find(&self.inode(ROOT)?, LOST_FOUND)?.ok_or_else(missing)?;
        let mut shelter = self.inode(place.inode)?;
        if !shelter.is_dir() {
            return Err(missing());
        }
        let name = format!("#{number}").into_bytes();
        if self.find(&shelter, &name)?.is_some() {
            return Err(Error::corrupt(format!(
                "ext4: inode {number} is in no directory, and /lost+found/#{number} exists"
            )));
        }
        if inode.is_dir() {
            self.add_subdir(&mut shelter)?;
            self.set_parent(&mut inode, shelter.number())?;
        }
        inode.set_time(Time::Change, self.now);
        self.put_inode(&inode)?;
        self.add_entry(&mut shelter, &NewEntry { name: &name, inode: number, kind: kind_byte(&inode) })?;
        self.put_inode(&shelter)
    }
}
