//! Nodes that were being deleted or cut when the file system stopped: a list through `i_dtime`, or a file.
//!
//! Facts: kernel documentation, "Orphan file"; what is done with them is what Linux does at a mount.

use super::Ext4;
use super::cache::Role;
use super::checksum::{self, crc32c};
use super::features::RoCompat;
use super::inode::Inode;
use super::superblock::STATE_ORPHANS;
use crate::base::bytes::{le32, put_le32};
use crate::base::{Error, Result};
use crate::fs::FileType;

/// `ob_magic` in the tail of a block of the orphan file.
const MAGIC: u32 = 0x0b10_ca04;
/// Bytes of the tail: magic and checksum.
const TAIL: usize = 8;

impl Ext4 {
    /// Whether nodes wait to be deleted or cut.
    pub(super) fn has_orphans(&self) -> bool {
        self.superblock.last_orphan() != 0 || self.superblock.ro_compat().has(RoCompat::ORPHAN_PRESENT)
    }

    /// Finishes what was begun: deletes nodes without names, cuts others to their size.
    ///
    /// # Errors
    /// `Kind::Corrupt` if list or file name what cannot be an orphan.
    pub(super) fn clean_orphans(&mut self) -> Result<()> {
        if !self.has_orphans() {
            return Ok(());
        }
        let mut next = self.superblock.last_orphan();
        for _ in 0..self.geometry.inodes {
            if next == 0 {
                break;
            }
            next = self.finish_orphan(next)?;
        }
        if next != 0 {
            return Err(Error::corrupt("ext4: the list of orphans (s_last_orphan) goes round in a circle"));
        }
        self.superblock.set_last_orphan(0);
        if self.superblock.ro_compat().has(RoCompat::ORPHAN_PRESENT) {
            self.empty_orphan_file()?;
            self.superblock.clear_ro_compat(RoCompat::ORPHAN_PRESENT);
        }
        self.superblock.set_state(self.superblock.state() & !STATE_ORPHANS);
        self.superblock_changed = true;
        Ok(())
    }

    /// Deletes or cuts one orphan; answers the number that its `i_dtime` held: the next of the list.
    fn finish_orphan(&mut self, number: u32) -> Result<u32> {
        let bad = |what: String| Err(Error::corrupt(format!("ext4: orphan inode {number}: {what}")));
        if number < self.geometry.first_inode || number > self.geometry.inodes {
            return bad("it is no inode of files".into());
        }
        if !self.inode_is_used(number)? {
            return bad("it is marked free".into());
        }
        let mut inode = self.inode(number)?;
        let next = inode.dtime();
        match (inode.links(), inode.file_type()) {
            (_, None) => return bad(format!("mode {:#o}", inode.mode())),
            (0, _) => {
                self.note_orphan(&inode);
                self.remove_node(&mut inode)?;
            }
            (_, Some(FileType::Regular)) => self.cut_orphan(&mut inode)?,
            (_, Some(_)) => {
                inode.set_dtime(0);
                self.put_inode(&inode)?;
            }
        }
        Ok(next)
    }

    /// Takes from a file the blocks behind its size.
    fn cut_orphan(&mut self, inode: &mut Inode) -> Result<()> {
        self.cut_map(inode, inode.size().div_ceil(self.geometry.bs()))?;
        self.zero_tail(inode, inode.size())?;
        inode.set_dtime(0);
        self.put_inode(inode)
    }

    /// Finishes the orphans of the orphan file and takes them off it.
    fn empty_orphan_file(&mut self) -> Result<()> {
        let number = self.superblock.orphan_file();
        let file = self.inode(number)?;
        let seed = checksum::inode_seed(self.geometry.seed, number, file.generation());
        let tail = self.geometry.block_size - TAIL;
        let sum = |at: u64, bytes: &[u8]| crc32c(crc32c(seed, &at.to_le_bytes()), &bytes[..tail]);
        for run in self.map(&file)?.runs {
            for at in run.physical..run.physical + u64::from(run.len) {
                let bytes = self.block(at, Role::Plain)?;
                let good = !self.geometry.has_checksums() || le32(&bytes, tail + 4) == sum(at, &bytes);
                if le32(&bytes, tail) != MAGIC || !good {
                    return Err(Error::corrupt(format!("ext4: orphan file: block {at} has a wrong magic or checksum")));
                }
                let orphans: Vec<u32> = bytes[..tail].chunks_exact(4).map(|word| le32(word, 0)).collect();
                if orphans.iter().all(|orphan| *orphan == 0) {
                    continue;
                }
                for orphan in orphans.into_iter().filter(|orphan| *orphan != 0) {
                    self.finish_orphan(orphan)?;
                }
                let sums = self.geometry.has_checksums();
                let bytes = self.block_mut(at, Role::Plain)?;
                bytes[..tail].fill(0);
                if sums {
                    let crc = sum(at, bytes);
                    put_le32(bytes, tail + 4, crc);
                }
            }
        }
        Ok(())
    }
}
