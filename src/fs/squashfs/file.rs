//! Content: blocks one behind the other, each packed by itself, and the end of a file in a fragment that it shares.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Squash;
use super::inode::{Content, File, Inode, NONE};
use super::metadata::{BLOCK, Cursor};
use crate::base::bytes::{le32, le64};
use crate::base::{Error, Kind, Result};
use crate::fs::{Extent, Segment, Stored, push_extent};

/// The block is stored as it is.
const PLAIN: u32 = 1 << 24;
/// Bytes of unpacked blocks that are kept.
const KEPT: usize = 8 << 20;
/// Words of blocks that are read at once, and between two marks.
const STEP: u64 = (BLOCK / 4) as u64;
/// Most pieces of a file that are listed by their places.
const PIECES: usize = 1 << 22;

/// Where the words from a number on stand, and where the data of the first of them is.
#[derive(Debug, Clone, Copy)]
struct Mark {
    list: Cursor,
    place: u64,
}

/// What is kept of content.
#[derive(Default)]
pub(super) struct Kept {
    /// Unpacked blocks by their places, the one used last at the end.
    blocks: RefCell<Vec<(u64, Arc<Vec<u8>>)>>,
    /// Marks of the file that was read last, by its reference.
    marks: RefCell<(u64, Vec<Mark>)>,
}

/// A block of a file.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// First byte of the file, and bytes.
    at: u64,
    len: usize,
    /// First byte of the device; a fragment's, with the place in it.
    place: u64,
    offset: usize,
    /// Length and [`PLAIN`]; 0 for a hole.
    word: u32,
    /// Bytes that it unpacks to: `len`, or in a fragment up to a block.
    whole: Option<usize>,
}

impl Piece {
    fn stored(&self) -> u64 {
        (self.word & (PLAIN - 1)).into()
    }
}

impl Squash {
    fn file(&self, inode: &Inode) -> Result<File> {
        match inode.content {
            Content::File(file) => Ok(file),
            Content::Directory { .. } => Err(Kind::IsADirectory.into()),
            _ => Err(Kind::Invalid.into()),
        }
    }

    /// Calls `each` for the blocks of a file from the one on that holds byte `from`.
    fn pieces(
        &self,
        reference: u64,
        inode: &Inode,
        from: u64,
        each: &mut dyn FnMut(Piece) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let file = self.file(inode)?;
        let block = self.superblock.block as u64;
        let in_list = if file.fragment == NONE { inode.size.div_ceil(block) } else { inode.size / block };
        let wanted = from / block;
        let mut mark = Mark { list: file.list, place: file.start };
        let mut number = 0;
        {
            let mut marks = self.kept.marks.borrow_mut();
            if marks.0 != reference {
                *marks = (reference, Vec::new());
            }
            let nearest = (wanted.min(in_list) / STEP).min(marks.1.len() as u64);
            if let Some(found) = (nearest as usize).checked_sub(1).and_then(|index| marks.1.get(index)) {
                (mark, number) = (*found, nearest * STEP);
            }
        }
        let mut words = [0; BLOCK];
        while number < in_list {
            let count = (in_list - number).min(STEP);
            let words = &mut words[..count as usize * 4];
            self.take(&mut mark.list, words)?;
            for word in words.as_chunks::<4>().0 {
                let word = u32::from_le_bytes(*word);
                let at = number * block;
                let len = (inode.size - at).min(block) as usize;
                let piece = Piece { at, len, place: mark.place, offset: 0, word, whole: Some(len) };
                if piece.stored() > block {
                    let (number, stored) = (inode.number, piece.stored());
                    return Err(Error::corrupt(format!("squashfs: inode {number}: a block of {stored} bytes")));
                }
                if number >= wanted && each(piece)?.is_break() {
                    return Ok(());
                }
                mark.place = mark.place.saturating_add(piece.stored());
                number += 1;
            }
            let mut marks = self.kept.marks.borrow_mut();
            if number.is_multiple_of(STEP) && marks.1.len() as u64 == number / STEP - 1 {
                marks.1.push(mark);
            }
        }
        let at = in_list * block;
        if at < inode.size {
            let (place, word) = self.fragment(file.fragment)?;
            let (offset, len) = (file.offset as usize, (inode.size - at) as usize);
            // Whoever reads has had enough where it broke off before.
            let _ = each(Piece { at, len, place, offset, word, whole: None })?;
        }
        Ok(())
    }

