//! Mount points outside of any file system, and mounts that change between read-only and writable.

use super::Session;
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::fs::model::Model;

/// The device name of the empty root in memory that mount points are made in.
const MEMORY_ROOT: &str = "rootfs";

impl Session {
    /// Makes a directory in a root that exists only in memory; that root is mounted first if nothing is.
    ///
    /// # Errors
    /// `Kind::Busy` if a file system of a disk is the root.
    pub fn make_mountpoint(&mut self, path: &GuestPathBuf) -> Result<()> {
        if self.guest.mounts().is_empty() {
            // The one of before, if there was one, is forgotten with what was made in it.
            self.guest.close(MEMORY_ROOT)?;
            self.guest.mount(MEMORY_ROOT, &GuestPathBuf::root(), true, &mut || Ok(Model::new()))?;
        }
        self.in_memory_root(|session| session.guest.mkdir(path, 0o755)).map_err(|e| e.at(path))
    }

    /// Removes such a directory; with the last one the root goes too.
    pub fn remove_mountpoint(&mut self, path: &GuestPathBuf) -> Result<()> {
        self.in_memory_root(|session| session.guest.rmdir(path)).map_err(|e| e.at(path))?;
        if self.guest.mounts().len() == 1 && self.guest.list(&GuestPathBuf::root())?.is_empty() {
            self.guest.umount("/")?;
            self.guest.close(MEMORY_ROOT)?;
        }
        Ok(())
    }

    /// Whether a mount is the root in memory, which is no device of the session.
    pub fn is_memory_root(device: &str) -> bool {
        device == MEMORY_ROOT
    }

    fn in_memory_root(&mut self, work: impl FnOnce(&mut Session) -> Result<()>) -> Result<()> {
        if self.guest.mounts().first().is_none_or(|mount| mount.device != MEMORY_ROOT) {
            return Err(Error::new(Kind::Busy, "a file system is mounted on /").hint("use mkdir, or umount-all first"));
        }
        self.guest.set_read_only(&GuestPathBuf::root(), false)?;
        let done = work(self).and_then(|()| self.guest.sync());
        self.guest.set_read_only(&GuestPathBuf::root(), true)?;
        done
    }

    /// Makes a mount read-only or writable.
    ///
    /// # Errors
    /// `Kind::Invalid` if nothing is mounted there, `Kind::ReadOnly` for a device that cannot be written.
    pub fn remount(&mut self, mountpoint: &GuestPathBuf, writable: bool) -> Result<()> {
        let mount = self.guest.mounts().iter().rev().find(|m| m.mountpoint == *mountpoint);
        let Some(device) = mount.map(|m| m.device.clone()) else {
            return Err(Error::new(Kind::Invalid, "nothing is mounted there").at(mountpoint));
        };
        if writable && (device == MEMORY_ROOT || self.device(&device)?.read_only()) {
            return Err(Error::from(Kind::ReadOnly).at(device));
        }
        self.guest.set_read_only(mountpoint, !writable)
    }
}
