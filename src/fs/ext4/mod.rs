//! ext2, ext3 and ext4: one driver, read and write.
//!
//! On-disk structures are views over bytes, one file each (`superblock`, `group`, `inode`, `extent`,
//! `dirent`, `xattr`). Metadata blocks are cached and written by [`Edit::sync`], where their checksums are
//! computed (`cache`); file content goes straight to the device. What is handled: docs/formats/ext4.md.

mod acl;
mod alloc;
mod attributes;
mod cache;
mod check;
pub mod checksum;
mod content;
mod copies;
mod dir;
pub mod dirent;
mod edit;
pub mod extent;
mod facts;
pub mod features;
mod file;
mod flags;
mod fold;
mod free_space;
mod fresh;
pub mod geometry;
pub mod group;
mod guard;
pub mod hash;
mod identity;
mod index;
mod inline;
pub mod inode;
mod journal;
mod list;
pub mod make;
mod map;
mod mend;
mod mmp;
mod names;
mod orphan;
mod quota;
mod resize;
mod state;
pub mod superblock;
mod tree;
mod tune;
mod values;
pub mod xattr;

use std::cell::RefCell;
use std::collections::HashMap;

use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp};
use crate::disk::guest_log::LogPlan;
use crate::disk::{BlockDevice, Changes, Device};
use crate::fs::{DirEntry, Edit, Extent, FileSystem, FsInfo, Identity, Metadata, NodeId, Segment};
pub use journal::{JournalDevice, wanted_journal};
pub use make::{ExtOptions, make};
pub use tune::Tuning;

use alloc::Allocator;
use cache::Cache;
use features::{Compat, Incompat, RoCompat};
use fresh::Fresh;
use geometry::Geometry;
use inode::{Inode, Time};
use superblock::{SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, Superblock};

/// Words of `mkfs` and answers of `vfs-type`.
pub const NAMES: &[&str] = &["ext2", "ext3", "ext4"];

/// An open file system.
pub struct Ext4 {
    /// The device as it was given.
    base: Device,
    /// The same, or what it reads as after the replay of its journal.
    device: Device,
    /// The device with its journal, where that is another one.
    beside: Option<JournalDevice>,
    recovery: Option<journal::Recovery>,
    superblock: Superblock,
    geometry: Geometry,
    cache: RefCell<Cache>,
    fresh: RefCell<Fresh>,
    superblock_changed: bool,
    writable: bool,
    allocator: Allocator,
    /// By directory without index: the first block that may have room for another name.
    linear_hints: HashMap<u32, u64>,
    /// The name that was last looked for in vain, and the directory; until a name is added.
    missing: RefCell<Option<(u32, Vec<u8>)>>,
    /// What inodes changed for their owners' quotas.
    usage_notes: quota::Notes,
    /// Last generation that was given to a new inode.
    generation: u32,
    now: Timestamp,
}

/// Reads the first superblock; `None` if there is none.
fn read_superblock(device: &dyn BlockDevice) -> Result<Option<Superblock>> {
    if device.len() < SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE as u64 {
        return Ok(None);
    }
    let mut bytes = [0; SUPERBLOCK_SIZE];
    device.read_at(SUPERBLOCK_OFFSET, &mut bytes)?;
    Ok(Superblock::from_bytes(&bytes))
}

/// blkid's word for a file system: by the features that ext2 and ext3 know.
fn type_name(superblock: &Superblock) -> &'static str {
    let (incompat, ro_compat) = (superblock.incompat(), superblock.ro_compat());
    if incompat.has(Incompat::JOURNAL_DEV) {
        return "jbd";
    }
    let old_incompat = Incompat::FILETYPE | Incompat::RECOVER | Incompat::META_BG;
    let old_ro_compat = RoCompat::SPARSE_SUPER | RoCompat::LARGE_FILE | 0x4;
    if incompat.0 & !old_incompat != 0 || ro_compat.0 & !old_ro_compat != 0 {
        "ext4"
    } else if superblock.compat().has(Compat::HAS_JOURNAL) {
        "ext3"
    } else {
        "ext2"
    }
}

/// See [`crate::fs::Driver::probe`].
pub fn probe(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    Ok(read_superblock(device)?.map(|superblock| Identity {
        fs_type: type_name(&superblock).into(),
        label: String::from_utf8_lossy(superblock.label()).into_owned(),
        uuid: superblock.uuid().or_nothing(),
    }))
}

/// See [`crate::fs::Driver::open`].
pub fn open(device: Device) -> Result<Box<dyn FileSystem>> {
    Ok(Box::new(Ext4::open(device)?))
}

/// Reads and checks the superblock of a file system that can be read.
fn load(device: &dyn BlockDevice) -> Result<(Superblock, Geometry)> {
    let Some(superblock) = read_superblock(device)? else {
        return Err(Error::new(Kind::Invalid, "no ext2, ext3 or ext4 superblock is here"));
    };
    if superblock.revision() > 1 {
        return Err(Error::unsupported(format!("ext4: superblock: revision {} is not known", superblock.revision())));
    }
    if let Some(feature) = features::unreadable(superblock.incompat()) {
        return Err(Error::unsupported(format!("ext4: {feature} cannot be read")));
    }
    superblock.verify()?;
    let geometry = Geometry::new(&superblock, device.len())?;
    Ok((superblock, geometry))
}

