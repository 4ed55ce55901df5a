//! Distribution and version: os-release, and the files that stood in its place before.

use super::{System, text};
use crate::base::Result;
use crate::fs::FileType;
use crate::guest::Guest;

/// IDs of os-release for which guestfish has another word.
const WORDS: &[(&str, &str)] = &[
    ("alpine", "alpinelinux"),
    ("alt", "altlinux"),
    ("arch", "archlinux"),
    ("kali", "kalilinux"),
    ("ol", "oraclelinux"),
    ("opensuse-leap", "opensuse"),
    ("opensuse-tumbleweed", "opensuse"),
    ("pld", "pldlinux"),
    ("scientific", "scientificlinux"),
    ("sled", "sles"),
    ("void", "voidlinux"),
];

/// First words of /etc/redhat-release and the like, and the distribution they stand for.
const RED_HAT: &[(&str, &str)] = &[
    ("AlmaLinux", "almalinux"),
    ("CentOS", "centos"),
    ("Fedora", "fedora"),
    ("Oracle Linux", "oraclelinux"),
    ("Red Hat", "rhel"),
    ("Rocky Linux", "rocky"),
    ("Scientific Linux", "scientificlinux"),
];

/// Package format and tool of a system: its distribution's, else those of one that it is like.
pub(super) fn packages(guest: &Guest, system: &System) -> (&'static str, &'static str) {
    // guestfish looks whether the newer tool is there.
    if system.distro == "fedora" {
        let dnf = guest.stat(&"/usr/bin/dnf".into()).is_ok_and(|found| found.file_type == FileType::Regular);
        return ("rpm", if dnf { "dnf" } else { "yum" });
    }
    let names = std::iter::once(&system.distro).chain(&system.like);
    let known = names.map(|name| packages_of(name, system.major)).find(|(format, _)| *format != "unknown");
    known.unwrap_or(("unknown", "unknown"))
}

fn packages_of(distro: &str, major: i64) -> (&'static str, &'static str) {
    match distro {
        "debian" | "ubuntu" | "linuxmint" | "kalilinux" | "raspbian" | "devuan" | "pureos" => ("deb", "apt"),
        "fedora" if major < 22 => ("rpm", "yum"),
        "fedora" | "openmandriva" => ("rpm", "dnf"),
        "rhel" | "centos" | "scientificlinux" | "oraclelinux" | "rocky" | "almalinux" | "redhat-based" => {
            ("rpm", if major >= 8 { "dnf" } else { "yum" })
        }
        "amzn" => ("rpm", if (2022..).contains(&major) { "dnf" } else { "yum" }),
        "opensuse" | "sles" | "suse" | "suse-based" => ("rpm", "zypper"),
        "mageia" | "mandriva" => ("rpm", "urpmi"),
        "altlinux" => ("rpm", "apt"),
        "alpinelinux" => ("apk", "apk"),
        "archlinux" => ("pacman", "pacman"),
        "gentoo" => ("ebuild", "portage"),
        "voidlinux" => ("xbps", "xbps"),
        _ => ("unknown", "unknown"),
    }
}

