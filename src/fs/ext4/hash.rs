//! The hashes that order an indexed directory (kernel documentation, "Hash Tree Directories").
//!
//! Half-MD4 is three shortened rounds of MD4 (RFC 1320) over eight words; TEA is the Tiny Encryption Algorithm
//! (Wheeler and Needham, 1994) over four words. Both take the name piece by piece, filled up with its length.
//! Names count as signed or unsigned characters, as the machine that made the file system had them.

/// Version numbers as a superblock or an index root has them; from [`UNSIGNED`] on they repeat.
const LEGACY: u8 = 0;
const HALF_MD4: u8 = 1;
const TEA: u8 = 2;
const UNSIGNED: u8 = 3;

/// The largest hash marks the end of a directory; a name that hashes to it takes the one before.
const END_OF_DIRECTORY: u32 = 0xffff_fffe;

/// The state that MD4 starts from (RFC 1320, 3.3), used when the superblock has no seed.
const MD4_START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The hash of a name and its minor hash, or `None` for a version that is not known (6 is SipHash, which only
/// encrypted case-folded directories use). The hash has its lowest bit clear: an index marks continuations there.
///
/// `seed` is the superblock's, as four little-endian words.
pub fn dir_hash(version: u8, seed: &[u32; 4], name: &[u8]) -> Option<(u32, u32)> {
    let unsigned = version >= UNSIGNED;
    let mut state = if *seed == [0; 4] { MD4_START } else { *seed };
    let (hash, minor) = match if unsigned { version - UNSIGNED } else { version } {
        LEGACY => (legacy(name, unsigned), 0),
        HALF_MD4 => {
            for at in (0..name.len()).step_by(32) {
                half_md4(&mut state, &words(&name[at..], unsigned));
            }
            (state[1], state[2])
        }
        TEA => {
            for at in (0..name.len()).step_by(16) {
                tea(&mut state, &words(&name[at..], unsigned));
            }
            (state[0], state[1])
        }
        _ => return None,
    };
    let hash = hash & !1;
    Some((if hash == END_OF_DIRECTORY { END_OF_DIRECTORY - 2 } else { hash }, minor))
}

/// A character as C's `char` widens it.
fn widen(c: u8, unsigned: bool) -> u32 {
    if unsigned { u32::from(c) } else { i32::from(c.cast_signed()).cast_unsigned() }
}

/// The first `4 * N` characters of `rest` as big-endian words, where a character adds to what is shifted up (so a
/// negative one borrows from those before it). Every word starts as the length of `rest`, four times in a word, so
/// that is what fills the end.
fn words<const N: usize>(rest: &[u8], unsigned: bool) -> [u32; N] {
    let fill = (rest.len() as u32).wrapping_mul(0x0101_0101);
    let mut pieces = rest.chunks(4);
    std::array::from_fn(|_| {
        let piece = pieces.next().unwrap_or_default();
        piece.iter().fold(fill, |word, c| (word << 8).wrapping_add(widen(*c, unsigned)))
    })
}

/// The hash of the first indexed directories.
fn legacy(name: &[u8], unsigned: bool) -> u32 {
    let (mut before, mut last) = (0x37ab_e8f9_u32, 0x12a3_fe2d_u32);
    for c in name {
        let mixed = last ^ widen(*c, unsigned).wrapping_mul(7_152_373);
        let mut next = before.wrapping_add(mixed);
        if next & 0x8000_0000 != 0 {
            next = next.wrapping_sub(0x7fff_ffff);
        }
        (before, last) = (last, next);
    }
    last << 1
}

/// The order of the eight words and the turns of each round; the turns repeat every four steps.
const ROUNDS: [([usize; 8], [u32; 4]); 3] = [
    ([0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
    ([1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
    ([3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
];

/// The constants that RFC 1320 adds in each round: 0, and the roots of 2 and 3.
const ROUND_ADD: [u32; 3] = [0, 0x5a82_7999, 0x6ed9_eba1];

/// Mixes eight words into the state.
fn half_md4(state: &mut [u32; 4], input: &[u32; 8]) {
    let [mut a, mut b, mut c, mut d] = *state;
    for (round, (order, turns)) in ROUNDS.iter().enumerate() {
        for (step, word) in order.iter().enumerate() {
            let mixed = match round {
                0 => (b & c) | (!b & d),
                1 => (b & c) | (b & d) | (c & d),
                _ => b ^ c ^ d,
            };
            let sum = a.wrapping_add(mixed).wrapping_add(input[*word]).wrapping_add(ROUND_ADD[round]);
            // The four words change roles after each step instead of being written out.
            (a, b, c, d) = (d, sum.rotate_left(turns[step % 4]), b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

/// Encrypts the first two words of the state with the input as the key, 16 cycles, and adds the result.
fn tea(state: &mut [u32; 4], key: &[u32; 4]) {
    let (mut y, mut z, mut sum) = (state[0], state[1], 0_u32);
    let mix = |v: u32, sum: u32, k0: u32, k1: u32| {
        (v << 4).wrapping_add(k0) ^ v.wrapping_add(sum) ^ (v >> 5).wrapping_add(k1)
    };
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        y = y.wrapping_add(mix(z, sum, key[0], key[1]));
        z = z.wrapping_add(mix(y, sum, key[2], key[3]));
    }
    state[0] = state[0].wrapping_add(y);
    state[1] = state[1].wrapping_add(z);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of `debugfs -R 'dx_hash -h VERSION -s 0f0e0d0c-0b0a-0908-0706-050403020100 NAME'`, e2fsprogs 1.47.0.
    #[test]
    fn vectors_of_debugfs() {
        let seed = [0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203];
        let long = b"abcdefghij".repeat(25);
        let high = b"n\xc3\xa4me-\xff\x80-\xe2\x82\xac-longer-than-sixteen-and-thirty-two-\xf0\x9f\x98\x80-end";
        let names: [&[u8]; 3] = [b"hello", &long, high];
        let want = [
            [(0x3225_2546, 0), (0xbda8_1128, 0), (0xef61_f6ee, 0)],
            [(0x7d3e_0b98, 0xfce1_6d2f), (0x8410_c638, 0xcf1c_cb7a), (0x415e_b7da, 0x4034_d5da)],
            [(0x2265_c9fe, 0x5a6a_2692), (0x582a_9cfc, 0xeda0_86a5), (0xdd6c_ad0a, 0xcec2_31ab)],
            [(0x3225_2546, 0), (0xbda8_1128, 0), (0x9023_b688, 0)],
            [(0x7d3e_0b98, 0xfce1_6d2f), (0x8410_c638, 0xcf1c_cb7a), (0xa971_f7ca, 0x77e5_4229)],
            [(0x2265_c9fe, 0x5a6a_2692), (0x582a_9cfc, 0xeda0_86a5), (0xffec_c33a, 0x1277_11e4)],
        ];
        for (version, row) in want.iter().enumerate() {
            let found = names.map(|name| dir_hash(version as u8, &seed, name).unwrap());
            assert_eq!(found, *row, "version {version}");
        }
        assert_eq!(dir_hash(1, &[0; 4], b"hello"), Some((0x1746_da32, 0x4200_13b5)));
        assert_eq!(dir_hash(6, &seed, b"hello"), None);
        assert_eq!(dir_hash(255, &seed, b""), None);
    }
}
