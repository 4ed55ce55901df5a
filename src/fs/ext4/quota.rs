//! Quota files (feature `quota`): what every user, group and project uses is kept right as inodes change.
//!
//! All changes of inodes pass through one place, which notes the difference that they make; the notes are booked before the
//! next write-back. Limits are left to the running system. Form of the files: the kernel's `quota_tree` and `quotaio_v2`, version 1, with
//! blocks of 1024 bytes: a header, a tree of four levels over the id's bytes, and blocks of entries.

use std::collections::{BTreeMap, BTreeSet};

use super::Ext4;
use super::features::RoCompat;
use super::inode::{FLAG_EA_INODE, Inode, ROOT};
use crate::base::bytes::{is_zero, le16, le32, le64, put_le16, put_le32, put_le64};
use crate::base::{Error, Kind, Result};

/// Magics of the files of users, groups and projects.
const MAGICS: [u32; 3] = [0xd9c0_1f11, 0xd9c0_1927, 0xd9c0_3f14];
const NAMES: [&str; 3] = ["user", "group", "project"];
const VERSION: u32 = 1;
/// Bytes of a block of the file.
const BLOCK: usize = 1024;
/// Block of the tree's root, and its levels.
const TREE: u32 = 1;
const LEVELS: u32 = 4;
/// In the first block: number of blocks, first free block, first block with a free entry.
const BLOCKS: usize = 20;
const FREE_BLOCK: usize = 24;
const FREE_ENTRY: usize = 28;
/// In a block of entries: next and previous block with a free one, number of entries; then the entries.
const NEXT_FREE: usize = 0;
const PREVIOUS_FREE: usize = 4;
const ENTRIES: usize = 8;
const HEADER: usize = 16;
/// An entry: id, number of inodes, bytes, time that keeps an entry from being all zeros.
const ENTRY: usize = 72;
const ENTRIES_MAX: u16 = ((BLOCK - HEADER) / ENTRY) as u16;
const INODES: usize = 24;
const SPACE: usize = 48;
const INODE_TIME: usize = 64;

/// What is not booked yet: by kind and id, inodes and bytes more or less.
pub(super) type Notes = BTreeMap<(usize, u32), (i64, i64)>;

/// A quota file while it is changed.
struct File<'a> {
    fs: &'a mut Ext4,
    kind: usize,
    inode: Inode,
    blocks: BTreeMap<u32, Vec<u8>>,
    changed: BTreeSet<u32>,
}

/// The seconds that somebody may use more than a soft limit, where nobody asks for others: a week.
const GRACE: u32 = 604_800;
/// In the first block: these times, for space and inodes.
const GRACES: usize = 8;

/// A file of a new file system, in which all is id 0's: so many inodes and bytes.
pub(super) fn first_file(kind: usize, inodes: u64, space: u64) -> Vec<u8> {
    const DATA: u32 = TREE + LEVELS;
    let mut bytes = vec![0; (DATA as usize + 1) * BLOCK];
    put_le32(&mut bytes, 0, MAGICS[kind]);
    put_le32(&mut bytes, 4, VERSION);
    put_le32(&mut bytes, GRACES, GRACE);
    put_le32(&mut bytes, GRACES + 4, GRACE);
    put_le32(&mut bytes, BLOCKS, DATA + 1);
    put_le32(&mut bytes, FREE_ENTRY, DATA);
    for level in TREE..DATA {
        put_le32(&mut bytes, level as usize * BLOCK, level + 1);
    }
    let block = &mut bytes[DATA as usize * BLOCK..];
    put_le16(block, ENTRIES, 1);
    put_le64(block, HEADER + INODES, inodes);
    put_le64(block, HEADER + SPACE, space);
    bytes
}

fn bad(kind: usize, what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("ext4: {} quota file: {what}", NAMES[kind]))
}

/// Who an inode counts for, by kind of quota.
fn owners(inode: &Inode) -> [u32; 3] {
    [inode.uid(), inode.gid(), inode.project()]
}