impl Ext4 {
    /// Opens a file system; reads its superblock, and the journal if it must be replayed.
    ///
    /// # Errors
    /// Features that forbid reading, a damaged superblock or journal, a device that is too short.
    pub fn open(device: Device) -> Result<Self> {
        Ext4::open_with_journal(device, None)
    }

    /// The same for a file system whose journal may be on another device: the one that [`wanted_journal`] names.
    ///
    /// # Errors
    /// Those of [`Ext4::open`]; `Kind::Unsupported` if the journal must be replayed and is not here.
    pub fn open_with_journal(device: Device, beside: Option<JournalDevice>) -> Result<Self> {
        let (superblock, geometry) = load(device.as_ref())?;
        let allocator = Allocator::new(device.takes_fresh());
        let mut fs = Ext4 {
            base: device.clone(),
            device,
            beside,
            recovery: None,
            superblock,
            geometry,
            cache: RefCell::default(),
            fresh: RefCell::default(),
            superblock_changed: false,
            writable: false,
            allocator,
            linear_hints: HashMap::new(),
            missing: RefCell::default(),
            usage_notes: quota::Notes::new(),
            generation: 0,
            now: Timestamp::default(),
        };
        fs.find_recovery()?;
        Ok(fs)
    }

    /// Forgets everything that was read or changed.
    fn forget_all(&mut self) {
        self.cache = RefCell::default();
        self.fresh = RefCell::default();
        self.superblock_changed = false;
        self.linear_hints.clear();
        self.missing.take();
        self.usage_notes.clear();
        self.allocator.forget();
    }

    /// The inode of a node.
    fn node(&self, node: NodeId) -> Result<Inode> {
        let number = u32::try_from(node.0).map_err(|_| Error::corrupt(format!("ext4: no inode {}", node.0)))?;
        let inode = self.inode(number)?;
        if inode.links() == 0 || inode.file_type().is_none() {
            let (links, mode) = (inode.links(), inode.mode());
            return Err(Error::corrupt(format!("ext4: inode {number} is not in use (links {links}, mode {mode:#o})")));
        }
        Ok(inode)
    }
}

impl FileSystem for Ext4 {
    fn log_plan(&self, changes: &dyn Changes) -> Result<Option<LogPlan>> {
        self.plan_commit(changes)
    }

    fn info(&self) -> Result<FsInfo> {
        self.describe()
    }

    fn root(&self) -> NodeId {
        NodeId(inode::ROOT.into())
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let inode = self.node(node)?;
        let file_type = inode.file_type().ok_or_else(|| Error::from(Kind::Corrupt))?;
        let time = |which| inode.time(which).unwrap_or_default();
        let is_device = matches!(file_type, crate::fs::FileType::CharDevice | crate::fs::FileType::BlockDevice);
        Ok(Metadata {
            inode: node.0,
            file_type,
            mode: u32::from(inode.mode()) & 0o7777,
            links: inode.links().into(),
            uid: inode.uid(),
            gid: inode.gid(),
            size: inode.size(),
            blocks: inode.sectors(self.geometry.bs()),
            block_size: self.geometry.block_size as u32,
            device: if is_device { inode.device() } else { (0, 0) },
            accessed: time(Time::Access),
            modified: time(Time::Modify),
            changed: time(Time::Change),
            created: inode.time(Time::Create),
        })
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        let dir = self.node(dir)?;
        self.check_dir(&dir)?;
        Ok(self.find(&dir, name)?.map(|place| NodeId(place.inode.into())))
    }

    fn read_dir(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        self.list_dir(&self.node(dir)?)
    }

    fn read_link(&self, node: NodeId) -> Result<GuestPathBuf> {
        self.link_target(&self.node(node)?)
    }

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.read_file(&self.node(node)?, offset, buf)
    }

    fn extents(&self, node: NodeId) -> Result<Vec<Extent>> {
        self.file_extents(&self.node(node)?)
    }

    fn layout(&self, node: NodeId) -> Result<Vec<Segment>> {
        self.file_layout(&self.node(node)?)
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<(Name, Vec<u8>)>> {
        self.list_xattrs(&self.node(node)?)
    }

    fn edit(&mut self, now: Timestamp) -> Result<&mut dyn Edit> {
        self.now = now;
        self.generation ^= now.nanos ^ now.seconds as u32;
        self.begin_edit()?;
        self.write_back_if_many()?;
        Ok(self)
    }

    fn reload(&mut self) -> Result<()> {
        self.forget_all();
        self.writable = false;
        self.device = self.base.clone();
        (self.superblock, self.geometry) = load(self.device.as_ref())?;
        self.find_recovery()
    }

    fn free_space(&mut self) -> Result<Vec<std::ops::Range<u64>>> {
        self.load_zones()?;
        let bs = self.geometry.bs();
        Ok(self.free_runs()?.into_iter().map(|run| run.start * bs..run.end * bs).collect())
    }

    fn notice(&self) -> Option<String> {
        self.missing_commits()
    }

    fn as_ext4(&mut self) -> Option<&mut Ext4> {
        Some(self)
    }

    fn committed(&mut self) {
        self.allocator.committed();
    }
}
