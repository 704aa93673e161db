//! Cases of random numbers, beside a Philox of one block at a time.

use super::{Host, Tolerance, Trial};
use quern_operators::{Distribution, Dtype, Kernel, Random, Shape};

pub(super) fn cases(trial: &mut Trial) {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for dims in [&[][..], &[7], &[0, 3], &[3, 1_031], &[100_001]] {
            for (seed, offset) in [(0, 0), (0x0123_4567_89ab_cdef, 5), (u64::MAX, u64::MAX - 2)] {
                for distribution in [Distribution::Uniform, Distribution::Normal] {
                    let shape = Shape::new(dims).expect("shapes of the suite are small");
                    random(trial, Random { distribution, dtype, shape, seed, offset });
                }
            }
        }
    }
}

fn random(trial: &mut Trial, random: Random) {
    let mut values = Vec::new();
    for block in 0..u128::from(random.blocks()) {
        let words = philox(random.seed, u128::from(random.offset) + block);
        match random.distribution {
            Distribution::Uniform => values.extend(uniform(random.dtype, words)),
            Distribution::Normal => values.extend(normal(random.dtype, words)),
        }
    }
    values.truncate(random.shape.elements() as usize);
    let within = match random.distribution {
        Distribution::Uniform => Tolerance::EXACT,
        Distribution::Normal => Tolerance::of_sum(random.dtype, 8.0),
    };
    let expected = Host::of(random.dtype, random.shape.dims(), values);
    trial.operator(Kernel::Random(random), &[], &expected, within);
}

fn philox(seed: u64, number: u128) -> [u32; 4] {
    let mut words = [0, 32, 64, 96].map(|shift| (number >> shift) as u32);
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let left = u64::from(words[0]) * 0xd251_1f53;
        let right = u64::from(words[2]) * 0xcd9e_8d57;
        words = [
            (right >> 32) as u32 ^ words[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ words[3] ^ key[1],
            left as u32,
        ];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    words
}

/// The highest bits of a word, or of two.
fn share(bits: u64, of: u32, kept: u32) -> f64 {
    (bits >> (of - kept)) as f64 / 2f64.powi(kept as i32)
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn uniform(dtype: Dtype, words: [u32; 4]) -> Vec<f64> {
    let kept = match dtype {
        Dtype::Fp16 => 11,
        Dtype::Bf16 => 8,
        Dtype::Fp32 => 24,
        _ => {
            let pairs = [pair(words[0], words[1]), pair(words[2], words[3])];
            return pairs.map(|bits| share(bits, 64, 53)).to_vec();
        }
    };
    words.map(|word| share(word.into(), 32, kept)).to_vec()
}

fn normal(dtype: Dtype, words: [u32; 4]) -> Vec<f64> {
    let [a, b, c, d] = words;
    let pairs = if dtype == Dtype::Fp64 {
        let share = |low, high| share(pair(low, high), 64, 53);
        vec![(share(a, b) + 2f64.powi(-54), share(c, d))]
    } else {
        // The distance is drawn in FP32: near 1 its rounding shows.
        let near = |word: u32| word as f32 * 2f32.powi(-32) + 2f32.powi(-33);
        vec![(near(a).into(), share(b.into(), 32, 24)), (near(c).into(), share(d.into(), 32, 24))]
    };
    let point = |(share, turn): (f64, f64)| {
        let (radius, angle) = ((-2.0 * share.ln()).sqrt(), turn * std::f64::consts::TAU);
        [radius * angle.cos(), radius * angle.sin()]
    };
    pairs.into_iter().flat_map(point).collect()
}
