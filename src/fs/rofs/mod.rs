//! ROFS, the read-only file system of OSv's unikernel images, read only.
//!
//! `docs/formats/rofs.md` has the tables of bytes, the sources and the decisions.

mod tables;

use crate::base::bytes::le64;
use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp};
use crate::disk::{BlockDevice, Device};
use crate::fs::{DirEntry, Edit, Extent, FileSystem, FileType, FsInfo, Identity, Metadata, NodeId, Segment, Stored};

use tables::{Inode, Superblock, Tables};

/// Word of `vfs-type`.
pub const NAMES: &[&str] = &["rofs"];
/// Bytes of a block; the reader of OSv knows no other.
const BLOCK: u64 = 512;
/// The first word of the file system.
const MAGIC: u64 = 0xdead_bead;
/// What OSv answers for every node.
const MODE: u32 = 0o555;

/// See [`crate::fs::Driver::probe`].
pub fn probe(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    if device.len() < BLOCK {
        return Ok(None);
    }
    let mut magic = [0; 8];
    device.read_at(0, &mut magic)?;
    Ok((le64(&magic, 0) == MAGIC).then(identity))
}

/// It has neither label nor UUID.
fn identity() -> Identity {
    Identity { fs_type: "rofs".into(), label: String::new(), uuid: String::new() }
}

/// See [`crate::fs::Driver::open`].
pub fn open(device: Device) -> Result<Box<dyn FileSystem>> {
    let superblock = Superblock::read(device.as_ref())?;
    let tables = Tables::read(device.as_ref(), &superblock)?;
    Ok(Box::new(Rofs { device, superblock, tables }))
}

/// The driver. All but the bytes of files is in memory.
struct Rofs {
    device: Device,
    superblock: Superblock,
    tables: Tables,
}

impl Rofs {
    /// First byte and length of a regular file's data on the device.
    fn data(&self, inode: &Inode) -> Result<(u64, u64)> {
        inode.file_type.check_regular()?;
        // The place of an empty file means nothing.
        Ok(if inode.count == 0 { (0, 0) } else { (inode.data_offset * BLOCK, inode.count) })
    }
}

impl FileSystem for Rofs {
    fn info(&self) -> Result<FsInfo> {
        let Identity { fs_type, label, uuid } = identity();
        Ok(FsInfo {
            fs_type,
            label,
            uuid,
            block_size: BLOCK,
            blocks: self.superblock.blocks(),
            name_max: 255,
            read_only: Some("rofs is never changed in place".into()),
            ..FsInfo::default()
        })
    }
    fn root(&self) -> NodeId {
        NodeId(1)
    }
    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let inode = self.tables.inode(node)?;
        let size = match inode.file_type {
            FileType::Regular => inode.count,
            FileType::Symlink => self.tables.target(inode)?.len() as u64,
            _ => BLOCK,
        };
        let used = if inode.file_type == FileType::Regular { size.div_ceil(BLOCK) } else { 0 };
        let never = Timestamp::default();
        Ok(Metadata {
            inode: node.0,
            file_type: inode.file_type,
            mode: MODE,
            links: if inode.file_type == FileType::Directory { 2 } else { 1 },
            uid: 0,
            gid: 0,
            size,
            blocks: used,
            block_size: BLOCK as u32,
            device: (0, 0),
            accessed: never,
            modified: never,
            changed: never,
            created: None,
        })
    }
    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        let entries = self.tables.entries(self.tables.inode(dir)?)?;
        Ok(entries.iter().find(|entry| self.tables.name(entry) == name).map(|entry| NodeId(entry.inode)))
    }
    fn read_dir(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        let entries = self.tables.entries(self.tables.inode(dir)?)?.iter().map(|entry| {
            let node = NodeId(entry.inode);
            let file_type = Some(self.tables.inode(node)?.file_type);
            Ok(DirEntry { name: Name::from(self.tables.name(entry)), node, file_type })
        });
        entries.collect()
    }
    fn read_link(&self, node: NodeId) -> Result<GuestPathBuf> {
        let inode = self.tables.inode(node)?;
        match inode.file_type {
            FileType::Symlink => Ok(GuestPathBuf::from(self.tables.target(inode)?)),
            _ => Err(Kind::Invalid.into()),
        }
    }
    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let (at, size) = self.data(self.tables.inode(node)?)?;
        let len = size.saturating_sub(offset).min(buf.len() as u64) as usize;
        if len > 0 {
            self.device.read_at(at + offset, &mut buf[..len])?;
        }
        Ok(len)
    }
    fn extents(&self, node: NodeId) -> Result<Vec<Extent>> {
        let (_, size) = self.data(self.tables.inode(node)?)?;
        Ok(if size == 0 { Vec::new() } else { vec![Extent { range: 0..size, hole: false }] })
    }
    fn layout(&self, node: NodeId) -> Result<Vec<Segment>> {
        let (at, len) = self.data(self.tables.inode(node)?)?;
        let segment = Segment { offset: 0, len, block: Some(at / BLOCK), stored: Stored::Data(at) };
        Ok(if len == 0 { Vec::new() } else { vec![segment] })
    }
    fn xattrs(&self, node: NodeId) -> Result<Vec<(Name, Vec<u8>)>> {
        self.tables.inode(node)?;
        Ok(Vec::new())
    }
    fn edit(&mut self, _: Timestamp) -> Result<&mut dyn Edit> {
        Err(Error::from(Kind::ReadOnly)
            .hint("rofs is never changed in place: build the OSv image anew from the changed files"))
    }
    fn reload(&mut self) -> Result<()> {
        self.superblock = Superblock::read(self.device.as_ref())?;
        self.tables = Tables::read(self.device.as_ref(), &self.superblock)?;
        Ok(())
    }
    fn committed(&mut self) {}
}
