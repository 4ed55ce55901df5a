//! /etc/fstab.

use crate::base::GuestPathBuf;

/// A line of /etc/fstab (fstab(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// `UUID=...`, `LABEL=...`, `/dev/sda1`, ...; quotes are gone.
    pub spec: String,
    /// Absolute mount point.
    pub mountpoint: GuestPathBuf,
    /// Type as it stands there.
    pub fs_type: String,
    /// Options as they stand there.
    pub options: String,
}

impl FstabEntry {
    /// The value of an option `name=value`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options
            .split(',')
            .filter_map(|word| word.split_once('='))
            .find(|(word, _)| *word == name)
            .map(|(_, value)| value)
    }
}

/// The entries that mount something: no swap, no `none`.
pub(super) fn parse(text: &str) -> Vec<FstabEntry> {
    let mut entries: Vec<FstabEntry> = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with('#')) {
        let mut fields = line.split_ascii_whitespace();
        let (Some(spec), Some(mountpoint), Some(fs_type)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let mountpoint = GuestPathBuf(unescape(mountpoint));
        if mountpoint.is_absolute() && fs_type != "swap" {
            let spec = String::from_utf8_lossy(&unescape(spec)).replace('"', "");
            let options = fields.next().unwrap_or_default().to_string();
            entries.push(FstabEntry { spec, mountpoint, fs_type: fs_type.to_string(), options });
        }
    }
    entries
}

/// Blanks stand as `\040`, tabs as `\011`, backslashes as `\134`.
fn unescape(field: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal.filter(|_| *byte == b'\\') {
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
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "# comment\n\nUUID=ab-cd / ext4 defaults 0 1\n\tLABEL=\"my\\040root\"\t/a\\040b\text4\n\
                    /dev/sda2 none swap sw 0 0\n/dev/sda3 swap swap\ntmpfs /tmp tmpfs\nshort /x\n";
        let found: Vec<(String, String)> =
            parse(text).into_iter().map(|e| (e.spec, e.mountpoint.to_string())).collect();
        let wanted = [("UUID=ab-cd", "/"), ("LABEL=my root", "/a b"), ("tmpfs", "/tmp")];
        assert_eq!(found, wanted.map(|(a, b)| (a.to_string(), b.to_string())));
    }
}
