//! Names of devices: disks, partitions, and the other names that guests and scripts have for them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::Session;
use super::lvm::{Place, overlap, volume_name};
use crate::base::bytes::le32;
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::disk::Device;
use crate::disk::read_only::ReadOnly;
use crate::disk::slice::Slice;
use crate::fs::{self, FileSystem, Identity};
use crate::volume::{self, Partition, Role, Table, TableKind};

/// Partition tables that were read, by disk; forgotten whenever a disk may have changed.
pub(super) type Tables = RefCell<HashMap<usize, Option<Table>>>;

/// What Linux lets a program see of an extended partition: room for a boot loader.
const EXTENDED_LEN: u64 = 1024;

/// `/dev/sda` for 0, `/dev/sdz` for 25, `/dev/sdaa` for 26.
fn disk_name(index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(b'a' + (rest % 26) as u8);
        rest /= 26;
    }
    letters.reverse();
    format!("/dev/sd{}", String::from_utf8_lossy(&letters))
}

/// The disk that drive letters stand for.
fn letters_index(letters: &str) -> Option<usize> {
    if letters.is_empty() || letters.len() > 4 {
        return None;
    }
    let value =
        letters.bytes().try_fold(0, |sum, b| b.is_ascii_lowercase().then(|| sum * 26 + (b - b'a') as usize + 1))?;
    Some(value - 1)
}

/// A partition number as it stands in a device name: no sign, no leading zero.
fn partition_number(digits: &str) -> Option<Option<u32>> {
    match digits {
        "" => Some(None),
        _ if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) => None,
        _ => Some(Some(digits.parse().ok()?)),
    }
}

/// Disk and partition of a name as kernels give it: `sda1`, `vdb`, `xvda1`, `hda`, `nvme0n1p1`, `mmcblk0p1`.
fn parse(name: &str) -> Option<(usize, Option<u32>)> {
    for prefix in ["sd", "vd", "hd", "xvd"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            return Some((letters_index(&rest[..end])?, partition_number(&rest[end..])?));
        }
    }
    let (disk, rest) = match name.strip_prefix("nvme") {
        Some(rest) => rest.split_once("n1")?,
        None => {
            let rest = name.strip_prefix("mmcblk")?;
            rest.split_at(rest.find('p').unwrap_or(rest.len()))
        }
    };
    let number = if rest.is_empty() { None } else { Some(partition_number(rest.strip_prefix('p')?)??) };
    Some((partition_number(disk).flatten().map_or_else(|| (disk == "0").then_some(0), |n| Some(n as usize))?, number))
}

/// udev's names have `\x20` for a blank.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let hex = tail.strip_prefix(b"x").and_then(|t| t.get(..2)).and_then(|h| std::str::from_utf8(h).ok());
        match hex.filter(|_| *byte == b'\\').and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the names of subvolumes begin with.
const SUBVOLUME: &str = "btrfsvol:";

impl Session {
    /// `/dev/sda`, `/dev/sdb`, ...
    pub fn devices(&self) -> Vec<String> {
        (0..self.disks.len()).map(disk_name).collect()
    }

    /// `/dev/sda1`, ... of all disks.
    pub fn partitions(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for index in 0..self.disks.len() {
            let disk = disk_name(index);
            names.extend(self.partitions_of(index)?.iter().map(|p| format!("{disk}{}", p.number)));
        }
        Ok(names)
    }

    fn partitions_of(&self, disk: usize) -> Result<Vec<Partition>> {
        Ok(self.table_of(disk)?.map(|table| table.partitions).unwrap_or_default())
    }

    fn disk(&self, index: usize) -> Result<Device> {
        match self.disks.get(index) {
            Some(disk) => Ok(disk.stage.clone()),
            None => Err(Error::from(Kind::NotFound).at(disk_name(index))),
        }
    }

