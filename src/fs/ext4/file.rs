//! File content, read.

use super::Ext4;
use super::cache::Role;
use super::features::Incompat;
use super::inode::{FLAG_ENCRYPT, FLAG_INLINE_DATA, Inode};
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::fs::{Extent, FileType, Segment, Stored, covered, push_extent};

impl Ext4 {
    /// Refuses what cannot be read without a key.
    pub(super) fn check_readable(&self, inode: &Inode) -> Result<()> {
        if inode.has(FLAG_ENCRYPT) {
            return Err(Error::unsupported(format!(
                "ext4: inode {} is encrypted (flag {FLAG_ENCRYPT:#x}); its content cannot be read",
                inode.number()
            )));
        }
        Ok(())
    }

    /// The content of an inline file: 60 bytes in the inode and the rest as an attribute.
    pub(super) fn inline_content(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut content = inode.area().to_vec();
        content.extend(self.inline_rest(inode)?);
        Ok(content)
    }

    /// Fills `buf` from byte `offset` of the mapped blocks, whatever the size says; holes read as zeros.
    pub(super) fn read_mapped(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        let bs = self.geometry.bs();
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let span = self.span_at(inode, at / bs)?;
            let skip = at % bs;
            let bytes = span.len.saturating_mul(bs) - skip;
            let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(buf.len() - done);
            let part = &mut buf[done..done + count];
            match span.physical {
                Some(block) if !span.unwritten => self.read_device(block * bs + skip, part)?,
                _ => part.fill(0),
            }
            done += count;
        }
        Ok(())
    }

    /// Reads file content from the device; what still waits to be written goes there first.
    pub(super) fn read_device(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.fresh.borrow_mut().flush_at(&self.device, offset, buf.len())?;
        self.device.read_at(offset, buf)
    }

    /// See [`crate::fs::FileSystem::read`].
    pub(super) fn read_file(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize> {
        inode.file_type().ok_or(Kind::Invalid)?.check_regular()?;
        self.check_readable(inode)?;
        let left = inode.size().saturating_sub(offset);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let buf = &mut buf[..count];
        if inode.has(FLAG_INLINE_DATA) {
            let content = self.inline_content(inode)?;
            let start = (offset as usize).min(content.len());
            let known = &content[start..(start + count).min(content.len())];
            buf.fill(0);
            buf[..known.len()].copy_from_slice(known);
        } else if count > 0 {
            self.read_mapped(inode, offset, buf)?;
        }
        Ok(count)
    }

    /// See [`crate::fs::FileSystem::extents`].
    pub(super) fn file_extents(&self, inode: &Inode) -> Result<Vec<Extent>> {
        if inode.file_type() != Some(FileType::Regular) {
            return Err(Kind::Invalid.into());
        }
        self.check_readable(inode)?;
        let size = inode.size();
        let mut extents = Vec::new();
        let mut add = |start: u64, end: u64, hole: bool| push_extent(&mut extents, size, start..end, hole);
        if inode.has(FLAG_INLINE_DATA) {
            add(0, size, false);
            return Ok(extents);
        }
        let bs = self.geometry.bs();
        let mut at = 0;
        for run in self.map(inode)?.runs {
            let (start, end) = (run.logical.saturating_mul(bs), run.end().saturating_mul(bs));
            add(at, start, true);
            add(start, end, run.unwritten);
            at = end;
        }
        add(at, size, true);
        Ok(extents)
    }

    /// See [`crate::fs::FileSystem::layout`].
    pub(super) fn file_layout(&self, inode: &Inode) -> Result<Vec<Segment>> {
        if inode.file_type() != Some(FileType::Regular) {
            return Err(Kind::Invalid.into());
        }
        self.check_readable(inode)?;
        let (size, bs) = (inode.size(), self.geometry.bs());
        if inode.has(FLAG_INLINE_DATA) {
            let inline = Segment { offset: 0, len: size, block: None, stored: Stored::Inline };
            return Ok(covered(size, [inline]));
        }
        // Runs are checked: their blocks are on the device.
        Ok(covered(
            size,
            self.map(inode)?.runs.into_iter().map(|run| {
                let place = run.physical * bs;
                Segment {
                    offset: run.logical.saturating_mul(bs),
                    len: u64::from(run.len) * bs,
                    block: Some(run.physical),
                    stored: if run.unwritten { Stored::Unwritten(place) } else { Stored::Data(place) },
                }
            }),
        ))
    }

    /// See [`crate::fs::FileSystem::read_link`].
    pub(super) fn link_target(&self, inode: &Inode) -> Result<GuestPathBuf> {
        if inode.file_type() != Some(FileType::Symlink) {
            return Err(Kind::Invalid.into());
        }
        self.check_readable(inode)?;
        let bad = || Error::corrupt(format!("ext4: inode {}: link target of {} bytes", inode.number(), inode.size()));
        let size = usize::try_from(inode.size()).ok().filter(|size| *size < self.geometry.block_size);
        let size = size.ok_or_else(bad)?;
        let target = if inode.has(FLAG_INLINE_DATA) {
            self.inline_content(inode)?.get(..size).ok_or_else(bad)?.to_vec()
        } else if self.is_fast_link(inode) {
            inode.area().get(..size).ok_or_else(bad)?.to_vec()
        } else {
            // One block, kept with the metadata.
            let block = self.span_at(inode, 0)?.physical.ok_or_else(bad)?;
            self.block(block, Role::Plain)?.get(..size).ok_or_else(bad)?.to_vec()
        };
        Ok(GuestPathBuf(target))
    }

    /// Whether a link's target is in the inode: it has no block but the attributes'. Where these may have inodes, whose
    /// blocks count too, the length decides, as it does for Linux.
    pub(super) fn is_fast_link(&self, inode: &Inode) -> bool {
        if self.geometry.incompat.has(Incompat::EA_INODE) {
            return inode.size() < inode.area().len() as u64;
        }
        let unit = self.geometry.bs() / 512 * self.geometry.ratio();
        let attributes = if inode.xattr_block() == 0 { 0 } else { unit };
        inode.sectors(self.geometry.bs()) <= attributes
    }
}
