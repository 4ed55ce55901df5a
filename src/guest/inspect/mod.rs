//! Inspection: what operating system a root file system holds, by its content.
//!
//! Words are guestfish's (`inspect-get-distro` and so on). Everything is read through links as the guest would
//! follow them, since os-release and /bin are links on most systems.

mod applications;
mod arch;
mod elf;
mod file_type;
mod fstab;
mod needed;
mod owners;
mod release;
mod rpm;

pub use applications::{Application, applications};
pub use arch::architecture;
pub use file_type::{TYPE_BYTES, file_type_of, file_type_with};
pub use fstab::FstabEntry;
pub use needed::needed;
pub use owners::owned_files;

use super::Guest;
use crate::base::{GuestPathBuf, Kind, Result};
use crate::fs::FileType;

/// Largest text file that is read.
const TEXT_MAX: u64 = 1 << 20;

/// What was found in a root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// `linux`.
    pub os_type: String,
    /// `debian`, `rhel`, ...; the ID of os-release where guestfish has no word.
    pub distro: String,
    /// Distributions that it is built from: ID_LIKE of os-release.
    pub like: Vec<String>,
    /// PRETTY_NAME or the like.
    pub product_name: String,
    /// Version, 0 if unknown.
    pub major: i64,
    /// Version, 0 if unknown.
    pub minor: i64,
    /// Host name, `unknown` if there is none.
    pub hostname: String,
    /// Processor, `unknown` if no program was found.
    pub arch: String,
    /// `deb`, `rpm`, ..., `unknown`.
    pub package_format: String,
    /// `apt`, `dnf`, ..., `unknown`.
    pub package_management: String,
    /// /etc/fstab.
    pub fstab: Vec<FstabEntry>,
}

/// Looks at the guest's root; `None` if it is no Linux root.
///
/// # Errors
/// Damage and read errors; files that are missing or strange are no errors.
pub fn linux(guest: &Guest) -> Result<Option<System>> {
    let directory = |path: &str| Ok::<_, crate::base::Error>(file_type(guest, path)? == Some(FileType::Directory));
    if !directory("/etc")? || !(directory("/bin")? || directory("/usr/bin")?) {
        return Ok(None);
    }
    let mut system = System { os_type: "linux".to_string(), ..System::default() };
    if !release::read(guest, &mut system)? {
        // A root without a name still has one of these.
        let known = ["/etc/fstab", "/etc/passwd", "/etc/hosts", "/etc/inittab"];
        let mut found = false;
        for path in known {
            found |= file_type(guest, path)? == Some(FileType::Regular);
        }
        if !found {
            return Ok(None);
        }
    }
    system.hostname = hostname(guest)?.unwrap_or_else(|| "unknown".to_string());
    system.arch = arch::of(guest)?.unwrap_or("unknown").to_string();
    let (format, management) = release::packages(guest, &system);
    (system.package_format, system.package_management) = (format.to_string(), management.to_string());
    system.fstab = text(guest, "/etc/fstab")?.map(|text| fstab::parse(&text)).unwrap_or_default();
    Ok(Some(system))
}

fn hostname(guest: &Guest) -> Result<Option<String>> {
    for path in ["/etc/hostname", "/etc/HOSTNAME"] {
        let found = text(guest, path)?.and_then(|text| {
            text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_string)
        });
        if found.is_some() {
            return Ok(found);
        }
    }
    // Red Hat before systemd.
    let network = text(guest, "/etc/sysconfig/network")?.unwrap_or_default();
    let name = network.lines().find_map(|l| l.trim().strip_prefix("HOSTNAME="));
    Ok(name.map(|name| name.trim_matches(['"', '\'']).to_string()).filter(|name| !name.is_empty()))
}

/// Errors of one file that say nothing about the others.
fn passable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::Io | Kind::Internal | Kind::Interrupted) => Err(e),
        Err(_) => Ok(None),
    }
}

fn file_type(guest: &Guest, path: &str) -> Result<Option<FileType>> {
    Ok(passable(guest.stat(&GuestPathBuf::from(path)))?.map(|m| m.file_type))
}

/// A small text file.
fn text(guest: &Guest, path: &str) -> Result<Option<String>> {
    text_up_to(guest, path, TEXT_MAX)
}

/// A text file of at most so many bytes.
fn text_up_to(guest: &Guest, path: &str, most: u64) -> Result<Option<String>> {
    let bytes = passable(guest.read_file(&GuestPathBuf::from(path), most))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests;
