//! What a file system says of itself, and whether it may be written.

use super::Ext4;
use super::cache::Role;
use super::features::{self, Compat, Incompat, RoCompat};
use super::group::Group;
use super::inode::Inode;
use super::superblock::{STATE_ERROR, STATE_VALID};
use super::{dirent, type_name};
use crate::base::bytes::le64;
use crate::base::{Error, Result};
use crate::fs::{FsInfo, Fsid};

/// What helps a file system that is marked as damaged.
pub(super) const MEND: &str = "run e2fsck (here: e2fsck DEVICE correct:true)";

impl Ext4 {
    /// An inode's bytes, their checksum checked.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a number that does not exist or a wrong checksum.
    pub(super) fn inode(&self, number: u32) -> Result<Inode> {
        let (block, range) = self.inode_slot(number)?;
        let bytes = self.block(block, Role::Inodes)?;
        let slot = range.start / self.geometry.inode_size;
        let inode = Inode::new(number, bytes.get(range).unwrap_or_default());
        if self.geometry.has_checksums() && !self.inode_is_known_good(block, slot) {
            if !super::checksum::inode_is_good(self.geometry.seed, number, inode.bytes()) {
                return Err(Error::corrupt(format!("ext4: inode {number}: its checksum is wrong")));
            }
            self.inode_is_good(block, slot);
        }
        Ok(inode)
    }

    /// The block of an inode and its bytes in there.
    pub(super) fn inode_slot(&self, number: u32) -> Result<(u64, std::ops::Range<usize>)> {
        let geometry = &self.geometry;
        let (group, index) = geometry.inode_place(number)?;
        let desc = self.group(group)?;
        let byte = u64::from(index) * geometry.inode_size as u64;
        let at = (byte % geometry.bs()) as usize;
        // Wraps only for a table outside of the file system, which `block` refuses.
        Ok((Group(&desc).inode_table().wrapping_add(byte / geometry.bs()), at..at + geometry.inode_size))
    }

    /// Why this file system is not written, if it is not.
    pub(super) fn why_read_only(&self) -> Result<Option<String>> {
        let superblock = &self.superblock;
        if let Some(why) = self.why_unhandled()? {
            return Ok(Some(why));
        }
        if superblock.state() & STATE_ERROR != 0 || superblock.error_count() != 0 {
            return Ok(Some(format!("it is marked as having errors (s_state, s_error_count); {MEND}")));
        }
        if superblock.state() & STATE_VALID == 0 {
            return Ok(Some(format!("it was not unmounted cleanly (s_state); {MEND}")));
        }
        self.journal_error()
    }

    /// Why this file system is not even mended, if it is not.
    pub(super) fn why_unhandled(&self) -> Result<Option<String>> {
        let superblock = &self.superblock;
        let (compat, incompat, ro_compat) = (superblock.compat(), superblock.incompat(), superblock.ro_compat());
        if let Some(feature) = features::unwritable(compat, incompat, ro_compat) {
            return Ok(Some(format!("{feature} is not handled for writing yet")));
        }
        if ro_compat.has(RoCompat::METADATA_CSUM | RoCompat::GDT_CSUM) {
            return Ok(Some("both 'metadata_csum' and 'uninit_bg' are set".into()));
        }
        // Linux and e2fsck know one first block for each size of blocks.
        let small = self.geometry.block_size == 1024 && self.geometry.ratio() == 1;
        if self.geometry.first_block != u64::from(small) {
            let first = self.geometry.first_block;
            return Ok(Some(format!(
                "s_first_data_block is {first} with blocks of {} bytes",
                self.geometry.block_size
            )));
        }
        if superblock.creator_os() != 0 {
            return Ok(Some(format!("s_creator_os is {}, not Linux (0)", superblock.creator_os())));
        }
        if ro_compat.has(RoCompat::ORPHAN_PRESENT) && !compat.has(Compat::ORPHAN_FILE) {
            return Ok(Some("'orphan_present' (ro_compat 0x10000) is set without 'orphan_file'".into()));
        }
        for trouble in [self.mmp_trouble()?, self.quota_trouble()?] {
            if trouble.is_some() {
                return Ok(trouble);
            }
        }
        self.journal_trouble()
    }

    /// See [`crate::fs::FileSystem::info`]. The sizes are those of statfs(2) on Linux: of all blocks the
    /// metadata is taken off, of the free ones those kept for root and for delayed allocation.
    pub(super) fn describe(&self) -> Result<FsInfo> {
        let superblock = &self.superblock;
        let geometry = &self.geometry;
        let ratio = geometry.ratio();
        let free = superblock.free_blocks();
        let delayed =
            if geometry.incompat.has(Incompat::EXTENTS) { (geometry.blocks / ratio / 50).min(4096) * ratio } else { 0 };
        let uuid = superblock.uuid().0;
        Ok(FsInfo {
            fs_type: type_name(superblock).into(),
            label: String::from_utf8_lossy(superblock.label()).into_owned(),
            uuid: superblock.uuid().or_nothing(),
            block_size: geometry.bs(),
            blocks: geometry.blocks.saturating_sub(self.overhead()?),
            free_blocks: free,
            available_blocks: free.saturating_sub(superblock.reserved_blocks().saturating_add(delayed)),
            inodes: superblock.inodes().into(),
            free_inodes: superblock.free_inodes().into(),
            name_max: dirent::NAME_MAX as u64,
            read_only: self.why_read_only()?,
            owners: true,
            fsid: Fsid::Number(le64(&uuid, 0) ^ le64(&uuid, 8)),
        })
    }

    /// Blocks that hold metadata and the journal, as Linux counts them for statfs.
    fn overhead(&self) -> Result<u64> {
        let geometry = &self.geometry;
        if geometry.ro_compat.has(RoCompat::BIGALLOC) && self.superblock.overhead() != 0 {
            return Ok(u64::from(self.superblock.overhead()) * geometry.ratio());
        }
        let heads: u64 = (0..geometry.groups).map(|group| geometry.head_blocks(group)).sum();
        let mut blocks = geometry.first_block + heads + u64::from(geometry.groups) * (geometry.table_blocks() + 2);
        let journal = self.superblock.journal_inode();
        if geometry.compat.has(Compat::HAS_JOURNAL) && journal != 0 {
            blocks += self.inode(journal)?.size() / geometry.bs();
        }
        Ok(blocks)
    }
}
