//! The guest as its own programs would see it: mounted file systems, paths, trees.
//!
//! TEMPORARY skeleton: signatures stand, bodies are to be written (resolve.rs, walk.rs, glob.rs, transfer.rs, archive.rs, inspect/).

pub mod transfer;

use std::io::Read;

use crate::base::{Error, GuestPathBuf, Name, Result, Timestamp};
use crate::fs::{Extent, FileSystem, FsInfo, Metadata, NewNode, NodeId, SetAttributes};

/// A node of one of the mounted file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which file system: an index that stays valid while it is open.
    pub fs: usize,
    /// The node.
    pub node: NodeId,
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Canonical device name, `/dev/sda1`.
    pub device: String,
    /// Absolute path, `/` or without a trailing slash.
    pub mountpoint: GuestPathBuf,
    /// Writes are refused with `Kind::ReadOnly`.
    pub read_only: bool,
}

/// What happened to a path during a walk.
#[derive(Debug, Clone)]
pub struct WalkEntry {
    /// Path relative to where the walk began, without a leading slash; empty for the start itself.
    pub path: GuestPathBuf,
    /// The node.
    pub place: Place,
    /// Its attributes.
    pub metadata: Metadata,
}

/// The open file systems and where they are mounted. All paths are absolute guest paths; symbolic links are
/// followed inside the guest only (40 links, 4096 bytes, as Linux). Errors name the user's path.
#[derive(Default)]
pub struct Guest {
    file_systems: Vec<Option<(String, Box<dyn FileSystem>)>>,
    mounts: Vec<Mount>,
    now: Timestamp,
    umask: u32,
}

fn skeleton<T>() -> Result<T> {
    Err(Error::unsupported("skeleton"))
}

#[allow(unused_variables, missing_docs)]
impl Guest {
    /// Sets the time that the next operations write.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }
    /// The umask (022 at start); answers the old one.
    pub fn set_umask(&mut self, umask: u32) -> u32 {
        std::mem::replace(&mut self.umask, umask)
    }
    /// The umask.
    pub fn umask(&self) -> u32 {
        self.umask
    }

    // -- mounts ---------------------------------------------------------------------------------
    /// Mounts a file system; it is opened by `open` unless it is open already under that device name.
    pub fn mount(
        &mut self,
        device: &str,
        mountpoint: &GuestPathBuf,
        read_only: bool,
        open: &mut dyn FnMut() -> Result<Box<dyn FileSystem>>,
    ) -> Result<()> {
        skeleton()
    }
    /// Unmounts by mount point or canonical device. `Kind::Busy` if something is mounted below.
    pub fn umount(&mut self, what: &str) -> Result<()> {
        skeleton()
    }
    /// Unmounts all, deepest first.
    pub fn umount_all(&mut self) -> Result<()> {
        skeleton()
    }
    /// The mount table in mount order.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }
    /// Writes back what the drivers keep.
    pub fn sync(&mut self) -> Result<()> {
        skeleton()
    }
    /// After a rollback of the stages: drivers drop caches and read anew.
    pub fn reload(&mut self) -> Result<()> {
        skeleton()
    }
    /// After a commit.
    pub fn committed(&mut self) {}
    /// Closes every file system on a device whose name begins with `device` (before mkfs, part-init). `Kind::Busy` if mounted.
    pub fn close(&mut self, device: &str) -> Result<()> {
        skeleton()
    }

    // -- resolving ------------------------------------------------------------------------------
    /// The node of a path, following every link.
    pub fn resolve(&self, path: &GuestPathBuf) -> Result<Place> {
        skeleton()
    }
    /// As [`Guest::resolve`], but a link at the end is not followed.
    pub fn resolve_link(&self, path: &GuestPathBuf) -> Result<Place> {
        skeleton()
    }
    /// The canonical path, without links (`realpath`).
    pub fn realpath(&self, path: &GuestPathBuf) -> Result<GuestPathBuf> {
        skeleton()
    }
    pub fn exists(&self, path: &GuestPathBuf) -> Result<bool> {
        skeleton()
    }

