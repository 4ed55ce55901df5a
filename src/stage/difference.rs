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
        let mut runs = [0; LIMIT];
        let mut used = 0;
        let mut from = next_difference(old, new, 0);
        while let Some(start) = from {
            let mut end = start + 1;
            from = next_difference(old, new, end);
            while let Some(next) = from.filter(|next| next - end <= GAP) {
                end = next + 1;
                from = next_difference(old, new, end);
            }
            let run = runs.get_mut(used..used + 4 + end - start)?;
            let (head, bytes) = run.split_at_mut(4);
            // Both fit: a page has 4096 bytes.
            head[..2].copy_from_slice(&((at + start) as u16).to_le_bytes());
            head[2..].copy_from_slice(&((end - start) as u16).to_le_bytes());
            bytes.copy_from_slice(&old[start..end]);
            used += run.len();
        }
        Some(Difference(runs[..used].into()))
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

/// Bytes that are compared at once.
const WIDE: usize = 64;

/// Whether all bytes are the same; without a way out on the first that is not, so that it becomes a few wide instructions.
fn equal(old: &[u8; WIDE], new: &[u8; WIDE]) -> bool {
    let words = old.as_chunks::<8>().0.iter().zip(new.as_chunks::<8>().0);
    words.fold(0, |differ, (a, b)| differ | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b))) == 0
}

/// The first place from `from` on where the two differ.
fn next_difference(old: &[u8], new: &[u8], from: usize) -> Option<usize> {
    let (old, new) = (old.get(from..)?, new.get(from..)?);
    let (old_wide, new_wide) = (old.as_chunks::<WIDE>().0, new.as_chunks::<WIDE>().0);
    let same = old_wide.iter().zip(new_wide).take_while(|(a, b)| equal(a, b)).count() * WIDE;
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
