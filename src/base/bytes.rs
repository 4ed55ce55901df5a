//! Little- and big-endian fields in a block of bytes.
//!
//! The readers answer 0 for a field that is not wholly inside the block and the writers do nothing:
//! a view checks its length once, when it is made, and hostile bytes can then not panic.

macro_rules! field {
    ($get:ident, $put:ident, $type:ty, $from:ident, $to:ident) => {
        #[doc = concat!("Reads a `", stringify!($type), "` at byte `at` (", stringify!($from), ").")]
        #[inline]
        pub fn $get(block: &[u8], at: usize) -> $type {
            match at.checked_add(size_of::<$type>()).and_then(|end| block.get(at..end)) {
                Some(bytes) => <$type>::$from(bytes.try_into().unwrap_or_default()),
                None => 0,
            }
        }
        #[doc = concat!("Writes a `", stringify!($type), "` at byte `at` (", stringify!($to), ").")]
        #[inline]
        pub fn $put(block: &mut [u8], at: usize, value: $type) {
            if let Some(bytes) = at.checked_add(size_of::<$type>()).and_then(|end| block.get_mut(at..end)) {
                bytes.copy_from_slice(&value.$to());
            }
        }
    };
}

field!(le16, put_le16, u16, from_le_bytes, to_le_bytes);
field!(le32, put_le32, u32, from_le_bytes, to_le_bytes);
field!(le64, put_le64, u64, from_le_bytes, to_le_bytes);
field!(be16, put_be16, u16, from_be_bytes, to_be_bytes);
field!(be32, put_be32, u32, from_be_bytes, to_be_bytes);
field!(be64, put_be64, u64, from_be_bytes, to_be_bytes);

/// The byte at `at`, 0 past the end.
#[inline]
pub fn u8_at(block: &[u8], at: usize) -> u8 {
    block.get(at).copied().unwrap_or(0)
}

/// Whether all bytes are zero.
pub fn is_zero(block: &[u8]) -> bool {
    // Most data differs at once; zeros are looked at in pieces that the compiler makes vectors of.
    let (pieces, rest) = block.as_chunks::<256>();
    let (words, tail) = rest.as_chunks::<8>();
    let zero = |words: &[[u8; 8]]| words.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word)) == 0;
    pieces.iter().all(|piece| zero(piece.as_chunks().0)) && zero(words) && tail.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_past_the_end_are_zero() {
        let block = [1, 2, 3];
        assert_eq!((le16(&block, 1), le32(&block, 0), le16(&block, usize::MAX)), (0x0302, 0, 0));
    }

    #[test]
    fn zero_in_odd_lengths() {
        for len in [0, 1, 7, 8, 37, 255, 256, 257, 1000] {
            let mut block = vec![0; len];
            assert!(is_zero(&block));
            for at in 0..len {
                block[at] = 1;
                assert!(!is_zero(&block), "{at} of {len}");
                block[at] = 0;
            }
        }
    }
}
