//! The front of a block of LZ4. Format: the project's `lz4_Block_format.md`. Whole blocks are for the crate.

/// A length whose four bits in the token were all ones: more bytes follow, the last of them is not 255.
fn length(packed: &mut &[u8], bits: usize) -> Option<usize> {
    let mut length = bits;
    while length >= 15 {
        let (byte, rest) = packed.split_first()?;
        *packed = rest;
        length = length.checked_add(usize::from(*byte))?;
        if *byte != 255 {
            break;
        }
    }
    Some(length)
}

/// Fills `plain` with what a block begins with. `None` for what is no such block, or shorter.
pub(super) fn unpack_front(mut packed: &[u8], plain: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while at < plain.len() {
        let (token, rest) = packed.split_first()?;
        packed = rest;
        let literals = length(&mut packed, usize::from(token >> 4))?;
        let wanted = literals.min(plain.len() - at);
        plain[at..at + wanted].copy_from_slice(packed.get(..wanted)?);
        at += wanted;
        if at == plain.len() {
            break;
        }
        let (distance, rest) = packed.get(literals..)?.split_first_chunk()?;
        packed = rest;
        let back = usize::from(u16::from_le_bytes(*distance));
        let copied = length(&mut packed, usize::from(token & 15))?.checked_add(4)?.min(plain.len() - at);
        let from = at.checked_sub(back).filter(|_| back > 0)?;
        for place in from..from + copied {
            plain[place + back] = plain[place];
        }
        at += copied;
    }
    Some(())
}
