//! LZO1X, unpacked, and the frame that btrfs puts around it.
//!
//! Instructions: the kernel's documentation, "LZO stream format as understood by Linux' LZO decompressor". Frame: a total length, then
//! segments, each with its length in front; a length never crosses a sector. Each segment unpacks to one sector at most.

use crate::base::bytes::le32;

/// Unpacks what a file extent holds, up to `limit` bytes. `None` for what is no such stream.
pub fn unpack(data: &[u8], sector: usize, limit: usize) -> Option<Vec<u8>> {
    let total = (le32(data, 0) as usize).min(data.len());
    let mut out = Vec::with_capacity(limit);
    let mut at = 4;
    while at + 4 <= total && out.len() < limit {
        let left = sector - at % sector;
        if left < 4 {
            at += left;
            continue;
        }
        let len = le32(data, at) as usize;
        at += 4;
        segment(data.get(at..at.checked_add(len)?)?, &mut out, sector)?;
        at += len;
    }
    out.truncate(limit);
    Some(out)
}

/// Reads the bytes of a stream.
struct Input<'a> {
    data: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Option<usize> {
        let byte = *self.data.get(self.at)?;
        self.at += 1;
        Some(byte.into())
    }

    /// A length whose bits in the instruction were 0: zeros stand for 255 each.
    fn length(&mut self, base: usize) -> Option<usize> {
        let mut length = base;
        loop {
            match self.byte()? {
                0 => length = length.checked_add(255)?,
                byte => return length.checked_add(byte),
            }
        }
    }
}

/// Unpacks one segment behind `out`, by `most` bytes at most.
fn segment(data: &[u8], out: &mut Vec<u8>, most: usize) -> Option<()> {
    let start = out.len();
    let mut input = Input { data, at: 0 };
    let literals = |input: &mut Input<'_>, out: &mut Vec<u8>, count: usize| {
        let bytes = input.data.get(input.at..input.at.checked_add(count)?)?;
        input.at += count;
        (out.len() - start + count <= most).then(|| out.extend_from_slice(bytes))
    };
    // Literals that the last instruction copied: 0, 1 to 3, or 4 for more.
    let mut state = 0;
    if *data.first()? > 17 {
        let count = input.byte()? - 17;
        literals(&mut input, out, count)?;
        state = count.min(4);
    }
    loop {
        let code = input.byte()?;
        let (length, distance, after) = match code {
            0..16 if state == 0 => {
                let count = if code == 0 { input.length(18)? } else { code + 3 };
                literals(&mut input, out, count)?;
                state = 4;
                continue;
            }
            0..16 => {
                let high = input.byte()?;
                let near = (high << 2) + (code >> 2);
                match state {
                    4 => (3, near + 2049, code & 3),
                    _ => (2, near + 1, code & 3),
                }
            }
            16..32 => {
                let length = if code & 7 == 0 { input.length(9)? } else { (code & 7) + 2 };
                let (low, high) = (input.byte()?, input.byte()?);
                let distance = 16384 + ((code & 8) << 11) + (high << 6) + (low >> 2);
                if distance == 16384 {
                    return Some(());
                }
                (length, distance, low & 3)
            }
            32..64 => {
                let length = if code & 31 == 0 { input.length(33)? } else { (code & 31) + 2 };
                let (low, high) = (input.byte()?, input.byte()?);
                (length, (high << 6) + (low >> 2) + 1, low & 3)
            }
            _ => {
                let high = input.byte()?;
                let length = if code < 128 { 3 + (code >> 5 & 1) } else { 5 + (code >> 5 & 3) };
                (length, (high << 3) + (code >> 2 & 7) + 1, code & 3)
            }
        };
        let from = out.len().checked_sub(distance).filter(|from| *from >= start)?;
        if out.len() - start + length > most {
            return None;
        }
        for i in from..from + length {
            out.push(out[i]);
        }
        literals(&mut input, out, after)?;
        state = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_a_match() {
        // 17 + 4 literals, then the four bytes again (64..: length 3 or 4, distance 4), then the end.
        let stream = [21, b'a', b'b', b'c', b'd', 0b0110_1100, 0, 17, 0, 0];
        let mut framed = ((8 + stream.len()) as u32).to_le_bytes().to_vec();
        framed.extend((stream.len() as u32).to_le_bytes());
        framed.extend(stream);
        assert_eq!(unpack(&framed, 4096, 4096).unwrap(), b"abcdabcd");
        for end in 0..framed.len() {
            // A cut stream is an error or shorter, never a panic.
            assert!(unpack(&framed[..end], 4096, 4096).is_none_or(|out| out.len() <= 8));
        }
    }

    #[test]
    fn a_match_in_front_of_the_start_is_refused() {
        let stream = [18, b'a', 0b0100_1100, 9, 17, 0, 0];
        let mut framed = ((8 + stream.len()) as u32).to_le_bytes().to_vec();
        framed.extend((stream.len() as u32).to_le_bytes());
        framed.extend(stream);
        assert!(unpack(&framed, 4096, 4096).is_none());
    }
}