    pub(super) fn table_of(&self, index: usize) -> Result<Option<Table>> {
        let read = || volume::read(&self.disk(index)?).map_err(|e| e.at(disk_name(index)));
        // A command may be changing the table right now.
        if self.inside {
            return read();
        }
        if let Some(table) = self.tables.borrow().get(&index) {
            return Ok(table.clone());
        }
        let table = read()?;
        self.tables.borrow_mut().insert(index, table.clone());
        Ok(table)
    }

    /// `/dev/vda1`, `/dev/disk/by-uuid/...`, `/dev/disk/guestfs/LABEL1` to the canonical `/dev/sda1`.
    ///
    /// # Errors
    /// `Kind::NotFound` for what is no device of this session.
    pub fn canonical(&self, name: &str) -> Result<String> {
        let missing = || {
            Err(Error::from(Kind::NotFound)
                .at(name)
                .hint("list-devices, list-partitions and list-filesystems show what is there"))
        };
        if let Some((device, path)) = self.split_subvolume(name) {
            return Ok(format!("{SUBVOLUME}{device}/{path}"));
        }
        let Some(rest) = name.strip_prefix("/dev/") else { return missing() };
        if self.mapping(name).is_some() {
            return Ok(name.to_string());
        }
        let found = match rest.strip_prefix("disk/") {
            None => parse(rest),
            Some(link) => {
                let Some((way, value)) = link.split_once('/') else { return missing() };
                match way {
                    "by-uuid" | "by-label" | "by-partuuid" | "by-partlabel" => {
                        return match self.find(&way[3..].to_ascii_uppercase(), &unescape(value))? {
                            Some(device) => Ok(device),
                            None => missing(),
                        };
                    }
                    "guestfs" => self.labelled(value),
                    _ => None,
                }
            }
        };
        if found.is_none()
            && let Some((group, volume)) = self.logical_volume(name)?
        {
            return Ok(volume_name(&group, &volume));
        }
        match found {
            Some((disk, None)) if disk < self.disks.len() => Ok(disk_name(disk)),
            Some((disk, Some(number))) if disk < self.disks.len() => {
                match self.partitions_of(disk)?.iter().any(|p| p.number == number) {
                    true => Ok(format!("{}{number}", disk_name(disk))),
                    false => missing(),
                }
            }
            _ => missing(),
        }
    }

    /// Device and path of `btrfsvol:DEVICE/PATH`: the longest start that is a device.
    pub fn split_subvolume(&self, name: &str) -> Option<(String, String)> {
        let rest = name.strip_prefix(SUBVOLUME)?;
        let cuts = rest.rmatch_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        cuts.into_iter().find_map(|at| Some((self.canonical(&rest[..at]).ok()?, rest[at + 1..].to_string())))
    }

    /// Opens the file system of a canonical name: of a device, or a subvolume of it.
    pub(super) fn opener(&self, name: &str) -> Result<impl Fn() -> Result<Box<dyn FileSystem>> + use<>> {
        let (device, subvolume) = (self.device(name)?, self.split_subvolume(name).map(|(_, path)| path));
        let beside = self.beside(name)?;
        Ok(move || {
            let mut fs = fs::open_with(device.clone(), &beside)?;
            if let Some(path) = &subvolume {
                let btrfs = fs.as_btrfs().ok_or_else(|| Error::new(Kind::Invalid, "only btrfs has subvolumes"))?;
                btrfs.show_volume(path.as_bytes())?;
            }
            Ok(fs)
        })
    }

    /// Disk and partition of a name under /dev/disk/guestfs: the label itself may end in digits.
    fn labelled(&self, name: &str) -> Option<(usize, Option<u32>)> {
        self.disks.iter().enumerate().find_map(|(index, disk)| {
            let number = partition_number(name.strip_prefix(disk.label.as_deref()?)?)?;
            Some((index, number))
        })
    }

