//! The header of version 1: LUKS1 On-Disk Format Specification 1.2.3, section 4; all numbers big-endian.

use super::kdf::{Hash, Kdf};
use super::{Digest, Header, KEY_MAX, SECTOR, STRIPES_MAX, Segment, Slot, bounded, text};
use crate::base::bytes::be32;
use crate::base::{Error, Result};
use crate::disk::Device;

/// Bytes of the header.
pub const LEN: u64 = 592;
const SLOTS: usize = 208;
const SLOT: usize = 48;
const ENABLED: u32 = 0x00ac_71f3;

/// Reads it; the magic and the version were looked at.
pub fn read(device: &Device) -> Result<Header> {
    let mut bytes = vec![0; LEN as usize];
    device.read_at(0, &mut bytes)?;
    let cipher = format!("{}-{}", text(&bytes[8..40]), text(&bytes[40..72]));
    let hash = Hash::from_name(&text(&bytes[72..104]))?;
    let key = bounded("the key size", u64::from(be32(&bytes, 108)), 16..=KEY_MAX)?;
    let digest = Digest {
        kdf: Kdf::Pbkdf2 { hash, iterations: u64::from(be32(&bytes, 164)), salt: bytes[132..164].to_vec() },
        value: bytes[112..132].to_vec(),
    };
    let segment = Segment { offset: u64::from(be32(&bytes, 104)) * SECTOR, len: None, sector: 512, tweak: 0, cipher };
    let mut header = LEN;
    let mut slots = Vec::new();
    for slot in bytes[SLOTS..].chunks(SLOT).filter(|slot| be32(slot, 0) == ENABLED) {
        let slot = read_slot(slot, &segment.cipher, key, hash, &digest);
        header = header.max(slot.as_ref().map_or(0, |slot| slot.offset + (slot.key * slot.stripes) as u64));
        slots.push(slot);
    }
    let segment = segment.check(header)?;
    Ok(Header { version: 1, uuid: text(&bytes[168..208]), slots, segment })
}

fn read_slot(slot: &[u8], cipher: &str, key: usize, hash: Hash, digest: &Digest) -> Result<Slot> {
    let offset = u64::from(be32(slot, 40)) * SECTOR;
    if offset < LEN {
        return Err(Error::corrupt("luks: a key slot lies in the header"));
    }
    Ok(Slot {
        kdf: Kdf::Pbkdf2 { hash, iterations: u64::from(be32(slot, 4)), salt: slot[8..40].to_vec() },
        offset,
        cipher: cipher.to_string(),
        area_key: key,
        key,
        stripes: bounded("stripes", u64::from(be32(slot, 44)), 1..=STRIPES_MAX)?,
        split: hash,
        digest: digest.clone(),
    })
}
