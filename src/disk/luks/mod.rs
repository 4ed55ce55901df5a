//! LUKS: encrypted volumes, opened with a passphrase (`docs/formats/luks.md`).
//!
//! Both versions of the header become one [`Header`]: key slots, each of which gives the volume key for a passphrase, and
//! the one segment that holds the encrypted bytes. The header itself is never written.

mod cipher;
mod crypt;
mod kdf;
mod split;
mod v1;
mod v2;

use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::{Error, Kind, Result};
use crate::disk::Device;
use cipher::{Cipher, SECTOR};

pub use cipher::Way;
use kdf::{Hash, Kdf};

pub use kdf::Work;

/// Longest key, in bytes: two keys of 256 bits for XTS.
const KEY_MAX: u64 = 64;
/// Every program makes so many stripes (LUKS1 On-Disk Format Specification 1.2.3, section 4, `LUKS_STRIPES`).
const STRIPES_MAX: u64 = 4000;
/// What both versions begin with.
const MAGIC: &[u8] = b"LUKS\xba\xbe";

/// A header that was read.
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// The UUID as it stands there.
    pub uuid: String,
    /// Slots in the order in which they are tried; those that cannot be used say why.
    slots: Vec<Result<Slot>>,
    segment: Segment,
}

/// A place that holds the volume key, encrypted with a passphrase.
struct Slot {
    kdf: Kdf,
    /// First byte of the stripes on the device.
    offset: u64,
    /// Cipher of the stripes.
    cipher: String,
    /// Bytes of the key that encrypts the stripes.
    area_key: usize,
    /// Bytes of the volume key.
    key: usize,
    stripes: usize,
    split: Hash,
    digest: Digest,
}

/// How a volume key is known to be the right one.
#[derive(Clone)]
struct Digest {
    kdf: Kdf,
    value: Vec<u8>,
}

/// The bytes that are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    /// First byte on the device.
    offset: u64,
    /// Bytes; `None` goes on to the end of the device.
    len: Option<u64>,
    /// Bytes that are encrypted as one: 512, 1024, 2048 or 4096.
    sector: u32,
    /// What is added to the number of a sector, which counts 512 bytes.
    tweak: u64,
    cipher: String,
}

/// Reads the header; `None` if there is none.
///
/// # Errors
/// `Kind::Corrupt` for damage, `Kind::Unsupported` for what is not opened here: integrity, re-encryption that has not ended,
/// requirements that are not known, several segments, a detached header.
pub fn read(device: &Device) -> Result<Option<Header>> {
    let mut start = [0; 8];
    if device.len() < v1::LEN {
        return Ok(None);
    }
    device.read_at(0, &mut start)?;
    match start.strip_prefix(MAGIC) {
        Some([0, 1]) => v1::read(device).map(Some),
        Some([0, 2]) | None => v2::read(device),
        // Damage, if there is a second copy.
        Some(version) => match v2::read(device) {
            Ok(None) => {
                let version = version.iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
                Err(Error::unsupported(format!("luks: version {version} of the header is not known")))
            }
            found => found,
        },
    }
}

impl Header {
    /// Cipher of the volume, as `aes-xts-plain64`.
    pub fn cipher(&self) -> &str {
        &self.segment.cipher
    }

    /// Opens the volume with a passphrase.
    ///
    /// # Errors
    /// `Kind::Denied` if no key slot takes it; if none does and some were not tried, what was wrong with the first of them;
    /// `Kind::Interrupted`.
    pub fn unlock(&self, device: &Device, passphrase: &[u8], work: &mut Work<'_>) -> Result<Arc<Unlocked>> {
        let mut untried = None;
        for slot in &self.slots {
            let opened = match slot {
                Ok(slot) => slot.open(device, passphrase, work),
                Err(error) => Err(Error::new(error.kind(), error.detail())),
            };
            match opened {
                Ok(Some(key)) => {
                    let cipher = Cipher::new(&self.segment.cipher, &key)?;
                    return Ok(Arc::new(Unlocked { cipher, segment: self.segment.clone() }));
                }
                Ok(None) => {}
                Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::Io) => return Err(error),
                Err(error) => untried = untried.or(Some(error)),
            }
        }
        if self.slots.is_empty() {
            return Err(Error::new(Kind::Denied, "luks: the header has no key slot in use"));
        }
        Err(untried.unwrap_or_else(|| Error::new(Kind::Denied, "No key available with this passphrase.")))
    }
}