    // -- reading --------------------------------------------------------------------------------
    pub fn stat(&self, path: &GuestPathBuf) -> Result<Metadata> {
        skeleton()
    }
    pub fn lstat(&self, path: &GuestPathBuf) -> Result<Metadata> {
        skeleton()
    }
    pub fn metadata(&self, place: Place) -> Result<Metadata> {
        skeleton()
    }
    /// Names sorted by bytes, without `.` and `..`.
    pub fn list(&self, path: &GuestPathBuf) -> Result<Vec<Name>> {
        skeleton()
    }
    pub fn read_link(&self, path: &GuestPathBuf) -> Result<GuestPathBuf> {
        skeleton()
    }
    /// A whole regular file; `limit` in bytes guards memory (`Kind::FileTooBig`).
    pub fn read_file(&self, path: &GuestPathBuf, limit: u64) -> Result<Vec<u8>> {
        skeleton()
    }
    /// A reader of a regular file, in large chunks.
    pub fn reader(&self, path: &GuestPathBuf) -> Result<Box<dyn Read + '_>> {
        skeleton()
    }
    /// Up to `count` bytes of a regular file from byte `offset` on, fewer at its end.
    pub fn read_at(&self, path: &GuestPathBuf, offset: u64, count: u64) -> Result<Vec<u8>> {
        skeleton()
    }
    pub fn extents(&self, path: &GuestPathBuf) -> Result<Vec<Extent>> {
        skeleton()
    }
    pub fn xattrs(&self, path: &GuestPathBuf, follow: bool) -> Result<Vec<(Name, Vec<u8>)>> {
        skeleton()
    }
    /// The file system that holds a path.
    pub fn statvfs(&self, path: &GuestPathBuf) -> Result<FsInfo> {
        skeleton()
    }
    /// Every node below a directory, in sorted depth-first order, crossing mounts; links are not followed.
    /// `each` answers whether to descend.
    pub fn walk(&self, path: &GuestPathBuf, each: &mut dyn FnMut(&WalkEntry) -> Result<bool>) -> Result<()> {
        skeleton()
    }
    /// Paths that match a shell pattern, sorted; directories get a trailing `/` if `mark`.
    pub fn glob(&self, pattern: &GuestPathBuf, mark: bool) -> Result<Vec<GuestPathBuf>> {
        skeleton()
    }

    // -- writing --------------------------------------------------------------------------------
    /// Makes or replaces a regular file with exactly `size` bytes of `source`. A new file gets `mode` less the umask.
    pub fn write_from(&mut self, path: &GuestPathBuf, size: u64, source: &mut dyn Read, mode: u32) -> Result<()> {
        skeleton()
    }
    /// Makes or replaces a regular file.
    pub fn write_file(&mut self, path: &GuestPathBuf, data: &[u8]) -> Result<()> {
        skeleton()
    }
    /// Writes into an existing file at an offset (`pwrite`), or at its end.
    pub fn write_at(&mut self, path: &GuestPathBuf, offset: Option<u64>, data: &[u8]) -> Result<()> {
        skeleton()
    }
    pub fn truncate(&mut self, path: &GuestPathBuf, size: u64) -> Result<()> {
        skeleton()
    }
    /// Makes any node; `new.mode` is used as it is.
    pub fn make(&mut self, path: &GuestPathBuf, new: &NewNode) -> Result<()> {
        skeleton()
    }
    pub fn mkdir(&mut self, path: &GuestPathBuf, mode: u32) -> Result<()> {
        skeleton()
    }
    pub fn mkdir_p(&mut self, path: &GuestPathBuf, mode: u32) -> Result<()> {
        skeleton()
    }
    pub fn symlink(&mut self, target: &GuestPathBuf, path: &GuestPathBuf) -> Result<()> {
        skeleton()
    }
    pub fn link(&mut self, target: &GuestPathBuf, path: &GuestPathBuf) -> Result<()> {
        skeleton()
    }
    pub fn unlink(&mut self, path: &GuestPathBuf) -> Result<()> {
        skeleton()
    }
    pub fn rmdir(&mut self, path: &GuestPathBuf) -> Result<()> {
        skeleton()
    }
    /// A whole tree; a missing path is no error; never crosses a mount point (`Kind::Busy`).
    pub fn remove_tree(&mut self, path: &GuestPathBuf) -> Result<()> {
        skeleton()
    }
    /// rename(2), `Kind::CrossDevice` between file systems.
    pub fn rename(&mut self, from: &GuestPathBuf, to: &GuestPathBuf) -> Result<()> {
        skeleton()
    }
    pub fn set_attributes(&mut self, path: &GuestPathBuf, follow: bool, set: &SetAttributes) -> Result<()> {
        skeleton()
    }
    pub fn set_xattr(&mut self, path: &GuestPathBuf, follow: bool, name: &[u8], value: Option<&[u8]>) -> Result<()> {
        skeleton()
    }

    // -- trees ----------------------------------------------------------------------------------
    /// Unpacks entries below a directory: the one way in for copy-in, tar-in and cp.
    pub fn import(
        &mut self,
        into: &GuestPathBuf,
        source: &mut dyn transfer::Source,
        options: &transfer::ImportOptions,
    ) -> Result<transfer::Report> {
        skeleton()
    }
    /// Gives a file or tree as entries, their paths beginning with `prefix`: the one way out for copy-out, tar-out and cp.
    pub fn export(
        &self,
        path: &GuestPathBuf,
        prefix: &GuestPathBuf,
        sink: &mut dyn transfer::Sink,
    ) -> Result<transfer::Report> {
        skeleton()
    }
    /// Copies inside the guest (`cp`, `cp -a`, `cp -r`).
    pub fn copy(
        &mut self,
        from: &GuestPathBuf,
        to: &GuestPathBuf,
        keep_attributes: bool,
        recursive: bool,
    ) -> Result<()> {
        skeleton()
    }
}
