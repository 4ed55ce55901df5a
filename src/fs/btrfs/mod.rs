//! btrfs, read only: the default subvolume and those below it, packed files, checksums of all metadata.
//!
//! `docs/formats/btrfs.md` says what is read and what is refused.

mod chunks;
mod devices;
mod file;
mod items;
mod log;
mod lzo;
mod superblock;
mod tree;
mod volumes;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp, Uuid};
use crate::disk::{BlockDevice, Device};
use crate::fs::{DirEntry, Edit, Extent, FileSystem, FileType, FsInfo, Identity, Metadata, NodeId, Segment};

use devices::Devices;
use file::Unpacked;
use items::{
    DIR_INDEX, DIR_ITEM, INODE_ITEM, Inode, Named, ROOT_BACKREF, ROOT_ITEM, XATTR_ITEM, name_hash, names, root_item,
};
use superblock::Root;
use tree::{Key, Trees};

pub use volumes::Subvolume;

/// Word of `vfs-type`.
pub const NAMES: &[&str] = &["btrfs"];

/// The tree of files at the top, which has no name.
const TOP: u64 = 5;
/// Longest target of a symbolic link (PATH_MAX).
const LINK_MAX: u64 = 4096;
/// The inode that Linux shows for a subvolume whose tree is not below this one: an empty directory.
const EMPTY: u64 = 2;

/// See [`crate::fs::Driver::probe`].
pub fn probe(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    Ok(superblock::probe(device)?.map(|(label, uuid)| Identity {
        fs_type: "btrfs".into(),
        label: String::from_utf8_lossy(&label).into_owned(),
        uuid: uuid.to_string(),
    }))
}

/// See [`crate::fs::Driver::open`].
pub fn open(device: Device) -> Result<Box<dyn FileSystem>> {
    Ok(Box::new(Btrfs::open(device, &[])?))
}

/// The UUID of the file system on a device, if it lies on several devices: the others are to be given to [`Btrfs::open`].
///
/// # Errors
/// The device cannot be read.
pub fn wanted_members(device: &dyn BlockDevice) -> Result<Option<Uuid>> {
    superblock::shared(device)
}

/// An inode of a subvolume, or of an empty directory in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    tree: u64,
    inode: u64,
}

/// An open file system, seen from one of its subvolumes.
pub struct Btrfs {
    trees: Trees,
    /// Why the log of fsync is not shown.
    log_trouble: Option<Error>,
    /// By id: root node and top directory of the subvolumes that were met.
    volumes: RefCell<HashMap<u64, (Root, u64)>>,
    /// Nodes by the number that they are known as outside.
    known: RefCell<(Vec<Node>, HashMap<Node, u64>)>,
    unpacked: Unpacked,
    root: NodeId,
}

impl Btrfs {
    /// Opens the default subvolume. Of `others` those are taken that belong to the same file system.
    ///
    /// # Errors
    /// Features and profiles that are not read, damage, devices that are not here and have what no other one has.
    pub fn open(device: Device, others: &[Device]) -> Result<Self> {
        let (devices, superblock) = Devices::gather(&device, others)?;
        let logs = superblock.log;
        let mut trees = Trees::open(devices, superblock)?;
        let log_trouble = logs.and_then(|logs| log::replay(&mut trees, logs).err());
        let mut fs = Btrfs {
            trees,
            log_trouble,
            volumes: RefCell::default(),
            known: RefCell::default(),
            unpacked: Unpacked::default(),
            root: NodeId(0),
        };
        let default = fs.default_volume()?;
        fs.root = fs.top_of(default)?;
        Ok(fs)
    }

    /// How many devices it lies on, those that are not here too.
    pub fn devices(&self) -> u64 {
        self.trees.superblock().devices
    }

    /// The root node of a subvolume's tree and the inode of its top directory.
    fn volume(&self, id: u64) -> Result<(Root, u64)> {
        if let Some(found) = self.volumes.borrow().get(&id) {
            return Ok(*found);
        }
        let last = Key { object: id, kind: ROOT_ITEM, offset: u64::MAX };
        let item = self.trees.last_up_to(self.trees.superblock().root, last)?;
        let found = item.and_then(|(_, item)| root_item(&item));
        let found = found.ok_or_else(|| Error::corrupt(format!("btrfs: subvolume {id}: it has no root")))?;
        self.volumes.borrow_mut().insert(id, found);
        Ok(found)
    }