impl Slot {
    /// The volume key, if the passphrase is right.
    fn open(&self, device: &Device, passphrase: &[u8], work: &mut Work<'_>) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let len = (self.key * self.stripes).next_multiple_of(SECTOR as usize);
        if self.offset.checked_add(len as u64).is_none_or(|end| end > device.len()) {
            return Err(Error::corrupt(format!("luks: the key slot at byte {} ends after the device", self.offset)));
        }
        let mut key = Zeroizing::new(vec![0; self.area_key]);
        work.derive(&self.kdf, passphrase, &mut key)?;
        let mut stripes = Zeroizing::new(vec![0; len]);
        device.read_at(self.offset, &mut stripes)?;
        Cipher::new(&self.cipher, &key)?.run(Way::Decrypt, 0, SECTOR as usize, &mut stripes);
        let key = split::merge(stripes.get(..self.key * self.stripes).unwrap_or_default(), self.key, self.split);
        Ok(self.digest.fits(&key, work)?.then_some(key))
    }
}

impl Digest {
    fn fits(&self, key: &[u8], work: &mut Work<'_>) -> Result<bool> {
        let mut value = vec![0; self.value.len()];
        work.derive(&self.kdf, key, &mut value)?;
        Ok(!value.is_empty() && value == self.value)
    }
}

impl Segment {
    /// The bytes of a device of `len` bytes: whole encryption sectors.
    fn range(&self, len: u64) -> Range<u64> {
        let start = self.offset.min(len);
        let rest = self.len.unwrap_or(u64::MAX).min(len - start);
        start..start + rest - rest % u64::from(self.sector)
    }

    /// Refuses a segment that is not behind the header, whose end is at byte `header`.
    fn check(self, header: u64) -> Result<Self> {
        if self.offset == 0 {
            return Err(Error::unsupported("luks: the header is detached: the encrypted bytes are on another device"));
        }
        if self.offset < header || !self.offset.is_multiple_of(SECTOR) {
            let words = format!("luks: the encrypted bytes begin at byte {}, inside the header", self.offset);
            return Err(Error::corrupt(words));
        }
        Ok(self)
    }
}

/// A volume with its key.
pub struct Unlocked {
    cipher: Cipher,
    segment: Segment,
}

impl Unlocked {
    /// Where the encrypted bytes of a device of `len` bytes are.
    pub fn range(&self, len: u64) -> Range<u64> {
        self.segment.range(len)
    }

    /// Encrypts or decrypts whole sectors of 512 bytes in place; the first one has the number `sector`.
    pub fn crypt(&self, way: Way, sector: u64, data: &mut [u8]) {
        self.cipher.run(way, sector, SECTOR as usize, data);
    }

    /// The plain bytes of the encrypted device as a device.
    pub fn on(self: &Arc<Self>, device: Device) -> Device {
        Arc::new(crypt::Crypt::new(self.clone(), device))
    }
}

/// A size from a header, if it is one that can be.
fn bounded(what: &str, value: u64, range: std::ops::RangeInclusive<u64>) -> Result<usize> {
    match range.contains(&value) {
        true => Ok(value as usize),
        false => {
            let (least, most) = range.into_inner();
            Err(Error::corrupt(format!("luks: {what} {value} is not in {least} to {most}")))
        }
    }
}

/// Text that ends with a zero byte or with its field.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}
