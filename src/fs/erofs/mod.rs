//! EROFS, read only.
//!
//! `docs/formats/erofs.md` has the tables of bytes, the sources and the decisions.

mod attributes;
mod data;
mod directory;
mod inode;
mod map;
mod packed;
mod superblock;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::base::bytes::le64;
use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp};
use crate::disk::{BlockDevice, Device};
use crate::fs::{
    DirEntry, Edit, Extent, FileSystem, FileType, FsInfo, Fsid, Identity, Metadata, NodeId, Segment, Stored,
    push_extent,
};

use inode::{Inode, Layout};
use packed::Kept;
use superblock::{METABOX, Superblock};

/// Word of `vfs-type`.
pub const NAMES: &[&str] = &["erofs"];
/// Bytes of metadata that are kept.
const CACHE: u64 = 8 << 20;
/// Longest target of a symbolic link, as for Linux.
const LINK: u64 = 4096;
/// Most pieces of a file that are listed by their places.
const PIECES: usize = 1 << 22;

/// See [`crate::fs::Driver::probe`].
pub fn probe(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    let found = superblock::probe(device)?;
    Ok(found.map(|(label, uuid)| Identity { fs_type: "erofs".into(), label, uuid: uuid.or_nothing() }))
}

/// See [`crate::fs::Driver::open`].
pub fn open(device: Device) -> Result<Box<dyn FileSystem>> {
    let superblock = Superblock::open(device.as_ref())?;
    let erofs = Erofs { device, superblock, blocks: RefCell::default(), kept: Default::default() };
    if erofs.inode(erofs.superblock.root)?.file_type != FileType::Directory {
        return Err(Error::corrupt("erofs: the root is no directory"));
    }
    Ok(Box::new(erofs))
}

/// The driver. A node's number is its inode's.
struct Erofs {
    device: Device,
    superblock: Superblock,
    /// Blocks of metadata by their numbers.
    blocks: RefCell<HashMap<u64, Arc<Vec<u8>>>>,
    /// Of files, of the packed inode, and of the metabox.
    kept: [Kept; 3],
}

impl Erofs {
    /// Reads bytes of the device.
    fn stored(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        match at.checked_add(buf.len() as u64) {
            Some(end) if end <= self.device.len() => self.device.read_at(at, buf),
            _ => Err(Error::corrupt(format!("erofs: {} bytes at byte {at} are outside", buf.len()))),
        }
    }

    /// Reads bytes of the device, or of the metabox if `at` has its bit.
    fn anywhere(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        if at & METABOX != 0 { self.metadata(at, buf) } else { self.stored(at, buf) }
    }

    /// A block of the metadata; the last one may be cut off.
    fn read_block(&self, start: u64) -> Result<Vec<u8>> {
        let boxed = match self.superblock.metabox {
            _ if start & METABOX == 0 => None,
            Some(number) => Some(self.inode(number)?),
            None => return Err(Error::corrupt("erofs: an inode in the metabox, which is not there")),
        };
        let offset = start & !METABOX;
        let len = boxed.as_ref().map_or(self.device.len(), |inode| inode.size);
        let mut bytes = vec![0; self.superblock.block().min(len.saturating_sub(offset)) as usize];
        match &boxed {
            Some(inode) => self.fill(inode, offset, &mut bytes)?,
            None => self.stored(offset, &mut bytes)?,
        }
        Ok(bytes)
    }

    /// Whether an inode is the metabox or the packed inode: their data is on the device.
    fn is_special(&self, inode: &Inode) -> bool {
        [self.superblock.packed, self.superblock.metabox].contains(&Some(inode.number))
    }

    /// What is kept for reading an inode. What other files are read with is kept apart.
    fn kept(&self, inode: &Inode) -> &Kept {
        let number = Some(inode.number);
        match number {
            _ if number == self.superblock.metabox => &self.kept[2],
            _ if number == self.superblock.packed => &self.kept[1],
            _ => &self.kept[0],
        }
    }

    /// Fills `buf` from a file, directory or link; all of it lies inside.
    fn fill(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        match inode.layout {
            _ if buf.is_empty() => Ok(()),
            Layout::Plain | Layout::Inline => self.read_flat(inode, offset, buf),
            Layout::Chunks => self.read_chunks(inode, offset, buf),
            Layout::Packed | Layout::PackedFull => self.read_packed(inode, offset, buf),
        }
    }

    /// Reads bytes of the metadata, in blocks that are kept.
    fn metadata(&self, mut at: u64, mut buf: &mut [u8]) -> Result<()> {
        let size = self.superblock.block();
        while !buf.is_empty() {
            let (number, offset) = (at / size, (at % size) as usize);
            let found = self.blocks.borrow().get(&number).cloned();
            let block = match found {
                Some(block) => block,
                None => {
                    let block = Arc::new(self.read_block(number * size)?);
                    let mut blocks = self.blocks.borrow_mut();
                    if (blocks.len() as u64 + 1) * size > CACHE {
                        blocks.clear();
                    }
                    blocks.insert(number, block.clone());
                    block
                }
            };
            let rest = block.get(offset..).filter(|rest| !rest.is_empty());
            let rest = rest.ok_or_else(|| Error::corrupt(format!("erofs: the metadata at byte {at} is outside")))?;
            let count = rest.len().min(buf.len());
            buf[..count].copy_from_slice(&rest[..count]);
            buf = &mut buf[count..];
            at += count as u64;
        }
        Ok(())
    }

