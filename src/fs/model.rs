//! A file system in memory: what the trait means, in the shortest form.
//!
//! The oracle of the contract tests, and a stand-in for a real one in the tests of the layers above. It is part of
//! the library, hidden from its documentation, only because integration tests cannot see `cfg(test)` items.

use std::collections::BTreeMap;
use std::io::Read;

use super::{
    DirEntry, Edit, Extent, FileSystem, FileType, FsInfo, Metadata, NewKind, NewNode, NodeId, SetAttributes,
    push_extent,
};
use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp};

/// Bytes of a file are kept in pages of this size; a page that is not there is a hole.
const PAGE: u64 = 4096;
/// Longest name.
const NAME_MAX: usize = 255;
/// Largest file, as Linux has it.
const SIZE_MAX: u64 = i64::MAX as u64;

/// What differs from type to type.
#[derive(Debug, Clone)]
enum Content {
    Regular { size: u64, pages: BTreeMap<u64, Vec<u8>> },
    Directory { parent: NodeId, names: BTreeMap<Name, NodeId> },
    Symlink(GuestPathBuf),
    Special(FileType, (u32, u32)),
}

#[derive(Debug, Clone)]
struct Node {
    content: Content,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u64,
    accessed: Timestamp,
    modified: Timestamp,
    changed: Timestamp,
    created: Timestamp,
    xattrs: BTreeMap<Name, Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: u64,
}

/// The file system: the tree as it is, and as it was at the last [`Edit::sync`], which a reload goes back to.
#[derive(Debug, Clone)]
pub struct Model {
    tree: Tree,
    synced: Tree,
    now: Timestamp,
}

const ROOT: NodeId = NodeId(2);

impl Model {
    /// An empty file system: a root directory, mode 0755, owned by root.
    #[allow(clippy::new_ret_no_self)] // Every user of it wants the trait.
    pub fn new() -> Box<dyn FileSystem> {
        let mut tree = Tree { nodes: BTreeMap::new(), next: 11 };
        let directory = Content::Directory { parent: ROOT, names: BTreeMap::new() };
        tree.nodes.insert(ROOT, Node::new(directory, 0o755, (0, 0), Timestamp::default()));
        Box::new(Model { synced: tree.clone(), tree, now: Timestamp::default() })
    }
}

impl Node {
    fn new(content: Content, mode: u32, (uid, gid): (u32, u32), now: Timestamp) -> Self {
        let links = if matches!(content, Content::Directory { .. }) { 2 } else { 1 };
        let (accessed, modified, changed, created) = (now, now, now, now);
        let xattrs = BTreeMap::new();
        Node { content, mode, uid, gid, links, accessed, modified, changed, created, xattrs }
    }

    fn file_type(&self) -> FileType {
        match &self.content {
            Content::Regular { .. } => FileType::Regular,
            Content::Directory { .. } => FileType::Directory,
            Content::Symlink(_) => FileType::Symlink,
            Content::Special(file_type, _) => *file_type,
        }
    }

    fn names(&self) -> Result<&BTreeMap<Name, NodeId>> {
        match &self.content {
            Content::Directory { names, .. } => Ok(names),
            _ => Err(Kind::NotADirectory.into()),
        }
    }

    fn regular(&mut self) -> Result<(&mut u64, &mut BTreeMap<u64, Vec<u8>>)> {
        match &mut self.content {
            Content::Regular { size, pages } => Ok((size, pages)),
            Content::Directory { .. } => Err(Kind::IsADirectory.into()),
            _ => Err(Kind::Invalid.into()),
        }
    }

    fn content_changed(&mut self, now: Timestamp) {
        (self.modified, self.changed) = (now, now);
    }
}

impl Tree {
    fn node(&self, id: NodeId) -> Result<&Node> {
        self.nodes.get(&id).ok_or_else(|| Kind::NotFound.into())
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or_else(|| Kind::NotFound.into())
    }

    fn child(&self, dir: NodeId, name: &[u8]) -> Result<NodeId> {
        if name.len() > NAME_MAX {
            return Err(Kind::NameTooLong.into());
        }
        self.node(dir)?.names()?.get(name).copied().ok_or_else(|| Kind::NotFound.into())
    }

