//! The gate for everything that writes: transactions, steps, commit and the ways back.

use super::{DiskChanges, Session, Step};
use crate::base::{Error, Kind, Result, Timestamp, progress};
use crate::stage::{Savepoint, Stage};

impl Session {
    /// Runs one command that writes: savepoint on every disk, `work`, drivers synced, a step logged if anything
    /// changed. A transaction inside another is part of it.
    ///
    /// # Errors
    /// What `work` said, or `Kind::Interrupted`; after an error everything is as before.
    pub fn transact<T>(
        &mut self,
        label: &str,
        now: Timestamp,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        if self.inside {
            return work(self);
        }
        self.guest.set_now(now);
        let savepoints: Vec<Savepoint> = self.disks.iter().map(|disk| disk.stage.savepoint()).collect();
        self.inside = true;
        let result = work(self).and_then(|answer| {
            self.guest.sync()?;
            self.guest.check_interrupt()?;
            Ok(answer)
        });
        // All disks, so that no error is left for the next command.
        let settled: Vec<Result<()>> = self.disks.iter().map(|disk| disk.stage.settle()).collect();
        let result = result.and_then(|answer| settled.into_iter().collect::<Result<()>>().map(|()| answer));
        self.inside = false;
        self.forget_layout();
        match result {
            Ok(answer) => {
                let changed = |(disk, to): (&super::Attached, &Savepoint)| disk.stage.is_changed_since(*to);
                if self.disks.iter().zip(&savepoints).any(changed) {
                    self.notice_lost();
                    self.steps.push(Step { label: label.to_string() });
                    self.savepoints.push(savepoints);
                }
                Ok(answer)
            }
            Err(error) => match self.go_back(&savepoints) {
                Ok(()) => Err(error),
                Err(worse) => {
                    Err(worse.hint(format!("going back after an error ({error}) failed; quit without a commit")))
                }
            },
        }
    }

    /// Tells, once for each disk, that its changes are not kept.
    fn notice_lost(&mut self) {
        if self.options.dry_run {
            return;
        }
        for index in 0..self.disks.len() {
            let disk = &mut self.disks[index];
            if disk.read_only && !disk.told && disk.stage.is_changed() {
                disk.told = true;
                let path = disk.path.display();
                self.notices.push(format!("{path} was added read-only: its changes end with this session"));
            }
        }
    }

    /// Takes all disks back to savepoints and reads everything anew.
    fn go_back(&mut self, savepoints: &[Savepoint]) -> Result<()> {
        for (disk, savepoint) in self.disks.iter().zip(savepoints) {
            disk.stage.rollback(*savepoint)?;
            if self.steps.is_empty() && !disk.stage.is_changed() {
                // What was written fresh, for nothing, gives the host its space back now: it may be what there is too little of.
                disk.stage.abandon().ok();
            }
        }
        self.read_anew();
        Ok(())
    }

    /// After disks went back: no cache survives, nor do file systems on partitions that moved or went.
    fn read_anew(&mut self) {
        self.forget_layout();
        self.close_lost_volumes();
        let open: Vec<String> = self.guest.open_devices().map(str::to_string).collect();
        for device in open.into_iter().filter(|device| !Session::is_memory_root(device)) {
            let moved = match self.opened_place(&device) {
                Ok(place) => self.opened.get(&device) != Some(&place),
                Err(_) => true,
            };
            // A volume that was made longer and is as before now keeps its mounts.
            if moved && !(self.has_other_length(&device) && self.reopen_in_place(&device).is_ok()) {
                for lost in self.guest.forget(&device) {
                    self.notices.push(format!(
                        "{} was unmounted from {}: the device is no longer as it was",
                        lost.device, lost.mountpoint
                    ));
                }
            }
        }
        if let Err(notice) = self.guest.reload() {
            self.notices.push(notice.to_string());
        }
    }

