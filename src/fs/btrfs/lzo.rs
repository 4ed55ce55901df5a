//! The frame that btrfs puts around LZO streams: a total length, then segments, each with its length in front; a length never
//! crosses a sector. Each segment unpacks to one sector at most.

use crate::base::bytes::le32;
use crate::fs::unpack::lzo;

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
        lzo(data.get(at..at.checked_add(len)?)?, &mut out, sector)?;
        at += len;
    }
    out.truncate(limit);
    Some(out)
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
