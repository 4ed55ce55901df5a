//! Names and nodes, written: what the kernel's namespace calls do to an ext4.

use std::io::Read;

use super::alloc::Grant;
use super::dir::Place;
use super::extent::Run;
use super::features::RoCompat;
use super::guard::{LOCKED, check_flags, check_name, check_time};
use super::inode::{
    FLAG_APPEND, FLAG_CASEFOLD, FLAG_DIRSYNC, FLAG_INDEX, FLAG_INLINE_DATA, FLAG_PROJINHERIT, FLAGS_INHERITED,
    FLAGS_OTHER, Inode, ROOT, Time,
};
use super::names::NewEntry;
use super::superblock::SUPERBLOCK_OFFSET;
use super::{Ext4, dirent};
use crate::base::{Error, Kind, Result, Uuid};
use crate::fs::{Edit, FileSystem, FileType, NewKind, NewNode, NodeId, SetAttributes};

/// Most names of a node (EXT4_LINK_MAX).
const LINK_MAX: u16 = 65000;
/// Bytes of a link's target that fit the inode, with a final zero.
const FAST_LINK: usize = 60;

impl Ext4 {
    /// A name that must be there, and its inode.
    fn entry(&self, dir: &Inode, name: &[u8]) -> Result<(Place, Inode)> {
        let place = self.find(dir, name)?.ok_or_else(|| Error::from(Kind::NotFound))?;
        let inode = self.node(NodeId(place.inode.into()))?;
        Ok((place, inode))
    }

    /// One more name for a directory below: past the limit the count stays at 1, "many".
    pub(super) fn add_subdir(&self, dir: &mut Inode) -> Result<()> {
        let many = self.geometry.ro_compat.has(RoCompat::DIR_NLINK) && dir.has(FLAG_INDEX);
        match dir.links() {
            1 => {}
            links if links < LINK_MAX => dir.set_links(links + 1),
            _ if many => dir.set_links(1),
            _ => return Err(Kind::LinkLimit.into()),
        }
        Ok(())
    }

    fn remove_subdir(&self, dir: &mut Inode) {
        if dir.links() > 2 {
            dir.set_links(dir.links() - 1);
        }
    }

    /// `i_extra_isize` of new inodes.
    pub(super) fn new_extra_size(&self) -> u16 {
        let want = self.superblock.want_extra_isize().clamp(28, 128);
        if self.geometry.inode_size > 128 { want.next_multiple_of(4) } else { 0 }
    }