    /// Steps that are not committed.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Takes the last step back; answers it. File systems that it had made are unmounted
    /// ([`Session::take_notices`]).
    ///
    /// # Errors
    /// `Kind::Invalid` if there is none.
    pub fn undo(&mut self) -> Result<Step> {
        let (Some(step), Some(savepoints)) = (self.steps.pop(), self.savepoints.pop()) else {
            return Err(Error::new(Kind::Invalid, "there is nothing to undo")
                .hint("undo reaches back to the last commit, or to the start"));
        };
        self.go_back(&savepoints)?;
        Ok(step)
    }

    /// Whether a commit would write anything. Never under `dry_run`.
    pub fn is_changed(&self) -> bool {
        !self.options.dry_run && self.disks.iter().any(super::Attached::is_changed)
    }

    /// What is staged, by disk; disks without changes are left out.
    pub fn changes(&self) -> Result<Vec<DiskChanges>> {
        let changed = self.devices().into_iter().zip(&self.disks).filter(|(_, disk)| disk.stage.is_changed());
        Ok(changed
            .map(|(device, disk)| {
                let bytes = disk.stage.changed_ranges().iter().map(|r| r.end - r.start).sum();
                DiskChanges { device, path: disk.path.clone(), bytes }
            })
            .collect())
    }

    /// Makes all steps permanent, each image at once or not at all; disks that were added read-only keep theirs staged.
    /// Under `dry_run` it does nothing: all stays staged, and can be looked at and undone.
    ///
    /// # Errors
    /// What a disk says. Images are committed one after the other; the hint says which are done.
    pub fn commit(&mut self) -> Result<()> {
        self.commit_disks(&|session, index, stage| stage.commit_through(&|changes| session.log_plan(index, changes)))
    }

    /// [`Session::commit`] that keeps the state before it in each image that changes, as an internal snapshot.
    ///
    /// # Errors
    /// As [`Session::commit`]; `Kind::Unsupported`, before anything is written, if one of these images is not qcow2.
    pub fn commit_keeping(&mut self, name: &str, now: Timestamp) -> Result<()> {
        self.guest.sync()?;
        if let Some(disk) = self.disks.iter().find(|d| d.is_changed() && d.stage.disk().format() != "qcow2") {
            return Err(Error::unsupported(format!(
                "a {} image has no room for an old state",
                disk.stage.disk().format()
            ))
            .at(disk.path.display())
            .hint("commit without keep, after a copy of the image, or work on a qcow2 image"));
        }
        self.commit_disks(&|_, _, stage| stage.commit_keeping(name, now))
    }

    fn commit_disks(&mut self, commit: &dyn Fn(&Session, usize, &Stage) -> Result<()>) -> Result<()> {
        if self.inside {
            return Err(Error::new(Kind::Internal, "a commit inside a transaction"));
        }
        let _work = progress::begin("commit");
        self.guest.sync()?;
        if self.options.dry_run {
            return Ok(());
        }
        for (index, disk) in self.disks.iter().enumerate().filter(|(_, disk)| !disk.read_only) {
            let Err(error) = commit(self, index, &disk.stage) else { continue };
            let error = error.at(disk.path.display());
            let name = |disk: &super::Attached| disk.path.display().to_string();
            let done: Vec<String> = self.disks[..index].iter().filter(|d| !d.read_only).map(name).collect();
            if done.is_empty() {
                return Err(error);
            }
            let open: Vec<String> = self.disks[index..].iter().filter(|d| d.is_changed()).map(name).collect();
            // What is left cannot be taken back step by step: part of the steps is permanent.
            self.forget_steps();
            return Err(error.hint(format!("committed: {}; not committed: {}", done.join(", "), open.join(", "))));
        }
        self.guest.committed();
        self.forget_steps();
        Ok(())
    }

    /// Forgets all steps: everything is as after the last commit.
    pub fn rollback(&mut self) -> Result<()> {
        self.forget_steps();
        let mut result = Ok(());
        for disk in &self.disks {
            result = result.and(disk.stage.abandon().map_err(|e| e.at(disk.path.display())));
        }
        self.read_anew();
        result
    }

    fn forget_steps(&mut self) {
        self.steps.clear();
        self.savepoints.clear();
    }
}
