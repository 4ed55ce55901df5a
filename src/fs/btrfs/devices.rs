//! The devices of a file system: the one that was opened, and others that are at hand.

use super::superblock::Superblock;
use crate::base::{Error, Result};
use crate::disk::Device;

/// Those that have the newest superblock.
pub struct Devices {
    /// Number and device; the first is the one that was opened.
    all: Vec<(u64, Device)>,
    /// How many belong to it.
    wanted: u64,
    /// Numbers of those that are here but older than the others.
    older: Vec<u64>,
}

impl Devices {
    /// The devices of the file system that is on `device`, and its superblock. Of `others` those count that belong to it.
    ///
    /// # Errors
    /// Those of [`Superblock::open`]; a device that is there twice, or that was left behind by the others.
    pub fn gather(device: &Device, others: &[Device]) -> Result<(Self, Superblock)> {
        let superblock = Superblock::open(device.as_ref())?;
        let mut found = vec![(superblock, device.clone())];
        for other in others.iter().filter(|_| found[0].0.devices > 1).collect::<Vec<_>>() {
            // A device that is damaged is as one that is not here.
            if let Ok(superblock) = Superblock::open(other.as_ref())
                && superblock.uuid == found[0].0.uuid
            {
                found.push((superblock, other.clone()));
            }
        }
        let newest = found.iter().map(|(superblock, _)| superblock.generation).max().unwrap_or_default();
        let (current, older): (Vec<_>, Vec<_>) = found.into_iter().partition(|(sb, _)| sb.generation == newest);
        let older: Vec<u64> = older.iter().map(|(superblock, _)| superblock.device).collect();
        let Some((superblock, first)) = current.first() else { return Err(Error::corrupt("btrfs: it has no device")) };
        if !std::sync::Arc::ptr_eq(first, device) {
            let id = older.first().copied().unwrap_or_default();
            return Err(Error::unsupported(format!("btrfs: device {id} is older than others of the same file system"))
                .hint("it was away while they were written; open one of those"));
        }
        let superblock = superblock.clone();
        let mut all: Vec<(u64, Device)> = Vec::with_capacity(current.len());
        for (superblock, device) in current {
            let id = superblock.device;
            if all.iter().any(|(other, _)| *other == id) {
                return Err(Error::unsupported(format!("btrfs: device {id} of the file system is here twice"))
                    .hint("one of the disks is a copy: leave it out"));
            }
            all.push((id, device));
        }
        Ok((Devices { all, wanted: superblock.devices, older }, superblock))
    }

    /// The device that was opened.
    pub fn first(&self) -> Option<&Device> {
        self.all.first().map(|(_, device)| device)
    }

    /// All but that one.
    pub fn others(&self) -> Vec<Device> {
        self.all.iter().skip(1).map(|(_, device)| device.clone()).collect()
    }

    /// Where device `id` is among them.
    pub fn index(&self, id: u64) -> Option<usize> {
        self.all.iter().position(|(other, _)| *other == id)
    }

    /// Bytes of device `id`, 0 if it is not here.
    pub fn len_of(&self, id: u64) -> u64 {
        self.index(id).map_or(0, |index| self.all[index].1.len())
    }

    /// Reads from the device of an index.
    pub fn read(&self, index: usize, at: u64, buf: &mut [u8]) -> Result<()> {
        match self.all.get(index) {
            Some((_, device)) => device.read_at(at, buf),
            None => Err(Error::corrupt(format!("btrfs: it has no device {index}"))),
        }
    }

    /// What is told of a file system that is whole without some of its devices.
    pub fn notice(&self) -> Option<String> {
        let here = self.all.len() as u64;
        let older = match self.older.as_slice() {
            [] => String::new(),
            ids => format!(" (device {} is older than the others)", ids[0]),
        };
        (here < self.wanted)
            .then(|| format!("{here} of its {} devices are read{older}, the others have copies", self.wanted))
    }

    /// The error for bytes that only device `id` has.
    pub fn missing(&self, id: u64) -> Error {
        if self.older.contains(&id) {
            return Error::unsupported(format!(
                "btrfs: device {id} is older than the others, and parts of the files are only there"
            ))
            .hint("it was away while they were written; nothing was changed");
        }
        Error::unsupported(format!(
            "btrfs: device {id} of {} is not here, and parts of the files are only there",
            self.wanted
        ))
        .hint("add its disk too (-a DISK); nothing was changed")
    }
}
