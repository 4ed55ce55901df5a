//! Sizes and integers as guestfish's users write them.

use super::{Error, Result};

/// Why a number could not be read, with gnulib's `xstrtol` code, which guestfish prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberError {
    /// Code 1: out of range.
    Overflow = 1,
    /// Code 2: an unknown suffix.
    Suffix = 2,
    /// Code 4: no digits.
    NoDigits = 4,
}

/// Reads a C integer (decimal, `0` octal, `0x` hex, optional sign) with an optional suffix: `K k M G T
/// P E Z Y` are powers of 1024, also with `iB`; with `B` or `D` powers of 1000. A suffix alone counts as 1.
pub fn integer(text: &str) -> std::result::Result<i64, NumberError> {
    let trimmed = text.trim_start();
    let (negative, digits) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', next, ..] if next.is_ascii_hexdigit() => (16, &digits[2..]),
        [b'0', ..] => (8, digits),
        _ => (10, digits),
    };
    let end = digits.bytes().position(|b| !(b as char).is_digit(radix)).unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let value = match number {
        "" if suffix.starts_with(['K', 'k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y']) => 1,
        "" => return Err(NumberError::NoDigits),
        _ => i128::from_str_radix(number, radix).map_err(|_| NumberError::Overflow)?,
    };
    let value = value.checked_mul(scale(suffix).ok_or(NumberError::Suffix)?).ok_or(NumberError::Overflow)?;
    i64::try_from(if negative { -value } else { value }).map_err(|_| NumberError::Overflow)
}

fn scale(suffix: &str) -> Option<i128> {
    let mut chars = suffix.chars();
    let power = match chars.next() {
        None => return Some(1),
        Some('K' | 'k') => 1,
        Some('M') => 2,
        Some('G') => 3,
        Some('T') => 4,
        Some('P') => 5,
        Some('E') => 6,
        Some('Z') => 7,
        Some('Y') => 8,
        Some(_) => return None,
    };
    let base: i128 = match chars.as_str() {
        "" | "iB" => 1024,
        "B" | "D" => 1000,
        _ => return None,
    };
    base.checked_pow(power)
}

/// Bytes for a glance: one digit behind the point of the largest unit of 1024 that fits.
pub fn rounded(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = UNITS.iter().enumerate().rev().find(|(index, _)| bytes >> (10 * (index + 1)) > 0);
    let Some((index, unit)) = power else { return format!("{bytes} B") };
    // Tenths, rounded down: nothing is shown as done before it is.
    let tenths = (u128::from(bytes) * 10) >> (10 * (index + 1));
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Reads a disk size for `sparse`, `alloc` and `-N`: as [`integer`], not negative; a plain `b` or `s`
/// suffix counts bytes or 512-byte sectors.
pub fn bytes(text: &str) -> Result<u64> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'b') => (&text[..text.len() - 1], 1),
        Some(b's') => (&text[..text.len() - 1], 512),
        _ => (text, 1),
    };
    integer(digits).ok().and_then(|n| u64::try_from(n).ok()).and_then(|n| n.checked_mul(unit)).ok_or_else(|| {
        Error::usage(format!("could not parse size specification '{text}'")).hint("write it like 512M or 10G")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_sizes() {
        assert_eq!([rounded(0), rounded(1023), rounded(1024), rounded(1536)], ["0 B", "1023 B", "1.0 KiB", "1.5 KiB"]);
        assert_eq!([rounded((1 << 20) - 1), rounded(u64::MAX)], ["1023.9 KiB", "15.9 EiB"]);
    }

    #[test]
    fn integers() {
        assert_eq!(integer("0755"), Ok(0o755));
        assert_eq!(integer("755"), Ok(755));
        assert_eq!(integer("-0x10"), Ok(-16));
        assert_eq!(integer("1K"), Ok(1024));
        assert_eq!(integer("2MB"), Ok(2_000_000));
        assert_eq!(integer("K"), Ok(1024));
        assert_eq!(integer(""), Err(NumberError::NoDigits));
        assert_eq!(integer("12q"), Err(NumberError::Suffix));
        assert_eq!(integer("9E"), Err(NumberError::Overflow));
        assert_eq!(integer("-9223372036854775808"), Ok(i64::MIN));
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("10s").unwrap(), 5120);
        assert!(bytes("-1").is_err());
        assert!(bytes("b").is_err());
    }
}
