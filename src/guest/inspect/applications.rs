//! Installed packages, from the databases of dpkg, apk and pacman as text; rpm has a file of its own.
//!
//! dpkg: paragraphs of `Field: value` lines (deb-control(5), dpkg-query(1)); apk: paragraphs of `X:value` lines
//! (apk's "installed" database); pacman: a folder for each package with a file `desc`, a `%FIELD%` line and then values.

use super::{rpm, text_up_to};
use crate::base::{Error, GuestPathBuf, Result};
use crate::guest::Guest;

/// Largest database that is read.
const DATABASE_MAX: u64 = 256 << 20;

/// An installed package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// What stands before the version's colon, 0 without one.
    pub epoch: i64,
    /// Upstream's version.
    pub version: String,
    /// The packager's release.
    pub release: String,
    /// The processor it is for.
    pub arch: String,
    /// What it is, in a line.
    pub summary: String,
    /// What it is, in more lines; only dpkg's says it.
    pub description: String,
    /// The source package that it was built from, if that has another name; only dpkg's says it.
    pub source: String,
    /// Where it comes from.
    pub url: String,
}

/// The packages of the mounted system, sorted by name. `format` is inspection's word.
///
/// # Errors
/// Formats and databases that are not read; a damaged one.
pub fn applications(guest: &Guest, format: &str) -> Result<Vec<Application>> {
    let mut found = match format {
        "deb" => dpkg(&database(guest, "/var/lib/dpkg/status")?),
        "apk" => apk(&database(guest, "/lib/apk/db/installed")?),
        "pacman" => pacman(guest)?,
        "rpm" => rpm::packages(guest)?,
        "unknown" => Vec::new(),
        other => {
            return Err(Error::unsupported(format!("packages of the format {other} cannot be listed")));
        }
    };
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn database(guest: &Guest, path: &str) -> Result<String> {
    Ok(text_up_to(guest, path, DATABASE_MAX)?.unwrap_or_default())
}

/// `[epoch:]version[-release]`.
fn split_version(text: &str) -> (i64, String, String) {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, text),
    };
    let (version, release) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, version.to_string(), release.to_string())
}

fn dpkg(status: &str) -> Vec<Application> {
    let paragraph = |text: &str| {
        let mut package = Application::default();
        let mut installed = false;
        let mut last = "";
        for line in text.lines() {
            if let Some(more) = line.strip_prefix(' ') {
                if last == "Description" {
                    let between = if package.description.is_empty() { "" } else { "\n" };
                    package.description.extend([between, more]);
                }
                continue;
            }
            let Some((field, value)) = line.split_once(": ") else { continue };
            last = field;
            match field {
                "Package" => package.name = value.to_string(),
                "Status" => installed = value.ends_with(" installed"),
                "Version" => (package.epoch, package.version, package.release) = split_version(value),
                "Architecture" => package.arch = value.to_string(),
                "Homepage" => package.url = value.to_string(),
                "Description" => package.summary = value.to_string(),
                "Source" => package.source = value.split(' ').next().unwrap_or_default().to_string(),
                _ => {}
            }
        }
        (installed && !package.name.is_empty()).then_some(package)
    };
    status.split("\n\n").filter_map(paragraph).collect()
}

fn apk(installed: &str) -> Vec<Application> {
    let paragraph = |text: &str| {
        let mut package = Application::default();
        for line in text.lines() {
            let Some((field, value)) = line.split_once(':') else { continue };
            match field {
                "P" => package.name = value.to_string(),
                "V" => (_, package.version, package.release) = split_version(value),
                "A" => package.arch = value.to_string(),
                "U" => package.url = value.to_string(),
                "T" => package.summary = value.to_string(),
                // The files of the package follow.
                "F" => break,
                _ => {}
            }
        }
        (!package.name.is_empty()).then_some(package)
    };
    installed.split("\n\n").filter_map(paragraph).collect()
}

fn pacman(guest: &Guest) -> Result<Vec<Application>> {
    let folder = GuestPathBuf::from("/var/lib/pacman/local");
    let mut found = Vec::new();
    for name in guest.list(&folder)? {
        let path = folder.join(&name).join(b"desc").to_string();
        let Some(desc) = text_up_to(guest, &path, DATABASE_MAX)? else { continue };
        let mut package = Application::default();
        let mut lines = desc.lines();
        while let Some(line) = lines.next() {
            let mut value = || lines.next().unwrap_or_default().to_string();
            match line {
                "%NAME%" => package.name = value(),
                "%VERSION%" => (package.epoch, package.version, package.release) = split_version(&value()),
                "%ARCH%" => package.arch = value(),
                "%URL%" => package.url = value(),
                "%DESC%" => package.summary = value(),
                _ => {}
            }
        }
        if !package.name.is_empty() {
            found.push(package);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs() {
        let status = "Package: b\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.0-rc1-3\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                      Package: a\nStatus: hold ok installed\nVersion: 7\nSource: s (6)\nDescription: one\n two\n .\n  three\nX: y\n z\n";
        let found = dpkg(status);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].epoch, found[0].version.as_str(), found[0].release.as_str()), (1, "2.0-rc1", "3"));
        assert_eq!((found[1].version.as_str(), found[1].summary.as_str()), ("7", "one"));
        assert_eq!((found[1].source.as_str(), found[1].description.as_str()), ("s", "two\n.\n three"));
        let found = apk("C:x\nP:musl\nV:1.2.4-r2\nA:x86_64\n\nP:zlib\nV:1.3\nF:lib\nP:no\n");
        assert_eq!((found[0].release.as_str(), found[1].name.as_str()), ("r2", "zlib"));
        assert!(dpkg("").is_empty() && apk("\n\n\n:").is_empty());
    }
}
