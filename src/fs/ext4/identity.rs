//! Label and UUID. Without a stored seed all checksums begin with the UUID, so a new one is a new checksum everywhere.

use std::collections::HashSet;

use super::Ext4;
use super::cache::{Role, bitmap_crc};
use super::checksum;
use super::copies;
use super::features::{Compat, Incompat};
use super::group::{BLOCK_UNINIT, Group, GroupMut, INODE_UNINIT};
use super::inode::{FLAG_EXTENTS, FLAG_INLINE_DATA, Inode};
use crate::base::bytes::{is_zero, put_le32};
use crate::base::{Error, Kind, Result, Uuid};
use crate::fs::{Edit, FileSystem, FileType};

/// Longest label in bytes.
const LABEL_MAX: usize = 16;
/// Inodes that wait for their new checksum before they are written.
const BATCH: usize = 2048;

impl Ext4 {
    /// Sets the label in the superblock and its copies.
    ///
    /// # Errors
    /// `Kind::Invalid` for more than 16 bytes.
    pub(super) fn change_label(&mut self, label: &[u8]) -> Result<()> {
        if label.len() > LABEL_MAX {
            return Err(Error::new(Kind::Invalid, "ext2/3/4 labels are limited to 16 bytes"));
        }
        self.sync()?;
        self.superblock.set_label(label);
        copies::write_superblocks(self.base.as_ref(), &self.geometry, &self.superblock)
    }

    /// Sets the UUID in the superblock and its copies, and computes anew every checksum that begins with it.
    ///
    /// # Errors
    /// `Kind::Unsupported` for 'stable_inodes', which forbids it; damage that is met on the way.
    pub(super) fn change_uuid(&mut self, uuid: Uuid) -> Result<()> {
        if self.superblock.compat().has(Compat::STABLE_INODES) {
            return Err(Error::unsupported("ext4: feature 'stable_inodes' (compat 0x800) forbids another UUID"));
        }
        if self.superblock.compat().has(Compat::HAS_JOURNAL) && self.superblock.journal_inode() == 0 {
            return Err(Error::unsupported("ext4: its journal, which is on another device, knows it by its UUID"));
        }
        self.sync()?;
        let mut superblock = self.superblock.clone();
        superblock.set_uuid(uuid);
        let mut geometry = self.geometry.clone();
        geometry.seed = superblock.checksum_seed();
        let mut descs = self.descriptors(&geometry)?;
        let has_checksums = self.geometry.has_checksums();
        if geometry.seed != self.geometry.seed {
            // Hashes of values in inodes of their own are made with the seed, checksums or not.
            let kept = [
                (Incompat::MMP, "'mmp' (incompat 0x100)", has_checksums),
                (Incompat::EA_INODE, "'ea_inode' (incompat 0x400)", true),
            ];
            if let Some((_, name, _)) = kept.into_iter().find(|(bit, _, so)| *so && superblock.incompat().has(*bit)) {
                return Err(Error::unsupported(format!(
                    "ext4: the checksums of a file system with feature {name} cannot be computed anew yet"
                )));
            }
        }
        if has_checksums && geometry.seed != self.geometry.seed {
            self.restamp(geometry.seed)?;
            for (group, desc) in (0..geometry.groups).zip(descs.chunks_exact_mut(geometry.desc_size)) {
                for (of_blocks, uninit) in [(true, BLOCK_UNINIT), (false, INODE_UNINIT)] {
                    if Group(desc).flags() & uninit == 0 {
                        let crc = bitmap_crc(&geometry, &self.bitmap(group, of_blocks)?.1, of_blocks);
                        let mut to = GroupMut(desc);
                        if of_blocks { to.set_block_bitmap_checksum(crc) } else { to.set_inode_bitmap_checksum(crc) }
                    }
                }
            }
        }
        for (group, desc) in (0..geometry.groups).zip(descs.chunks_exact_mut(geometry.desc_size)) {
            copies::stamp_descriptor(&geometry, &uuid.0, group, desc);
        }
        copies::write_descriptors(self.base.as_ref(), &geometry, &descs)?;
        copies::write_superblocks(self.base.as_ref(), &geometry, &superblock)?;
        self.reload()?;
        self.begin_edit()
    }

