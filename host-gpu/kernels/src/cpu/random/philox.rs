//! Philox 4x32-10, of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011: words
//! that look random, each block of four a function of its number and a key. Keeps no state.

use pulp::NullaryFnOnce;

use crate::cpu::vector;

/// Blocks that are made at a time, side by side.
pub(super) const BLOCKS: usize = 256;

/// The first word of each block, then the second of each, and so on.
pub(super) type Words = [[u32; BLOCKS]; 4];

/// The blocks of a key from a number on.
pub(super) fn blocks(key: u64, first: u128, words: &mut Words) {
    for place in 0..BLOCKS {
        let counter = first.wrapping_add(place as u128);
        for (number, words) in words.iter_mut().enumerate() {
            words[place] = (counter >> (32 * number)) as u32;
        }
    }
    vector::run(Rounds { key: [key as u32, (key >> 32) as u32], words });
}

struct Rounds<'a> {
    key: [u32; 2],
    words: &'a mut Words,
}

impl NullaryFnOnce for Rounds<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let [mut even, mut odd] = self.key;
        let [first, second, third, fourth] = self.words;
        for _ in 0..10 {
            for place in 0..BLOCKS {
                let left = u64::from(first[place]) * 0xd251_1f53;
                let right = u64::from(third[place]) * 0xcd9e_8d57;
                first[place] = (right >> 32) as u32 ^ second[place] ^ even;
                second[place] = right as u32;
                third[place] = (left >> 32) as u32 ^ fourth[place] ^ odd;
                fourth[place] = left as u32;
            }
            even = even.wrapping_add(0x9e37_79b9);
            odd = odd.wrapping_add(0xbb67_ae85);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of Random123's `kat_vectors`.
    #[test]
    fn words_are_those_of_the_reference() {
        let all = u64::MAX;
        let table = [
            (0, 0, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            (all, u128::MAX, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                0x299f_31d0_a409_3822,
                0x0370_7344_1319_8a2e_85a3_08d3_243f_6a88,
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        let mut words = [[0; BLOCKS]; 4];
        for (key, counter, expected) in table {
            blocks(key, counter, &mut words);
            assert_eq!(words.map(|words| words[0]), expected);
            blocks(key, counter.wrapping_sub(200), &mut words);
            assert_eq!(words.map(|words| words[200]), expected);
        }
    }
}
