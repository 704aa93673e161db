//! Numbers that look random: what an element is follows from the seed and its place alone, not
//! from threads.

mod philox;

use half::{bf16, f16};
use pulp::NullaryFnOnce;

use super::{
    element::Element,
    float::Float,
    launch::{Launch, with_float},
    number::Number,
    vector,
};
use philox::{BLOCKS, Words};
use quern_operators::{Distribution, Random};

/// An element type that is made of random words.
trait Drawn: Element<Compute: Float> {
    /// Elements of a block of four words.
    const EACH: usize;

    /// Numbers from 0 to below 1, of the words of one block.
    fn uniform(words: [u32; 4]) -> [Self::Compute; 4];

    /// Pairs for normal numbers, of the words of one block: above 0 and at most 1, and from 0 to
    /// below 1.
    fn pairs(words: [u32; 4]) -> [(Self::Compute, Self::Compute); 2];
}

/// Of a type that takes one word for an element, of which so many bits are used.
macro_rules! of_a_word {
    ($($type:ty: $bits:literal;)*) => {$(
        impl Drawn for $type {
            const EACH: usize = 4;

            #[inline(always)]
            fn uniform(words: [u32; 4]) -> [f32; 4] {
                words.map(|word| (word >> (32 - $bits)) as f32 * (1.0 / (1u32 << $bits) as f32))
            }

            #[inline(always)]
            fn pairs([a, b, c, d]: [u32; 4]) -> [(f32, f32); 2] {
                const UNIT: f32 = 1.0 / (1u64 << 32) as f32;
                let share = |word: u32| word as f32 * UNIT + UNIT / 2.0;
                let turn = |word: u32| (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32);
                [(share(a), turn(b)), (share(c), turn(d))]
            }
        }
    )*};
}

of_a_word! {
    f32: 24;
    f16: 11;
    bf16: 8;
}

impl Drawn for f64 {
    const EACH: usize = 2;

    #[inline(always)]
    fn uniform([a, b, c, d]: [u32; 4]) -> [f64; 4] {
        [share(a, b), share(c, d), 0.0, 0.0]
    }

    #[inline(always)]
    fn pairs([a, b, c, d]: [u32; 4]) -> [(f64, f64); 2] {
        const HALF: f64 = 0.5 / (1u64 << 53) as f64;
        [(share(a, b) + HALF, share(c, d)), (1.0, 0.0)]
    }
}

/// Two words, the lower one first, as a number from 0 to below 1.
#[inline(always)]
fn share(low: u32, high: u32) -> f64 {
    let bits = u64::from(high) << 32 | u64::from(low);
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

pub(super) fn random(launch: &Launch, random: &Random, out: &mut [u8]) {
    with_float!(random.dtype, T => draw::<T>(launch, random, bytemuck::cast_slice_mut(out)));
}

fn draw<T: Drawn>(launch: &Launch, random: &Random, out: &mut [T]) {
    let length = BLOCKS * T::EACH;
    launch.threads.rows(out, length, 4, |start, chunk| {
        let mut words = [[0; BLOCKS]; 4];
        let mut numbers = vec![T::Compute::ZERO; length];
        for (number, out) in chunk.chunks_mut(length).enumerate() {
            let first = u128::from(random.offset) + ((start + number) * BLOCKS) as u128;
            philox::blocks(random.seed, first, &mut words);
            match random.distribution {
                Distribution::Uniform => uniform::<T>(&words, &mut numbers),
                Distribution::Normal => normal::<T>(&words, &mut numbers),
            }
            vector::convert(&numbers[..out.len()], out);
        }
    });
}

#[inline(always)]
fn block(words: &Words, place: usize) -> [u32; 4] {
    [words[0][place], words[1][place], words[2][place], words[3][place]]
}

fn uniform<T: Drawn>(words: &Words, numbers: &mut [T::Compute]) {
    for (place, numbers) in numbers.chunks_exact_mut(T::EACH).enumerate() {
        numbers.copy_from_slice(&T::uniform(block(words, place))[..T::EACH]);
    }
}

fn normal<T: Drawn>(words: &Words, numbers: &mut [T::Compute]) {
    vector::run(Normal::<T> { words, numbers });
}

struct Normal<'a, T: Drawn> {
    words: &'a Words,
    numbers: &'a mut [T::Compute],
}

impl<T: Drawn> NullaryFnOnce for Normal<'_, T> {
    type Output = ();

    /// By Box and Muller: a point of the plane, by how far away it is and in which direction.
    #[inline(always)]
    fn call(self) {
        let minus_two = T::Compute::of_f64(-2.0);
        let point = |(share, turn): (T::Compute, T::Compute)| {
            let radius = minus_two.mul(share.ln()).sqrt();
            let (cosine, sine) = turn.circle();
            [radius.mul(cosine), radius.mul(sine)]
        };
        for (place, numbers) in self.numbers.chunks_exact_mut(T::EACH).enumerate() {
            let pairs = T::pairs(block(self.words, place));
            for (numbers, pair) in numbers.chunks_exact_mut(2).zip(pairs) {
                numbers.copy_from_slice(&point(pair));
            }
        }
    }
}
