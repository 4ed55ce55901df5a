//! The guest as its own programs would see it: mounted file systems, paths, trees.
//!
//! All paths are absolute guest paths; symbolic links are followed inside the guest only (40 links, 4096 bytes,
//! as Linux). Errors name the user's path. Nothing here touches the host or the clock: times are given by
//! [`Guest::set_now`], content comes and goes through the traits of [`transfer`].
//!
//! After an error of a writing method the caller rolls the stages back and calls [`Guest::reload`].

pub mod accounts;
pub mod archive;
mod copy;
mod export;
pub mod glob;
mod import;
pub mod inspect;
mod labelling;
mod mounts;
mod open;
mod read;
mod resolve;
pub mod selinux;
#[cfg(test)]
mod tests;
pub mod transfer;
mod walk;
pub mod whole;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::{Error, GuestPathBuf, Kind, Result, Timestamp};
use crate::fs::{FileSystem, Metadata, NodeId};
use open::Open;

/// A node of one of the open file systems.
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
    /// Tells mounts apart while others come and go.
    id: u64,
    /// The open file system.
    fs: usize,
    /// The directory that it hides, as mount and node; `None` for the first one on `/`.
    covers: Option<(u64, NodeId)>,
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

/// A node as it was reached: the same file system may be mounted in several places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct At {
    /// Index into the mount table, valid during one operation.
    mount: usize,
    node: NodeId,
}

/// The open file systems and where they are mounted.
pub struct Guest {
    file_systems: Vec<Option<Open>>,
    mounts: Vec<Mount>,
    next_mount: u64,
    now: Timestamp,
    umask: u32,
    interrupt: Arc<AtomicBool>,
    policy: Option<labelling::Policy>,
}

impl Default for Guest {
    fn default() -> Self {
        Guest {
            file_systems: Vec::new(),
            mounts: Vec::new(),
            next_mount: 0,
            now: Timestamp::default(),
            umask: 0o022,
            interrupt: Arc::default(),
            policy: None,
        }
    }
}

impl Guest {
    /// Sets the time that the next operations write.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// The umask (022 at start); answers the old one.
    pub fn set_umask(&mut self, umask: u32) -> u32 {
        std::mem::replace(&mut self.umask, umask & 0o777)
    }
    /// The umask.
    pub fn umask(&self) -> u32 {
        self.umask
    }

    /// Gives the flag that stops long operations with `Kind::Interrupted` when it is set. Nobody here clears it.
    pub fn set_interrupt(&mut self, flag: Arc<AtomicBool>) {
        self.interrupt = flag;
    }

    /// The flag of [`Guest::set_interrupt`].
    pub fn interrupt_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupt)
    }

    /// `Kind::Interrupted` if the flag of [`Guest::set_interrupt`] is set.
    pub fn check_interrupt(&self) -> Result<()> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(Kind::Interrupted.into());
        }
        Ok(())
    }

    fn open(&self, index: usize) -> Result<&Open> {
        self.file_systems.get(index).and_then(Option::as_ref).ok_or_else(closed)
    }

    fn open_mut(&mut self, index: usize) -> Result<&mut Open> {
        self.file_systems.get_mut(index).and_then(Option::as_mut).ok_or_else(closed)
    }

    fn fs(&self, index: usize) -> Result<&dyn FileSystem> {
        Ok(self.open(index)?.fs())
    }

    fn fs_of(&self, at: At) -> Result<&dyn FileSystem> {
        self.fs(self.place(at)?.fs)
    }

    fn place(&self, at: At) -> Result<Place> {
        match self.mounts.get(at.mount) {
            Some(mount) => Ok(Place { fs: mount.fs, node: at.node }),
            None => Err(Error::new(Kind::Internal, "a path is used after its file system was unmounted")),
        }
    }
}

fn closed() -> Error {
    Error::new(Kind::Internal, "a file system is used after it was closed")
}
