//! Operating systems on the disks of a session, and mounting them.

use super::Session;
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::guest::inspect::{self, FstabEntry};

/// An operating system that inspection found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Root {
    /// Device of its root file system.
    pub device: String,
    /// guestfish's word: `linux`.
    pub os_type: String,
    /// `debian`, `rhel`, ...
    pub distro: String,
    /// PRETTY_NAME or the like.
    pub product_name: String,
    /// Version.
    pub major: i64,
    /// Version.
    pub minor: i64,
    /// Host name, `unknown` if not found.
    pub hostname: String,
    /// `x86_64`, ... from /bin/ls or the like.
    pub arch: String,
    /// `deb`, `rpm`, `unknown`.
    pub package_format: String,
    /// `apt`, `dnf`, `yum`, `unknown`.
    pub package_management: String,
    /// From /etc/fstab, resolved: mount point and device. `/` comes first and is always there.
    pub mountpoints: Vec<(GuestPathBuf, String)>,
}

impl Session {
    /// Root file systems of the operating systems found (`inspect-os`). File systems that could not be looked into
    /// are told by [`Session::take_notices`].
    pub fn inspect(&mut self) -> Result<Vec<Root>> {
        let mut roots = Vec::new();
        // Other devices of a btrfs that was looked into.
        let mut members = Vec::new();
        for (device, fs_type) in self.file_systems()? {
            if matches!(fs_type.as_str(), "unknown" | "swap" | "jbd") {
                continue;
            }
            let whole = self.split_subvolume(&device).map_or_else(|| device.clone(), |(whole, _)| whole);
            if members.contains(&whole) {
                continue;
            }
            let open = self.opener(&device)?;
            self.close_moved(&device)?;
            let found = self.guest.look(&device, &mut || open(), inspect::linux);
            if found.is_ok() {
                members.extend(self.members(&device)?);
            }
            match found {
                Ok(Some(system)) => {
                    self.note_opened(&device)?;
                    let mountpoints = self.resolve_fstab(&device, &system.fstab)?;
                    roots.push(Root {
                        device,
                        os_type: system.os_type,
                        distro: system.distro,
                        product_name: system.product_name,
                        major: system.major,
                        minor: system.minor,
                        hostname: system.hostname,
                        arch: system.arch,
                        package_format: system.package_format,
                        package_management: system.package_management,
                        mountpoints,
                    });
                }
                Ok(None) => self.note_opened(&device)?,
                Err(e) if e.kind() == Kind::Interrupted => return Err(e),
                Err(e) => self.notices.push(format!("not inspected: {}", e.at(&device))),
            }
        }
        Ok(roots)
    }

    /// Mount points and devices of fstab's lines, as far as their devices are disks of this session.
    fn resolve_fstab(&self, root: &str, fstab: &[FstabEntry]) -> Result<Vec<(GuestPathBuf, String)>> {
        let mut found: Vec<(GuestPathBuf, String)> = Vec::new();
        for entry in fstab {
            let mountpoint = entry.mountpoint.components().fold(GuestPathBuf::root(), |path, name| path.join(name));
            let device = match entry.spec.split_once('=') {
                // It is the root on which this file was found.
                _ if mountpoint == GuestPathBuf::root() => Some(root.to_string()),
                Some((tag @ ("UUID" | "LABEL" | "PARTUUID" | "PARTLABEL"), value)) => self.find(tag, value)?,
                _ => match self.canonical(&entry.spec) {
                    Ok(device) => Some(device),
                    Err(e) if e.kind() == Kind::NotFound => None,
                    Err(e) => return Err(e),
                },
            };
            let device = match (device, entry.option("subvol")) {
                (Some(device), Some(path)) if entry.fs_type == "btrfs" => {
                    self.canonical(&format!("btrfsvol:{device}/{}", path.trim_matches('/'))).ok()
                }
                (device, _) => device,
            };
            if let Some(device) = device.filter(|_| found.iter().all(|(path, _)| *path != mountpoint)) {
                found.push((mountpoint, device));
            }
        }
        if found.iter().all(|(path, _)| *path != GuestPathBuf::root()) {
            found.insert(0, (GuestPathBuf::root(), root.to_string()));
        }
        Ok(found)
    }

    /// Mounts an inspected root: shortest mount point first; answers what could not be mounted.
    ///
    /// # Errors
    /// The root itself cannot be mounted.
    pub fn mount_root(&mut self, root: &Root, read_only: bool) -> Result<Vec<Error>> {
        let mut mountpoints = root.mountpoints.clone();
        mountpoints.sort_by_key(|(path, _)| (path.len(), path.clone()));
        let mut failed = Vec::new();
        for (mountpoint, device) in &mountpoints {
            match self.mount(device, mountpoint, read_only) {
                Ok(()) => {}
                Err(e) if mountpoint.components().next().is_none() => return Err(e),
                Err(e) => failed.push(e.at(mountpoint)),
            }
        }
        Ok(failed)
    }
}
