//! A session: disks, their volumes, what is mounted, and the steps that were taken.
//!
//! TEMPORARY skeleton: signatures stand, bodies are to be written (undo.rs, changes.rs, volumes.rs, inspection ...).

mod settings;

use std::path::PathBuf;

use crate::base::{Error, GuestPathBuf, Result, Timestamp};
use crate::disk::{Device, Format};
use crate::fs::Identity;
use crate::guest::Guest;
use crate::volume::Table;

pub use settings::Settings;

/// A disk to attach.
#[derive(Debug, Clone, Default)]
pub struct AddDisk {
    /// The image file.
    pub path: PathBuf,
    /// Its format; `None` probes.
    pub format: Option<Format>,
    /// Never written.
    pub read_only: bool,
    /// Name under /dev/disk/guestfs/.
    pub label: Option<String>,
}

/// What a session may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionOptions {
    /// Nothing is ever committed; the images are not touched.
    pub dry_run: bool,
}

/// One writing command that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The command as it was given, for `changes` and `undo`.
    pub label: String,
}

/// What a commit would write to one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskChanges {
    /// `/dev/sda`.
    pub device: String,
    /// The image file.
    pub path: PathBuf,
    /// Bytes staged.
    pub bytes: u64,
}

/// Disks, volumes, mounts, steps.
#[derive(Default)]
pub struct Session {
    /// The mounted guest.
    pub guest: Guest,
    /// What the `set-` commands keep.
    pub settings: Settings,
    options: SessionOptions,
    launched: bool,
}

fn skeleton<T>() -> Result<T> {
    Err(Error::unsupported("skeleton"))
}

#[allow(unused_variables, missing_docs)]
impl Session {
    pub fn new(options: SessionOptions) -> Self {
        Session { options, ..Session::default() }
    }
    /// Attaches an image; it is opened at once (errors show here), its devices appear with [`Session::launch`].
    pub fn add(&mut self, disk: AddDisk) -> Result<()> {
        skeleton()
    }
    /// `run`: makes the devices available. `Kind::Usage` without any drive.
    pub fn launch(&mut self) -> Result<()> {
        skeleton()
    }
    pub fn is_launched(&self) -> bool {
        self.launched
    }
    /// Whether any drive was added.
    pub fn has_disks(&self) -> bool {
        false
    }

    // -- devices --------------------------------------------------------------------------------
    /// `/dev/sda`, `/dev/sdb`, ...
    pub fn devices(&self) -> Vec<String> {
        Vec::new()
    }
    /// `/dev/sda1`, ... of all disks.
    pub fn partitions(&self) -> Result<Vec<String>> {
        skeleton()
    }
    /// `/dev/vda1`, `/dev/disk/by-uuid/...`, `/dev/disk/guestfs/LABEL1` to the canonical `/dev/sda1`. `Kind::NotFound`.
    pub fn canonical(&self, name: &str) -> Result<String> {
        skeleton()
    }
    /// The whole disk or partition of a canonical name.
    pub fn device(&self, name: &str) -> Result<Device> {
        skeleton()
    }
    /// The partition table of a whole disk.
    pub fn table(&self, disk: &str) -> Result<Option<Table>> {
        skeleton()
    }
    /// What is on a device.
    pub fn identify(&self, device: &str) -> Result<Option<Identity>> {
        skeleton()
    }
    /// `list-filesystems`: device and type (`unknown` where nothing is known), in device order.
    pub fn file_systems(&self) -> Result<Vec<(String, String)>> {
        skeleton()
    }
    /// Mounts by canonical or other device name.
    pub fn mount(&mut self, device: &str, mountpoint: &GuestPathBuf, read_only: bool) -> Result<()> {
        skeleton()
    }
    /// Before a whole device is rewritten: closes what is open on it, `Kind::Busy` if it is mounted.
    pub fn release(&mut self, device: &str) -> Result<()> {
        skeleton()
    }

    // -- the gate -------------------------------------------------------------------------------
    /// Runs one command that writes: savepoint on every disk, `work`, drivers synced, a step logged; on an error
    /// (or when `interrupted` answers true at the end) everything is as before.
    pub fn transact<T>(
        &mut self,
        label: &str,
        now: Timestamp,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        skeleton()
    }
    /// Steps that are not committed.
    pub fn steps(&self) -> &[Step] {
        &[]
    }
    /// Takes the last step back; answers it.
    pub fn undo(&mut self) -> Result<Step> {
        skeleton()
    }
    /// Whether a commit would write anything.
    pub fn is_changed(&self) -> bool {
        false
    }
    pub fn changes(&self) -> Result<Vec<DiskChanges>> {
        skeleton()
    }
    /// Makes all steps permanent, each image at once or not at all. Nothing under `dry_run`.
    pub fn commit(&mut self) -> Result<()> {
        skeleton()
    }
    /// Forgets all steps.
    pub fn rollback(&mut self) -> Result<()> {
        skeleton()
    }

    // -- inspection -----------------------------------------------------------------------------
    /// Root file systems of the operating systems found (`inspect-os`).
    pub fn inspect(&mut self) -> Result<Vec<Root>> {
        skeleton()
    }
    /// Mounts an inspected root: shortest mount point first; answers what could not be mounted.
    pub fn mount_root(&mut self, root: &Root, read_only: bool) -> Result<Vec<Error>> {
        skeleton()
    }
}

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
    /// From /etc/fstab, resolved: mount point and device.
    pub mountpoints: Vec<(GuestPathBuf, String)>,
}