    /// Computes the checksums of inodes and of what belongs to them with another seed. Bitmaps, descriptors and the
    /// superblock are left to the caller.
    fn restamp(&mut self, seed: u32) -> Result<()> {
        let mut changed: Vec<Inode> = Vec::new();
        let mut shared = HashSet::new();
        for group in 0..self.geometry.groups {
            let desc = self.group(group)?;
            if Group(&desc).flags() & INODE_UNINIT != 0 {
                continue;
            }
            let per = self.geometry.inodes_per_group;
            for index in 0..per.saturating_sub(Group(&desc).itable_unused()) {
                let number = group * per + index + 1;
                if is_zero(self.raw_inode(number)?.bytes()) {
                    continue;
                }
                let inode = self.inode(number)?;
                if inode.links() > 0 {
                    self.reown(&inode, checksum::inode_seed(seed, number, inode.generation()))?;
                    let attributes = inode.xattr_block();
                    if attributes != 0 && shared.insert(attributes) {
                        self.block_mut(attributes, Role::Attributes)?;
                    }
                }
                changed.push(inode);
                if changed.len() >= BATCH {
                    self.write_restamped(seed, &mut changed)?;
                }
            }
        }
        self.write_restamped(seed, &mut changed)?;
        self.restamp_orphan_file(seed)
    }

    /// Writes inodes, and the blocks that wait in the cache, with checksums under another seed.
    fn write_restamped(&mut self, seed: u32, changed: &mut Vec<Inode>) -> Result<()> {
        let old = std::mem::replace(&mut self.geometry.seed, seed);
        let written = changed.drain(..).try_for_each(|inode| self.put_inode(&inode)).and_then(|()| self.write_back());
        self.geometry.seed = old;
        self.cache = Default::default();
        written
    }

    /// An inode as it stands in its table, not checked.
    pub(super) fn raw_inode(&self, number: u32) -> Result<Inode> {
        let (block, range) = self.inode_slot(number)?;
        let bytes = self.block(block, Role::Inodes)?;
        Ok(Inode::new(number, bytes.get(range).unwrap_or_default()))
    }

    /// Gives the blocks of `inode` the checksums of another owner (a new seed, number or generation): directory blocks
    /// and tree nodes, each checked before.
    pub(super) fn reown(&mut self, inode: &Inode, own: u32) -> Result<()> {
        if inode.file_type() == Some(FileType::Directory) && !inode.has(FLAG_INLINE_DATA) {
            for logical in 0..self.dir_blocks(inode) {
                if let Some(block) = self.dir_block(inode, logical)? {
                    let root = matches!(block.role, Role::Directory { root: true, .. });
                    self.block_mut(block.number, Role::Directory { seed: own, root })?;
                }
            }
        }
        if inode.has(FLAG_EXTENTS) {
            for node in self.map(inode)?.nodes {
                self.block_mut(node, Role::Extents(own))?;
            }
        }
        Ok(())
    }

    /// Computes the sums of the orphan file's blocks, which are kept like content.
    pub(super) fn restamp_orphan_file(&mut self, seed: u32) -> Result<()> {
        let number = self.superblock.orphan_file();
        if !self.superblock.compat().has(Compat::ORPHAN_FILE) || number == 0 {
            return Ok(());
        }
        // Its inode has its new sum already.
        let file = self.raw_inode(number)?;
        let own = checksum::inode_seed(seed, number, file.generation());
        self.geometry.seed = seed;
        let runs = self.map(&file).map(|map| map.runs);
        self.geometry.seed = self.superblock.checksum_seed();
        self.cache = Default::default();
        let mut bytes = vec![0; self.geometry.block_size];
        for at in runs?.into_iter().flat_map(|run| run.physical..run.physical + u64::from(run.len)) {
            self.base.read_at(at * self.geometry.bs(), &mut bytes)?;
            let tail = bytes.len() - 8;
            let crc = checksum::crc32c(checksum::crc32c(own, &at.to_le_bytes()), &bytes[..tail]);
            put_le32(&mut bytes, tail + 4, crc);
            self.base.write_at(at * self.geometry.bs(), &bytes)?;
        }
        Ok(())
    }
}
