//! Subvolumes: where they are and what their root items say.
//!
//! The root item: btrfs documentation, "On-disk Format", and the kernel's `uapi/linux/btrfs_tree.h` ("struct btrfs_root_item").

use std::ops::ControlFlow;

use super::items::{DIR_ITEM, INODE_REF, ROOT_BACKREF, ROOT_ITEM, name_hash, names, references, time};
use super::tree::Key;
use super::{Btrfs, TOP};
use crate::base::bytes::{is_zero, le64};
use crate::base::{Error, Kind, Result, Timestamp, Uuid};
use crate::fs::{FileSystem, NodeId};

/// Bit of a root item's flags: nothing in the subvolume may be changed.
const READ_ONLY: u64 = 1;
/// Bytes in front of the name in a backward reference.
const BACKREF_HEAD: usize = 18;
/// Directories inside each other that are followed.
const DEEPEST: usize = 4096;

/// A subvolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subvolume {
    /// Its number.
    pub id: u64,
    /// The number of the subvolume that its name is in.
    pub parent: u64,
    /// Path below the top of all.
    pub path: Vec<u8>,
    /// Transactions: of the last change, and of the creation.
    pub generations: (u64, u64),
    /// Its UUID, of what it is a snapshot of, and of what it was received from.
    pub uuids: [Option<Uuid>; 3],
    /// Whether it is not to be changed.
    pub read_only: bool,
    /// Creation.
    pub created: Timestamp,
    /// Sending and receiving: transaction and time.
    pub sent: (u64, Timestamp),
    /// See `sent`.
    pub received: (u64, Timestamp),
}

impl Subvolume {
    /// The last part of its path.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    fn read(id: u64, parent: u64, path: Vec<u8>, item: &[u8]) -> Self {
        // Items of old kernels end before the UUIDs; what is not there reads as zeros.
        let uuid = |at: usize| {
            let bytes: [u8; 16] = item.get(at..at + 16)?.try_into().ok()?;
            (!is_zero(&bytes)).then_some(Uuid(bytes))
        };
        Subvolume {
            id,
            parent,
            path,
            generations: (le64(item, 160), le64(item, 303)),
            uuids: [247, 263, 279].map(uuid),
            read_only: le64(item, 208) & READ_ONLY != 0,
            created: time(item, 339),
            sent: (le64(item, 311), time(item, 351)),
            received: (le64(item, 319), time(item, 363)),
        }
    }
}

impl Btrfs {
    /// The number of the subvolume that a mount without options shows.
    ///
    /// # Errors
    /// Damage.
    pub fn default_volume(&self) -> Result<u64> {
        let dir = self.trees.superblock().root_dir;
        let key = Key { object: dir, kind: DIR_ITEM, offset: name_hash(b"default") };
        let item = self.trees.item(self.trees.superblock().root, key)?.unwrap_or_default();
        let found = names(&item)?.into_iter().find(|named| named.name == b"default");
        Ok(found.map_or(TOP, |named| named.location.object))
    }

    /// All subvolumes but the top, by number.
    ///
    /// # Errors
    /// Damage.
    pub fn subvolumes(&self) -> Result<Vec<Subvolume>> {
        let root = self.trees.superblock().root;
        let mut found: Vec<(u64, u64, u64, Vec<u8>)> = Vec::new();
        self.trees.items(root, Key::first(TOP, 0), |key, item| {
            if key.kind == ROOT_BACKREF
                && let Some(name) = item.get(BACKREF_HEAD..).filter(|name| !name.is_empty())
            {
                found.push((key.object, key.offset, le64(item, 0), name.to_vec()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let mut list = Vec::new();
        for (id, parent, dir, name) in &found {
            let mut path = [self.path_in(*parent, *dir)?, name.clone()].concat();
            let mut above = *parent;
            // No chain is longer than the list.
            for _ in 0..found.len() {
                let Some((_, next, dir, name)) = found.iter().find(|(id, ..)| *id == above) else { break };
                path = [&self.path_in(*next, *dir)?[..], name, b"/", &path].concat();
                above = *next;
            }
            let last = Key { object: *id, kind: ROOT_ITEM, offset: u64::MAX };
            let item = self.trees.last_up_to(root, last)?.map(|(_, item)| item).unwrap_or_default();
            list.push(Subvolume::read(*id, *parent, path, &item));
        }
        Ok(list)
    }

    /// The paths, below the top of all, of the subvolumes that a plain mount does not show as its root.
    ///
    /// # Errors
    /// Damage.
    pub fn other_volumes(&self) -> Result<Vec<Vec<u8>>> {
        let default = self.default_volume()?;
        Ok(self.subvolumes()?.into_iter().filter(|volume| volume.id != default).map(|volume| volume.path).collect())
    }

    /// The number of the subvolume whose top directory a node is.
    ///
    /// # Errors
    /// `Kind::Invalid` for any other node.
    pub fn volume_at(&self, node: NodeId) -> Result<u64> {
        let node = self.node(node)?;
        match self.volume(node.tree)?.1 == node.inode {
            true => Ok(node.tree),
            false => Err(Error::new(Kind::Invalid, "this is no subvolume")),
        }
    }

    /// Shows the subvolume of a path below the top of all, as `btrfsvol:` has it.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn show_volume(&mut self, path: &[u8]) -> Result<()> {
        let mut at = self.top_of(TOP)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            at = self
                .lookup(at, name)?
                .ok_or_else(|| Error::from(Kind::NotFound).hint("btrfs-subvolume-list shows the subvolumes"))?;
        }
        self.volume_at(at)?;
        self.root = at;
        Ok(())
    }

    /// The path of a directory inside its subvolume, with a `/` behind it; nothing for the top.
    fn path_in(&self, tree: u64, mut inode: u64) -> Result<Vec<u8>> {
        let (root, top) = self.volume(tree)?;
        let mut path = Vec::new();
        for _ in 0..DEEPEST {
            if inode == top {
                return Ok(path);
            }
            let last = Key { object: inode, kind: INODE_REF, offset: u64::MAX };
            let Some((key, item)) = self.trees.last_up_to(root, last)? else { break };
            let Some(reference) = references(key, &item)?.first().copied() else { break };
            path = [reference.name, b"/", &path].concat();
            inode = reference.dir;
        }
        Err(Error::corrupt(format!("btrfs: subvolume {tree}: directory inode {inode} is not below its top")))
    }
}
