//! `--key`: passphrases for the encrypted volumes that `-i` opens before it looks for an operating system.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::cli::{Options, PROGRAM};
use crate::base::{Error, Kind, Result};
use crate::host::{ImageKeys, RealHost};
use crate::session::{Encrypted, OpenVolume, Session};
use crate::shell::run::LineHost;

/// Most bytes of a key file: as much as cryptsetup reads.
const FILE_MAX: u64 = 8 << 20;

/// Where a passphrase is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// On the command line itself.
    Text(Vec<u8>),
    /// The first line of a file.
    File(PathBuf),
}

/// `--key SELECTOR:key:TEXT` or `--key SELECTOR:file:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOption {
    /// A device, the UUID of an encrypted volume, or `all`.
    pub selector: String,
    /// The passphrase.
    pub source: KeySource,
}

impl KeyOption {
    /// Reads an option's value. The messages do not repeat it: a key may be in it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(value: &[u8]) -> std::result::Result<Self, String> {
        use std::os::unix::ffi::OsStringExt;
        let mut parts = value.splitn(3, |byte| *byte == b':');
        let selector = parts.next().map(|part| String::from_utf8_lossy(part).into_owned()).unwrap_or_default();
        let (kind, rest) = (parts.next(), parts.next());
        let source = match (kind, rest) {
            _ if selector.is_empty() => {
                return Err("--key needs a device, a UUID or 'all' before the first colon".into());
            }
            (Some(b"key"), Some(key)) => KeySource::Text(key.to_vec()),
            (Some(b"file"), Some(file)) => KeySource::File(std::ffi::OsString::from_vec(file.to_vec()).into()),
            (Some(b"clevis"), None) => {
                let words = "--key: clevis asks servers on the network for a key, which is not supported";
                return Err(format!("{words}; give the passphrase with {selector}:key:... or {selector}:file:..."));
            }
            _ => return Err("--key is SELECTOR:key:PASSPHRASE or SELECTOR:file:FILE".into()),
        };
        Ok(KeyOption { selector, source })
    }

    /// Whether it is for what has this name or UUID.
    fn is_named(&self, name: &str) -> bool {
        let plain = |uuid: &str| uuid.replace('-', "").to_ascii_lowercase();
        self.selector == "all" || self.selector == name || (!name.is_empty() && plain(&self.selector) == plain(name))
    }

    fn is_for(&self, session: &Session, volume: &Encrypted) -> bool {
        self.is_named(&volume.uuid) || session.canonical(&self.selector).is_ok_and(|device| device == volume.device)
    }

    fn key(&self) -> Result<Vec<u8>> {
        match &self.source {
            KeySource::Text(key) => Ok(key.clone()),
            KeySource::File(path) => {
                let failed = |e| Error::io(path.display(), e);
                let file = std::fs::File::open(path).map_err(failed)?;
                crate::host::first_line(file, FILE_MAX).map_err(|e| e.at(path.display()))
            }
        }
    }
}

/// Gives the keys for an encrypted image by its names.
pub fn of_images(keys: Vec<KeyOption>) -> ImageKeys {
    Box::new(move |names| {
        let given = keys.iter().filter(|key| names.iter().any(|name| key.is_named(name)));
        given.map(KeyOption::key).collect()
    })
}

/// Opens all encrypted volumes for which there is a key, and those that come to light in them; each appears as
/// /dev/mapper/luks-UUID, as guestfish calls it. Answers those that stay closed.
///
/// # Errors
/// Keys of which none opens a volume that they are for; a volume that cannot be opened.
pub fn open_volumes(options: &Options, session: &mut Session, host: &RealHost) -> Result<Vec<Encrypted>> {
    let mut tried = BTreeSet::new();
    let mut closed = Vec::new();
    loop {
        let found = session.encrypted_volumes()?;
        let Some(volume) = found.into_iter().find(|volume| tried.insert(volume.device.clone())) else {
            return Ok(closed);
        };
        let keys = keys(options, session, host, &volume)?;
        match keys.is_empty() {
            true => closed.push(volume),
            false => open(options, session, &volume, &keys)?,
        }
    }
}

/// The keys that are given for a volume; without any the user is asked if that was wanted or is possible.
fn keys(options: &Options, session: &Session, host: &RealHost, volume: &Encrypted) -> Result<Vec<Vec<u8>>> {
    let given = options.keys.iter().filter(|key| key.is_for(session, volume));
    let keys = given.map(KeyOption::key).collect::<Result<Vec<_>>>()?;
    if keys.is_empty() && host.can_ask_for_keys() {
        return Ok(vec![host.key(&volume.device)?]);
    }
    Ok(keys)
}

fn open(options: &Options, session: &mut Session, volume: &Encrypted, keys: &[Vec<u8>]) -> Result<()> {
    let open =
        OpenVolume { name: format!("luks-{}", volume.uuid), read_only: options.read_only, ..OpenVolume::default() };
    let mut denied = None;
    for key in keys {
        match session.open_encrypted(&volume.device, key, &open) {
            Err(e) if e.kind() == Kind::Denied => denied = denied.or(Some(e)),
            done => return done,
        }
    }
    match denied {
        None => Ok(()),
        Some(e) => Err(e.hint(format!("give the right one with {}", option_for(volume)))),
    }
}

/// Says which volumes stay closed and what would open them.
pub fn tell_closed(closed: &[Encrypted]) {
    for volume in closed {
        eprintln!(
            "{PROGRAM}: {}: this volume is encrypted and stays closed\n  hint: give its key with {}",
            volume.device,
            option_for(volume)
        );
    }
}

fn option_for(volume: &Encrypted) -> String {
    format!("--key {}:key:PASSPHRASE or --key {}:file:FILE", volume.device, volume.device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_option() {
        let key = |text: &[u8]| KeySource::Text(text.to_vec());
        let parsed = |value: &str| KeyOption::parse(value.as_bytes());
        assert_eq!(parsed("/dev/sda2:key:a:b ").unwrap().source, key(b"a:b "));
        assert_eq!(parsed("all:key:").unwrap(), KeyOption { selector: "all".into(), source: key(b"") });
        assert_eq!(parsed("u:file:/x:y").unwrap().source, KeySource::File("/x:y".into()));
        assert!(parsed("all:clevis").unwrap_err().contains("clevis"));
        for wrong in ["", "secret", ":key:secret", "all:secret", "all:keys:secret", "all:file"] {
            assert!(!parsed(wrong).unwrap_err().contains("secret"));
        }
    }
}
