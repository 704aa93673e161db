//! How long batches take, as measured: a moving average for each size class. Never a model or a
//! guess of what was not measured.

/// The newest measurement counts for one part in this many.
const WEIGHT: u64 = 8;
/// Classes of a `u32`: 1, 2, 4, …, 2^32.
const CLASSES: usize = 33;

/// Measured time of a batch by its number of rows. Sizes share a class up to the next power of
/// two: 1, 2, 3–4, 5–8, ….
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyProfile {
    /// [`WEIGHT`] times the average, so that integer division loses nothing that adds up.
    scaled_us: [Option<u64>; CLASSES],
}

impl Default for LatencyProfile {
    fn default() -> Self {
        Self { scaled_us: [None; CLASSES] }
    }
}

impl LatencyProfile {
    /// The average time of batches of about this many rows, in µs; none if there was no such
    /// batch yet.
    pub fn average_us(&self, rows: u32) -> Option<u64> {
        self.scaled_us[class(rows)].map(|scaled| scaled / WEIGHT)
    }

    pub(crate) fn record(&mut self, rows: u32, compute_us: u64) {
        let scaled = &mut self.scaled_us[class(rows)];
        *scaled = Some(match *scaled {
            None => compute_us.saturating_mul(WEIGHT),
            Some(before) => (before - before / WEIGHT).saturating_add(compute_us),
        });
    }
}

fn class(rows: u32) -> usize {
    let above = rows.max(1) - 1;
    (u32::BITS - above.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_share_a_class_up_to_the_next_power_of_two() {
        let cases = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (64, 6), (65, 7)];
        for (rows, expected) in cases {
            assert_eq!(class(rows), expected, "{rows} rows");
        }
        assert_eq!(class(u32::MAX), CLASSES - 1);
    }

    #[test]
    fn the_average_starts_at_the_first_measurement_and_follows_later_ones() {
        let mut profile = LatencyProfile::default();
        assert_eq!(profile.average_us(4), None);
        profile.record(4, 100);
        assert_eq!(profile.average_us(3), Some(100));
        assert_eq!(profile.average_us(1), None);
        profile.record(4, 180);
        assert_eq!(profile.average_us(4), Some(110));
        for _ in 0..200 {
            profile.record(4, 183);
        }
        assert!(profile.average_us(4).is_some_and(|average| (182..=183).contains(&average)));
    }

    #[test]
    fn absurd_measurements_do_not_overflow() {
        let mut profile = LatencyProfile::default();
        profile.record(1, u64::MAX);
        profile.record(1, u64::MAX);
        assert!(profile.average_us(1).is_some());
    }
}
