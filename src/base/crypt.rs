//! Password hashes as Linux keeps them: SHA-512 crypt, `$6$SALT$HASH` (U. Drepper's specification, in the public domain).

use sha2::{Digest, Sha512};

/// Digits of the hash and of salts.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ROUNDS: u32 = 5000;

/// The hash of a password, with a salt made of sixteen random bytes.
pub fn sha512_crypt(password: &[u8], random: &[u8; 16]) -> String {
    let salt: Vec<u8> = random.iter().map(|byte| DIGITS[usize::from(byte & 63)]).collect();
    with_salt(password, &salt)
}

fn with_salt(password: &[u8], salt: &[u8]) -> String {
    let sum = |parts: &[&[u8]]| {
        let mut digest = Sha512::new();
        parts.iter().for_each(|part| digest.update(part));
        let bytes: [u8; 64] = digest.finalize().into();
        bytes
    };
    let cycle = |block: &[u8; 64], length: usize| block.iter().copied().cycle().take(length).collect::<Vec<u8>>();
    let other = sum(&[password, salt, password]);
    let mut first = Sha512::new();
    first.update(password);
    first.update(salt);
    first.update(cycle(&other, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        match bits & 1 {
            1 => first.update(other),
            _ => first.update(password),
        }
        bits >>= 1;
    }
    let mut state: [u8; 64] = first.finalize().into();
    let p = cycle(&sum(&vec![password; password.len()]), password.len());
    let s = cycle(&sum(&vec![salt; 16 + usize::from(state[0])]), salt.len());
    for round in 0..ROUNDS {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(4);
        parts.push(if round % 2 == 1 { &p } else { &state });
        if round % 3 != 0 {
            parts.push(&s);
        }
        if round % 7 != 0 {
            parts.push(&p);
        }
        parts.push(if round % 2 == 1 { &state } else { &p });
        state = sum(&parts);
    }
    let mut out = String::from("$6$");
    out.extend(salt.iter().map(|b| *b as char));
    out.push('$');
    let mut digits = |value: u32, count: u32| {
        out.extend((0..count).map(|i| DIGITS[(value >> (6 * i) & 63) as usize] as char));
    };
    // The order in which the bytes are taken turns with every group of three.
    for i in 0..21_usize {
        let (a, b, c) = match i % 3 {
            0 => (i, i + 21, i + 42),
            1 => (i + 21, i + 42, i),
            _ => (i + 42, i, i + 21),
        };
        digits(u32::from(state[a]) << 16 | u32::from(state[b]) << 8 | u32::from(state[c]), 4);
    }
    digits(u32::from(state[63]), 2);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_openssl_hashes() {
        // openssl passwd -6 -salt abcdefgh secret
        let wanted =
            "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.";
        assert_eq!(with_salt(b"secret", b"abcdefgh"), wanted);
        assert_ne!(sha512_crypt(b"", &[1; 16]), sha512_crypt(b"", &[2; 16]));
    }
}
