//! LVM's identifiers: 32 letters and digits, shown in groups.

use std::fmt;

/// The letters of new identifiers.
const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Lengths of the groups in which identifiers are shown.
const GROUPS: [usize; 7] = [6, 4, 4, 4, 4, 4, 6];

/// The identifier of a physical volume, a volume group or a logical volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub [u8; 32]);

impl Id {
    /// A new one from random bytes.
    pub fn from_random(bytes: [[u8; 16]; 2]) -> Self {
        let mut id = [0; 32];
        for (letter, byte) in id.iter_mut().zip(bytes.as_flattened()) {
            *letter = LETTERS[usize::from(*byte) % LETTERS.len()];
        }
        Id(id)
    }

    /// From 32 letters and digits, dashes left out.
    pub fn parse(text: &str) -> Option<Self> {
        let letters: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        Self::stored(&letters)
    }

    /// From the 32 bytes that a label holds.
    pub fn stored(bytes: &[u8]) -> Option<Self> {
        let id: [u8; 32] = bytes.try_into().ok()?;
        id.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'!' | b'#')).then_some(Id(id))
    }

    /// The letters without dashes.
    pub fn letters(&self) -> String {
        self.0.iter().map(|b| *b as char).collect()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.letters();
        let mut rest = letters.as_str();
        for (index, len) in GROUPS.into_iter().enumerate() {
            let (group, tail) = rest.split_at(len);
            write!(f, "{}{group}", if index > 0 { "-" } else { "" })?;
            rest = tail;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_and_read() {
        let text = "bA292Q-vLPC-pXnU-l81g-of8v-tb3d-3HuKz7";
        assert_eq!(Id::parse(text).unwrap().to_string(), text);
        assert_eq!(Id::parse("bA292Q"), None);
        assert_eq!(Id::parse(&"é".repeat(16)), None);
        let id = Id::from_random([[255; 16], [7; 16]]);
        assert_eq!(Id::parse(&id.to_string()), Some(id));
    }
}