    /// The generation of the next new inode.
    pub(super) fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.generation
    }

    /// Takes an inode and gives it what every new node has.
    fn new_inode(&mut self, parent: &Inode, file_type: FileType, new: &NewNode) -> Result<Inode> {
        let mut inode = self.allocate_inode(parent, file_type == FileType::Directory)?;
        inode.set_extra_size(self.new_extra_size());
        inode.set_mode((file_type.mode_bits() | new.mode & 0o7777) as u16);
        inode.set_uid(new.uid);
        inode.set_gid(new.gid);
        inode.set_links(1);
        let generation = self.next_generation();
        inode.set_generation(generation);
        for time in [Time::Access, Time::Change, Time::Modify, Time::Create] {
            inode.set_time(time, self.now);
        }
        let inherited = parent.flags() & FLAGS_INHERITED;
        inode.set_flags(match file_type {
            FileType::Directory => inherited,
            FileType::Regular => inherited & !(FLAG_DIRSYNC | FLAG_PROJINHERIT | FLAG_CASEFOLD),
            _ => inherited & FLAGS_OTHER,
        });
        if parent.has(FLAG_PROJINHERIT) {
            inode.set_project(parent.project());
        }
        match file_type {
            FileType::Directory | FileType::Regular => self.init_map(&mut inode),
            _ => {}
        }
        Ok(inode)
    }

    /// Stores the target of a new link: in the inode if it fits, else in one block.
    fn set_target(&mut self, inode: &mut Inode, target: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(Kind::NotFound.into());
        }
        if target.len() >= self.geometry.block_size.min(4096) {
            return Err(Kind::NameTooLong.into());
        }
        inode.set_size(target.len() as u64);
        if target.len() < FAST_LINK {
            inode.area_mut()[..target.len()].copy_from_slice(target);
            return Ok(());
        }
        self.init_map(inode);
        let Grant { start, .. } = self.allocate(self.home_of(inode), 1)?;
        let mut map = super::map::Map::default();
        map.runs.push(Run { logical: 0, len: 1, physical: start, unwritten: false });
        self.store_map(inode, &mut map)?;
        let block = self.block_new(start, super::cache::Role::Plain)?;
        block[..target.len()].copy_from_slice(target);
        Ok(())
    }

    /// `i_dtime` of what is deleted now; 0 would say that it is not.
    pub(super) fn deletion_time(&self) -> u32 {
        u32::try_from(self.now.seconds.max(1)).unwrap_or(u32::MAX)
    }

    /// Frees a node without names.
    pub(super) fn remove_node(&mut self, inode: &mut Inode) -> Result<()> {
        let used = self.count_of_values(inode)?;
        self.note_values(inode, -used);
        let values = self.attributes_inside(inode)?;
        self.count_values(inode, &values, false)?;
        self.drop_xattr_block(inode)?;
        let mapped = match inode.file_type() {
            Some(FileType::Regular | FileType::Directory) => !inode.has(FLAG_INLINE_DATA),
            Some(FileType::Symlink) => !self.is_fast_link(inode),
            _ => false,
        };
        super::xattr::put_in_inode(inode, &[]);
        if mapped {
            self.cut_map(inode, 0)?;
        }
        let is_dir = inode.is_dir();
        inode.set_size(0);
        inode.set_links(0);
        inode.set_time(Time::Change, self.now);
        inode.set_dtime(self.deletion_time());
        self.linear_hints.remove(&inode.number());
        self.put_inode(inode)?;
        self.release_inode(inode.number(), is_dir)
    }

    /// One name less; the last one frees the node.
    fn drop_link(&mut self, inode: &mut Inode) -> Result<()> {
        inode.set_time(Time::Change, self.now);
        if inode.links() > 1 {
            inode.set_links(inode.links() - 1);
            return self.put_inode(inode);
        }
        self.remove_node(inode)
    }

    /// Whether `dir` is `node` or lies below it.
    fn is_below(&self, mut dir: u32, node: u32) -> Result<bool> {
        // A damaged tree may go round; no chain is longer than the number of inodes.
        for _ in 0..self.geometry.inodes {
            if dir == node {
                return Ok(true);
            }
            if dir == ROOT {
                return Ok(false);
            }
            dir = self.parent_of(&self.inode(dir)?)?;
        }
        Err(Error::corrupt(format!("ext4: the directories above inode {dir} go round in a circle")))
    }
}

/// The type byte of an inode's entries.
pub(super) fn kind_byte(inode: &Inode) -> u8 {
    inode.file_type().map_or(0, dirent::kind_of)
}

impl Edit for Ext4 {
    fn create(&mut self, dir: NodeId, name: &[u8], new: &NewNode) -> Result<NodeId> {
        check_name(name)?;
        let mut parent = self.dir_to_change(dir, false)?;
        if self.find(&parent, name)?.is_some() {
            return Err(Kind::Exists.into());
        }
        let file_type = new.kind.file_type();
        if file_type == FileType::Directory {
            self.add_subdir(&mut parent)?;
        }
        let mut inode = self.new_inode(&parent, file_type, new)?;
        match &new.kind {
            NewKind::Directory => {
                inode.set_links(2);
                self.init_dir(&mut inode, parent.number())?;
            }
            NewKind::Symlink(target) => self.set_target(&mut inode, target)?,
            NewKind::CharDevice(major, minor) | NewKind::BlockDevice(major, minor) => {
                inode.set_device(*major, *minor)?;
            }
            NewKind::Regular | NewKind::Fifo | NewKind::Socket => {}
        }
        if file_type != FileType::Symlink {
            self.inherit_acl(&parent, &mut inode)?;
        }
        self.put_inode(&inode)?;
        let kind = dirent::kind_of(file_type);
        self.add_entry(&mut parent, &NewEntry { name, inode: inode.number(), kind })?;
        self.put_inode(&parent)?;
        Ok(NodeId(inode.number().into()))
    }

