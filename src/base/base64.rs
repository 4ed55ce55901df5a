//! Base 64 (RFC 4648, section 4), as text in lines.

use super::{Error, Result};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes of a line of 76 digits, as base64(1) writes them: encode whole multiples of this and join the lines.
pub const LINE: usize = 57;

/// Digits of some bytes, padded, without line ends.
pub fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let all = [group[0], group.get(1).copied().unwrap_or(0), group.get(2).copied().unwrap_or(0)];
        let bits = u32::from(all[0]) << 16 | u32::from(all[1]) << 8 | u32::from(all[2]);
        for place in 0..4 {
            out.push(match place <= group.len() {
                true => DIGITS[(bits >> (18 - 6 * place) & 63) as usize],
                false => b'=',
            });
        }
    }
    out
}

/// A decoder that is given text piece by piece; blanks and line ends are skipped.
#[derive(Debug, Default)]
pub struct Decoder {
    bits: u32,
    count: u32,
    padding: u32,
}

impl Decoder {
    /// Decodes a piece, onto `out`.
    ///
    /// # Errors
    /// A character that is no digit, or digits after the padding.
    pub fn decode(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<()> {
        for byte in text {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => {
                    self.padding += 1;
                    continue;
                }
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                other => return Err(Error::usage(format!("base64: the byte {other:#04x} is no digit"))),
            };
            if self.padding > 0 {
                return Err(Error::usage("base64: digits after the padding"));
            }
            self.bits = self.bits << 6 | u32::from(digit);
            self.count += 1;
            if self.count == 4 {
                out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                (self.bits, self.count) = (0, 0);
            }
        }
        Ok(())
    }

    /// The bytes of the last, padded group.
    ///
    /// # Errors
    /// A group that is cut off.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<()> {
        match (self.count, self.padding) {
            (0, 0) => {}
            (2, 2) => out.push((self.bits >> 4) as u8),
            (3, 1) => out.extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            _ => return Err(Error::usage("base64: the text is cut off")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        // RFC 4648, section 10.
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(encode(bytes.as_bytes()), text.as_bytes());
            let (mut decoder, mut out) = (Decoder::default(), Vec::new());
            for byte in text.bytes() {
                decoder.decode(&[byte, b'\n'], &mut out).unwrap();
            }
            decoder.finish(&mut out).unwrap();
            assert_eq!(out, bytes.as_bytes());
        }
        let decoded = |text: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.decode(text, &mut Vec::new())?;
            decoder.finish(&mut Vec::new())
        };
        for wrong in ["Z", "Zg", "Zg=", "Zg==Zg==", "Z!==", "===="] {
            assert!(decoded(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
