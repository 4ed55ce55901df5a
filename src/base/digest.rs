//! Checksums of streams by name, as the coreutils print them.

use std::io::Read;

use sha2::Digest;

use super::{Error, Result};

/// How much is read at once.
const CHUNK: usize = 1 << 18;

/// A checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// POSIX cksum.
    Crc,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-2 with 224 bits.
    Sha224,
    /// SHA-2 with 256 bits.
    Sha256,
    /// SHA-2 with 384 bits.
    Sha384,
    /// SHA-2 with 512 bits.
    Sha512,
}

impl Checksum {
    /// By its name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn from_name(name: &str) -> Result<Self> {
        // In any case, as guestfish takes them.
        Ok(match name.to_ascii_lowercase().as_str() {
            "crc" => Checksum::Crc,
            "md5" => Checksum::Md5,
            "sha1" => Checksum::Sha1,
            "sha224" => Checksum::Sha224,
            "sha256" => Checksum::Sha256,
            "sha384" => Checksum::Sha384,
            "sha512" => Checksum::Sha512,
            _ => {
                return Err(Error::usage("unknown checksum type, expecting crc|md5|sha1|sha224|sha256|sha384|sha512"));
            }
        })
    }

    /// The sum of a stream: hex digits, of `crc` a decimal number.
    ///
    /// # Errors
    /// What the reader says.
    pub fn of(self, reader: &mut dyn Read) -> Result<String> {
        match self {
            Checksum::Crc => crc(reader),
            Checksum::Md5 => hex::<md5::Md5>(reader),
            Checksum::Sha1 => hex::<sha1::Sha1>(reader),
            Checksum::Sha224 => hex::<sha2::Sha224>(reader),
            Checksum::Sha256 => hex::<sha2::Sha256>(reader),
            Checksum::Sha384 => hex::<sha2::Sha384>(reader),
            Checksum::Sha512 => hex::<sha2::Sha512>(reader),
        }
    }
}

fn chunks(reader: &mut dyn Read, mut each: impl FnMut(&[u8])) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => each(&buffer[..count]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn hex<D: Digest>(reader: &mut dyn Read) -> Result<String> {
    let mut digest = D::new();
    chunks(reader, |data| digest.update(data))?;
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The remainders of all bytes by the polynomial 0x04c11db7, highest bit first (POSIX.1-2017, cksum).
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 0x8000_0000 != 0 { rest << 1 ^ 0x04c1_1db7 } else { rest << 1 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// cksum: the bytes, then their number without leading zero bytes, lowest first.
fn crc(reader: &mut dyn Read) -> Result<String> {
    let (mut sum, mut length) = (0_u32, 0_u64);
    let step = |sum: u32, byte: u8| sum << 8 ^ TABLE[usize::from((sum >> 24) as u8 ^ byte)];
    chunks(reader, |data| {
        length += data.len() as u64;
        sum = data.iter().fold(sum, |sum, byte| step(sum, *byte));
    })?;
    while length > 0 {
        sum = step(sum, length as u8);
        length >>= 8;
    }
    Ok((!sum).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // As cksum, md5sum, ... of the coreutils print them for "hello\n".
        for (name, sum) in [
            ("crc", "3015617425"),
            ("md5", "b1946ac92492d2347c6235b4d2611184"),
            ("sha1", "f572d396fae9206628714fb2ce00f72e94f2258f"),
            ("sha256", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"),
        ] {
            assert_eq!(Checksum::from_name(name).unwrap().of(&mut &b"hello\n"[..]).unwrap(), sum, "{name}");
        }
        assert!(Checksum::from_name("gost").is_err());
    }
}
