//! Trees of extents whose blocks were exchanged between inodes: each block names its inode.

use std::collections::BTreeSet;

use super::replay::Replay;
use crate::base::Result;
use crate::base::bytes::{be16, be32, be64};
use crate::fs::xfs::inode::{Format, Inode};
use crate::fs::xfs::map::{HEADERS, MAGICS, OWNER, ROOT_HEADER, pointers};

impl Replay<'_> {
    /// Makes the blocks of the trees that changed their inode name the new one. The inodes' sums are right already.
    pub fn owners(&mut self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (number, at, fork) in std::mem::take(&mut self.owners) {
            let bytes = self.overlay.bytes(at, self.superblock.inode)?;
            // One that was freed further on is not read any more.
            let Ok(inode) = Inode::new(self.superblock, number, bytes) else { continue };
            let fork = if fork == 0 { Some(inode.data()?) } else { inode.attributes()? };
            let Some(fork) = fork.filter(|fork| fork.format == Format::Tree) else { continue };
            let (level, count) = (be16(fork.bytes, 0), usize::from(be16(fork.bytes, 2)));
            let mut queue: Vec<(u64, u16)> =
                pointers(fork.bytes, ROOT_HEADER, count).map(|block| (block, level)).collect();
            while let Some((block, level)) = queue.pop() {
                if level > 0 && seen.insert(block) {
                    let below = self.owner(number, block)?;
                    queue.extend(below.into_iter().map(|block| (block, level - 1)));
                }
            }
        }
        Ok(())
    }

    /// Puts the owner into a block; answers the blocks below. What is no tree block is for those who read it.
    fn owner(&mut self, number: u64, block: u64) -> Result<Vec<u64>> {
        let Some(at) = self.superblock.place(block) else { return Ok(Vec::new()) };
        let Ok(bytes) = self.overlay.bytes(at, self.superblock.block) else { return Ok(Vec::new()) };
        if be32(&bytes, 0) != MAGICS.1 {
            return Ok(Vec::new());
        }
        if be64(&bytes, OWNER) != number {
            self.overlay.put(at + OWNER as u64, &number.to_be_bytes())?;
            self.sums.insert(at, bytes.len());
        }
        let (level, count) = (be16(&bytes, 4), usize::from(be16(&bytes, 6)));
        Ok(if level == 0 { Vec::new() } else { pointers(&bytes, HEADERS.1, count).collect() })
    }
}