    /// Where the bytes of a file are.
    fn segments(&self, inode: &Inode) -> Result<Vec<Segment>> {
        match inode.layout {
            Layout::Plain | Layout::Inline => Ok(self.flat_segments(inode)),
            Layout::Packed | Layout::PackedFull => self.packed_segments(inode),
            Layout::Chunks => {
                let mut segments = Vec::new();
                self.chunks(inode, 0, &mut |run| {
                    let stored = run.place.map_or(Stored::Hole, Stored::Data);
                    let block = run.place.map(|place| place >> self.superblock.log);
                    segments.push(Segment { offset: run.at, len: run.len, block, stored });
                    if segments.len() > PIECES {
                        return Err(Error::unsupported(format!("erofs: inode {}: too many chunks", inode.number)));
                    }
                    Ok(false)
                })?;
                Ok(segments)
            }
        }
    }

    fn regular(&self, node: NodeId) -> Result<Inode> {
        let inode = self.inode(node.0)?;
        inode.file_type.check_regular()?;
        Ok(inode)
    }
}

impl FileSystem for Erofs {
    fn info(&self) -> Result<FsInfo> {
        let superblock = &self.superblock;
        Ok(FsInfo {
            fs_type: "erofs".into(),
            label: superblock.label.clone(),
            uuid: superblock.uuid.or_nothing(),
            block_size: superblock.block(),
            blocks: superblock.blocks,
            inodes: superblock.inodes,
            name_max: 255,
            read_only: Some("erofs is never changed in place".into()),
            owners: true,
            fsid: match superblock.uuid {
                uuid if uuid.is_nil() => Fsid::OfDevice,
                uuid => Fsid::Number(le64(&uuid.0, 0) ^ le64(&uuid.0, 8)),
            },
            ..FsInfo::default()
        })
    }

    fn root(&self) -> NodeId {
        NodeId(self.superblock.root)
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let inode = self.inode(node.0)?;
        let block = self.superblock.block();
        let blocks = match inode.layout {
            Layout::Packed | Layout::PackedFull => inode.block << self.superblock.log,
            _ if inode.block == inode::NULL => 0,
            _ => inode.size.next_multiple_of(block),
        };
        Ok(Metadata {
            inode: self.superblock.shown(node.0),
            file_type: inode.file_type,
            mode: inode.mode,
            links: inode.links.into(),
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size,
            blocks: blocks / 512,
            block_size: block as u32,
            device: inode.device(),
            accessed: inode.modified,
            modified: inode.modified,
            changed: inode.modified,
            created: None,
        })
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        self.find(&self.inode(dir.0)?, name)
    }

    fn read_dir(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        self.list(&self.inode(dir.0)?)
    }

    fn read_link(&self, node: NodeId) -> Result<GuestPathBuf> {
        let inode = self.inode(node.0)?;
        if inode.file_type != FileType::Symlink {
            return Err(Kind::Invalid.into());
        }
        if inode.size > LINK {
            return Err(inode.bad(format!("a target of {} bytes", inode.size)));
        }
        let mut target = vec![0; inode.size as usize];
        self.fill(&inode, 0, &mut target)?;
        Ok(GuestPathBuf(target))
    }

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let inode = self.regular(node)?;
        let len = inode.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.fill(&inode, offset, &mut buf[..len])?;
        Ok(len)
    }

    fn extents(&self, node: NodeId) -> Result<Vec<Extent>> {
        let inode = self.regular(node)?;
        let mut extents = Vec::new();
        for segment in self.segments(&inode)? {
            let range = segment.offset..segment.offset + segment.len;
            push_extent(&mut extents, inode.size, range, segment.stored == Stored::Hole);
        }
        Ok(extents)
    }

    fn layout(&self, node: NodeId) -> Result<Vec<Segment>> {
        self.segments(&self.regular(node)?)
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<(Name, Vec<u8>)>> {
        self.attributes(&self.inode(node.0)?)
    }

    fn edit(&mut self, _: Timestamp) -> Result<&mut dyn Edit> {
        Err(Error::from(Kind::ReadOnly)
            .hint("erofs is never changed in place: copy the tree out, change it and make a new image with mkfs.erofs"))
    }

    fn reload(&mut self) -> Result<()> {
        self.superblock = Superblock::open(self.device.as_ref())?;
        (self.blocks, self.kept) = Default::default();
        Ok(())
    }

    fn committed(&mut self) {}
}
