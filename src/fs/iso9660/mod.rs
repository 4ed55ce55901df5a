//! ISO 9660 with Rock Ridge or Joliet, read only: installation discs and seed disks.
//!
//! `docs/formats/iso9660.md` has the tables of bytes, the sources and the decisions.

mod descriptor;
pub mod make;
mod record;
mod rock;
mod volume;

use std::cell::RefCell;

use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp};
use crate::disk::{BlockDevice, Device};
use crate::fs::{DirEntry, Edit, Extent, FileSystem, FileType, FsInfo, Fsid, Identity, Metadata, NodeId, Segment};

pub use descriptor::{Descriptor, FIRST, SECTOR};

use descriptor::Set;
use volume::Volume;

/// Word of `vfs-type`.
pub const NAMES: &[&str] = &["iso9660"];

/// See [`crate::fs::Driver::probe`].
pub fn probe(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    Ok(Set::read(device)?.map(|set| identity(&set)))
}

/// The label is Joliet's where there is one, as in blkid.
fn identity(set: &Set) -> Identity {
    let joliet = set.joliet.as_ref().map(|joliet| joliet.volume_unicode(&set.primary)).filter(|l| !l.is_empty());
    let label = joliet.unwrap_or_else(|| set.primary.volume());
    Identity { fs_type: "iso9660".into(), label, uuid: set.primary.uuid() }
}

/// See [`crate::fs::Driver::open`].
pub fn open(device: Device) -> Result<Box<dyn FileSystem>> {
    Ok(Box::new(Iso { volume: RefCell::new(Volume::open(device.clone())?), device }))
}

/// The driver: reading fills caches too, hence the cell.
struct Iso {
    volume: RefCell<Volume>,
    device: Device,
}

impl FileSystem for Iso {
    fn info(&self) -> Result<FsInfo> {
        let volume = self.volume.borrow();
        let Identity { fs_type, label, uuid } = identity(&volume.set);
        Ok(FsInfo {
            fs_type,
            label,
            uuid,
            block_size: volume.block_size,
            blocks: volume.set.primary.blocks().into(),
            name_max: 255,
            read_only: Some("iso9660 is never changed in place".into()),
            owners: true,
            fsid: Fsid::OfDevice,
            ..FsInfo::default()
        })
    }
    fn root(&self) -> NodeId {
        self.volume.borrow().root()
    }
    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        Ok(self.volume.borrow().node(node)?.metadata)
    }
    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        Ok(self.volume.borrow_mut().directory(dir)?.find(name))
    }
    fn read_dir(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        Ok(self.volume.borrow_mut().directory(dir)?.entries.clone())
    }
    fn read_link(&self, node: NodeId) -> Result<GuestPathBuf> {
        let node = self.volume.borrow().node(node)?;
        match node.metadata.file_type {
            FileType::Symlink => Ok(GuestPathBuf(node.target)),
            _ => Err(Kind::Invalid.into()),
        }
    }
    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.volume.borrow().read(node, offset, buf)
    }
    fn extents(&self, node: NodeId) -> Result<Vec<Extent>> {
        let size = self.volume.borrow().node(node)?.metadata.size;
        Ok(if size == 0 { Vec::new() } else { vec![Extent { range: 0..size, hole: false }] })
    }
    fn layout(&self, node: NodeId) -> Result<Vec<Segment>> {
        self.volume.borrow().layout(node)
    }
    fn xattrs(&self, node: NodeId) -> Result<Vec<(Name, Vec<u8>)>> {
        self.volume.borrow().node(node)?;
        Ok(Vec::new())
    }
    fn edit(&mut self, _: Timestamp) -> Result<&mut dyn Edit> {
        Err(Error::from(Kind::ReadOnly)
            .hint("iso9660 is never changed in place: copy the tree out, change it and make a new image of it"))
    }
    fn reload(&mut self) -> Result<()> {
        *self.volume.get_mut() = Volume::open(self.device.clone())?;
        Ok(())
    }
    fn committed(&mut self) {}
}
