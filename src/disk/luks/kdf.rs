//! From a passphrase to a key: PBKDF2 (RFC 8018, section 5.2) and Argon2 (RFC 9106), with what they may cost.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use sha2::Digest;
use zeroize::{Zeroize, Zeroizing};

use crate::base::{Error, Kind, Result};

/// Most rounds of hashing that one try of a key may take, over all key slots and digests: about a minute.
const ROUNDS_MAX: u64 = 100_000_000;
/// Most memory that Argon2 may take, in KiB. cryptsetup's own limit is 4 GiB, what it chooses by itself is 1 GiB.
const MEMORY_MAX: u64 = 1 << 20;
/// Most memory that Argon2 may fill in one try of a key, over all passes and key slots, in KiB.
const FILL_MAX: u64 = 32 << 20;
/// After so many rounds Ctrl-C is asked for.
const STRIDE: u32 = 1 << 16;

/// A hash by which keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-2 with 256 bits.
    Sha256,
    /// SHA-2 with 512 bits.
    Sha512,
}

impl Hash {
    /// By the name in a header.
    ///
    /// # Errors
    /// `Kind::Unsupported` for others.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "sha1" => Ok(Hash::Sha1),
            "sha256" => Ok(Hash::Sha256),
            "sha512" => Ok(Hash::Sha512),
            other => Err(Error::unsupported(format!(
                "luks: the hash {other} is not known here; sha1, sha256 and sha512 are"
            ))),
        }
    }

    /// Bytes of a digest.
    pub fn size(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha512 => 64,
        }
    }

    /// The digest of pieces that follow each other.
    pub fn of(self, pieces: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        fn digest<D: Digest>(pieces: &[&[u8]]) -> Zeroizing<Vec<u8>> {
            let mut digest = D::new();
            pieces.iter().for_each(|piece| digest.update(piece));
            Zeroizing::new(digest.finalize().to_vec())
        }
        match self {
            Hash::Sha1 => digest::<sha1::Sha1>(pieces),
            Hash::Sha256 => digest::<sha2::Sha256>(pieces),
            Hash::Sha512 => digest::<sha2::Sha512>(pieces),
        }
    }
}

/// How a key is made from a passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kdf {
    /// PBKDF2 with HMAC.
    Pbkdf2 {
        /// The hash.
        hash: Hash,
        /// How often.
        iterations: u64,
        /// The salt.
        salt: Vec<u8>,
    },
    /// Argon2, version 1.3.
    Argon2 {
        /// Argon2id; else Argon2i.
        id: bool,
        /// Passes over the memory.
        time: u64,
        /// KiB.
        memory: u64,
        /// Lanes.
        lanes: u64,
        /// The salt.
        salt: Vec<u8>,
    },
}

/// What one try of a key may still cost, so that a hostile header cannot keep the program for minutes.
pub struct Work<'a> {
    interrupt: &'a dyn Fn() -> Result<()>,
    rounds: u64,
    fill: u64,
}

impl<'a> Work<'a> {
    /// All of it. `interrupt` fails once the user wants an end.
    pub fn new(interrupt: &'a dyn Fn() -> Result<()>) -> Self {
        Work { interrupt, rounds: ROUNDS_MAX, fill: FILL_MAX }
    }

    /// Fills `key` from a passphrase.
    ///
    /// # Errors
    /// `Kind::Unsupported` for what would take too long or too much memory, `Kind::Interrupted`, values that Argon2 does not have.
    pub fn derive(&mut self, kdf: &Kdf, passphrase: &[u8], key: &mut [u8]) -> Result<()> {
        (self.interrupt)()?;
        match kdf {
            Kdf::Pbkdf2 { hash, iterations, salt } => self.pbkdf2(*hash, passphrase, salt, *iterations, key),
            Kdf::Argon2 { id, time, memory, lanes, salt } => {
                self.fill = spend(self.fill, memory.saturating_mul(*time)).ok_or_else(|| {
                    Error::unsupported(format!(
                        "luks: Argon2 with {time} passes over {memory} KiB is refused: all key slots together may fill \
                         {FILL_MAX} KiB"
                    ))
                })?;
                let algorithm = if *id { Algorithm::Argon2id } else { Algorithm::Argon2i };
                argon2(algorithm, (*time, *memory, *lanes), passphrase, salt, key)
            }
        }
    }

    fn pbkdf2(&mut self, hash: Hash, passphrase: &[u8], salt: &[u8], iterations: u64, key: &mut [u8]) -> Result<()> {
        let blocks = key.len().div_ceil(hash.size()) as u64;
        let refused = || {
            Error::unsupported(format!(
                "luks: {iterations} iterations of PBKDF2 are refused: all key slots together may take {ROUNDS_MAX} rounds"
            ))
        };
        self.rounds = spend(self.rounds, iterations.saturating_mul(blocks)).ok_or_else(refused)?;
        let iterations = u32::try_from(iterations).map_err(|_| refused())?;
        match hash {
            Hash::Sha1 => pbkdf2::<sha1::Sha1>(self.interrupt, passphrase, salt, iterations, key),
            Hash::Sha256 => pbkdf2::<sha2::Sha256>(self.interrupt, passphrase, salt, iterations, key),
            Hash::Sha512 => pbkdf2::<sha2::Sha512>(self.interrupt, passphrase, salt, iterations, key),
        }
    }
}

