//! AES in the modes that LUKS headers name, unit by unit.
//!
//! XTS is IEEE 1619-2018, section 5; the initial values are dm-crypt's (Linux, admin-guide/device-mapper/dm-crypt).

use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};

use super::kdf::Hash;
use crate::base::{Error, Result};

/// Initial values count these, in bytes, whatever the size of an encryption sector.
pub const SECTOR: u64 = 512;
/// Blocks that are worked on together: those of one sector.
const RUN: usize = 32;

type AesBlock = Block<Aes128>;

/// AES with a key of one of the three sizes.
enum Aes {
    Short(Box<Aes128>),
    Middle(Box<Aes192>),
    Long(Box<Aes256>),
}

impl Aes {
    fn new(key: &[u8]) -> Option<Self> {
        match key.len() {
            16 => Aes128::new_from_slice(key).ok().map(|aes| Aes::Short(Box::new(aes))),
            24 => Aes192::new_from_slice(key).ok().map(|aes| Aes::Middle(Box::new(aes))),
            32 => Aes256::new_from_slice(key).ok().map(|aes| Aes::Long(Box::new(aes))),
            _ => None,
        }
    }

    fn run(&self, way: Way, blocks: &mut [AesBlock]) {
        match (self, way) {
            (Aes::Short(aes), Way::Encrypt) => aes.encrypt_blocks(blocks),
            (Aes::Middle(aes), Way::Encrypt) => aes.encrypt_blocks(blocks),
            (Aes::Long(aes), Way::Encrypt) => aes.encrypt_blocks(blocks),
            (Aes::Short(aes), Way::Decrypt) => aes.decrypt_blocks(blocks),
            (Aes::Middle(aes), Way::Decrypt) => aes.decrypt_blocks(blocks),
            (Aes::Long(aes), Way::Decrypt) => aes.decrypt_blocks(blocks),
        }
    }

    /// One encrypted block: the number of a sector, lowest byte first, the rest zero.
    fn of_sector(&self, sector: u64) -> u128 {
        let mut block = AesBlock::from(u128::from(sector).to_le_bytes());
        self.run(Way::Encrypt, std::slice::from_mut(&mut block));
        number(&block)
    }
}

/// Which way to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From what is read to what is on the disk.
    Encrypt,
    /// Back.
    Decrypt,
}

/// A cipher with its key.
pub struct Cipher {
    mode: Mode,
}

enum Mode {
    Xts { data: Aes, tweak: Aes },
    Cbc { data: Aes, essiv: Option<Aes> },
}

impl Cipher {
    /// The cipher of a name as `aes-xts-plain64`, with a key.
    ///
    /// # Errors
    /// `Kind::Unsupported` for other ciphers and for a key of a size that the cipher does not have here.
    pub fn new(name: &str, key: &[u8]) -> Result<Self> {
        let mode = match name {
            "aes-xts-plain64" => Self::xts(key),
            "aes-cbc-plain64" => Aes::new(key).map(|data| Mode::Cbc { data, essiv: None }),
            "aes-cbc-essiv:sha256" => {
                let essiv = Aes::new(&Hash::Sha256.of(&[key]));
                Aes::new(key).map(|data| Mode::Cbc { data, essiv })
            }
            other => {
                let known = "aes-xts-plain64, aes-cbc-essiv:sha256 and aes-cbc-plain64 are";
                return Err(Error::unsupported(format!("luks: the cipher {other} is not known here; {known}")));
            }
        };
        let wrong =
            || Error::unsupported(format!("luks: a key of {} bits for the cipher {name} is not known", key.len() * 8));
        Ok(Cipher { mode: mode.ok_or_else(wrong)? })
    }

    /// Two keys of 128 or 256 bits, the one for the data first.
    fn xts(key: &[u8]) -> Option<Mode> {
        if !matches!(key.len(), 32 | 64) {
            return None;
        }
        let (data, tweak) = key.split_at(key.len() / 2);
        Some(Mode::Xts { data: Aes::new(data)?, tweak: Aes::new(tweak)? })
    }

