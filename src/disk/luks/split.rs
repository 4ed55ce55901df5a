//! The anti-forensic splitter: a key stands on the disk as stripes that all are needed (LUKS1 On-Disk Format Specification
//! 1.2.3, section 2.4).

use zeroize::Zeroizing;

use super::kdf::Hash;

/// The key of `len` bytes that `stripes` (each as long as the key) make together.
pub fn merge(stripes: &[u8], len: usize, hash: Hash) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; len]);
    let mut pieces = stripes.chunks_exact(len.max(1)).peekable();
    while let Some(piece) = pieces.next() {
        key.iter_mut().zip(piece).for_each(|(key, byte)| *key ^= byte);
        if pieces.peek().is_some() {
            diffuse(&mut key, hash);
        }
    }
    key
}

/// Each piece as long as a digest becomes the digest of its number and itself.
fn diffuse(key: &mut [u8], hash: Hash) {
    for (number, piece) in (0u32..).zip(key.chunks_mut(hash.size())) {
        let digest = hash.of(&[&number.to_be_bytes(), piece]);
        piece.iter_mut().zip(digest.iter()).for_each(|(byte, new)| *byte = *new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_key_comes_back() {
        for (hash, len) in [(Hash::Sha1, 32), (Hash::Sha256, 64), (Hash::Sha512, 16)] {
            let key: Vec<u8> = (0..len as u8).collect();
            // Any stripes but the last, which makes them fit.
            let mut stripes: Vec<u8> = (0..len * 5).map(|i| (i * 7) as u8).collect();
            stripes.resize(len * 6, 0);
            let rest = merge(&stripes, len, hash);
            stripes.truncate(len * 5);
            stripes.extend(key.iter().zip(rest.iter()).map(|(a, b)| a ^ b));
            assert_eq!(*merge(&stripes, len, hash), key);
            stripes[3] ^= 1;
            assert_ne!(*merge(&stripes, len, hash), key);
        }
    }
}
