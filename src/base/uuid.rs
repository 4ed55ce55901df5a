//! Universally unique identifiers, in the byte order of RFC 9562.

use std::fmt;

/// Sixteen bytes in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// A random (version 4) UUID from sixteen random bytes.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid(bytes)
    }

    /// Reads 32 hex digits, with or without dashes, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = text.bytes().filter(|b| *b != b'-').map(|b| (b as char).to_digit(16));
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            *byte = (digits.next()?? << 4 | digits.next()??) as u8;
        }
        digits.next().is_none().then_some(Uuid(bytes))
    }

    /// The UUID stored as GPT does: the first three fields little-endian (UEFI 2.10, appendix A).
    pub fn from_gpt(stored: [u8; 16]) -> Self {
        Uuid(swap_fields(stored))
    }

    /// The sixteen bytes to store in a GPT.
    pub fn to_gpt(self) -> [u8; 16] {
        swap_fields(self.0)
    }

    /// As text, as `blkid` prints what a file system has: nothing if all bits are zero.
    pub fn or_nothing(self) -> String {
        if self.is_nil() { String::new() } else { self.to_string() }
    }

    /// Whether all bits are zero.
    pub fn is_nil(self) -> bool {
        self.0 == [0; 16]
    }
}

fn swap_fields(mut b: [u8; 16]) -> [u8; 16] {
    b[0..4].reverse();
    b[4..6].reverse();
    b[6..8].reverse();
    b
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_gpt_order() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let uuid = Uuid::parse(text).unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(uuid.to_gpt()[..4], [0x28, 0x73, 0x2a, 0xc1]);
        assert_eq!(Uuid::from_gpt(uuid.to_gpt()), uuid);
        assert_eq!(Uuid::parse("c12a"), None);
        assert_eq!(Uuid::parse("é12a7328-f81f-11d2-ba4b-00a0c93ec93b"), None);
    }
}