    /// Works on whole units of `unit` bytes (a multiple of 512) in place; the first one begins at `sector`, counted in
    /// 512 bytes.
    pub fn run(&self, way: Way, sector: u64, unit: usize, data: &mut [u8]) {
        let step = (unit as u64 / SECTOR).max(1);
        for (index, bytes) in data.chunks_mut(unit.max(16)).enumerate() {
            let sector = sector.wrapping_add((index as u64).wrapping_mul(step));
            let (blocks, _) = AesBlock::slice_as_chunks_mut(bytes);
            match &self.mode {
                Mode::Xts { data, tweak } => xts(data, way, tweak.of_sector(sector), blocks),
                Mode::Cbc { data, essiv } => {
                    let first = essiv.as_ref().map_or(u128::from(sector), |essiv| essiv.of_sector(sector));
                    cbc(data, way, first, blocks);
                }
            }
        }
    }
}

fn number(block: &AesBlock) -> u128 {
    u128::from_le_bytes(block.0)
}

fn xor(block: &mut AesBlock, with: u128) {
    block.0 = (number(block) ^ with).to_le_bytes();
}

/// `tweak` is multiplied by x from block to block.
fn xts(aes: &Aes, way: Way, mut tweak: u128, blocks: &mut [AesBlock]) {
    for run in blocks.chunks_mut(RUN) {
        let mut tweaks = [0; RUN];
        for (block, slot) in run.iter_mut().zip(&mut tweaks) {
            *slot = tweak;
            xor(block, tweak);
            let carry = if tweak >> 127 == 1 { 0x87 } else { 0 };
            tweak = tweak << 1 ^ carry;
        }
        aes.run(way, run);
        run.iter_mut().zip(&tweaks).for_each(|(block, tweak)| xor(block, *tweak));
    }
}

fn cbc(aes: &Aes, way: Way, mut before: u128, blocks: &mut [AesBlock]) {
    for run in blocks.chunks_mut(RUN) {
        match way {
            Way::Encrypt => {
                for block in run {
                    xor(block, before);
                    aes.run(way, std::slice::from_mut(block));
                    before = number(block);
                }
            }
            Way::Decrypt => {
                let mut earlier = [0; RUN];
                for (block, slot) in run.iter().zip(&mut earlier) {
                    *slot = before;
                    before = number(block);
                }
                aes.run(way, run);
                run.iter_mut().zip(&earlier).for_each(|(block, earlier)| xor(block, *earlier));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes().chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    }

    /// IEEE 1619-2007, annex B, vectors 1 and 2.
    #[test]
    fn vectors_of_the_standard() {
        for (key, sector, plain, cipher) in [
            ("00".repeat(32), 0, "00".repeat(32), "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e"),
            (
                format!("{}{}", "11".repeat(16), "22".repeat(16)),
                0x33_3333_3333,
                "44".repeat(32),
                "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
            ),
        ] {
            let xts = Cipher::new("aes-xts-plain64", &bytes(&key)).unwrap();
            let mut data = bytes(&plain);
            xts.run(Way::Encrypt, sector, 512, &mut data);
            assert_eq!(data, bytes(cipher));
            xts.run(Way::Decrypt, sector, 512, &mut data);
            assert_eq!(data, bytes(&plain));
        }
    }

    #[test]
    fn both_ways_in_all_modes() {
        let plain: Vec<u8> = (0..8192u32).map(|i| (i * 31) as u8).collect();
        for (name, sizes) in [
            ("aes-xts-plain64", &[32, 64][..]),
            ("aes-cbc-plain64", &[16, 24, 32]),
            ("aes-cbc-essiv:sha256", &[16, 24, 32]),
        ] {
            for size in sizes {
                let cipher = Cipher::new(name, &plain[..*size]).unwrap();
                for unit in [512, 1024, 4096] {
                    let mut data = plain.clone();
                    cipher.run(Way::Encrypt, 7, unit, &mut data);
                    assert_ne!(data[4096..], plain[4096..]);
                    // Units stand for themselves, and are counted in 512 bytes.
                    cipher.run(Way::Decrypt, 7 + 8, unit, &mut data[4096..]);
                    assert_eq!(data[4096..], plain[4096..], "{name} {size} {unit}");
                }
            }
        }
        assert!(Cipher::new("aes-xts-plain64", &[0; 48]).is_err());
        assert!(Cipher::new("aes-cbc-plain64", &[0; 64]).is_err());
        assert!(Cipher::new("serpent-xts-plain64", &[0; 32]).is_err());
    }
}