/// Fills in distribution, product name and version; whether anything said what this is.
pub(super) fn read(guest: &Guest, system: &mut System) -> Result<bool> {
    system.distro = "unknown".to_string();
    system.product_name = "unknown".to_string();
    let mut known = false;
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        if let Some(text) = text(guest, path)? {
            os_release(&text, system);
            known = true;
            break;
        }
    }
    // os-release has the first number only on Debian and CentOS; the old files have both. guestfish takes them for these two as well.
    let old = match system.distro.as_str() {
        "debian" | "centos" => system.minor == 0,
        "oraclelinux" | "scientificlinux" => true,
        _ => false,
    };
    if known && !old {
        return Ok(true);
    }
    if let (false, Some(text)) = (known, text(guest, "/etc/lsb-release")?)
        && lsb_release(&text, system)
    {
        return Ok(true);
    }
    if let Some(text) = text(guest, "/etc/debian_version")? {
        let line = first_line(&text);
        if !known {
            system.distro = "debian".to_string();
            system.product_name = line.to_string();
        }
        // A testing system has words there: `trixie/sid`.
        if system.distro == "debian" {
            (system.major, system.minor) = version(line).unwrap_or((system.major, system.minor));
            // guestfish's answer, and scripts compare it: where the file is asked, its line is the name too.
            system.product_name = line.to_string();
        }
        return Ok(true);
    }
    for path in ["/etc/centos-release", "/etc/oracle-release", "/etc/redhat-release", "/etc/system-release"] {
        let Some(text) = text(guest, path)? else { continue };
        let line = first_line(&text);
        if !known {
            let distro = RED_HAT.iter().find(|(start, _)| line.starts_with(start)).map(|(_, distro)| *distro);
            system.distro = distro.unwrap_or("redhat-based").to_string();
        }
        system.product_name = line.to_string();
        if let Some((major, minor)) = line.find(|c: char| c.is_ascii_digit()).and_then(|at| version(&line[at..])) {
            (system.major, system.minor) = (major, minor);
        }
        return Ok(true);
    }
    for (path, distro) in
        [("/etc/alpine-release", "alpinelinux"), ("/etc/arch-release", "archlinux"), ("/etc/cirros/version", "cirros")]
    {
        let Some(text) = text(guest, path)? else { continue };
        if !known {
            system.distro = distro.to_string();
            system.product_name = first_line(&text).to_string();
            (system.major, system.minor) = version(first_line(&text)).unwrap_or_default();
        }
        return Ok(true);
    }
    Ok(known)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

/// The first two numbers of a version: `22.04.1` is 22 and 4.
fn version(text: &str) -> Option<(i64, i64)> {
    let digits = |text: &str| -> Option<i64> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse().ok()
    };
    let major = digits(text)?;
    let minor = text.split_once('.').filter(|(first, _)| first.bytes().all(|b| b.is_ascii_digit()));
    Some((major, minor.and_then(|(_, rest)| digits(rest)).unwrap_or(0)))
}

/// The words that guestfish knows of DISTRIB_ID in lsb-release.
const LSB: &[(&str, &str)] =
    &[("Ubuntu", "ubuntu"), ("LinuxMint", "linuxmint"), ("Mageia", "mageia"), ("CoreOS", "coreos")];

/// lsb-release: shell assignments; whether it is of a distribution that is known.
fn lsb_release(text: &str, system: &mut System) -> bool {
    let values: Vec<(&str, String)> =
        text.lines().filter_map(|line| line.trim().split_once('=')).map(|(key, value)| (key, unquote(value))).collect();
    let value = |wanted: &str| values.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.clone());
    let id = value("DISTRIB_ID").unwrap_or_default();
    let Some((_, distro)) = LSB.iter().find(|(known, _)| *known == id) else { return false };
    system.distro = (*distro).to_string();
    system.product_name = value("DISTRIB_DESCRIPTION").unwrap_or_default();
    (system.major, system.minor) = value("DISTRIB_RELEASE").and_then(|text| version(&text)).unwrap_or_default();
    true
}

/// os-release(5): shell assignments.
fn os_release(text: &str, system: &mut System) {
    for line in text.lines().map(str::trim) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = unquote(value);
        match key {
            "ID" => system.distro = known_word(&value),
            "PRETTY_NAME" => system.product_name = value,
            "ID_LIKE" => system.like = value.split_whitespace().map(known_word).collect(),
            "VERSION_ID" => (system.major, system.minor) = version(&value).unwrap_or_default(),
            _ => {}
        }
    }
}

/// guestfish's word for an ID, which is most often the ID.
fn known_word(id: &str) -> String {
    WORDS.iter().find(|(known, _)| *known == id).map_or(id, |(_, word)| word).to_string()
}

/// A shell word: quotes of either kind around it, `\` before `"`, `$`, `` ` `` and itself.
fn unquote(value: &str) -> String {
    let value = value.trim();
    if let Some(inner) = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
        return inner.to_string();
    }
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}
