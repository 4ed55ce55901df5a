//! FAT12, FAT16 and FAT32 with long names: the EFI system partition and seed disks.
//!
//! `docs/formats/fat.md` has the tables of bytes, the sources and the decisions.

mod bits;
mod boot;
mod directory;
mod edit;
mod make;
mod name;
mod table;
mod time;
mod volume;

use std::cell::RefCell;

use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp};
use crate::disk::{BlockDevice, Device};
use crate::fs::{DirEntry, Edit, Extent, FileSystem, FsInfo, Identity, Metadata, NodeId, Segment};

use volume::Volume;

pub use make::make;

/// Words of `mkfs` and of `vfs-type`.
pub const NAMES: &[&str] = &["vfat", "fat", "msdos"];

/// See [`crate::fs::Driver::probe`]. The label is the root directory's, as in blkid.
pub fn probe(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    let Some(sector) = volume::read_boot(device)?.filter(|sector| boot::Boot::looks_like(sector)) else {
        return Ok(None);
    };
    let found = boot::Boot::parse(&sector)?;
    let label = volume::find_label(device, &found)?;
    Ok(Some(Identity { fs_type: "vfat".into(), label, uuid: found.uuid() }))
}

/// See [`crate::fs::Driver::open`].
pub fn open(device: Device) -> Result<Box<dyn FileSystem>> {
    Ok(Box::new(Fat(RefCell::new(Volume::open(device)?))))
}

/// The driver: reading fills caches too, hence the cell.
struct Fat(RefCell<Volume>);

impl FileSystem for Fat {
    fn info(&self) -> Result<FsInfo> {
        self.0.borrow_mut().info()
    }
    fn root(&self) -> NodeId {
        volume::ROOT
    }
    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        self.0.borrow_mut().metadata(node)
    }
    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        self.0.borrow_mut().lookup(dir, name)
    }
    fn read_dir(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        self.0.borrow_mut().read_dir(dir)
    }
    fn read_link(&self, node: NodeId) -> Result<GuestPathBuf> {
        self.0.borrow_mut().node(node)?;
        Err(Kind::Invalid.into())
    }
    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.0.borrow_mut().read(node, offset, buf)
    }
    fn extents(&self, node: NodeId) -> Result<Vec<Extent>> {
        self.0.borrow_mut().extents(node)
    }
    fn layout(&self, node: NodeId) -> Result<Vec<Segment>> {
        self.0.borrow_mut().layout(node)
    }
    fn xattrs(&self, node: NodeId) -> Result<Vec<(Name, Vec<u8>)>> {
        self.0.borrow_mut().node(node)?;
        Ok(Vec::new())
    }
    fn edit(&mut self, now: Timestamp) -> Result<&mut dyn Edit> {
        let volume = self.0.get_mut();
        if let Some(reason) = volume.refusal() {
            return Err(Error::new(Kind::ReadOnly, reason)
                .hint("run fsck.fat -a on this file system, or mount and unmount it once; nothing was changed"));
        }
        volume.begin(now);
        Ok(volume)
    }
    fn reload(&mut self) -> Result<()> {
        self.0.get_mut().reload()
    }
    fn committed(&mut self) {
        self.0.get_mut().table.committed();
    }
}