    /// The device that has a value under fstab's words `UUID`, `LABEL`, `PARTUUID`, `PARTLABEL`.
    pub fn find(&self, tag: &str, value: &str) -> Result<Option<String>> {
        for device in self.volumes()? {
            let found = match tag {
                "UUID" => self.look_at(&device)?.is_some_and(|i| i.uuid.eq_ignore_ascii_case(value)),
                "LABEL" => self.look_at(&device)?.is_some_and(|i| i.label == value),
                _ => match self.partition(&device)? {
                    Some((_, partition)) if tag == "PARTLABEL" => partition.name == value,
                    Some((disk, partition)) => {
                        self.partition_uuid(disk, &partition)?.is_some_and(|uuid| uuid.eq_ignore_ascii_case(value))
                    }
                    None => false,
                },
            };
            if found && !value.is_empty() {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    /// A partition's UUID as Linux has it: the GUID, or in an MBR the disk's signature and the number.
    pub(super) fn partition_uuid(&self, disk: usize, partition: &Partition) -> Result<Option<String>> {
        match self.table_of(disk)?.map(|table| table.kind) {
            Some(TableKind::Gpt) => Ok(partition.guid.map(|guid| guid.to_string())),
            Some(TableKind::Mbr) => Ok(Some(format!("{}-{:02x}", self.disk_signature(disk)?, partition.number))),
            None => Ok(None),
        }
    }

    /// The signature of an MBR in hex: byte 440 of the first sector (UEFI 2.10, section 5.2.1).
    pub(super) fn disk_signature(&self, disk: usize) -> Result<String> {
        let mut signature = [0; 4];
        self.disk(disk)?.read_at(440, &mut signature)?;
        Ok(format!("{:08x}", le32(&signature, 0)))
    }

    /// What can hold a file system: disks without partitions, then partitions without the extended ones, then opened
    /// encrypted volumes, then logical volumes.
    pub(super) fn volumes(&self) -> Result<Vec<String>> {
        let mut names = self.blocks()?;
        names.extend(self.logical_volumes()?);
        Ok(names)
    }

    /// What can hold a physical volume: disks without partitions, then partitions without the extended ones, then opened
    /// encrypted volumes.
    pub(super) fn blocks(&self) -> Result<Vec<String>> {
        let (mut disks, mut partitions) = (Vec::new(), Vec::new());
        for index in 0..self.disks.len() {
            let (name, all) = (disk_name(index), self.partitions_of(index)?);
            if all.is_empty() {
                disks.push(name);
                continue;
            }
            partitions.extend(all.iter().filter(|p| p.role != Role::Extended).map(|p| format!("{name}{}", p.number)));
        }
        disks.append(&mut partitions);
        disks.extend(self.mapped_devices());
        Ok(disks)
    }

    fn parse_canonical(&self, name: &str) -> Result<(usize, Option<u32>)> {
        name.strip_prefix("/dev/").and_then(parse).ok_or_else(|| Error::from(Kind::NotFound).at(name))
    }

    /// The disk and the entry of a partition; `None` for a whole disk or a logical volume.
    pub(super) fn partition(&self, name: &str) -> Result<Option<(usize, Partition)>> {
        let parsed = name.strip_prefix("/dev/").and_then(parse);
        let Some((disk, Some(number))) = parsed else { return Ok(None) };
        match self.partitions_of(disk)?.into_iter().find(|p| p.number == number) {
            Some(partition) => Ok(Some((disk, partition))),
            None => Err(Error::from(Kind::NotFound).at(name)),
        }
    }

    /// Labels that drives were added with, each with the disk's name.
    pub fn labels(&self) -> Vec<(String, String)> {
        let labels = self.disks.iter().enumerate().filter_map(|(i, d)| Some((d.label.clone()?, disk_name(i))));
        labels.collect()
    }

    /// The number of a whole disk, from 0.
    pub fn disk_index(&self, name: &str) -> Result<usize> {
        match self.parse_canonical(name)? {
            (index, None) if index < self.disks.len() => Ok(index),
            _ => Err(Error::new(Kind::Invalid, "this is no whole disk").at(name)),
        }
    }

    /// Makes a device refuse writes from now on, or no longer; what is mounted stays as it is.
    pub fn set_read_only(&mut self, device: &str, read_only: bool) -> Result<()> {
        let name = self.canonical(device)?;
        match read_only {
            true => self.locked.insert(name),
            false => self.locked.remove(&name),
        };
        Ok(())
    }

    /// Whether a device, or the disk that it lies on, was set read-only.
    pub(super) fn is_locked(&self, name: &str) -> bool {
        self.locked.iter().any(|locked| {
            let rest = name.strip_prefix(locked.as_str());
            rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        })
    }

    /// Where the bytes of a device are.
    pub(super) fn place(&self, name: &str) -> Result<Place> {
        if let Some((device, _)) = self.split_subvolume(name) {
            return self.place(&device);
        }
        match self.mapped_place(name) {
            Some(place) => Ok(place),
            None if self.is_logical(name) => self.logical_place(name),
            None => Ok(vec![self.range(name)?]),
        }
    }

    /// Whether a canonical name is neither a disk's nor a partition's.
    pub(super) fn is_logical(&self, name: &str) -> bool {
        self.parse_canonical(name).is_err()
    }

    /// Forgets what was read of partition tables and of LVM.
    pub(super) fn forget_layout(&self) {
        self.tables.borrow_mut().clear();
        *self.groups.borrow_mut() = None;
    }

    /// The disk that a disk or partition lies on and the bytes of it.
    fn range(&self, name: &str) -> Result<(usize, Range<u64>)> {
        match self.partition(name)? {
            None => {
                let (index, _) = self.parse_canonical(name)?;
                Ok((index, 0..self.disk(index)?.len()))
            }
            Some((disk, p)) => {
                let len = if p.role == Role::Extended { p.len.min(EXTENDED_LEN) } else { p.len };
                let end = p.start.checked_add(len).ok_or_else(|| {
                    Error::corrupt(format!("partition {} ends past the last possible byte", p.number)).at(name)
                })?;
                Ok((disk, p.start..end))
            }
        }
    }

    /// The whole disk, partition or logical volume of a canonical name.
    pub fn device(&self, name: &str) -> Result<Device> {
        if let Some((device, _)) = self.split_subvolume(name) {
            return self.device(&device);
        }
        if let Some(device) = self.mapped_device(name) {
            return Ok(device);
        }
        if self.is_logical(name) {
            let device = self.logical_device(name)?;
            return Ok(if self.is_locked(name) { Arc::new(ReadOnly(device)) } else { device });
        }
        let (index, range) = self.range(name)?;
        let mut disk = self.disk(index)?;
        if self.is_locked(name) {
            disk = Arc::new(ReadOnly(disk));
        }
        if range.start == 0 && range.end == disk.len() {
            return Ok(disk);
        }
        Ok(Arc::new(Slice::new(disk, range)))
    }

    /// The partition table of a whole disk.
    pub fn table(&self, disk: &str) -> Result<Option<Table>> {
        match self.parse_canonical(disk)? {
            (index, None) => self.table_of(index),
            _ => Err(Error::new(Kind::Invalid, "a partition has no partition table").at(disk)),
        }
    }

    /// What is on a device.
    pub fn identify(&self, device: &str) -> Result<Option<Identity>> {
        fs::identify(self.device(device)?.as_ref()).map_err(|e| e.at(device))
    }

    /// As [`Session::identify`]; nothing is known of a logical volume that cannot be opened.
    pub(super) fn look_at(&self, device: &str) -> Result<Option<Identity>> {
        match self.identify(device) {
            Err(e) if self.is_logical(device) && matches!(e.kind(), Kind::Unsupported | Kind::Corrupt) => Ok(None),
            answer => answer,
        }
    }

    /// `list-filesystems`: device and type (`unknown` where nothing is known), disks without partitions first,
    /// then partitions in device order, then opened encrypted volumes, then logical volumes. Members of LVM or RAID and encrypted volumes are no file systems.
    pub fn file_systems(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for device in self.volumes()? {
            let fs_type = self.look_at(&device)?.map_or_else(|| "unknown".to_string(), |i| i.fs_type);
            if fs_type.ends_with("_member") || fs_type == super::luks::ENCRYPTED {
                continue;
            }
            let subvolumes = if fs_type == "btrfs" { self.subvolumes(&device) } else { Vec::new() };
            found.push((device, fs_type.clone()));
            found.extend(subvolumes.into_iter().map(|name| (name, fs_type.clone())));
        }
        Ok(found)
    }

    /// The subvolumes of a btrfs but the default one; none if it cannot be opened, which a mount tells.
    fn subvolumes(&self, device: &str) -> Vec<String> {
        let paths = self.opener(device).and_then(|open| open()).and_then(|mut fs| match fs.as_btrfs() {
            Some(btrfs) => btrfs.other_volumes(),
            None => Ok(Vec::new()),
        });
        let paths = paths.unwrap_or_default();
        paths.iter().map(|path| format!("{SUBVOLUME}{device}/{}", String::from_utf8_lossy(path))).collect()
    }

    /// Mounts by canonical or other device name; read-only if the disk is.
    pub fn mount(&mut self, device: &str, mountpoint: &GuestPathBuf, read_only: bool) -> Result<()> {
        let name = self.canonical(device)?;
        let opened = self.device(&name)?;
        self.close_moved(&name)?;
        let read_only = read_only || opened.read_only();
        let open = self.opener(&name)?;
        self.guest.mount(&name, mountpoint, read_only, &mut || open())?;
        if !read_only && self.guest.mounts().last().is_some_and(|mount| mount.read_only) {
            self.notices.push(format!("{name}: mounted read-only, as it is elsewhere"));
        }
        if let Some(notice) = self.guest.whole(&name, &mut || open())?.notice() {
            self.notices.push(format!("{name}: {notice}"));
        }
        self.note_opened(&name)
    }

    /// Closes what is open under a device's name if the name means other bytes by now.
    pub(super) fn close_moved(&mut self, name: &str) -> Result<()> {
        let place = self.opened_place(name)?;
        if self.opened.get(name).is_some_and(|old| *old != place) {
            self.guest.close(name)?;
        }
        Ok(())
    }

    /// Keeps where the device of an open file system is.
    pub(super) fn note_opened(&mut self, name: &str) -> Result<()> {
        let place = self.opened_place(name)?;
        self.opened.insert(name.to_string(), place);
        Ok(())
    }

    /// Before a whole device is rewritten: closes what is open on it.
    ///
    /// # Errors
    /// `Kind::Busy` if it, a partition of it or a logical volume on it is mounted, or an encrypted volume on it is open.
    pub fn release(&mut self, device: &str) -> Result<()> {
        let name = self.canonical(device)?;
        self.check_unopened(&name)?;
        // A logical volume that cannot be opened is not open.
        let place = self.place(&name).unwrap_or_default();
        let open: Vec<String> = self.guest.open_devices().map(str::to_string).collect();
        for other in open.iter().filter(|other| self.opened.get(*other).is_some_and(|at| overlap(at, &place))) {
            self.guest.close(other)?;
        }
        self.guest.close(&name)?;
        self.forget_layout();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drives() {
        for (index, name) in [(0, "a"), (25, "z"), (26, "aa"), (701, "zz"), (702, "aaa")] {
            assert_eq!(disk_name(index), format!("/dev/sd{name}"));
            assert_eq!(parse(&format!("vd{name}7")), Some((index, Some(7))));
        }
        assert_eq!(parse("nvme0n1p12"), Some((0, Some(12))));
        assert_eq!(parse("nvme1n1"), Some((1, None)));
        assert_eq!(parse("mmcblk0p1"), Some((0, Some(1))));
        for wrong in ["sd", "sda0", "sda01", "sda1x", "sdA", "sdaaaaa", "sr0", "nvme0n1p", "nvme0n1x", "md127", ""] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(unescape("a\\x20b\\x2f\\xé\\"), "a b/\\xé\\");
    }
}
