//! Squashfs 4.0, read only: live systems, appliances, snaps.
//!
//! `docs/formats/squashfs.md` has the tables of bytes, the sources and the decisions.

mod attributes;
mod directory;
mod file;
mod inode;
mod metadata;
mod superblock;

use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp};
use crate::disk::{BlockDevice, Device};
use crate::fs::{DirEntry, Edit, Extent, FileSystem, FileType, FsInfo, Fsid, Identity, Metadata, NodeId, Segment};

use file::Kept;
use inode::{Content, Inode};
use metadata::Cache;
use superblock::Superblock;

/// Word of `vfs-type`.
pub const NAMES: &[&str] = &["squashfs"];

/// See [`crate::fs::Driver::probe`].
pub fn probe(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    Ok(superblock::probe(device)?.then(identity))
}

/// It has neither label nor UUID.
fn identity() -> Identity {
    Identity { fs_type: "squashfs".into(), label: String::new(), uuid: String::new() }
}

/// See [`crate::fs::Driver::open`].
pub fn open(device: Device) -> Result<Box<dyn FileSystem>> {
    let superblock = Superblock::read(device.as_ref())?;
    let squash = Squash { device, superblock, metadata: Cache::default(), kept: Kept::default() };
    if squash.inode(squash.superblock.root)?.file_type != FileType::Directory {
        return Err(Error::corrupt("squashfs: the root is no directory"));
    }
    Ok(Box::new(squash))
}

/// The driver. A node's number is the reference of its inode: where it stands in the table of inodes.
struct Squash {
    device: Device,
    superblock: Superblock,
    metadata: Cache,
    kept: Kept,
}

impl Squash {
    /// Bytes of 512 that a file takes, as Linux counts them: its size without holes.
    fn used(inode: &Inode) -> u64 {
        match inode.content {
            Content::File(file) => inode.size.saturating_sub(file.sparse).div_ceil(512),
            _ => 0,
        }
    }
}

impl FileSystem for Squash {
    fn info(&self) -> Result<FsInfo> {
        let Identity { fs_type, label, uuid } = identity();
        Ok(FsInfo {
            fs_type,
            label,
            uuid,
            block_size: self.superblock.block as u64,
            blocks: self.superblock.end.div_ceil(self.superblock.block as u64),
            inodes: self.superblock.inodes.into(),
            name_max: 256,
            read_only: Some("squashfs is never changed in place".into()),
            owners: true,
            fsid: Fsid::OfDevice,
            ..FsInfo::default()
        })
    }

    fn root(&self) -> NodeId {
        NodeId(self.superblock.root)
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let inode = self.inode(node.0)?;
        Ok(Metadata {
            inode: inode.number.into(),
            file_type: inode.file_type,
            mode: inode.mode,
            links: inode.links.into(),
            uid: self.id(inode.uid)?,
            gid: self.id(inode.gid)?,
            size: inode.size,
            blocks: Self::used(&inode),
            // What Linux says, whatever the blocks are.
            block_size: 1024,
            device: if let Content::Device(major, minor) = inode.content { (major, minor) } else { (0, 0) },
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
        let Content::Link(mut cursor) = inode.content else { return Err(Kind::Invalid.into()) };
        let mut target = vec![0; inode.size as usize];
        self.take(&mut cursor, &mut target)?;
        Ok(GuestPathBuf(target))
    }

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let inode = self.inode(node.0)?;
        inode.file_type.check_regular()?;
        let len = inode.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        if len > 0 {
            self.read_file(node.0, &inode, offset, &mut buf[..len])?;
        }
        Ok(len)
    }

    fn extents(&self, node: NodeId) -> Result<Vec<Extent>> {
        self.extents_of(node.0, &self.inode(node.0)?)
    }

    fn layout(&self, node: NodeId) -> Result<Vec<Segment>> {
        self.layout_of(node.0, &self.inode(node.0)?)
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<(Name, Vec<u8>)>> {
        self.attributes(&self.inode(node.0)?)
    }

    fn edit(&mut self, _: Timestamp) -> Result<&mut dyn Edit> {
        Err(Error::from(Kind::ReadOnly).hint(
            "squashfs is never changed in place: copy the tree out, change it and make a new image with mksquashfs",
        ))
    }

    fn reload(&mut self) -> Result<()> {
        self.superblock = Superblock::read(self.device.as_ref())?;
        (self.metadata, self.kept) = Default::default();
        Ok(())
    }

    fn committed(&mut self) {}
}
