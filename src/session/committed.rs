//! A second session that sees what is committed, beside the one that changes it.

use super::{AddDisk, Session, SessionOptions};
use crate::base::Result;
use crate::stage::Committed;

impl Session {
    /// A session that sees the committed state of all disks, mounted as this one is, and writes nothing. What is mounted here from
    /// a place that the committed state does not have (a new partition, a new file system) is not mounted there.
    ///
    /// # Errors
    /// As [`Session::launch`].
    pub fn committed(&self) -> Result<Session> {
        let mut old = Session::new(SessionOptions { dry_run: true });
        old.guest.set_interrupt(self.guest.interrupt_flag());
        for disk in &self.disks {
            let add = AddDisk { path: disk.path.clone(), format: None, read_only: true, label: disk.label.clone() };
            old.attach(Box::new(Committed(disk.stage.clone())), add);
        }
        old.launch()?;
        old.map_as(self);
        for mount in self.guest.mounts() {
            // What is new has no committed state.
            let _ = old.mount(&mount.device, &mount.mountpoint, true);
        }
        Ok(old)
    }
}
