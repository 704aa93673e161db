//! Arrivals by a random process of a given rate, from a seed: the same on every machine.

use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, Gamma};

/// Gaps between arrivals that follow a gamma distribution: with a coefficient of variation of 1
/// it is a Poisson process, above that it is burstier.
#[derive(Debug, Clone)]
pub struct Arrivals {
    random: Xoshiro256PlusPlus,
    gaps: Gamma<f64>,
    /// When the last one came, in s.
    last: f64,
}

impl Arrivals {
    /// So many arrivals per second, gaps of which vary so much; none unless both are positive.
    pub fn new(rate: f64, variation: f64, seed: u64) -> Option<Self> {
        let is_positive = |number: f64| number.is_finite() && number > 0.0;
        if !is_positive(rate) || !is_positive(variation) {
            return None;
        }
        let shape = 1.0 / (variation * variation);
        let gaps = Gamma::new(shape, 1.0 / (shape * rate)).ok()?;
        Some(Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), gaps, last: 0.0 })
    }

    /// The source of randomness, for whatever else is random of these arrivals.
    pub fn random(&mut self) -> &mut impl Rng {
        &mut self.random
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    /// When the next one comes, in µs. Never ends.
    fn next(&mut self) -> Option<u64> {
        self.last += self.gaps.sample(&mut self.random);
        Some((self.last * 1e6) as u64)
    }
}

/// Several streams of arrivals in the order of time, up to an end in µs: when, and the place of
/// the stream. At the same time the first stream comes first.
pub fn merged(streams: Vec<Arrivals>, end_us: u64) -> Vec<(u64, usize)> {
    let of_stream = |(place, stream): (usize, Arrivals)| {
        stream
            .take_while(|at_us| *at_us < end_us)
            .map(move |at_us| (at_us, place))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<_> = streams.into_iter().enumerate().flat_map(of_stream).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean rate per second and coefficient of variation of the gaps of the first 100,000.
    fn measured(rate: f64, variation: f64) -> (f64, f64) {
        let times: Vec<_> =
            Arrivals::new(rate, variation, 7).expect("a process").take(100_000).collect();
        let gaps: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let square = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (1.0 / mean, square.sqrt() / mean)
    }

    #[test]
    fn arrivals_have_the_rate_and_the_burstiness_that_were_asked_for() {
        for (rate, variation) in [(10.0, 1.0), (250.0, 4.0), (3.0, 0.25)] {
            let (found, varied) = measured(rate, variation);
            assert!((found / rate - 1.0).abs() < 0.05, "{found} of {rate} per second");
            assert!((varied / variation - 1.0).abs() < 0.05, "{varied} of {variation}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_arrivals_everywhere() {
        let first: Vec<_> = Arrivals::new(100.0, 1.0, 1).expect("a process").take(3).collect();
        let again: Vec<_> = Arrivals::new(100.0, 1.0, 1).expect("a process").take(3).collect();
        let other: Vec<_> = Arrivals::new(100.0, 1.0, 2).expect("a process").take(3).collect();
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    #[test]
    fn a_process_without_a_rate_is_none() {
        for (rate, variation) in
            [(0.0, 1.0), (-1.0, 1.0), (f64::NAN, 1.0), (1.0, f64::NAN), (1.0, 0.0)]
        {
            assert!(Arrivals::new(rate, variation, 1).is_none(), "{rate} {variation}");
        }
    }
}
