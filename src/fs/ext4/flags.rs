//! What lsattr and chattr show and change: flags and generation of an inode.
//!
//! Letters and bits: the manual page of chattr, and the kernel documentation's table of `i_flags`.

use super::Ext4;
use super::checksum;
use super::inode::{FLAG_EXTENTS, Inode, Time};
use crate::base::{Error, Kind, Result};
use crate::fs::{FileType, NodeId};

/// Letters of flags that may be set and cleared.
const CHANGEABLE: &[(char, u32)] = &[
    ('s', 0x1),
    ('u', 0x2),
    ('c', 0x4),
    ('S', 0x8),
    ('i', 0x10),
    ('a', 0x20),
    ('d', 0x40),
    ('A', 0x80),
    ('j', 0x4000),
    ('t', 0x8000),
    ('D', 0x1_0000),
    ('T', 0x2_0000),
    ('P', 0x2000_0000),
];
/// Letters of flags that say how a node is stored.
const SHOWN: &[(char, u32)] = &[
    ('E', 0x800),
    ('I', 0x1000),
    ('e', FLAG_EXTENTS),
    ('V', 0x10_0000),
    ('C', 0x80_0000),
    ('x', 0x200_0000),
    ('N', 0x1000_0000),
    ('F', 0x4000_0000),
];
/// Flags that only directories have.
const DIRECTORIES: u32 = 0x1_0000 | 0x2_0000;

impl Ext4 {
    fn node_with_flags(&self, node: NodeId) -> Result<Inode> {
        let inode = self.node(node)?;
        match inode.file_type() {
            Some(FileType::Regular | FileType::Directory) => Ok(inode),
            _ => Err(Error::new(Kind::Unsupported, "Operation not supported (only files and directories have flags)")),
        }
    }

    /// The letters of the flags that a file or directory has, sorted.
    pub fn flag_letters(&self, node: NodeId) -> Result<String> {
        let inode = self.node_with_flags(node)?;
        let all = CHANGEABLE.iter().chain(SHOWN);
        let mut letters: Vec<char> = all.filter(|(_, bit)| inode.has(*bit)).map(|(letter, _)| *letter).collect();
        letters.sort_unstable();
        Ok(letters.into_iter().collect())
    }

    /// Sets or clears flags by their letters.
    ///
    /// # Errors
    /// `Kind::Invalid` for letters that stand for no flag, or one that says how the node is stored.
    pub fn change_flags(&mut self, node: NodeId, letters: &str, set: bool) -> Result<()> {
        self.begin_edit()?;
        let mut bits = 0;
        let mut inode = self.node_with_flags(node)?;
        for letter in letters.chars() {
            match CHANGEABLE.iter().find(|(known, _)| *known == letter) {
                Some((_, bit)) => bits |= bit,
                None if SHOWN.iter().any(|(known, bit)| *known == letter && inode.has(*bit) == set) => {}
                None => return Err(Error::new(Kind::Invalid, format!("unknown file attribute '{letter}'"))),
            }
        }
        if set && !inode.is_dir() && bits & DIRECTORIES != 0 {
            return Err(Error::new(Kind::Unsupported, "Operation not supported: D and T are for directories"));
        }
        inode.set_flags(if set { inode.flags() | bits } else { inode.flags() & !bits });
        inode.set_time(Time::Change, self.now);
        self.put_inode(&inode)
    }

    /// The generation of a node.
    pub fn generation_of(&self, node: NodeId) -> Result<u32> {
        Ok(self.node(node)?.generation())
    }

    /// Sets the generation of a node; the checksums of what belongs to it follow.
    pub fn change_generation(&mut self, node: NodeId, generation: u32) -> Result<()> {
        self.begin_edit()?;
        let mut inode = self.node(node)?;
        let before = inode.clone();
        inode.set_generation(generation);
        let seed = checksum::inode_seed(self.geometry.seed, inode.number(), generation);
        self.reown(&before, seed)?;
        inode.set_time(Time::Change, self.now);
        self.put_inode(&inode)
    }
}
