//! Encrypted volumes that were opened: devices under /dev/mapper.

use std::sync::Arc;

use super::Session;
use super::lvm::{Place, overlap, volume_name, within};
use crate::base::{Error, Kind, Result};
use crate::disk::Device;
use crate::disk::luks::{self, Unlocked, Work};
use crate::disk::read_only::ReadOnly;
use crate::volume::lvm::Group;

/// Where the names of opened volumes are.
const MAPPER: &str = "/dev/mapper/";
/// What `identify` calls an encrypted volume.
pub const ENCRYPTED: &str = "crypto_LUKS";
/// Longest name of a mapped device (`DM_NAME_LEN` of Linux, less the final zero byte).
const NAME_MAX: usize = 127;
/// Devices that stand on each other, at most; more is a circle.
const DEPTH_MAX: usize = 16;

/// An opened volume. As with a kernel, it stays on the bytes that the encrypted device had when it was opened.
pub(super) struct Mapping {
    /// The device that is encrypted, by its canonical name.
    backing: String,
    /// Where that was.
    backing_place: Place,
    /// The UUID in the header.
    uuid: String,
    /// Where the encrypted bytes are.
    place: Place,
    device: Device,
    volume: Arc<Unlocked>,
    read_only: bool,
}

/// How to open a volume.
#[derive(Debug, Clone, Default)]
pub struct OpenVolume {
    /// Name below /dev/mapper.
    pub name: String,
    /// Every write is refused.
    pub read_only: bool,
    /// 1 or 2, if the header must be of one version.
    pub version: Option<u8>,
    /// The cipher that the volume must have.
    pub cipher: Option<String>,
}

/// An encrypted volume that is not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encrypted {
    /// The device.
    pub device: String,
    /// The UUID in its header.
    pub uuid: String,
}

impl Session {
    /// Opens the encrypted volume on a device with a passphrase, as `/dev/mapper/NAME`.
    ///
    /// # Errors
    /// A name that is taken or cannot be one, a device without LUKS, `Kind::Denied` for a wrong passphrase, what
    /// [`luks::read`] refuses, `Kind::Interrupted`.
    pub fn open_encrypted(&mut self, device: &str, passphrase: &[u8], open: &OpenVolume) -> Result<()> {
        let backing = self.canonical(device)?;
        self.check_name(&open.name)?;
        if let Some((name, _)) = self.mappings.iter().find(|(_, mapping)| mapping.backing == backing) {
            let words = format!("this volume is open already, as {MAPPER}{name}");
            return Err(Error::new(Kind::Busy, words).at(backing));
        }
        let encrypted = self.device(&backing)?;
        let header = luks::read(&encrypted).map_err(|e| e.at(&backing))?.ok_or_else(|| not_encrypted(&backing))?;
        if let Some(version) = open.version.filter(|version| *version != header.version) {
            let words = format!("this is LUKS{}, not LUKS{version}", header.version);
            return Err(Error::new(Kind::Invalid, words).at(backing));
        }
        if let Some(cipher) = open.cipher.as_ref().filter(|cipher| *cipher != header.cipher()) {
            let words = format!("this volume is encrypted with {}, not {cipher}", header.cipher());
            return Err(Error::new(Kind::Invalid, words).at(backing));
        }
        let interrupt = || self.guest.check_interrupt();
        let volume = header.unlock(&encrypted, passphrase, &mut Work::new(&interrupt)).map_err(|e| e.at(&backing))?;
        self.map(&open.name, backing, header.uuid, volume, open.read_only)
    }

    /// Lets a volume appear.
    fn map(&mut self, name: &str, backing: String, uuid: String, volume: Arc<Unlocked>, read_only: bool) -> Result<()> {
        let (device, backing_place) = (self.device(&backing)?, self.place(&backing)?);
        let place = within(&backing_place, &volume.range(device.len()));
        let device = volume.on(device);
        let mapping = Mapping { backing, backing_place, uuid, place, device, volume, read_only };
        self.mappings.insert(name.to_string(), mapping);
        self.forget_layout();
        Ok(())
    }

    /// Opens here what is open in another session over the same disks.
    pub(super) fn map_as(&mut self, other: &Session) {
        // A volume in a volume is found in the next round.
        for (name, mapping) in (0..other.mappings.len()).flat_map(|_| &other.mappings) {
            if !self.mappings.contains_key(name) && self.is_volume(&mapping.backing, &mapping.uuid) {
                // What cannot be opened is not there.
                let _ = self.map(name, mapping.backing.clone(), mapping.uuid.clone(), mapping.volume.clone(), true);
            }
        }
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
        if name.is_empty()
            || name.len() > NAME_MAX
            || name == "control"
            || name.starts_with('.')
            || !name.chars().all(plain)
        {
            return Err(Error::usage(format!(
                "‘{}’ cannot be the name of a mapped device",
                crate::base::printable(name.as_bytes())
            ))
            .hint("take letters, digits, '-', '_' and '.', at most 127"));
        }
        let full = format!("{MAPPER}{name}");
        match self.canonical(&full).is_ok() {
            true => {
                Err(Error::from(Kind::Exists).at(full).hint("take another name, or close the volume that has this one"))
            }
            false => Ok(()),
        }
    }

