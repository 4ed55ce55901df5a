//! Logical volumes among the devices of a session.

use std::ops::Range;
use std::sync::Arc;

use super::Session;
use crate::base::{Error, Kind, Result};
use crate::disk::Device;
use crate::volume::lvm::{self, Lvm, Opened};

/// Where the bytes of a device are: disks and ranges of them.
pub(super) type Place = Vec<(usize, Range<u64>)>;

/// Whether two devices have bytes in common.
pub(super) fn overlap(a: &Place, b: &Place) -> bool {
    a.iter().any(|(disk, one)| b.iter().any(|(other, two)| disk == other && one.start < two.end && two.start < one.end))
}

/// A range of the bytes of a device. What is in several pieces is taken as a whole: the answer is for overlaps.
pub(super) fn within(place: &Place, range: &Range<u64>) -> Place {
    match place.as_slice() {
        [(disk, whole)] => vec![(*disk, whole.start + range.start..whole.start + range.end)],
        _ => place.clone(),
    }
}

/// The name of a logical volume: `/dev/VG/LV`.
pub fn volume_name(group: &str, volume: &str) -> String {
    format!("/dev/{group}/{volume}")
}

/// Group and volume of a name under /dev/mapper: they are joined by a dash, their own dashes are doubled.
fn mapper_name(name: &str) -> Option<(String, String)> {
    let mut parts = vec![String::new()];
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '-' if chars.next_if_eq(&'-').is_none() => parts.push(String::new()),
            c => parts.last_mut()?.push(c),
        }
    }
    let [group, volume]: [String; 2] = parts.try_into().ok()?;
    Some((group, volume))
}

/// Group and volume that a name below /dev means.
fn split(name: &str) -> Option<(String, String)> {
    let (group, volume) = name.strip_prefix("/dev/")?.split_once('/')?;
    match group {
        "mapper" => mapper_name(volume),
        _ => Some((group.to_string(), volume.to_string())),
    }
}

impl Session {
    /// Physical volumes, groups and logical volumes as they are now.
    pub fn lvm(&self) -> Result<Arc<Lvm>> {
        // A command may be changing them right now.
        if !self.inside
            && let Some(found) = self.groups.borrow().as_ref()
        {
            return Ok(found.clone());
        }
        let mut devices = Vec::new();
        for name in self.blocks()? {
            let device = self.device(&name)?;
            devices.push((name, device));
        }
        let found = Arc::new(lvm::scan(devices)?);
        *self.groups.borrow_mut() = Some(found.clone());
        Ok(found)
    }

    /// The logical volume that a name means, as group and volume.
    pub fn logical_volume(&self, name: &str) -> Result<Option<(String, String)>> {
        let Some((group, volume)) = split(name) else { return Ok(None) };
        Ok(self.lvm()?.volume(&group, &volume).is_some().then_some((group, volume)))
    }

    /// Names of the logical volumes, by group and name; without thin pools, and without snapshots that are not activated
    /// by themselves, as guestfish has it.
    pub fn logical_volumes(&self) -> Result<Vec<String>> {
        Ok(self.lvm()?.listed().map(|(group, volume)| volume_name(&group.name, &volume.name)).collect())
    }

    fn open_logical(&self, name: &str) -> Result<(Arc<Lvm>, Opened)> {
        let missing = || Error::from(Kind::NotFound).at(name);
        let (group, volume) = split(name).ok_or_else(missing)?;
        let lvm = self.lvm()?;
        let (group, volume) = lvm.volume(&group, &volume).ok_or_else(missing)?;
        let opened = lvm.open(group, volume).map_err(|e| e.at(name))?;
        Ok((lvm, opened))
    }

    /// The device of a logical volume.
    pub(super) fn logical_device(&self, name: &str) -> Result<Device> {
        Ok(self.open_logical(name)?.1.device)
    }

    /// After a logical volume was renamed: what is mounted stays mounted under its new name.
    pub fn renamed(&mut self, from: &str, to: &str) {
        self.guest.rename_device(from, to);
        if let Some(place) = self.opened.remove(from) {
            self.opened.insert(to.to_string(), place);
        }
        self.forget_layout();
    }

    /// Changes the size of a logical volume by `change`. What is mounted from it stays mounted and gets the longer device; what
    /// else is open on it is closed.
    ///
    /// # Errors
    /// `Kind::Busy` if a mounted volume got shorter: the transaction must be taken back then; as [`Session::release`]; what
    /// `change` says.
    pub fn resize_logical(&mut self, device: &str, change: impl FnOnce(&Lvm) -> Result<()>) -> Result<()> {
        if !self.guest.is_mounted(device) {
            self.release(device)?;
            return change(self.lvm()?.as_ref());
        }
        self.check_unopened(device)?;
        // Its driver is replaced: nothing may be left in it.
        self.guest.sync()?;
        let before = self.device(device)?.len();
        change(self.lvm()?.as_ref())?;
        self.forget_layout();
        if self.device(device)?.len() < before {
            return Err(Error::new(Kind::Busy, "a mounted volume is not made smaller")
                .at(device)
                .hint(format!("umount {device}, and shrink the file system on it with resize2fs-size first")));
        }
        self.reopen_in_place(device)
    }

    /// Opens the file system of a device anew, since the device got another length; what is mounted stays mounted.
    pub(super) fn reopen_in_place(&mut self, device: &str) -> Result<()> {
        let open = self.opener(device)?;
        self.guest.reopen(device, &mut || open())?;
        self.note_opened(device)
    }

    /// Whether a file system that is open stands on a logical volume that begins where it did, but has another length now.
    pub(super) fn has_other_length(&self, device: &str) -> bool {
        let start = |place: &Place| place.first().map(|(disk, range)| (*disk, range.start));
        let before = self.opened.get(device).and_then(start);
        let now = self.opened_place(device).ok().as_ref().and_then(start);
        self.is_logical(device) && before.is_some() && before == now
    }

    /// Where a logical volume's bytes are.
    pub(super) fn logical_place(&self, name: &str) -> Result<Place> {
        let (lvm, opened) = self.open_logical(name)?;
        let mut place = Vec::new();
        for (pv, range) in opened.places {
            let pv = lvm.physical.get(pv).ok_or(Kind::Internal)?;
            place.extend(within(&self.place(&pv.name)?, &range));
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let pair = |a: &str, b: &str| Some((a.to_string(), b.to_string()));
        assert_eq!(split("/dev/mapper/centos-root"), pair("centos", "root"));
        assert_eq!(split("/dev/mapper/a--b-c--d"), pair("a-b", "c-d"));
        assert_eq!(split("/dev/mapper/a-b-c"), None);
        assert_eq!(split("/dev/mapper/ab"), None);
        assert_eq!(split("/dev/vg-1/lv"), pair("vg-1", "lv"));
        assert_eq!(split("/dev/sda"), None);
    }

    #[test]
    fn devices_that_share_bytes() {
        let place = vec![(0, 10..20), (1, 0..5)];
        assert!(overlap(&place, &vec![(1, 4..6)]) && overlap(&place, &vec![(0, 0..100)]));
        assert!(!overlap(&place, &vec![(0, 20..30), (1, 5..6), (2, 0..100)]));
    }
}
