//! The fields of a tar header block.
//!
//! | bytes | field | bytes | field |
//! | --- | --- | --- | --- |
//! | 0..100 | name | 157..257 | linkname |
//! | 100..108 | mode | 257..265 | magic and version |
//! | 108..116 | uid | 265..297 | uname |
//! | 116..124 | gid | 297..329 | gname |
//! | 124..136 | size | 329..337 | devmajor |
//! | 136..148 | mtime | 337..345 | devminor |
//! | 148..156 | checksum | 345..500 | prefix (ustar) |
//! | 156 | typeflag | 386..482, 482, 483..495 | sparse map, more?, real size (GNU) |

use std::ops::Range;

use super::BLOCK;
use crate::base::{Error, Result};

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;

pub(super) type Block = [u8; BLOCK];

/// Text up to the first NUL.
pub(super) fn text(block: &Block, field: Range<usize>) -> &[u8] {
    let bytes = &block[field];
    &bytes[..bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len())]
}

/// A number in octal digits, or in base 256 when the first bit is set (GNU).
pub(super) fn number(bytes: &[u8], what: &str) -> Result<i64> {
    let bad = || Error::corrupt(format!("tar: {what} is no number that fits"));
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let start: i128 = if negative { -1 } else { 0 };
            let mut value = (start << 6) | i128::from(first & 0x3f);
            for byte in &bytes[1..] {
                value = value.checked_mul(256).ok_or_else(bad)? | i128::from(*byte);
                if i64::try_from(value).is_err() {
                    return Err(bad());
                }
            }
            i64::try_from(value).map_err(|_| bad())
        }
        _ => {
            let digits = bytes.trim_ascii_start();
            let end = digits.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(digits.len());
            let mut value = 0_i64;
            for digit in &digits[..end] {
                if !matches!(digit, b'0'..=b'7') {
                    return Err(bad());
                }
                value = value.checked_mul(8).ok_or_else(bad)? + i64::from(digit - b'0');
            }
            Ok(value)
        }
    }
}

/// Puts a number in octal with a NUL after it; in base 256 if it does not fit.
pub(super) fn put_number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    if value < 1 << (3 * digits) {
        field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
        return;
    }
    let mut rest = value;
    for byte in field.iter_mut().rev() {
        *byte = rest as u8;
        rest >>= 8;
    }
    field[0] |= 0x80;
}

/// The sum of all bytes with the checksum field as blanks: of unsigned bytes, and of signed ones as some old
/// programs had it.
pub(super) fn checksums(block: &Block) -> (i64, i64) {
    let mut sums = (0, 0);
    for (at, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&at) { b' ' } else { *byte };
        sums.0 += i64::from(byte);
        sums.1 += i64::from(byte as i8);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0", "mode").unwrap(), 0o644);
        assert_eq!(number(b"  644 \0\0", "mode").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0", "mode").unwrap(), 0);
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", "mtime").unwrap(), -2);
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "size").is_err());
        assert!(number(b"000x644\0", "mode").is_err() && number(b"-1", "size").is_err());
        for value in [0, 0o7777777, 0o10000000, u32::MAX.into()] {
            let mut field = [0; 8];
            put_number(&mut field, value);
            assert_eq!(number(&field, "uid").unwrap(), value as i64);
        }
    }
}