    /// Closes an opened volume; file systems that are open on it but not mounted are closed too.
    ///
    /// # Errors
    /// `Kind::Invalid` for what is no opened volume, `Kind::Busy` if something on it is mounted or opened.
    pub fn close_encrypted(&mut self, device: &str) -> Result<()> {
        let device = self.canonical(device)?;
        if self.mapping(&device).is_none() {
            return Err(Error::new(Kind::Invalid, "this is no opened encrypted volume")
                .at(device)
                .hint("name the device below /dev/mapper; list-dm-devices shows them"));
        }
        self.release(&device)?;
        self.mappings.remove(device.strip_prefix(MAPPER).unwrap_or_default());
        self.forget_layout();
        Ok(())
    }

    /// The opened volume that a canonical name means.
    pub(super) fn mapping(&self, name: &str) -> Option<&Mapping> {
        self.mappings.get(name.strip_prefix(MAPPER)?)
    }

    /// The device of an opened volume.
    pub(super) fn mapped_device(&self, name: &str) -> Option<Device> {
        let mapping = self.mapping(name)?;
        let read_only = mapping.read_only || self.is_locked(name) || self.is_locked(&mapping.backing);
        let device = mapping.device.clone();
        Some(if read_only { Arc::new(ReadOnly(device)) } else { device })
    }

    /// Where the bytes of an opened volume are.
    pub(super) fn mapped_place(&self, name: &str) -> Option<Place> {
        self.mapping(name).map(|mapping| mapping.place.clone())
    }

    /// Names of the opened volumes.
    pub fn mapped_devices(&self) -> Vec<String> {
        self.mappings.keys().map(|name| format!("{MAPPER}{name}")).collect()
    }

    /// Encrypted volumes that are not opened, wherever a file system could be.
    pub fn encrypted_volumes(&self) -> Result<Vec<Encrypted>> {
        let mut found = Vec::new();
        for device in self.volumes()? {
            if self.mappings.values().any(|mapping| mapping.backing == device) {
                continue;
            }
            if let Some(identity) = self.look_at(&device)?.filter(|identity| identity.fs_type == ENCRYPTED) {
                found.push(Encrypted { device, uuid: identity.uuid });
            }
        }
        Ok(found)
    }

    /// Whether a device is still the encrypted volume that it was.
    fn is_volume(&self, device: &str, uuid: &str) -> bool {
        let found = self.look_at(device);
        found.is_ok_and(|found| found.is_some_and(|found| found.fs_type == ENCRYPTED && found.uuid == uuid))
    }

    /// After disks went back: closes the volumes whose encrypted device is no longer as it was.
    pub(super) fn close_lost_volumes(&mut self) {
        let lost = |mapping: &Mapping| {
            self.place(&mapping.backing).ok().as_ref() != Some(&mapping.backing_place)
                || !self.is_volume(&mapping.backing, &mapping.uuid)
        };
        let lost: Vec<String> =
            self.mappings.iter().filter(|(_, mapping)| lost(mapping)).map(|(name, _)| name.clone()).collect();
        for name in lost {
            self.mappings.remove(&name);
            self.notices.push(format!("{MAPPER}{name} was closed: the encrypted device is no longer as it was"));
            self.forget_layout();
        }
    }

    /// Refuses to work on a device that an opened volume stands on.
    pub(super) fn check_unopened(&self, device: &str) -> Result<()> {
        let place = self.place(device).unwrap_or_default();
        let open = self.mappings.iter().find(|(name, mapping)| {
            let name = format!("{MAPPER}{name}");
            overlap(&mapping.place, &place) && name != device && self.stands_on(&name, device, DEPTH_MAX)
        });
        match open {
            None => Ok(()),
            Some((name, _)) => {
                Err(Error::new(Kind::Busy, format!("the encrypted volume {MAPPER}{name} is open on it"))
                    .at(device)
                    .hint(format!("cryptsetup-close {MAPPER}{name} first")))
            }
        }
    }

    /// Whether the bytes of one device lie in another one: a partition's in its disk, a logical volume's in its physical
    /// ones, an opened volume's in its encrypted device.
    fn stands_on(&self, upper: &str, lower: &str, depth: usize) -> bool {
        if upper == lower || depth == 0 {
            return upper == lower;
        }
        if let Some(mapping) = self.mapping(upper) {
            return self.stands_on(&mapping.backing, lower, depth - 1);
        }
        if let Ok(Some((disk, _))) = self.partition(upper) {
            return self.devices().get(disk).is_some_and(|disk| disk == lower);
        }
        let Ok(lvm) = self.lvm() else { return false };
        let own = |group: &Group| group.volumes.iter().any(|volume| volume_name(&group.name, &volume.name) == upper);
        let Some(group) = lvm.groups.iter().position(own) else { return false };
        let members = lvm.physical.iter().filter(|physical| physical.group == Some(group));
        members.into_iter().any(|physical| self.stands_on(&physical.name, lower, depth - 1))
    }
}

fn not_encrypted(device: &str) -> Error {
    Error::new(Kind::Invalid, "this is no LUKS volume")
        .at(device)
        .hint("list-filesystems and vfs-type show what is there")
}