    fn top_of(&self, id: u64) -> Result<NodeId> {
        let (_, inode) = self.volume(id)?;
        Ok(self.id_of(Node { tree: id, inode }))
    }

    fn id_of(&self, node: Node) -> NodeId {
        let (list, numbers) = &mut *self.known.borrow_mut();
        NodeId(*numbers.entry(node).or_insert_with(|| {
            list.push(node);
            list.len() as u64 - 1
        }))
    }

    fn node(&self, id: NodeId) -> Result<Node> {
        let node = usize::try_from(id.0).ok().and_then(|i| self.known.borrow().0.get(i).copied());
        node.ok_or_else(|| Error::new(Kind::Internal, format!("btrfs: node {} was never given out", id.0)))
    }

    fn inode(&self, node: Node) -> Result<(Inode, FileType)> {
        let (root, _) = self.volume(node.tree)?;
        let item = self.trees.item(root, Key::first(node.inode, INODE_ITEM))?;
        let bad = || Error::corrupt(format!("btrfs: inode {} of subvolume {}: it is not there", node.inode, node.tree));
        let inode = item.and_then(|item| Inode::read(&item)).ok_or_else(bad)?;
        let file_type = FileType::from_mode(inode.mode).ok_or_else(bad)?;
        Ok((inode, file_type))
    }

    /// The node that an entry of `dir` names.
    fn target(&self, dir: Node, named: &Named<'_>) -> Result<NodeId> {
        if named.location.kind != ROOT_ITEM {
            return Ok(self.id_of(Node { tree: dir.tree, inode: named.location.object }));
        }
        // A snapshot has the names of subvolumes that are below the original: they are empty there.
        let id = named.location.object;
        let key = Key { object: id, kind: ROOT_BACKREF, offset: dir.tree };
        match self.trees.item(self.trees.superblock().root, key)? {
            Some(_) => self.top_of(id),
            None => Ok(self.id_of(Node { tree: dir.tree, inode: EMPTY })),
        }
    }

    /// Refuses what is no directory; `None` for one that is always empty.
    fn directory(&self, node: Node) -> Result<Option<Root>> {
        if node.inode == EMPTY {
            return Ok(None);
        }
        match self.inode(node)?.1 {
            FileType::Directory => Ok(Some(self.volume(node.tree)?.0)),
            _ => Err(Kind::NotADirectory.into()),
        }
    }
}

impl FileSystem for Btrfs {
    fn info(&self) -> Result<FsInfo> {
        let superblock = self.trees.superblock();
        let block_size = u64::from(superblock.sector);
        let free = superblock.total.saturating_sub(superblock.used) / block_size;
        Ok(FsInfo {
            fs_type: "btrfs".into(),
            label: String::from_utf8_lossy(&superblock.label).into_owned(),
            uuid: superblock.uuid.to_string(),
            block_size,
            blocks: superblock.total / block_size,
            free_blocks: free,
            available_blocks: free,
            name_max: 255,
            read_only: Some("btrfs is read only here".into()),
            owners: true,
            ..FsInfo::default()
        })
    }

    fn root(&self) -> NodeId {
        self.root
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let node = self.node(node)?;
        if node.inode == EMPTY {
            let (top, _) = self.inode(Node { tree: node.tree, inode: self.volume(node.tree)?.1 })?;
            let inode = Inode { size: 0, bytes: 0, links: 1, uid: 0, gid: 0, mode: 0o040755, device: 0, ..top };
            return Ok(metadata(node.inode, &inode, FileType::Directory, self.trees.superblock().sector));
        }
        let (inode, file_type) = self.inode(node)?;
        Ok(metadata(node.inode, &inode, file_type, self.trees.superblock().sector))
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        let dir = self.node(dir)?;
        let Some(root) = self.directory(dir)? else { return Ok(None) };
        let key = Key { object: dir.inode, kind: DIR_ITEM, offset: name_hash(name) };
        let item = self.trees.item(root, key)?.unwrap_or_default();
        let found = names(&item)?.into_iter().find(|named| named.name == name);
        found.map(|named| self.target(dir, &named)).transpose()
    }

