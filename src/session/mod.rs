//! A session: disks, their volumes, what is mounted, and the steps that were taken.

mod beside;
mod committed;
mod inspection;
mod located;
mod logged;
mod luks;
mod lvm;
mod mountpoints;
mod settings;
#[cfg(test)]
mod tests;
mod undo;
mod volumes;
mod whole;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Error, Result};
use crate::disk::{self, Disk, Format, OpenOptions};
use crate::guest::Guest;
use crate::stage::{Savepoint, Stage, StageOptions};
use crate::volume::lvm::Lvm;

pub use inspection::Root;
pub use located::Located;
pub use luks::{ENCRYPTED, Encrypted, OpenVolume};
pub use lvm::volume_name;
pub use settings::Settings;

/// A disk to attach.
#[derive(Debug, Clone, Default)]
pub struct AddDisk {
    /// The image file.
    pub path: PathBuf,
    /// Its format; `None` probes.
    pub format: Option<Format>,
    /// The image is never written: what changes is seen by this session only.
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

/// One writing command that changed something.
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

/// What a disk of the session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFacts {
    /// The image file.
    pub path: PathBuf,
    /// `raw` or `qcow2`.
    pub format: &'static str,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Whether its changes are never committed.
    pub read_only: bool,
}

/// A disk of the session.
struct Attached {
    path: PathBuf,
    label: Option<String>,
    /// Whether its changes are never committed.
    read_only: bool,
    /// Whether the user was told so.
    told: bool,
    stage: Arc<Stage>,
}

impl Attached {
    /// Whether a commit would write to it.
    fn is_changed(&self) -> bool {
        !self.read_only && self.stage.is_changed()
    }
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
    disks: Vec<Attached>,
    tables: volumes::Tables,
    /// Physical volumes, groups and logical volumes that were found; forgotten whenever a disk may have changed.
    groups: RefCell<Option<Arc<Lvm>>>,
    /// Encrypted volumes that were opened, by their names below /dev/mapper.
    mappings: BTreeMap<String, luks::Mapping>,
    /// Where on its disks the device of each open file system was when it was opened.
    opened: BTreeMap<String, lvm::Place>,
    steps: Vec<Step>,
    /// Where each step began, by disk.
    savepoints: Vec<Vec<Savepoint>>,
    /// Whether a transaction runs.
    inside: bool,
    notices: Vec<String>,
    /// Devices that were set read-only, by canonical name.
    locked: BTreeSet<String>,
}

impl Session {
    /// A session without disks.
    pub fn new(options: SessionOptions) -> Self {
        Session { options, ..Session::default() }
    }

    /// Attaches an image; it is opened at once (errors show here), its devices appear with [`Session::launch`].
    pub fn add(&mut self, add: AddDisk) -> Result<()> {
        let options = OpenOptions { format: add.format, read_only: add.read_only };
        let disk = disk::open(&add.path, options).map_err(|e| e.at(add.path.display()))?;
        self.attach(disk, add);
        Ok(())
    }

    /// Attaches a disk that is open already; `add` says how to treat it.
    pub fn attach(&mut self, disk: Box<dyn Disk>, add: AddDisk) {
        let dry_run = self.options.dry_run || add.read_only;
        let options = StageOptions { read_only: false, dry_run, number: self.disks.len() };
        let stage = Stage::new(disk, options);
        self.disks.push(Attached { path: add.path, label: add.label, read_only: add.read_only, told: false, stage });
    }

    /// `run`: makes the devices available.
    ///
    /// # Errors
    /// `Kind::Usage` without any drive.
    pub fn launch(&mut self) -> Result<()> {
        if self.disks.is_empty() {
            return Err(Error::usage("you must call guestfs_add_drive before guestfs_launch")
                .hint("give a disk image: add FILE, or the option -a FILE"));
        }
        self.launched = true;
        Ok(())
    }

    /// Whether [`Session::launch`] was done.
    pub fn is_launched(&self) -> bool {
        self.launched
    }

    /// Whether any drive was added.
    pub fn has_disks(&self) -> bool {
        !self.disks.is_empty()
    }

    /// All files that the disks are read from, backing chains included.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.disks.iter().flat_map(|disk| disk.stage.disk().files())
    }

    /// The image files, in the order of the disks.
    pub fn images(&self) -> impl Iterator<Item = &Path> {
        self.disks.iter().map(|disk| disk.path.as_path())
    }

    /// What the disks are, in their order.
    pub fn disk_facts(&self) -> impl Iterator<Item = DiskFacts> {
        self.disks.iter().map(|disk| DiskFacts {
            path: disk.path.clone(),
            format: disk.stage.disk().format(),
            size: disk.stage.disk().len(),
            read_only: disk.read_only,
        })
    }

    /// Begins anew without disks, after a commit (with autosync) or without one. As guestfish has it, only some
    /// settings survive.
    ///
    /// # Errors
    /// Those of the commit; nothing has changed then.
    pub fn reopen(&mut self) -> Result<()> {
        if self.settings.autosync && self.is_launched() {
            self.commit()?;
        }
        let old = std::mem::take(&mut self.settings);
        let mut guest = Guest::default();
        guest.set_interrupt(self.guest.interrupt_flag());
        let settings = Settings {
            verbose: old.verbose,
            trace: old.trace,
            autosync: old.autosync,
            path: old.path,
            process_group: old.process_group,
            ..Settings::default()
        };
        *self = Session { guest, settings, options: self.options, ..Session::default() };
        Ok(())
    }

    /// Something to tell the user besides the answer of a command.
    pub fn notify(&mut self, notice: String) {
        self.notices.push(notice);
    }

    /// What the user should know although nothing failed: file systems that had to be unmounted because an undo
    /// took them away. Each is given once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }
}
