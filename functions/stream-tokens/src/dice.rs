//! Draws by chance, as probabilities say.

/// Numbers that look random, and are the same for the same seed (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A place of the list, each as probable as its number says. A temperature below 1 makes
    /// probable ones more so, one above 1 less; at 0 the most probable one is certain.
    pub(crate) fn draw(&mut self, probabilities: &[f32], temperature: f32) -> usize {
        let most = probabilities.iter().copied().fold(0.0, f32::max);
        // In relation to the largest, so that none is so small that all become zero.
        let weights: Vec<f32> = probabilities
            .iter()
            .map(|probability| match temperature {
                0.0 => f32::from(*probability == most),
                _ => (probability / most).powf(1.0 / temperature),
            })
            .collect();
        let mut left = self.roll() * weights.iter().sum::<f32>();
        for (place, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return place;
            }
        }
        // Sums round: then it is the last one that could be.
        weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
    }

    /// From 0 up to, but not including, 1.
    fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each place is drawn of 10,000 times.
    fn drawn(probabilities: &[f32], temperature: f32) -> Vec<usize> {
        let (mut dice, mut counts) = (Dice::new(7), vec![0; probabilities.len()]);
        for _ in 0..10_000 {
            counts[dice.draw(probabilities, temperature)] += 1;
        }
        counts
    }

    #[test]
    fn places_are_drawn_as_often_as_they_are_probable() {
        let counts = drawn(&[0.2, 0.0, 0.8], 1.0);
        assert_eq!(counts[1], 0);
        assert!((1_800..2_200).contains(&counts[0]), "{counts:?}");
        // Squared, and divided by their sum: 1 to 16.
        let counts = drawn(&[0.2, 0.0, 0.8], 0.5);
        assert!((490..690).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn without_temperature_the_most_probable_one_is_certain() {
        assert_eq!(drawn(&[0.3, 0.4, 0.3], 0.0), [0, 10_000, 0]);
        assert_eq!(drawn(&[0.3, 0.4, 0.3], 0.001), [0, 10_000, 0]);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            [dice.roll(), dice.roll(), dice.roll()]
        };
        assert_eq!(rolls(1), rolls(1));
        assert_ne!(rolls(1), rolls(2));
    }
}
