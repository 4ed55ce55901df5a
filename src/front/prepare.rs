//! `-N`: new disks.

use std::path::PathBuf;

use crate::base::{Error, Result, size};
use crate::disk::{self, CreateOptions, Format};

use super::cli::PROGRAM;

/// A disk to make, as `-N` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The image file; replaced if it is there.
    pub path: PathBuf,
    size: u64,
    table: Option<String>,
    /// File system and size of a boot partition before the other one.
    boot: Option<(String, u64)>,
    /// Group and volume that take the (other) partition.
    volume: Option<(String, String)>,
    file_system: Option<String>,
}

/// Where the boot partition begins, and how far from the end the root partition ends, in sectors.
const BOOT_MARGIN: u64 = 64;

/// The text of `-N help`.
pub fn list() -> &'static str {
    "\
-N [FILE=]TYPE[:PARAMETER...] makes a raw disk image (test1.img, test2.img, ... unless FILE is given):

disk:SIZE              an empty disk (1G)
part:SIZE:TABLE        a partition over the whole disk (1G, mbr)
fs:TYPE:SIZE:TABLE     the same with a file system in it (ext2, 1G, mbr)
bootroot:BOOT:ROOT:SIZE:BOOTSIZE:TABLE
                       two partitions with file systems (ext2, ext2, 1G, 128M, mbr)
lv:NAME:SIZE:TABLE     a logical volume on one partition (/dev/VG/LV, 1G, mbr)
lvfs:NAME:TYPE:SIZE:TABLE
                       the same with a file system in it (/dev/VG/LV, ext2, 1G, mbr)
bootrootlv:NAME:BOOT:ROOT:SIZE:BOOTSIZE:TABLE
                       as bootroot, with the root on a logical volume (/dev/VG/LV, ext2, ext2, 1G, 128M, mbr)
"
}

impl Prepared {
    /// Reads `[FILE=]TYPE[:P1[:P2...]]`; `number` counts the `-N` options from 1.
    ///
    /// # Errors
    /// An unknown type (two lines), too many parameters, a size that cannot be read.
    pub fn parse(text: &str, number: usize) -> Result<Self> {
        let (path, text) = match text.split_once('=') {
            Some((file, rest)) => (PathBuf::from(file), rest),
            None => (PathBuf::from(format!("test{number}.img")), text),
        };
        let (kind, parameters) = text.split_once(':').unwrap_or((text, ""));
        let mut parameters = parameters.split(':').filter(|p| !p.is_empty());
        let mut next = |default: &str| parameters.next().unwrap_or(default).to_string();
        let (mut boot, mut volume) = (None, None);
        if matches!(kind, "lv" | "lvfs" | "bootrootlv") {
            volume = Some(volume_name(&next("/dev/VG/LV"))?);
        }
        let (file_system, length, table) = match kind {
            "disk" => (None, next("1G"), None),
            "part" | "lv" => (None, next("1G"), Some(next("mbr"))),
            "fs" | "lvfs" => (Some(next("ext2")), next("1G"), Some(next("mbr"))),
            "bootroot" | "bootrootlv" => {
                let (boot_type, root_type, length) = (next("ext2"), next("ext2"), next("1G"));
                boot = Some((boot_type, size::bytes(&next("128M"))?));
                (Some(root_type), length, Some(next("mbr")))
            }
            _ => {
                return Err(Error::usage(format!(
                    "-N parameter ‘{text}’: no such prepared disk image known.\n\
                     Use '{PROGRAM} -N help' to list possible values for the -N parameter."
                )));
            }
        };
        if parameters.next().is_some() {
            return Err(Error::usage(format!("-N parameter ‘{text}’: too many parameters")));
        }
        Ok(Prepared { path, size: size::bytes(&length)?, table, boot, volume, file_system })
    }