    fn read_dir(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        let dir = self.node(dir)?;
        let Some(root) = self.directory(dir)? else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        self.trees.items(root, Key::first(dir.inode, DIR_INDEX), |key, item| {
            if (key.object, key.kind) != (dir.inode, DIR_INDEX) {
                return Ok(ControlFlow::Break(()));
            }
            for named in names(item)? {
                let node = self.target(dir, &named)?;
                entries.push(DirEntry { name: Name(named.name.to_vec()), node, file_type: named.file_type });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(entries)
    }

    fn read_link(&self, node: NodeId) -> Result<GuestPathBuf> {
        let node = self.node(node)?;
        let (inode, file_type) = self.inode(node)?;
        if file_type != FileType::Symlink {
            return Err(Kind::Invalid.into());
        }
        if inode.size > LINK_MAX {
            return Err(Error::corrupt(format!("btrfs: inode {}: a link of {} bytes", node.inode, inode.size)));
        }
        let mut target = vec![0; inode.size as usize];
        let (root, _) = self.volume(node.tree)?;
        self.trees.read_file(root, node.inode, 0, &mut target, &self.unpacked)?;
        Ok(GuestPathBuf(target))
    }

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let node = self.node(node)?;
        let (inode, file_type) =
            if node.inode == EMPTY { return Err(Kind::IsADirectory.into()) } else { self.inode(node)? };
        file_type.check_regular()?;
        let len = inode.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (root, _) = self.volume(node.tree)?;
        self.trees.read_file(root, node.inode, offset, &mut buf[..len], &self.unpacked)?;
        Ok(len)
    }

    fn extents(&self, node: NodeId) -> Result<Vec<Extent>> {
        let node = self.node(node)?;
        let (inode, _) = self.inode(node)?;
        self.trees.file_extents(self.volume(node.tree)?.0, node.inode, inode.size)
    }

    fn layout(&self, node: NodeId) -> Result<Vec<Segment>> {
        let node = self.node(node)?;
        let (inode, file_type) = self.inode(node)?;
        if file_type != FileType::Regular {
            return Err(Kind::Invalid.into());
        }
        self.trees.file_layout(self.volume(node.tree)?.0, node.inode, inode.size)
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<(Name, Vec<u8>)>> {
        let node = self.node(node)?;
        let mut found = Vec::new();
        if node.inode == EMPTY {
            return Ok(found);
        }
        self.trees.items(self.volume(node.tree)?.0, Key::first(node.inode, XATTR_ITEM), |key, item| {
            if (key.object, key.kind) != (node.inode, XATTR_ITEM) {
                return Ok(ControlFlow::Break(()));
            }
            found.extend(names(item)?.into_iter().map(|named| (Name(named.name.to_vec()), named.value.to_vec())));
            Ok(ControlFlow::Continue(()))
        })?;
        found.sort();
        Ok(found)
    }

    fn edit(&mut self, _: Timestamp) -> Result<&mut dyn Edit> {
        Err(Error::from(Kind::ReadOnly).hint(
            "imgsh reads btrfs and does not write it yet: copy files out, or change the guest from inside (cloud-init)",
        ))
    }

    fn reload(&mut self) -> Result<()> {
        let node = self.node(self.root)?;
        let devices = self.trees.devices();
        *self = Btrfs::open(devices.first().ok_or(Kind::Internal)?.clone(), &devices.others())?;
        self.root = self.id_of(node);
        Ok(())
    }

    fn notice(&self) -> Option<String> {
        let log = self.log_trouble.as_ref().map(|trouble| {
            format!("its log of the last fsync calls cannot be replayed, and what is read is older by them: {trouble}")
        });
        let notices: Vec<String> = self.trees.devices().notice().into_iter().chain(log).collect();
        (!notices.is_empty()).then(|| notices.join("; "))
    }

    fn as_btrfs(&mut self) -> Option<&mut Btrfs> {
        Some(self)
    }

    fn committed(&mut self) {}
}

fn metadata(number: u64, inode: &Inode, file_type: FileType, sector: u32) -> Metadata {
    let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
    Metadata {
        inode: number,
        file_type,
        mode: inode.mode & 0o7777,
        links: inode.links.into(),
        uid: inode.uid,
        gid: inode.gid,
        size: inode.size,
        blocks: inode.bytes.div_ceil(sector.into()).saturating_mul(u64::from(sector) / 512),
        block_size: sector,
        // Linux' own form of a device number: 20 bits of minor.
        device: if is_device { ((inode.device >> 20) as u32, inode.device as u32 & 0xf_ffff) } else { (0, 0) },
        accessed: inode.accessed,
        modified: inode.modified,
        changed: inode.changed,
        created: Some(inode.created),
    }
}
