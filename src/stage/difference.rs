//! What a small change of a page replaced: the bytes that differ, so that undoing 50,000 small commands costs what they
//! changed, not 50,000 times the blocks that they wrote again.

use super::pages::PAGE;

/// A difference of more bytes than this is better kept as a whole page, which can be spilled.
const LIMIT: usize = PAGE / 8;

/// Equal bytes between two differences that are not worth a run of their own.
const GAP: usize = 8;

/// Bytes to put back into one page: runs of a place (u16), a length (u16) and the old bytes.
pub(super) struct Difference(Box<[u8]>);

impl Difference {
    /// What `old` has where `new` differs; `at` is their place in the page. `None` if it is more than the limit.
    pub(super) fn between(old: &[u8], new: &[u8], at: usize) -> Option<Self> {
        let mut runs = Vec::new();
        let mut from = next_difference(old, new, 0);
        while let Some(start) = from {
            let mut end = start + 1;
            from = next_difference(old, new, end);
            while let Some(next) = from.filter(|next| next - end <= GAP) {
                end = next + 1;
                from = next_difference(old, new, end);
            }
            // Both fit: a page has 4096 bytes.
            runs.extend_from_slice(&((at + start) as u16).to_le_bytes());
            runs.extend_from_slice(&((end - start) as u16).to_le_bytes());
            runs.extend_from_slice(&old[start..end]);
            if runs.len() > LIMIT {
                return None;
            }
        }
        Some(Difference(runs.into_boxed_slice()))
    }

    /// Whether nothing differs.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The runs: place in the page, old bytes.
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_first_chunk::<4>()?;
            let (bytes, after) = tail.split_at_checked(usize::from(u16::from_le_bytes([head[2], head[3]])))?;
            rest = after;
            Some((usize::from(u16::from_le_bytes([head[0], head[1]])), bytes))
        })
    }
}

/// The first place from `from` on where the two differ.
fn next_difference(old: &[u8], new: &[u8], from: usize) -> Option<usize> {
    const WIDE: usize = 32;
    let (old, new) = (old.get(from..)?, new.get(from..)?);
    let same = old.chunks_exact(WIDE).zip(new.chunks_exact(WIDE)).take_while(|(a, b)| a == b).count() * WIDE;
    let found = old[same..].iter().zip(&new[same..]).position(|(a, b)| a != b)?;
    Some(from + same + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_back_exactly_what_differed() {
        let old: Vec<u8> = (0..PAGE).map(|i| (i * 7) as u8).collect();
        let mut new = old.clone();
        for at in [0, 1, 9, 100, 2000, 2005, PAGE - 1] {
            new[at] ^= 0x55;
        }
        let difference = Difference::between(&old, &new, 0).unwrap();
        let places: Vec<usize> = difference.runs().map(|(at, _)| at).collect();
        assert_eq!(places, [0, 100, 2000, PAGE - 1], "near differences are one run");
        difference.runs().for_each(|(at, bytes)| new[at..at + bytes.len()].copy_from_slice(bytes));
        assert_eq!(new, old);
    }

    #[test]
    fn a_part_of_a_page_keeps_its_place_and_equal_bytes_are_nothing() {
        let difference = Difference::between(b"abcd", b"abXd", 4092).unwrap();
        assert_eq!(difference.runs().collect::<Vec<_>>(), [(4094, &b"c"[..])]);
        assert!(Difference::between(&[7; PAGE], &[7; PAGE], 0).unwrap().is_empty());
    }

    #[test]
    fn a_page_that_is_all_new_is_kept_whole() {
        assert!(Difference::between(&[0; PAGE], &[1; PAGE], 0).is_none());
    }
}