/// What is left; `None` if it is not enough. Nothing costs nothing.
fn spend(left: u64, cost: u64) -> Option<u64> {
    left.checked_sub(cost.max(1))
}

fn pbkdf2<D: EagerHash>(
    interrupt: &dyn Fn() -> Result<()>,
    passphrase: &[u8],
    salt: &[u8],
    iterations: u32,
    key: &mut [u8],
) -> Result<()> {
    let keyed = Hmac::<D>::new_from_slice(passphrase).map_err(|_| Error::from(Kind::Internal))?;
    let size = <Hmac<D> as hmac::digest::OutputSizeUser>::output_size();
    for (number, part) in (1..=u32::MAX).zip(key.chunks_mut(size)) {
        let mut round = keyed.clone().chain_update(salt).chain_update(number.to_be_bytes()).finalize().into_bytes();
        let mut sum = round.clone();
        for count in 1..iterations.max(1) {
            if count % STRIDE == 0 {
                interrupt()?;
            }
            round = keyed.clone().chain_update(&round).finalize().into_bytes();
            sum.iter_mut().zip(&round).for_each(|(sum, round)| *sum ^= round);
        }
        part.copy_from_slice(sum.get(..part.len()).unwrap_or_default());
        sum.zeroize();
    }
    Ok(())
}

fn argon2(
    algorithm: Algorithm,
    (time, memory, lanes): (u64, u64, u64),
    passphrase: &[u8],
    salt: &[u8],
    key: &mut [u8],
) -> Result<()> {
    if memory > MEMORY_MAX {
        return Err(Error::unsupported(format!(
            "luks: Argon2 with {memory} KiB of memory is refused: {MEMORY_MAX} KiB are the most"
        ))
        .hint("cryptsetup luksConvertKey --pbkdf-memory 1048576 makes the key slot one that opens"));
    }
    let wrong = |what: argon2::Error| Error::corrupt(format!("luks: Argon2 cannot have such values: {what}"));
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let params = Params::new(small(memory), small(time), small(lanes), Some(key.len())).map_err(wrong)?;
    let count = params.block_count();
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(count).map_err(|_| {
        Error::new(Kind::Io, format!("luks: there is no memory for the {memory} KiB that this key slot needs"))
    })?;
    blocks.resize(count, Block::new());
    let result = Argon2::new(algorithm, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, key, &mut blocks)
        .map_err(wrong);
    blocks.zeroize();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// RFC 6070 (SHA-1), RFC 7914 section 11 (SHA-256), and what Python's hashlib says for SHA-512.
    #[test]
    fn vectors_of_pbkdf2() {
        for (hash, passphrase, salt, iterations, wanted) in [
            (Hash::Sha1, "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"),
            (
                Hash::Sha1,
                "passwordPASSWORDpassword",
                "saltSALTsaltSALTsaltSALTsaltSALTsalt",
                4096,
                "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
            ),
            (
                Hash::Sha256,
                "passwd",
                "salt",
                1,
                "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9ccc",
            ),
            (Hash::Sha512, "password", "salt", 2, "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e9f0040713f18aefdb866d53c"),
        ] {
            let kdf = Kdf::Pbkdf2 { hash, iterations, salt: salt.into() };
            let mut key = vec![0; wanted.len() / 2];
            Work::new(&|| Ok(())).derive(&kdf, passphrase.as_bytes(), &mut key).unwrap();
            assert_eq!(hex(&key), wanted);
        }
    }

    #[test]
    fn what_costs_too_much_is_refused_at_once() {
        let salt = vec![0; 32];
        let mut work = Work::new(&|| Ok(()));
        let mut refused = |kdf| {
            let error = work.derive(&kdf, b"x", &mut [0; 32]).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            error.to_string()
        };
        let pbkdf2 = |iterations| Kdf::Pbkdf2 { hash: Hash::Sha256, iterations, salt: salt.clone() };
        assert!(refused(pbkdf2(100_000_001)).contains("100000001 iterations"));
        assert!(refused(pbkdf2(u64::MAX)).contains("PBKDF2"));
        let argon2 = |time, memory| Kdf::Argon2 { id: true, time, memory, lanes: 4, salt: salt.clone() };
        assert!(refused(argon2(4, 1 << 21)).contains("2097152 KiB"));
        assert!(refused(argon2(u64::MAX, 1 << 20)).contains("passes"));
        // Many slots that are cheap each are not cheap together.
        let mut work = Work::new(&|| Ok(()));
        work.rounds = 1000;
        work.derive(&pbkdf2(900), b"x", &mut [0; 32]).unwrap();
        assert!(work.derive(&pbkdf2(101), b"x", &mut [0; 32]).is_err());
        let stop = || Err(Kind::Interrupted.into());
        let interrupted = Work::new(&stop).derive(&pbkdf2(1), b"x", &mut [0; 32]);
        assert_eq!(interrupted.unwrap_err().kind(), Kind::Interrupted);
    }
}
