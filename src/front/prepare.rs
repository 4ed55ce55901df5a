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
    file_system: Option<String>,
    /// File system and size of a boot partition before the other one.
    boot: Option<(String, u64)>,
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
        let mut boot = None;
        let (file_system, length, table) = match kind {
            "disk" => (None, next("1G"), None),
            "part" => (None, next("1G"), Some(next("mbr"))),
            "fs" => (Some(next("ext2")), next("1G"), Some(next("mbr"))),
            "bootroot" => {
                let (boot_type, root_type, length) = (next("ext2"), next("ext2"), next("1G"));
                boot = Some((boot_type, size::bytes(&next("128M"))?));
                (Some(root_type), length, Some(next("mbr")))
            }
            "lv" | "lvfs" | "bootrootlv" => {
                return Err(Error::unsupported(format!(
                    "-N {kind} is not supported: logical volumes are not made yet; disk, part, fs and bootroot are"
                )));
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
        Ok(Prepared { path, size: size::bytes(&length)?, table, file_system, boot })
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
        let mut commands = Vec::new();
        if let (Some((boot_type, boot_size)), Some(table), Some(root_type)) =
            (&self.boot, &self.table, &self.file_system)
        {
            let root = BOOT_MARGIN + boot_size / 512;
            let words = |words: &[&str]| words.iter().map(|w| (*w).to_string()).collect::<Vec<_>>();
            return vec![
                words(&["part-init", device, table]),
                words(&["part-add", device, "primary", &BOOT_MARGIN.to_string(), &(root - 1).to_string()]),
                words(&["part-add", device, "primary", &root.to_string(), &format!("-{BOOT_MARGIN}")]),
                words(&["mkfs", boot_type, &format!("{device}1")]),
                words(&["mkfs", root_type, &format!("{device}2")]),
            ];
        }
        if let Some(table) = &self.table {
            commands.push(vec!["part-disk".to_string(), device.to_string(), table.clone()]);
        }
        if let Some(kind) = &self.file_system {
            commands.push(vec!["mkfs".to_string(), kind.clone(), format!("{device}1")]);
        }
        commands
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
        assert!(Prepared::parse("lvfs", 1).unwrap_err().to_string().contains("not supported"));
    }
}
