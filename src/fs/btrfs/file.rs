//! The content of files: extents inside the tree, on the device, packed or not, and the gaps between them.

use std::cell::RefCell;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::items::EXTENT_DATA;
use super::lzo;
use super::superblock::Root;
use super::tree::{Key, Trees};
use crate::base::bytes::{le64, u8_at};
use crate::base::{Error, Result};
use crate::fs::{Extent, Segment, Stored, covered, push_extent};

/// `type` of an extent item.
const INLINE: u8 = 0;
const PREALLOCATED: u8 = 2;
/// Pieces of one file that are listed.
const PIECES_MAX: usize = 1 << 22;
/// Bytes in front of inline data, and of an item for an extent on the device.
const HEAD: usize = 21;
const ITEM: usize = 53;
/// Most bytes of a packed extent, packed or not (BTRFS_MAX_COMPRESSED).
const PACKED_MAX: u64 = 128 << 10;

/// Where the bytes of an extent are.
#[derive(Debug, Clone)]
enum Place {
    /// In the item.
    Inline(Vec<u8>),
    /// At this logical address, so many bytes of it.
    Device(u64, u64),
    /// Nowhere: zeros.
    Hole,
}

/// A piece of a file.
#[derive(Debug, Clone)]
struct Piece {
    /// First byte of the file, and number of bytes.
    at: u64,
    len: u64,
    place: Place,
    /// How it is packed, 0 if it is not; bytes unpacked; where the piece begins in these.
    packing: u8,
    unpacked: u64,
    skip: u64,
    /// The address of space that is set aside and reads as zeros.
    reserved: Option<u64>,
}

/// The extent that was unpacked last: its address, and its bytes.
pub type Unpacked = RefCell<Option<(u64, Arc<Vec<u8>>)>>;

fn bad(inode: u64, what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("btrfs: inode {inode}: {what}"))
}

impl Piece {
    fn read(inode: u64, at: u64, item: &[u8]) -> Result<Self> {
        let (unpacked, packing, kind) = (le64(item, 8), u8_at(item, 16), u8_at(item, 20));
        if item.len() < HEAD || u8_at(item, 17) != 0 {
            return Err(bad(inode, format!("extent at {at}: {} bytes, encryption {}", item.len(), u8_at(item, 17))));
        }
        if packing > 3 {
            return Err(Error::unsupported(format!("btrfs: inode {inode}: compression {packing} is not known")));
        }
        if packing != 0 && unpacked > PACKED_MAX {
            return Err(bad(inode, format!("extent at {at}: {unpacked} packed bytes")));
        }
        let piece = if kind == INLINE {
            let place = Place::Inline(item[HEAD..].to_vec());
            Piece { at, len: unpacked, place, packing, unpacked, skip: 0, reserved: None }
        } else {
            let (address, stored, skip, len) = (le64(item, 21), le64(item, 29), le64(item, 37), le64(item, 45));
            let place = if address == 0 || kind == PREALLOCATED { Place::Hole } else { Place::Device(address, stored) };
            let most = if packing == 0 { stored } else { unpacked };
            let fits = skip.checked_add(len).is_some_and(|end| end <= most);
            if item.len() < ITEM || matches!(place, Place::Device(..)) && !fits || packing != 0 && stored > PACKED_MAX {
                return Err(bad(inode, format!("extent at {at}: {len} bytes at {skip} of {most}")));
            }
            let reserved = (kind == PREALLOCATED && address != 0).then_some(address);
            Piece { at, len, place, packing, unpacked, skip, reserved }
        };
        if piece.len == 0 || at.checked_add(piece.len).is_none() {
            return Err(bad(inode, format!("extent at {at}: {} bytes", piece.len)));
        }
        Ok(piece)
    }

    fn end(&self) -> u64 {
        self.at + self.len
    }
}

/// Unpacks a stream into `len` bytes; what it does not reach is zeros.
fn unpack(packing: u8, data: &[u8], len: usize, sector: usize) -> Option<Vec<u8>> {
    let mut out = match packing {
        0 => data.get(..len.min(data.len()))?.to_vec(),
        1 => {
            let mut out = Vec::with_capacity(len);
            flate2::read::ZlibDecoder::new(data).take(len as u64).read_to_end(&mut out).ok()?;
            out
        }
        2 => lzo::unpack(data, sector, len)?,
        _ => {
            let mut out = Vec::with_capacity(len);
            // The extent is padded to a sector behind the one frame.
            let stream = zstd::stream::read::Decoder::with_buffer(data).ok()?.single_frame();
            stream.take(len as u64).read_to_end(&mut out).ok()?;
            out
        }
    };
    out.resize(len, 0);
    Some(out)
}

