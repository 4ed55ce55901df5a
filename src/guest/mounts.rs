//! The mount table and the open file systems behind it.

use super::{At, Guest, Mount, Open};
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::fs::{FileSystem, FileType};

/// Whether `name` is `device` or one of its partitions: `/dev/sda` has `/dev/sda1`, not `/dev/sdaa`.
fn is_on(name: &str, device: &str) -> bool {
    let disk = device.strip_prefix("/dev/").unwrap_or(device);
    let whole = !disk.ends_with(|c: char| c.is_ascii_digit()) && !disk.contains('/');
    match name.strip_prefix(device) {
        Some("") => true,
        Some(rest) => whole && rest.bytes().all(|b| b.is_ascii_digit()),
        None => false,
    }
}

impl Guest {
    /// The index of a device's file system; opens it unless it is open.
    pub(super) fn open_index(
        &mut self,
        device: &str,
        open: &mut dyn FnMut() -> Result<Box<dyn FileSystem>>,
    ) -> Result<usize> {
        let is_it = |slot: &Option<Open>| slot.as_ref().is_some_and(|o| o.device == device);
        if let Some(index) = self.file_systems.iter().position(is_it) {
            return Ok(index);
        }
        let opened = Open::new(device, open().map_err(|e| e.at(device))?);
        match self.file_systems.iter().position(Option::is_none) {
            Some(index) => {
                self.file_systems[index] = Some(opened);
                Ok(index)
            }
            None => {
                self.file_systems.push(Some(opened));
                Ok(self.file_systems.len() - 1)
            }
        }
    }

    /// Mounts a file system; it is opened by `open` unless it is open already under that device name. One that is mounted
    /// read-only is mounted so again.
    ///
    /// # Errors
    /// `Kind::NotADirectory` for a mount point that is none, `Kind::NotMounted` for one other than `/` without a
    /// root, `Kind::Busy` for a device that is mounted there, or writable if it is to be read-only, what `open` says.
    pub fn mount(
        &mut self,
        device: &str,
        mountpoint: &GuestPathBuf,
        read_only: bool,
        open: &mut dyn FnMut() -> Result<Box<dyn FileSystem>>,
    ) -> Result<()> {
        let (covers, mountpoint) = if self.mounts.is_empty() && mountpoint.components().next().is_none() {
            (None, GuestPathBuf::root())
        } else {
            let at = self.at(mountpoint, true)?;
            if self.type_of(at)? != FileType::Directory {
                return Err(Error::new(Kind::NotADirectory, "mount point is not a directory").at(mountpoint));
            }
            (Some((self.mounts[at.mount].id, at.node)), self.realpath(mountpoint)?)
        };
        // The kernel refuses this, too; elsewhere it may be mounted again.
        if self.mounts.iter().any(|m| m.device == device && m.mountpoint == mountpoint) {
            return Err(Error::new(Kind::Busy, format!("already mounted on {mountpoint}")).at(device));
        }
        let mounted = self.mounts.iter().find(|m| m.device == device);
        if read_only && mounted.is_some_and(|m| !m.read_only) {
            return Err(Error::new(Kind::Busy, "already mounted writable").at(device));
        }
        let read_only = read_only || mounted.is_some_and(|m| m.read_only);
        let fs = self.open_index(device, open)?;
        let id = self.next_mount;
        self.next_mount += 1;
        self.mounts.push(Mount { device: device.to_string(), mountpoint, read_only, id, fs, covers });
        Ok(())
    }

    /// Makes the last mount on a mount point, and all others of its device, read-only or writable.
    ///
    /// # Errors
    /// `Kind::Invalid` if nothing is mounted there.
    pub fn set_read_only(&mut self, mountpoint: &GuestPathBuf, read_only: bool) -> Result<()> {
        let found = self.mounts.iter().rev().find(|m| m.mountpoint == *mountpoint);
        let Some(fs) = found.map(|m| m.fs) else {
            return Err(Error::new(Kind::Invalid, "nothing is mounted there").at(mountpoint));
        };
        for mount in self.mounts.iter_mut().filter(|m| m.fs == fs) {
            mount.read_only = read_only;
        }
        Ok(())
    }

    /// Unmounts by mount point or canonical device, the last of several. The file system stays open.
    ///
    /// # Errors
    /// `Kind::Busy` if something is mounted below, `Kind::Invalid` if nothing is mounted there.
    pub fn umount(&mut self, what: &str) -> Result<()> {
        let path = GuestPathBuf::from(what);
        let path = self.realpath(&path).unwrap_or(path);
        let found = self.mounts.iter().rposition(|m| m.device == what || m.mountpoint == path);
        let Some(index) = found else {
            return Err(Error::new(Kind::Invalid, "not mounted").at(what));
        };
        let id = self.mounts[index].id;
        if self.mounts.iter().any(|m| m.covers.is_some_and(|(below, _)| below == id)) {
            return Err(Error::new(Kind::Busy, "target is busy")
                .at(what)
                .hint("umount what is mounted below it first"));
        }
        self.mounts.remove(index);
        Ok(())
    }

    /// Unmounts all. The file systems stay open.
    pub fn umount_all(&mut self) -> Result<()> {
        self.mounts.clear();
        Ok(())
    }

    /// The mount table in mount order.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// Writes back what the drivers keep.
    pub fn sync(&mut self) -> Result<()> {
        for open in self.file_systems.iter_mut().flatten().filter(|o| o.edited) {
            open.fs_mut().edit(self.now).and_then(|edit| edit.sync()).map_err(|e| e.at(&open.device))?;
            open.edited = false;
        }
        Ok(())
    }