impl File<'_> {
    /// A block of the file, which has that many.
    fn block(&mut self, number: u32) -> Result<&mut Vec<u8>> {
        if !self.blocks.contains_key(&number) {
            let count = (self.inode.size() / BLOCK as u64).min(u32::MAX.into()) as u32;
            if number >= count {
                return Err(bad(self.kind, format!("block {number} of {count}")));
            }
            let mut bytes = vec![0; BLOCK];
            self.fs.read_file(&self.inode, u64::from(number) * BLOCK as u64, &mut bytes)?;
            self.blocks.insert(number, bytes);
        }
        self.blocks.get_mut(&number).ok_or_else(|| Kind::Internal.into())
    }

    fn word(&mut self, number: u32, at: usize) -> Result<u32> {
        Ok(le32(self.block(number)?, at))
    }

    fn set_word(&mut self, number: u32, at: usize, value: u32) -> Result<()> {
        put_le32(self.block(number)?, at, value);
        self.changed.insert(number);
        Ok(())
    }

    /// Takes a free block, or a new one at the end; it is zeros.
    fn take_block(&mut self) -> Result<u32> {
        let free = self.word(0, FREE_BLOCK)?;
        let number = if free != 0 {
            let next = self.word(free, NEXT_FREE)?;
            self.set_word(0, FREE_BLOCK, next)?;
            free
        } else {
            let end = self.word(0, BLOCKS)?;
            self.set_word(0, BLOCKS, end.checked_add(1).ok_or_else(|| bad(self.kind, "it is full"))?)?;
            end
        };
        self.blocks.insert(number, vec![0; BLOCK]);
        self.changed.insert(number);
        Ok(number)
    }

    /// The block of entries and the place in it of an id, made if it is not there.
    fn entry(&mut self, id: u32) -> Result<(u32, usize)> {
        let (mut block, mut slot) = (TREE, 0);
        for level in 0..LEVELS {
            if level > 0 {
                block = self.word(block, slot)?;
            }
            slot = (id >> (8 * (LEVELS - 1 - level)) & 0xff) as usize * 4;
            if self.word(block, slot)? == 0 {
                let below = if level + 1 < LEVELS { self.take_block()? } else { self.take_entry(id)? };
                self.set_word(block, slot, below)?;
            }
        }
        let block = self.word(block, slot)?;
        let entries = self.block(block)?;
        let place = (0..usize::from(ENTRIES_MAX)).map(|i| HEADER + i * ENTRY).find(|at| {
            let entry = &entries[*at..*at + ENTRY];
            le32(entry, 0) == id && !is_zero(entry)
        });
        Ok((block, place.ok_or_else(|| bad(self.kind, format!("block {block} has no entry of id {id}")))?))
    }

    /// Makes an entry for an id in a block that has room; answers the block.
    fn take_entry(&mut self, id: u32) -> Result<u32> {
        let kind = self.kind;
        let mut block = self.word(0, FREE_ENTRY)?;
        if block == 0 {
            block = self.take_block()?;
            self.set_word(0, FREE_ENTRY, block)?;
        }
        let entries = self.block(block)?;
        let count = le16(entries, ENTRIES) + 1;
        let place =
            (0..usize::from(ENTRIES_MAX)).map(|i| HEADER + i * ENTRY).find(|at| is_zero(&entries[*at..*at + ENTRY]));
        let Some(place) = place.filter(|_| count <= ENTRIES_MAX) else {
            return Err(bad(kind, format!("block {block} is listed as having room")));
        };
        put_le16(entries, ENTRIES, count);
        put_le32(entries, place, id);
        put_le64(entries, place + INODE_TIME, 1);
        self.changed.insert(block);
        if count == ENTRIES_MAX {
            let (next, previous) = (self.word(block, NEXT_FREE)?, self.word(block, PREVIOUS_FREE)?);
            if next != 0 {
                self.set_word(next, PREVIOUS_FREE, previous)?;
            }
            match previous {
                0 => self.set_word(0, FREE_ENTRY, next)?,
                _ => self.set_word(previous, NEXT_FREE, next)?,
            }
            self.set_word(block, NEXT_FREE, 0)?;
            self.set_word(block, PREVIOUS_FREE, 0)?;
        }
        Ok(block)
    }

    /// Adds to what an id uses.
    fn book(&mut self, id: u32, inodes: i64, space: i64) -> Result<()> {
        let (block, at) = self.entry(id)?;
        let kind = self.kind;
        let entry = self.block(block)?.get_mut(at..at + ENTRY).ok_or_else(|| Error::from(Kind::Internal))?;
        for (place, change) in [(INODES, inodes), (SPACE, space)] {
            let value = le64(entry, place).checked_add_signed(change);
            let value = value.ok_or_else(|| bad(kind, format!("id {id} uses less than it has")))?;
            put_le64(entry, place, value);
        }
        // An entry of zeros would not be one: Linux marks it in the same way.
        if is_zero(entry) {
            put_le64(entry, INODE_TIME, 1);
        } else if le64(entry, INODE_TIME) == 1 && le32(entry, 0) != 0 {
            put_le64(entry, INODE_TIME, 0);
        }
        self.changed.insert(block);
        Ok(())
    }

    fn store(mut self) -> Result<()> {
        for number in std::mem::take(&mut self.changed) {
            let bytes = self.blocks.remove(&number).unwrap_or_default();
            self.fs.write_content(&mut self.inode, u64::from(number) * BLOCK as u64, &bytes)?;
        }
        self.fs.put_inode(&self.inode)
    }
}

