//! One bit for every cluster.

/// A set of numbers below a fixed length.
#[derive(Debug, Clone, Default)]
pub struct Bits {
    words: Vec<u64>,
    count: u32,
}

impl Bits {
    /// An empty set of numbers `0..len`.
    pub fn new(len: u32) -> Self {
        Bits { words: vec![0; (len as usize).div_ceil(64)], count: 0 }
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether a number is in the set.
    pub fn has(&self, number: u32) -> bool {
        self.words.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Puts a number in; what is past the end stays out.
    pub fn insert(&mut self, number: u32) {
        if !self.has(number)
            && let Some(word) = self.words.get_mut(number as usize / 64)
        {
            *word |= 1 << (number % 64);
            self.count += 1;
        }
    }

    /// Takes a number out.
    pub fn remove(&mut self, number: u32) {
        if self.has(number)
            && let Some(word) = self.words.get_mut(number as usize / 64)
        {
            *word &= !(1 << (number % 64));
            self.count -= 1;
        }
    }

    /// The first run in the set at or after `from`: start and length, the length at most `most`.
    pub fn run(&self, from: u32, most: u32) -> Option<(u32, u32)> {
        let mut index = from as usize / 64;
        let mut word = self.words.get(index)? & (u64::MAX << (from % 64));
        while word == 0 {
            index += 1;
            word = *self.words.get(index)?;
        }
        let start = index as u32 * 64 + word.trailing_zeros();
        let mut end = start;
        while end - start < most {
            let Some(word) = self.words.get(end as usize / 64) else { break };
            let ones = (word >> (end % 64)).trailing_ones();
            end += ones;
            if ones == 0 || !end.is_multiple_of(64) {
                break;
            }
        }
        Some((start, (end - start).min(most)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs() {
        let mut bits = Bits::new(300);
        for n in (5..10).chain(60..200).chain([299]) {
            bits.insert(n);
        }
        bits.insert(5);
        bits.remove(7);
        bits.insert(1000);
        assert_eq!(bits.count(), 145);
        assert_eq!(bits.run(0, 99), Some((5, 2)));
        assert_eq!(bits.run(9, 99), Some((9, 1)));
        assert_eq!(bits.run(10, 99), Some((60, 99)));
        assert_eq!(bits.run(10, 1000), Some((60, 140)));
        assert_eq!(bits.run(63, 1000), Some((63, 137)));
        assert_eq!(bits.run(200, 5), Some((299, 1)));
        assert_eq!(bits.run(300, 5), None);
        assert_eq!(bits.run(u32::MAX, 5), None);
    }
}