impl Trees {
    /// The pieces of a file that reach into `from..to`, in order; gaps between them are holes.
    fn pieces(&self, root: Root, inode: u64, from: u64, to: u64) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        self.visit(root, inode, from, to, &mut |piece| {
            pieces.push(piece);
            Ok(())
        })?;
        Ok(pieces)
    }

    /// Calls `each` for the pieces of a file that reach into `from..to`, in order.
    fn visit(
        &self,
        root: Root,
        inode: u64,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Piece) -> Result<()>,
    ) -> Result<()> {
        let key = Key { object: inode, kind: EXTENT_DATA, offset: from };
        let start = self.last_up_to(root, key)?.map_or(Key::first(inode, EXTENT_DATA), |(key, _)| key);
        let mut end = 0;
        self.items(root, start, |key, item| {
            if (key.object, key.kind) != (inode, EXTENT_DATA) || key.offset >= to {
                return Ok(ControlFlow::Break(()));
            }
            let piece = Piece::read(inode, key.offset, item)?;
            if end > piece.at {
                return Err(bad(inode, format!("extents overlap at {}", piece.at)));
            }
            if piece.end() > from {
                end = piece.end();
                each(piece)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The unpacked bytes of a packed piece.
    fn unpacked(&self, inode: u64, piece: &Piece, cache: &Unpacked) -> Result<Arc<Vec<u8>>> {
        let failed = || bad(inode, format!("extent at {}: its packed bytes are damaged", piece.at));
        let sector = self.superblock().sector as usize;
        match &piece.place {
            Place::Hole => Ok(Arc::new(vec![0; piece.unpacked as usize])),
            Place::Inline(data) => {
                let len = usize::try_from(piece.unpacked).ok().filter(|len| *len as u64 <= PACKED_MAX);
                let bytes = unpack(piece.packing, data, len.ok_or_else(failed)?, sector);
                bytes.map(Arc::new).ok_or_else(failed)
            }
            Place::Device(address, stored) => {
                if let Some((at, bytes)) = &*cache.borrow()
                    && at == address
                {
                    return Ok(bytes.clone());
                }
                let mut packed = vec![0; *stored as usize];
                self.read(*address, &mut packed)?;
                let bytes = unpack(piece.packing, &packed, piece.unpacked as usize, sector).ok_or_else(failed)?;
                let bytes = Arc::new(bytes);
                cache.replace(Some((*address, bytes.clone())));
                Ok(bytes)
            }
        }
    }

    /// Reads from byte `offset` of a file; the whole of `buf` lies inside of it.
    pub fn read_file(&self, root: Root, inode: u64, offset: u64, buf: &mut [u8], cache: &Unpacked) -> Result<()> {
        let end = offset + buf.len() as u64;
        buf.fill(0);
        for piece in self.pieces(root, inode, offset, end)? {
            let (from, to) = (piece.at.max(offset), piece.end().min(end));
            let part = &mut buf[(from - offset) as usize..(to - offset) as usize];
            let skip = piece.skip + (from - piece.at);
            match &piece.place {
                Place::Hole => {}
                Place::Device(address, _) if piece.packing == 0 => {
                    let at = address.checked_add(skip).ok_or_else(|| bad(inode, "an extent without an address"))?;
                    self.read(at, part)?;
                }
                _ => {
                    let bytes = self.unpacked(inode, &piece, cache)?;
                    let bytes = bytes.get(skip as usize..).unwrap_or_default();
                    let len = part.len().min(bytes.len());
                    part[..len].copy_from_slice(&bytes[..len]);
                }
            }
        }
        Ok(())
    }

    /// Data and holes of a file of `size` bytes.
    pub fn file_extents(&self, root: Root, inode: u64, size: u64) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        let mut add = |from: u64, to: u64, hole: bool| push_extent(&mut extents, size, from..to, hole);
        let mut at = 0;
        for piece in self.pieces(root, inode, 0, size)? {
            add(at, piece.at, true);
            add(piece.at, piece.end(), matches!(piece.place, Place::Hole));
            at = piece.end();
        }
        add(at, size, true);
        Ok(extents)
    }

    /// See [`crate::fs::FileSystem::layout`]. Block numbers are logical addresses in sectors, as Linux tells them.
    pub fn file_layout(&self, root: Root, inode: u64, size: u64) -> Result<Vec<Segment>> {
        let mut segments = Vec::new();
        self.visit(root, inode, 0, size, &mut |piece| {
            if segments.len() >= PIECES_MAX {
                return Err(Error::unsupported(format!("btrfs: inode {inode}: more than {PIECES_MAX} extents")));
            }
            segments.extend(self.segment(&piece)?);
            Ok(())
        })?;
        Ok(covered(size, segments))
    }

    /// Where a piece is; `None` for a hole.
    fn segment(&self, piece: &Piece) -> Result<Option<Segment>> {
        // The number of the first block, and how it is kept if that is in one piece of the device that was opened.
        let place = |address: u64, len: u64, kept: &dyn Fn(u64) -> Stored| {
            let place = self.chunks().place_on_first(address, len)?;
            let block = address / u64::from(self.superblock().sector);
            Ok::<_, Error>((Some(block), place.map_or(Stored::Elsewhere, kept)))
        };
        let (block, stored) = match (&piece.place, piece.reserved) {
            (Place::Inline(_), _) => (None, Stored::Inline),
            (Place::Device(address, stored), _) if piece.packing != 0 => {
                place(*address, *stored, &|at| Stored::Compressed { at, len: *stored })?
            }
            (Place::Device(address, _), _) => place(address.saturating_add(piece.skip), piece.len, &Stored::Data)?,
            (Place::Hole, Some(address)) => place(address.saturating_add(piece.skip), piece.len, &Stored::Unwritten)?,
            (Place::Hole, None) => return Ok(None),
        };
        Ok(Some(Segment { offset: piece.at, len: piece.len, block, stored }))
    }
}