    fn link(&mut self, node: NodeId, dir: NodeId, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let mut inode = self.node(node)?;
        let mut parent = self.dir_to_change(dir, false)?;
        if self.find(&parent, name)?.is_some() {
            return Err(Kind::Exists.into());
        }
        if inode.is_dir() {
            return Err(Kind::Denied.into());
        }
        check_flags(&inode, LOCKED)?;
        self.check_project(&parent, &inode)?;
        if inode.links() >= LINK_MAX {
            return Err(Kind::LinkLimit.into());
        }
        inode.set_links(inode.links() + 1);
        inode.set_time(Time::Change, self.now);
        self.put_inode(&inode)?;
        self.add_entry(&mut parent, &NewEntry { name, inode: inode.number(), kind: kind_byte(&inode) })?;
        self.put_inode(&parent)
    }

    fn unlink(&mut self, dir: NodeId, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let mut parent = self.dir_to_change(dir, true)?;
        let (place, mut inode) = self.entry(&parent, name)?;
        if inode.is_dir() {
            return Err(Kind::IsADirectory.into());
        }
        check_flags(&inode, LOCKED)?;
        self.remove_entry(&mut parent, &place)?;
        self.put_inode(&parent)?;
        self.drop_link(&mut inode)
    }

    fn rmdir(&mut self, dir: NodeId, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let mut parent = self.dir_to_change(dir, true)?;
        let (place, mut inode) = self.entry(&parent, name)?;
        if !inode.is_dir() {
            return Err(Kind::NotADirectory.into());
        }
        check_flags(&inode, LOCKED)?;
        if !self.is_empty_dir(&inode)? {
            return Err(Kind::NotEmpty.into());
        }
        self.remove_entry(&mut parent, &place)?;
        self.remove_subdir(&mut parent);
        self.put_inode(&parent)?;
        self.remove_node(&mut inode)
    }

    fn rename(&mut self, from_dir: NodeId, from: &[u8], to_dir: NodeId, to: &[u8]) -> Result<()> {
        check_name(from)?;
        let source = self.dir_to_change(from_dir, true)?;
        let mut target = self.dir_to_change(to_dir, false)?;
        let (_, mut inode) = self.entry(&source, from)?;
        check_name(to)?;
        check_flags(&inode, LOCKED)?;
        self.check_project(&target, &inode)?;
        let moves = from_dir != to_dir;
        if inode.is_dir() && moves && self.is_below(target.number(), inode.number())? {
            return Err(Kind::Invalid.into());
        }
        let old = match self.find(&target, to)? {
            Some(place) => Some((self.node(NodeId(place.inode.into()))?, place)),
            None => None,
        };
        if let Some((replaced, place)) = old {
            if replaced.number() == inode.number() {
                return Ok(());
            }
            check_flags(&target, LOCKED)?;
            check_flags(&replaced, LOCKED)?;
            match (inode.is_dir(), replaced.is_dir()) {
                (true, false) => return Err(Kind::NotADirectory.into()),
                (false, true) => return Err(Kind::IsADirectory.into()),
                (true, true) if !self.is_empty_dir(&replaced)? => return Err(Kind::NotEmpty.into()),
                _ => {}
            }
            self.replace_entry(&mut target, &place, inode.number(), kind_byte(&inode))?;
            let mut replaced = replaced;
            if replaced.is_dir() {
                self.remove_subdir(&mut target);
                self.put_inode(&target)?;
                self.remove_node(&mut replaced)?;
            } else {
                self.put_inode(&target)?;
                self.drop_link(&mut replaced)?;
            }
        } else {
            self.add_entry(&mut target, &NewEntry { name: to, inode: inode.number(), kind: kind_byte(&inode) })?;
            self.put_inode(&target)?;
        }
        // The new name may have moved the old one: it is looked up again, in the directory as it is now.
        let mut source = self.node(from_dir)?;
        let (place, _) = self.entry(&source, from)?;
        self.remove_entry(&mut source, &place)?;
        if inode.is_dir() && moves {
            self.remove_subdir(&mut source);
            self.put_inode(&source)?;
            let mut target = self.node(to_dir)?;
            self.add_subdir(&mut target)?;
            self.put_inode(&target)?;
            self.set_parent(&mut inode, target.number())?;
        } else {
            self.put_inode(&source)?;
        }
        inode.set_time(Time::Change, self.now);
        self.put_inode(&inode)
    }

