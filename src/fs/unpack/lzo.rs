//! LZO1X, unpacked. Instructions: the kernel's documentation, "LZO stream format as understood by Linux' LZO decompressor".

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

/// Unpacks one stream of LZO1X behind `out`, by `most` bytes at most. `None` for what is no such stream.
pub(super) fn unpack(data: &[u8], out: &mut Vec<u8>, most: usize) -> Option<()> {
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