    /// After a rollback of the stages: drivers drop caches and read anew.
    ///
    /// # Errors
    /// Everything was read anew, but some file systems or mount points are no longer there and were unmounted;
    /// the message lists them. The guest is usable.
    pub fn reload(&mut self) -> Result<()> {
        for slot in &mut self.file_systems {
            if let Some(open) = slot {
                open.edited = false;
                if open.fs_mut().reload().is_err() {
                    *slot = None;
                }
            }
        }
        let lost = self.check_mounts();
        if lost.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = lost.iter().map(|m| format!("{} from {}", m.device, m.mountpoint)).collect();
        Err(Error::new(Kind::NotMounted, format!("unmounted, since it is no longer there: {}", list.join(", "))))
    }

    /// Finds every mount point again in mount order; answers the mounts that had to go.
    fn check_mounts(&mut self) -> Vec<Mount> {
        let mut lost = Vec::new();
        for mut mount in std::mem::take(&mut self.mounts) {
            let open = matches!(self.file_systems.get(mount.fs), Some(Some(open)) if open.device == mount.device);
            let covers = match mount.covers {
                None => Some(None),
                Some(_) => match self.at(&mount.mountpoint, true) {
                    Ok(at) if self.type_of(at).ok() == Some(FileType::Directory) => {
                        self.mounts.get(at.mount).map(|m| Some((m.id, at.node)))
                    }
                    _ => None,
                },
            };
            match covers {
                Some(covers) if open => {
                    mount.covers = covers;
                    self.mounts.push(mount);
                }
                _ => lost.push(mount),
            }
        }
        lost
    }

    /// After a commit.
    pub fn committed(&mut self) {
        for open in self.file_systems.iter_mut().flatten() {
            open.fs_mut().committed();
        }
    }

    /// Closes every file system on a device or its partitions (before mkfs, part-init).
    ///
    /// # Errors
    /// `Kind::Busy` if one is mounted.
    pub fn close(&mut self, device: &str) -> Result<()> {
        if let Some(mount) = self.mounts.iter().find(|m| is_on(&m.device, device)) {
            let detail = format!("{} is mounted on {}", mount.device, mount.mountpoint);
            return Err(Error::new(Kind::Busy, detail).at(device).hint(format!("umount {} first", mount.mountpoint)));
        }
        self.forget(device);
        Ok(())
    }

    /// Closes the file systems on a device even if they are mounted, with what is mounted below them; answers
    /// the mounts that went. For devices that are gone.
    pub fn forget(&mut self, device: &str) -> Vec<Mount> {
        for slot in &mut self.file_systems {
            if slot.as_ref().is_some_and(|o| is_on(&o.device, device)) {
                *slot = None;
            }
        }
        self.check_mounts()
    }

    /// Opens the file system of a device anew if it is open: the device got another length. Mounts stay, and paths are found
    /// as before, since the file system is the same one.
    ///
    /// # Errors
    /// What `open` says; then nothing has changed.
    pub fn reopen(&mut self, device: &str, open: &mut dyn FnMut() -> Result<Box<dyn FileSystem>>) -> Result<()> {
        if let Some(slot) = self.file_systems.iter_mut().flatten().find(|slot| slot.device == device) {
            *slot = Open::new(device, open().map_err(|e| e.at(device))?);
        }
        Ok(())
    }

    /// Gives an open device another name, mounted or not.
    pub fn rename_device(&mut self, from: &str, to: &str) {
        let open = self.file_systems.iter_mut().flatten().map(|open| &mut open.device);
        for device in open.chain(self.mounts.iter_mut().map(|mount| &mut mount.device)).filter(|d| *d == from) {
            *device = to.to_string();
        }
    }

    /// Devices whose file systems are open, mounted or not.
    pub fn open_devices(&self) -> impl Iterator<Item = &str> {
        self.file_systems.iter().flatten().map(|o| o.device.as_str())
    }

    /// Looks into a file system as if it alone were mounted, read-only, on `/`.
    pub fn look<T>(
        &mut self,
        device: &str,
        open: &mut dyn FnMut() -> Result<Box<dyn FileSystem>>,
        work: impl FnOnce(&Guest) -> Result<T>,
    ) -> Result<T> {
        let mounts = std::mem::take(&mut self.mounts);
        let answer = self.mount(device, &GuestPathBuf::root(), true, open).and_then(|()| work(self));
        self.mounts = mounts;
        answer
    }

    /// The file systems that a mount table index stands for, to change it. `Kind::ReadOnly` if it is mounted so.
    pub(super) fn edit(&mut self, at: At) -> Result<&mut dyn crate::fs::Edit> {
        let place = self.place(at)?;
        if self.mounts.get(at.mount).is_some_and(|m| m.read_only) {
            return Err(Kind::ReadOnly.into());
        }
        let now = self.now;
        let open = self.open_mut(place.fs)?;
        open.edited = true;
        open.fs_mut().edit(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_device() {
        assert!(is_on("/dev/sda", "/dev/sda") && is_on("/dev/sda12", "/dev/sda"));
        assert!(is_on("/dev/vg/root", "/dev/vg/root") && !is_on("/dev/vg/root2", "/dev/vg/root"));
        assert!(!is_on("/dev/sdaa", "/dev/sda") && !is_on("/dev/sda12", "/dev/sda1"));
    }
}
