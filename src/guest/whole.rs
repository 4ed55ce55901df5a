//! File systems as wholes: by device, mounted or not.

use super::Guest;
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::fs::ext4::Ext4;
use crate::fs::{FileSystem, FileType, NodeId};

/// Opens a file system that is not open yet.
pub type Opener<'a> = &'a mut dyn FnMut() -> Result<Box<dyn FileSystem>>;

fn not_ext4() -> Error {
    Error::new(Kind::Unsupported, "this is no ext2, ext3 or ext4 file system")
}

/// The driver of ext2, ext3 and ext4.
pub fn ext4(fs: &mut dyn FileSystem) -> Result<&mut Ext4> {
    fs.as_ext4().ok_or_else(not_ext4)
}

impl Guest {
    /// Whether a device is mounted somewhere.
    pub fn is_mounted(&self, device: &str) -> bool {
        self.mounts.iter().any(|mount| mount.device == device)
    }

    /// The file system of a device to look at; opened if it is not.
    pub fn whole(&mut self, device: &str, open: Opener<'_>) -> Result<&mut dyn FileSystem> {
        let index = self.open_index(device, open)?;
        Ok(self.open_mut(index)?.fs_mut())
    }

    /// The same to change; ready for writing and with the time set.
    ///
    /// # Errors
    /// `Kind::ReadOnly` if it is mounted so; why its driver does not write it.
    pub fn whole_mut(&mut self, device: &str, open: Opener<'_>) -> Result<&mut dyn FileSystem> {
        let now = self.now;
        let fs = self.whole_to_mend(device, open)?;
        fs.edit(now).map_err(|e| e.at(device))?;
        Ok(fs)
    }

    /// The same, as it was found: for those who mend what its driver does not write.
    ///
    /// # Errors
    /// `Kind::ReadOnly` if it is mounted so.
    pub fn whole_to_mend(&mut self, device: &str, open: Opener<'_>) -> Result<&mut dyn FileSystem> {
        if self.mounts.iter().any(|mount| mount.device == device && mount.read_only) {
            return Err(Error::from(Kind::ReadOnly).at(device));
        }
        let index = self.open_index(device, open)?;
        let open = self.open_mut(index)?;
        open.edited = true;
        Ok(open.fs_mut())
    }

    /// The device of the file system that holds a path.
    pub fn device_of(&self, path: &GuestPathBuf) -> Result<&str> {
        let at = self.at(path, true).map_err(|e| e.at(path))?;
        Ok(self.mounts.get(at.mount).map_or("", |mount| mount.device.as_str()))
    }

    /// The device of the file system that holds a directory.
    ///
    /// # Errors
    /// `Kind::NotADirectory`.
    pub fn device_of_directory(&self, path: &GuestPathBuf) -> Result<&str> {
        let file_type = self.at(path, true).and_then(|at| self.type_of(at));
        file_type.and_then(FileType::check_directory).map_err(|e| e.at(path))?;
        self.device_of(path)
    }

    /// Flags of what a path names as letters of lsattr, sorted. A link at its end is not followed.
    ///
    /// # Errors
    /// `Kind::Unsupported` for file systems other than ext2, ext3, ext4 and XFS.
    pub fn flag_letters(&mut self, path: &GuestPathBuf) -> Result<String> {
        let at = self.at(path, false).map_err(|e| e.at(path))?;
        let index = self.place(at)?.fs;
        let fs = self.open_mut(index)?.fs_mut();
        let letters = match fs.as_xfs() {
            Some(xfs) => xfs.flag_letters(at.node),
            None => ext4(fs).and_then(|fs| fs.flag_letters(at.node)),
        };
        letters.map_err(|e| e.at(path))
    }

    /// The ext4 driver that holds a path, and the path's node there. A link at its end is not followed.
    ///
    /// # Errors
    /// `Kind::Unsupported` for other file systems; with `change`, `Kind::ReadOnly`.
    pub fn ext4_node(&mut self, path: &GuestPathBuf, change: bool) -> Result<(&mut Ext4, NodeId)> {
        let at = self.at(path, false).map_err(|e| e.at(path))?;
        if change {
            self.edit(at)?;
        }
        let index = self.place(at)?.fs;
        Ok((ext4(self.open_mut(index)?.fs_mut()).map_err(|e| e.at(path))?, at.node))
    }
}
