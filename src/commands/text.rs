//! Text out of bytes: strings and dumps.

use std::fmt::Write;

use crate::base::{Error, Result};

/// The shortest run that counts as a string.
const SHORTEST: usize = 4;

/// How the characters of a string are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// ASCII.
    SevenBit,
    /// Bytes over 127 are letters too.
    EightBit,
    /// 16 or 32 bits a character.
    Wide {
        /// Bytes of a character.
        bytes: usize,
        /// Whether the lowest byte comes first.
        little: bool,
    },
}

impl Encoding {
    /// From the letter that strings(1) has for it.
    pub(super) fn from_letter(letter: &str) -> Result<Self> {
        Ok(match letter {
            "s" => Encoding::SevenBit,
            "S" => Encoding::EightBit,
            "b" => Encoding::Wide { bytes: 2, little: false },
            "l" => Encoding::Wide { bytes: 2, little: true },
            "B" => Encoding::Wide { bytes: 4, little: false },
            "L" => Encoding::Wide { bytes: 4, little: true },
            _ => return Err(Error::usage(format!("encoding '{letter}' is none of s, S, b, l, B, L"))),
        })
    }

    /// The printable character that begins at a byte, and how many bytes it takes.
    fn character(self, data: &[u8]) -> Option<(u8, usize)> {
        let (byte, width) = match self {
            Encoding::SevenBit | Encoding::EightBit => (*data.first()?, 1),
            Encoding::Wide { bytes, little } => {
                let unit = data.get(..bytes)?;
                let (low, high) = if little { (unit[0], &unit[1..]) } else { (unit[bytes - 1], &unit[..bytes - 1]) };
                if high.iter().any(|b| *b != 0) {
                    return None;
                }
                (low, bytes)
            }
        };
        let printable = matches!(byte, b'\t' | b' '..=b'~') || self == Encoding::EightBit && byte >= 0x80;
        printable.then_some((byte, width))
    }
}

/// Runs of four or more printable characters.
pub(super) fn strings(data: &[u8], encoding: Encoding) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut run = Vec::new();
    let mut at = 0;
    while at < data.len() {
        match encoding.character(&data[at..]) {
            Some((byte, width)) => {
                run.push(byte);
                at += width;
            }
            None => {
                if run.len() >= SHORTEST {
                    found.push(std::mem::take(&mut run));
                }
                run.clear();
                at += 1;
            }
        }
    }
    if run.len() >= SHORTEST {
        found.push(run);
    }
    found
}

/// As `hexdump -C`: sixteen bytes a line, lines that repeat as one `*`, the length at the end.
pub(super) fn dump(data: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    let mut before: Option<&[u8]> = None;
    let mut starred = false;
    for (index, line) in data.chunks(16).enumerate() {
        if before == Some(line) && line.len() == 16 {
            if !std::mem::replace(&mut starred, true) {
                out.push_str("*\n");
            }
            continue;
        }
        (before, starred) = (Some(line), false);
        // A String takes all that is written to it.
        let _ = write!(out, "{:08x} ", index * 16);
        for place in 0..16 {
            if place == 8 {
                out.push(' ');
            }
            match line.get(place) {
                Some(byte) => {
                    let _ = write!(out, " {byte:02x}");
                }
                None => out.push_str("   "),
            }
        }
        out.push_str("  |");
        out.extend(line.iter().map(|b| if matches!(b, b' '..=b'~') { *b as char } else { '.' }));
        out.push_str("|\n");
    }
    if !data.is_empty() {
        let _ = writeln!(out, "{:08x}", data.len());
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_characters() {
        assert_eq!(strings(b"abc\0abcd\0\tx y\xff", Encoding::SevenBit), [b"abcd".to_vec(), b"\tx y".to_vec()]);
        assert_eq!(strings(b"\xe4\xf6\xfc!", Encoding::EightBit), [b"\xe4\xf6\xfc!".to_vec()]);
        let wide = Encoding::from_letter("b").unwrap();
        assert_eq!(strings(b"\x01\0a\0b\0c\0d", wide), [b"abcd".to_vec()]);
        assert_eq!(strings(b"", wide), Vec::<Vec<u8>>::new());
        assert!(Encoding::from_letter("x").is_err());
    }

    #[test]
    fn repeated_lines_are_starred() {
        let text = String::from_utf8(dump(&[0; 50])).unwrap();
        assert!(text.contains("|................|\n*\n00000030  00 00"), "{text}");
        assert!(text.ends_with("\n00000032\n"));
        assert_eq!(dump(b""), b"");
    }
}