    /// Where a fragment is, and its word.
    fn fragment(&self, number: u32) -> Result<(u64, u32)> {
        let table = self.superblock.fragment_table.filter(|_| number < self.superblock.fragments);
        let table = table
            .ok_or_else(|| Error::corrupt(format!("squashfs: fragment {number} of {}", self.superblock.fragments)))?;
        let entry: [u8; 16] = self.table_entry(table, number.into())?;
        let (place, word) = (le64(&entry, 0), le32(&entry, 8));
        if word & (PLAIN - 1) == 0 || u64::from(word & (PLAIN - 1)) > self.superblock.block as u64 {
            return Err(Error::corrupt(format!("squashfs: fragment {number}: its word is {word:#x}")));
        }
        Ok((place, word))
    }

    /// Unpacks a block into `plain` and answers how much it is.
    fn unpack(&self, piece: &Piece, plain: &mut [u8]) -> Result<usize> {
        let bad = || Error::corrupt(format!("squashfs: the block at byte {} cannot be unpacked", piece.place));
        let stored = piece.stored() as usize;
        if piece.word & PLAIN != 0 {
            self.stored(piece.place, plain.get_mut(..stored).ok_or_else(bad)?)?;
            return Ok(stored);
        }
        let mut packed = vec![0; stored];
        self.stored(piece.place, &mut packed)?;
        self.superblock.codec.unpack(&packed, plain).ok_or_else(bad)
    }

    /// A block as it is unpacked, kept for the next read.
    fn unpacked(&self, piece: &Piece) -> Result<Arc<Vec<u8>>> {
        let mut kept = self.kept.blocks.borrow_mut();
        if let Some(index) = kept.iter().position(|(place, _)| *place == piece.place) {
            let found = kept.remove(index);
            let plain = found.1.clone();
            kept.push(found);
            return Ok(plain);
        }
        let mut plain = vec![0; self.superblock.block];
        let len = self.unpack(piece, &mut plain)?;
        plain.truncate(len);
        let plain = Arc::new(plain);
        if kept.len() >= (KEPT / self.superblock.block).max(2) {
            kept.remove(0);
        }
        kept.push((piece.place, plain.clone()));
        Ok(plain)
    }

    /// Fills `buf`, all of which lies in the file.
    pub(super) fn read_file(&self, reference: u64, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        let bad = |piece: &Piece| {
            Error::corrupt(format!(
                "squashfs: inode {}: the block at byte {} has another length",
                inode.number, piece.at
            ))
        };
        let end = offset + buf.len() as u64;
        self.pieces(reference, inode, offset, &mut |piece| {
            if piece.at >= end {
                return Ok(ControlFlow::Break(()));
            }
            let from = offset.max(piece.at);
            let to = end.min(piece.at + piece.len as u64);
            let part = &mut buf[(from - offset) as usize..(to - offset) as usize];
            if piece.word == 0 {
                part.fill(0);
            } else if piece.whole == Some(part.len()) {
                // The block and no more: no need to keep it.
                if self.unpack(&piece, part)? != part.len() {
                    return Err(bad(&piece));
                }
            } else {
                let plain = self.unpacked(&piece)?;
                let start = piece.offset + (from - piece.at) as usize;
                if piece.whole.is_some_and(|whole| plain.len() != whole) {
                    return Err(bad(&piece));
                }
                part.copy_from_slice(plain.get(start..start + part.len()).ok_or_else(|| bad(&piece))?);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Data and holes of a file.
    pub(super) fn extents_of(&self, reference: u64, inode: &Inode) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        self.pieces(reference, inode, 0, &mut |piece| {
            push_extent(&mut extents, inode.size, piece.at..piece.at + piece.len as u64, piece.word == 0);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(extents)
    }

    /// Where the blocks of a file are.
    pub(super) fn layout_of(&self, reference: u64, inode: &Inode) -> Result<Vec<Segment>> {
        let mut segments: Vec<Segment> = Vec::new();
        self.pieces(reference, inode, 0, &mut |piece| {
            let stored = match piece.word {
                0 => Stored::Hole,
                word if word & PLAIN != 0 => Stored::Data(piece.place.saturating_add(piece.offset as u64)),
                _ => Stored::Compressed { at: piece.place, len: piece.stored() },
            };
            match segments.last_mut() {
                Some(last) if stored == Stored::Hole && last.stored == stored => last.len += piece.len as u64,
                _ => segments.push(Segment { offset: piece.at, len: piece.len as u64, block: None, stored }),
            }
            if segments.len() > PIECES {
                return Err(Error::unsupported(format!("squashfs: inode {}: too many blocks to list", inode.number)));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(segments)
    }
}