    fn write(&mut self, node: NodeId, offset: u64, data: &[u8]) -> Result<()> {
        let mut inode = self.file_to_change(node)?;
        if offset != inode.size() {
            check_flags(&inode, FLAG_APPEND)?;
        }
        self.write_content(&mut inode, offset, data)?;
        self.touch_content(&mut inode);
        self.put_inode(&inode)
    }

    fn resize(&mut self, node: NodeId, size: u64) -> Result<()> {
        let mut inode = self.file_to_change(node)?;
        check_flags(&inode, FLAG_APPEND)?;
        self.resize_content(&mut inode, size)?;
        self.touch_content(&mut inode);
        self.put_inode(&inode)
    }

    fn fill(&mut self, node: NodeId, size: u64, source: &mut dyn Read, sparse: bool) -> Result<()> {
        let mut inode = self.file_to_change(node)?;
        check_flags(&inode, FLAG_APPEND)?;
        self.fill_content(&mut inode, size, source, sparse)?;
        self.touch_content(&mut inode);
        self.put_inode(&inode)
    }

    fn set_attributes(&mut self, node: NodeId, set: &SetAttributes) -> Result<()> {
        let mut inode = self.node(node)?;
        check_flags(&inode, LOCKED)?;
        if let Some(mode) = set.mode {
            let kept = u32::from(inode.mode()) & !0o7777;
            inode.set_mode((kept | mode & 0o7777) as u16);
            self.update_acl_mode(&mut inode, mode)?;
        }
        if let Some(uid) = set.uid {
            inode.set_uid(uid);
        }
        if let Some(gid) = set.gid {
            inode.set_gid(gid);
        }
        for (which, time) in [(Time::Access, set.accessed), (Time::Modify, set.modified)] {
            let Some(time) = time else { continue };
            check_time(&inode, which, time)?;
            inode.set_time(which, time);
        }
        inode.set_time(Time::Change, self.now);
        self.put_inode(&inode)
    }

    fn set_xattr(&mut self, node: NodeId, name: &[u8], value: Option<&[u8]>) -> Result<()> {
        let mut inode = self.node(node)?;
        check_flags(&inode, LOCKED)?;
        self.change_xattr(&mut inode, name, value)?;
        inode.set_time(Time::Change, self.now);
        self.put_inode(&inode)
    }

    fn set_label(&mut self, label: &[u8]) -> Result<()> {
        self.change_label(label)
    }

    fn set_uuid(&mut self, uuid: Uuid) -> Result<()> {
        self.change_uuid(uuid)
    }

    fn zero_free(&mut self, within: std::ops::Range<u64>, minimum: u64) -> Result<u64> {
        self.zero_free_runs(within, minimum)
    }

    fn sync(&mut self) -> Result<()> {
        self.write_through()
    }
}

impl Ext4 {
    /// Writes everything that is kept back.
    pub(super) fn write_through(&mut self) -> Result<()> {
        self.book_usage()?;
        self.fresh.get_mut().flush(&self.device)?;
        self.write_back()?;
        if self.superblock_changed {
            self.superblock.stamp();
            self.device.write_at(SUPERBLOCK_OFFSET, self.superblock.bytes())?;
            self.superblock_changed = false;
        }
        Ok(())
    }

    /// Checks once, after opening or a reload, that the file system may be written, and readies the writer.
    pub(super) fn begin_edit(&mut self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        if self.device.read_only() {
            return Err(Kind::ReadOnly.into());
        }
        if let Some(why) = self.why_read_only()? {
            return Err(Error::unsupported(format!("ext4: {why}")).hint("nothing was changed"));
        }
        self.replay()?;
        self.load_zones()?;
        self.clean_orphans()?;
        self.writable = true;
        debug_assert_eq!(self.root(), NodeId(ROOT.into()));
        Ok(())
    }
}
