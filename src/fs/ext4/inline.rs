//! Content kept in the inode (inline_data), written: 60 bytes in `i_block`, the rest as the attribute `system.data`.
//! What is there is changed there while it fits; what outgrows it moves out to blocks. New nodes begin with blocks.
//!
//! Facts: kernel documentation, "Inline Data"; e2fsck's demands.

use std::ops::ControlFlow;

use super::Ext4;
use super::inode::{FLAG_INLINE_DATA, Inode};
use super::names::{NewEntry, put_in_area};
use super::xattr::{self, INLINE};
use crate::base::{Error, Result};

/// Bytes of `i_block`.
const AREA: usize = 60;
/// Bytes of the parent's number in front of the entries of an inline directory.
const PARENT: usize = 4;

impl Ext4 {
    /// Makes these bytes the attribute that continues the content. Answers false, with nothing changed, if they do not
    /// fit the inode.
    fn put_inline_rest(&self, inode: &mut Inode, rest: &[u8]) -> Result<bool> {
        let mut attributes = self.attributes_inside(inode)?;
        match attributes.iter_mut().find(|a| a.is(INLINE)) {
            Some(attribute) => attribute.value = rest.to_vec(),
            // Linux looks for the attribute even if it is empty.
            None => return Err(Error::corrupt(format!("ext4: inode {}: no system.data", inode.number()))),
        }
        Ok(xattr::put_in_inode(inode, &attributes))
    }

    /// Makes these bytes the content of an inline file. Answers false, with nothing changed, if they do not fit.
    fn put_inline(&self, inode: &mut Inode, content: &[u8]) -> Result<bool> {
        let (first, rest) = content.split_at(content.len().min(AREA));
        if !self.put_inline_rest(inode, rest)? {
            return Ok(false);
        }
        inode.area_mut().fill(0);
        inode.area_mut()[..first.len()].copy_from_slice(first);
        inode.set_size(content.len() as u64);
        Ok(true)
    }

    /// Makes an inline inode an empty mapped one.
    fn drop_inline(&self, inode: &mut Inode) -> Result<()> {
        let mut attributes = self.attributes_inside(inode)?;
        attributes.retain(|attribute| !attribute.is(INLINE));
        xattr::put_in_inode(inode, &attributes);
        inode.set_flags(inode.flags() & !FLAG_INLINE_DATA);
        self.init_map(inode);
        inode.set_size(0);
        Ok(())
    }

    /// The bytes of an inline file up to its size; what a size beyond them adds reads as zeros.
    fn inline_bytes(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut content = self.inline_content(inode)?;
        content.truncate(usize::try_from(inode.size()).unwrap_or(usize::MAX));
        Ok(content)
    }

    /// Changes the content of an inline file, which has `size` bytes then. Answers false, with nothing changed, if
    /// they do not fit.
    pub(super) fn change_inline(&self, inode: &mut Inode, size: u64, change: impl FnOnce(&mut [u8])) -> Result<bool> {
        if size > self.geometry.bs() {
            return Ok(false);
        }
        let mut content = self.inline_bytes(inode)?;
        content.resize(size as usize, 0);
        change(&mut content);
        self.put_inline(inode, &content)
    }

    /// Makes an inline file of at least `keep` bytes a mapped one of `keep` bytes.
    pub(super) fn move_content_out(&mut self, inode: &mut Inode, keep: u64) -> Result<()> {
        let size = inode.size().min(keep);
        let mut content = self.inline_bytes(inode)?;
        content.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        self.drop_inline(inode)?;
        self.write_content(inode, 0, &content)?;
        inode.set_size(size);
        Ok(())
    }

    /// Changes area 0 (in `i_block`) or 1 (the attribute) of an inline directory, whose length stays.
    pub(super) fn change_inline_area<T>(
        &self,
        dir: &mut Inode,
        number: u64,
        change: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T> {
        if number == 0 {
            return Ok(change(&mut dir.area_mut()[PARENT..]));
        }
        let mut rest = self.inline_rest(dir)?;
        let answer = change(&mut rest);
        self.put_inline_rest(dir, &rest)?;
        Ok(answer)
    }

    /// Puts a name into the free space of an inline directory. Answers whether there was enough.
    pub(super) fn add_inline_entry(&self, dir: &mut Inode, new: &NewEntry<'_>) -> Result<bool> {
        let has_types = self.geometry.has_types();
        for number in [0, 1] {
            let put = self.change_inline_area(dir, number, |area| put_in_area(area, has_types, new))?;
            if put.ok_or_else(|| self.broken(dir, &format!("broken entry in inline area {number}")))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves the names of an inline directory out to a block.
    pub(super) fn move_names_out(&mut self, dir: &mut Inode) -> Result<()> {
        let parent = self.parent_of(dir)?;
        let mut names = Vec::new();
        self.scan(dir, |_, entry| {
            names.push((entry.name.to_vec(), entry.inode, entry.kind));
            ControlFlow::Continue(())
        })?;
        self.drop_inline(dir)?;
        self.init_dir(dir, parent)?;
        for (name, inode, kind) in &names {
            self.add_entry(dir, &NewEntry { name, inode: *inode, kind: *kind })?;
        }
        Ok(())
    }
}