impl Ext4 {
    /// Inode of a quota file, 0 if there is none.
    fn quota_file(&self, kind: usize) -> u32 {
        match self.geometry.ro_compat.has(RoCompat::QUOTA) {
            true => self.superblock.quota_files()[kind],
            false => 0,
        }
    }

    /// Bytes of an inode's blocks.
    fn space_of(&self, inode: &Inode) -> i64 {
        i64::try_from(inode.sectors(self.geometry.bs()).saturating_mul(512)).unwrap_or(i64::MAX)
    }

    /// What an inode adds to its owners' use; nothing if it is not in use, or holds the value of an attribute, which counts
    /// for those who use it.
    fn usage_of(&self, inode: &Inode) -> Option<([u32; 3], i64)> {
        let counts = inode.links() > 0 && !inode.has(FLAG_EA_INODE);
        counts.then(|| (owners(inode), self.space_of(inode)))
    }

    /// Notes what it changes that an inode of these bytes becomes another one.
    ///
    /// # Errors
    /// `Kind::Corrupt` for attributes of an inode with new owners.
    pub(super) fn note_usage(&mut self, old: &[u8], new: &Inode) -> Result<()> {
        let number = new.number();
        let own =
            self.superblock.quota_files().contains(&number) || number == self.superblock.orphan_file() && number != 0;
        if own || number != ROOT && number < self.geometry.first_inode {
            return Ok(());
        }
        let (before, after) = (self.usage_of(&Inode::new(number, old)), self.usage_of(new));
        let mut values = 0;
        if let (Some((from, _)), Some((to, _))) = (before, after)
            && from != to
        {
            values = self.count_of_values(new)?;
        }
        for (usage, sign) in [(before, -1), (after, 1)] {
            let Some((owners, space)) = usage else { continue };
            self.note(owners, sign * (1 + values), sign * space);
        }
        Ok(())
    }

    /// Notes that an inode uses so many more values of attributes that have inodes of their own: each counts as an inode
    /// of the owners, as if it were theirs alone. Their space is in the count of the inode's blocks.
    pub(super) fn note_values(&mut self, inode: &Inode, more: i64) {
        if more != 0 && self.geometry.ro_compat.has(RoCompat::QUOTA) {
            self.note(owners(inode), more, 0);
        }
    }

    /// Notes that an orphan goes: a node without names that was still open, which Linux counts until it is closed.
    pub(super) fn note_orphan(&mut self, inode: &Inode) {
        if self.geometry.ro_compat.has(RoCompat::QUOTA) {
            self.note(owners(inode), -1, -self.space_of(inode));
        }
    }

    fn note(&mut self, owners: [u32; 3], inodes: i64, bytes: i64) {
        for (kind, id) in owners.into_iter().enumerate() {
            let noted = self.usage_notes.entry((kind, id)).or_default();
            noted.0 = noted.0.saturating_add(inodes);
            noted.1 = noted.1.saturating_add(bytes);
        }
    }

    /// Books what was noted.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a quota file that contradicts itself or the inodes.
    pub(super) fn book_usage(&mut self) -> Result<()> {
        let mut notes = std::mem::take(&mut self.usage_notes);
        notes.retain(|_, change| *change != (0, 0));
        for kind in 0..MAGICS.len() {
            let number = self.quota_file(kind);
            let mut of_kind = notes.range((kind, 0)..=(kind, u32::MAX)).peekable();
            if number == 0 || of_kind.peek().is_none() {
                continue;
            }
            let (inode, blocks, changed) = (self.inode(number)?, BTreeMap::new(), BTreeSet::new());
            let mut file = File { fs: self, kind, inode, blocks, changed };
            for ((_, id), (inodes, space)) in of_kind {
                file.book(*id, *inodes, *space)?;
            }
            file.store()?;
        }
        Ok(())
    }

    /// Why the quota files forbid writing, if they do.
    pub(super) fn quota_trouble(&self) -> Result<Option<String>> {
        if !self.geometry.ro_compat.has(RoCompat::QUOTA) {
            return Ok(None);
        }
        for kind in 0..MAGICS.len() {
            let number = self.quota_file(kind);
            if number == 0 {
                continue;
            }
            let inode = self.inode(number)?;
            let mut head = [0; 8];
            let regular = inode.file_type() == Some(crate::fs::FileType::Regular) && inode.links() > 0;
            if !regular || self.read_file(&inode, 0, &mut head)? < head.len() {
                return Ok(Some(format!("its {} quota file (inode {number}) is none", NAMES[kind])));
            }
            let (magic, version) = (le32(&head, 0), le32(&head, 4));
            if (magic, version) != (MAGICS[kind], VERSION) {
                let name = NAMES[kind];
                return Ok(Some(format!(
                    "its {name} quota file has magic {magic:#x} and version {version}, not version 1"
                )));
            }
        }
        Ok(None)
    }
}