    /// Makes the image file.
    ///
    /// # Errors
    /// The host's.
    pub fn create(&self) -> Result<()> {
        let options = CreateOptions { size: Some(self.size), ..CreateOptions::default() };
        disk::create(&self.path, Format::Raw, &options)
    }

    /// The commands that fill the disk, once it is there as `device`.
    pub fn commands(&self, device: &str) -> Vec<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_string()).collect::<Vec<_>>();
        let Some(table) = &self.table else { return Vec::new() };
        let mut commands = Vec::new();
        let mut target = format!("{device}1");
        match &self.boot {
            None => commands.push(words(&["part-disk", device, table])),
            Some((boot_type, boot_size)) => {
                let root = BOOT_MARGIN + boot_size / 512;
                commands.push(words(&["part-init", device, table]));
                let (first, last) = (BOOT_MARGIN.to_string(), (root - 1).to_string());
                commands.push(words(&["part-add", device, "primary", &first, &last]));
                commands.push(words(&["part-add", device, "primary", &root.to_string(), &format!("-{BOOT_MARGIN}")]));
                commands.push(words(&["mkfs", boot_type, &target]));
                target = format!("{device}2");
            }
        }
        if let Some((group, volume)) = &self.volume {
            commands.push(words(&["pvcreate", &target]));
            commands.push(words(&["vgcreate", group, &target]));
            commands.push(words(&["lvcreate-free", volume, group, "100"]));
            target = format!("/dev/{group}/{volume}");
        }
        if let Some(kind) = &self.file_system {
            commands.push(words(&["mkfs", kind, &target]));
        }
        commands
    }
}

/// Group and volume of `/dev/VG/LV`.
fn volume_name(text: &str) -> Result<(String, String)> {
    match text.strip_prefix("/dev/").and_then(|name| name.split_once('/')) {
        Some((group, volume)) if !group.is_empty() && !volume.is_empty() && !volume.contains('/') => {
            Ok((group.to_string(), volume.to_string()))
        }
        _ => Err(Error::usage(format!("-N parameter ‘{text}’: a logical volume is named /dev/VG/LV"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_by_position() {
        let prepared = Prepared::parse("t.img=fs:ext4:64M", 3).unwrap();
        assert_eq!((prepared.path.to_str(), prepared.size), (Some("t.img"), 64 << 20));
        assert_eq!(
            prepared.commands("/dev/sdb"),
            [vec!["part-disk", "/dev/sdb", "mbr"], vec!["mkfs", "ext4", "/dev/sdb1"]]
        );
        let prepared = Prepared::parse("disk", 2).unwrap();
        assert_eq!(
            (prepared.path.to_str(), prepared.size, prepared.commands("/dev/sda").len()),
            (Some("test2.img"), 1 << 30, 0)
        );
        assert!(Prepared::parse("bogus", 1).unwrap_err().to_string().starts_with("-N parameter ‘bogus’: no such"));
        assert!(Prepared::parse("disk:1X", 1).is_err());
        assert!(Prepared::parse("disk:1M:gpt", 1).is_err());
        let prepared = Prepared::parse("bootroot:ext4:ext4:64M:16M", 1).unwrap();
        assert_eq!(prepared.commands("/dev/sda")[2], ["part-add", "/dev/sda", "primary", "32832", "-64"]);
        let prepared = Prepared::parse("lvfs:/dev/data/home:ext4", 1).unwrap();
        let commands = prepared.commands("/dev/sda");
        assert_eq!(commands[1], ["pvcreate", "/dev/sda1"]);
        assert_eq!(
            commands[3..],
            [vec!["lvcreate-free", "home", "data", "100"], vec!["mkfs", "ext4", "/dev/data/home"]]
        );
        assert_eq!(Prepared::parse("bootrootlv", 1).unwrap().commands("/dev/sda").len(), 8);
        assert!(Prepared::parse("lv:VG/LV", 1).unwrap_err().to_string().contains("/dev/VG/LV"));
    }
}