    /// Sets or removes a name, and the times of the directory.
    fn set_name(&mut self, dir: NodeId, name: &[u8], to: Option<NodeId>, now: Timestamp) -> Result<()> {
        let node = self.node_mut(dir)?;
        node.content_changed(now);
        match (&mut node.content, to) {
            (Content::Directory { names, .. }, Some(to)) => _ = names.insert(name.into(), to),
            (Content::Directory { names, .. }, None) => _ = names.remove(name),
            _ => return Err(Kind::NotADirectory.into()),
        }
        Ok(())
    }

    /// Takes one link away from a node; the last one removes it.
    fn drop_link(&mut self, id: NodeId, now: Timestamp) -> Result<()> {
        let node = self.node_mut(id)?;
        node.links -= 1;
        node.changed = now;
        if node.links == 0 {
            self.nodes.remove(&id);
        }
        Ok(())
    }

    /// Takes an empty directory away, and its `..` from the parent's count.
    fn drop_directory(&mut self, parent: NodeId, id: NodeId) -> Result<()> {
        self.nodes.remove(&id);
        self.node_mut(parent)?.links -= 1;
        Ok(())
    }

    /// Whether `dir` is `above` or lies below it.
    fn is_below(&self, mut dir: NodeId, above: NodeId) -> Result<bool> {
        while dir != above {
            match &self.node(dir)?.content {
                Content::Directory { parent, .. } if *parent != dir => dir = *parent,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Names that a directory can have; `.` and `..` are always there.
fn check_name(name: &[u8]) -> Result<()> {
    match name {
        b"" => Err(Kind::NotFound.into()),
        b"." | b".." => Err(Kind::Exists.into()),
        _ if name.len() > NAME_MAX => Err(Kind::NameTooLong.into()),
        _ if name.iter().any(|b| matches!(b, 0 | b'/')) => Err(Kind::Invalid.into()),
        _ => Ok(()),
    }
}

impl FileSystem for Model {
    fn info(&self) -> Result<FsInfo> {
        let blocks = 1 << 20;
        Ok(FsInfo {
            fs_type: "model".to_string(),
            block_size: PAGE,
            blocks,
            free_blocks: blocks,
            available_blocks: blocks,
            name_max: NAME_MAX as u64,
            owners: true,
            ..FsInfo::default()
        })
    }

    fn root(&self) -> NodeId {
        ROOT
    }

    fn metadata(&self, id: NodeId) -> Result<Metadata> {
        let node = self.tree.node(id)?;
        let (size, pages, device) = match &node.content {
            Content::Regular { size, pages } => (*size, pages.len() as u64, (0, 0)),
            Content::Directory { .. } => (PAGE, 1, (0, 0)),
            Content::Symlink(target) => (target.len() as u64, 0, (0, 0)),
            Content::Special(_, device) => (0, 0, *device),
        };
        Ok(Metadata {
            inode: id.0,
            file_type: node.file_type(),
            mode: node.mode,
            links: node.links,
            uid: node.uid,
            gid: node.gid,
            size,
            blocks: pages * (PAGE / 512),
            block_size: PAGE as u32,
            device,
            accessed: node.accessed,
            modified: node.modified,
            changed: node.changed,
            created: Some(node.created),
        })
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        Ok(self.tree.node(dir)?.names()?.get(name).copied())
    }

    fn read_dir(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        let entry = |(name, id): (&Name, &NodeId)| {
            let file_type = Some(self.tree.node(*id)?.file_type());
            Ok(DirEntry { name: name.clone(), node: *id, file_type })
        };
        self.tree.node(dir)?.names()?.iter().map(entry).collect()
    }

    fn read_link(&self, id: NodeId) -> Result<GuestPathBuf> {
        match &self.tree.node(id)?.content {
            Content::Symlink(target) => Ok(target.clone()),
            _ => Err(Kind::Invalid.into()),
        }
    }

    fn read(&self, id: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let (size, pages) = match &self.tree.node(id)?.content {
            Content::Regular { size, pages } => (*size, pages),
            Content::Directory { .. } => return Err(Kind::IsADirectory.into()),
            _ => return Err(Kind::Invalid.into()),
        };
        let len = size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut at = 0;
        while at < len {
            let place = offset + at as u64;
            let start = (place % PAGE) as usize;
            let part = (len - at).min(PAGE as usize - start);
            match pages.get(&(place / PAGE)) {
                Some(page) => buf[at..at + part].copy_from_slice(&page[start..start + part]),
                None => buf[at..at + part].fill(0),
            }
            at += part;
        }
        Ok(len)
    }

    fn extents(&self, id: NodeId) -> Result<Vec<Extent>> {
        let Content::Regular { size, pages } = &self.tree.node(id)?.content else {
            return Err(Kind::Invalid.into());
        };
        let mut extents = Vec::new();
        let mut add = |start: u64, end: u64, hole: bool| push_extent(&mut extents, *size, start..end, hole);
        let mut at = 0;
        for page in pages.keys() {
            let end = (page + 1).saturating_mul(PAGE).min(*size);
            add(at, page * PAGE, true);
            add(page * PAGE, end, false);
            at = end;
        }
        add(at, *size, true);
        Ok(extents)
    }

    fn xattrs(&self, id: NodeId) -> Result<Vec<(Name, Vec<u8>)>> {
        Ok(self.tree.node(id)?.xattrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn edit(&mut self, now: Timestamp) -> Result<&mut dyn Edit> {
        self.now = now;
        Ok(self)
    }

    fn reload(&mut self) -> Result<()> {
        self.tree = self.synced.clone();
        Ok(())
    }

    fn committed(&mut self) {}
}

impl Edit for Model {
    fn create(&mut self, dir: NodeId, name: &[u8], new: &NewNode) -> Result<NodeId> {
        check_name(name)?;
        if self.tree.node(dir)?.names()?.contains_key(name) {
            return Err(Kind::Exists.into());
        }
        let content = match &new.kind {
            NewKind::Regular => Content::Regular { size: 0, pages: BTreeMap::new() },
            NewKind::Directory => {
                self.tree.node_mut(dir)?.links += 1;
                Content::Directory { parent: dir, names: BTreeMap::new() }
            }
            NewKind::Symlink(target) => Content::Symlink(target.clone()),
            NewKind::CharDevice(major, minor) => Content::Special(FileType::CharDevice, (*major, *minor)),
            NewKind::BlockDevice(major, minor) => Content::Special(FileType::BlockDevice, (*major, *minor)),
            NewKind::Fifo => Content::Special(FileType::Fifo, (0, 0)),
            NewKind::Socket => Content::Special(FileType::Socket, (0, 0)),
        };
        let id = NodeId(self.tree.next);
        self.tree.next += 1;
        self.tree.nodes.insert(id, Node::new(content, new.mode, (new.uid, new.gid), self.now));
        self.tree.set_name(dir, name, Some(id), self.now)?;
        Ok(id)
    }

    fn link(&mut self, id: NodeId, dir: NodeId, name: &[u8]) -> Result<()> {
        check_name(name)?;
        if self.tree.node(dir)?.names()?.contains_key(name) {
            return Err(Kind::Exists.into());
        }
        let node = self.tree.node_mut(id)?;
        if node.file_type() == FileType::Directory {
            return Err(Kind::Denied.into());
        }
        node.links += 1;
        node.changed = self.now;
        self.tree.set_name(dir, name, Some(id), self.now)
    }

    fn unlink(&mut self, dir: NodeId, name: &[u8]) -> Result<()> {
        let id = self.tree.child(dir, name)?;
        if self.tree.node(id)?.file_type() == FileType::Directory {
            return Err(Kind::IsADirectory.into());
        }
        self.tree.set_name(dir, name, None, self.now)?;
        self.tree.drop_link(id, self.now)
    }

    fn rmdir(&mut self, dir: NodeId, name: &[u8]) -> Result<()> {
        let id = self.tree.child(dir, name)?;
        if !self.tree.node(id)?.names()?.is_empty() {
            return Err(Kind::NotEmpty.into());
        }
        self.tree.set_name(dir, name, None, self.now)?;
        self.tree.drop_directory(dir, id)
    }

    fn rename(&mut self, from_dir: NodeId, from: &[u8], to_dir: NodeId, to: &[u8]) -> Result<()> {
        let id = self.tree.child(from_dir, from)?;
        check_name(to)?;
        let target = self.tree.node(to_dir)?.names()?.get(to).copied();
        if target == Some(id) {
            return Ok(());
        }
        let directory = self.tree.node(id)?.file_type() == FileType::Directory;
        if directory && self.tree.is_below(to_dir, id)? {
            return Err(Kind::Invalid.into());
        }
        if let Some(target) = target {
            let empty = self.tree.node(target)?.names().map(BTreeMap::is_empty).ok();
            match (directory, empty) {
                (true, Some(true)) => self.tree.drop_directory(to_dir, target)?,
                (true, Some(false)) => return Err(Kind::NotEmpty.into()),
                (true, None) => return Err(Kind::NotADirectory.into()),
                (false, Some(_)) => return Err(Kind::IsADirectory.into()),
                (false, None) => self.tree.drop_link(target, self.now)?,
            }
        }
        self.tree.set_name(from_dir, from, None, self.now)?;
        self.tree.set_name(to_dir, to, Some(id), self.now)?;
        let node = self.tree.node_mut(id)?;
        node.changed = self.now;
        if let Content::Directory { parent, .. } = &mut node.content {
            *parent = to_dir;
            self.tree.node_mut(from_dir)?.links -= 1;
            self.tree.node_mut(to_dir)?.links += 1;
        }
        Ok(())
    }

    fn write(&mut self, id: NodeId, offset: u64, data: &[u8]) -> Result<()> {
        let now = self.now;
        let node = self.tree.node_mut(id)?;
        let (size, pages) = node.regular()?;
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= SIZE_MAX).ok_or(Kind::FileTooBig)?;
        if data.is_empty() {
            return Ok(());
        }
        *size = end.max(*size);
        let mut rest = data;
        let mut place = offset;
        while !rest.is_empty() {
            let start = (place % PAGE) as usize;
            let part = rest.len().min(PAGE as usize - start);
            let page = pages.entry(place / PAGE).or_insert_with(|| vec![0; PAGE as usize]);
            page[start..start + part].copy_from_slice(&rest[..part]);
            rest = &rest[part..];
            place += part as u64;
        }
        node.content_changed(now);
        Ok(())
    }

    fn resize(&mut self, id: NodeId, new: u64) -> Result<()> {
        let now = self.now;
        let node = self.tree.node_mut(id)?;
        let (size, pages) = node.regular()?;
        if new > SIZE_MAX {
            return Err(Kind::FileTooBig.into());
        }
        *size = new;
        pages.split_off(&new.div_ceil(PAGE));
        if let Some(page) = pages.get_mut(&(new / PAGE)) {
            page[(new % PAGE) as usize..].fill(0);
        }
        node.content_changed(now);
        Ok(())
    }

    fn fill(&mut self, id: NodeId, size: u64, source: &mut dyn Read, sparse: bool) -> Result<()> {
        self.resize(id, 0)?;
        self.resize(id, size)?;
        let mut at = 0;
        while at < size {
            let mut page = vec![0; PAGE.min(size - at) as usize];
            source.read_exact(&mut page)?;
            if !sparse || page.iter().any(|b| *b != 0) {
                self.write(id, at, &page)?;
            }
            at += page.len() as u64;
        }
        Ok(())
    }

    fn set_attributes(&mut self, id: NodeId, set: &SetAttributes) -> Result<()> {
        let now = self.now;
        let node = self.tree.node_mut(id)?;
        node.mode = set.mode.unwrap_or(node.mode) & 0o7777;
        node.uid = set.uid.unwrap_or(node.uid);
        node.gid = set.gid.unwrap_or(node.gid);
        node.accessed = set.accessed.unwrap_or(node.accessed);
        node.modified = set.modified.unwrap_or(node.modified);
        node.changed = now;
        Ok(())
    }

    fn set_xattr(&mut self, id: NodeId, name: &[u8], value: Option<&[u8]>) -> Result<()> {
        let now = self.now;
        let known = [b"user.".as_slice(), b"trusted.", b"security.", b"system.posix_acl_"];
        if !known.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(Error::unsupported("an extended attribute with this prefix is not known"));
        }
        let node = self.tree.node_mut(id)?;
        match value {
            Some(value) => _ = node.xattrs.insert(name.into(), value.to_vec()),
            None if node.xattrs.remove(name).is_none() => return Err(Kind::NoData.into()),
            None => {}
        }
        node.changed = now;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.synced = self.tree.clone();
        Ok(())
    }
}
