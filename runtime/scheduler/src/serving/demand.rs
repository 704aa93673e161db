//! How often a model is called: what arrived lately, the less the longer ago it was.

/// The count halves in this many times of what loading the model takes: what matters is whether it
/// will be called before it could be loaded again.
const LOADS_PER_HALF_LIFE: u64 = 2;
/// Bounds of the half-life, in µs.
const HALF_LIFE_US: [u64; 2] = [100_000, 60_000_000];
/// What an arrival counts for.
const ONE: u64 = 1 << 20;

/// Arrivals, weighed by how long ago they were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    half_life_us: u64,
    count: u64,
    last_us: u64,
}

impl Demand {
    /// Of a model that was not called yet, and takes so long to load.
    pub(super) fn new(load_us: u64) -> Self {
        let [least_us, most_us] = HALF_LIFE_US;
        let half_life_us = load_us.saturating_mul(LOADS_PER_HALF_LIFE).clamp(least_us, most_us);
        Self { half_life_us, count: 0, last_us: 0 }
    }

    pub(super) fn record(&mut self, now_us: u64) {
        self.count = self.at(now_us).saturating_add(ONE);
        self.last_us = now_us;
    }

    /// What has arrived lately; only to be compared with others.
    pub(super) fn at(&self, now_us: u64) -> u64 {
        let passed_us = now_us.saturating_sub(self.last_us);
        let halves = passed_us / self.half_life_us;
        let halved =
            u32::try_from(halves).map_or(0, |halves| self.count.checked_shr(halves).unwrap_or(0));
        // Between two halvings a straight line is close enough.
        let part_us = u128::from(passed_us % self.half_life_us);
        let less = u128::from(halved / 2) * part_us / u128::from(self.half_life_us);
        halved - u64::try_from(less).unwrap_or(halved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_long_ago_counts_for_little() {
        let mut demand = Demand::new(500_000);
        assert_eq!(demand.at(0), 0);
        (0..4).for_each(|_| demand.record(1_000_000));
        let cases =
            [(1_000_000, 4 * ONE), (1_500_000, 3 * ONE), (2_000_000, 2 * ONE), (3_000_000, ONE)];
        for (now_us, expected) in cases {
            assert_eq!(demand.at(now_us), expected, "at {now_us}");
        }
        assert_eq!(demand.at(0), 4 * ONE, "a clock that was set back");
        assert_eq!(demand.at(u64::MAX), 0);
    }

    #[test]
    fn the_half_life_has_bounds() {
        for load_us in [0, u64::MAX] {
            let mut demand = Demand::new(load_us);
            demand.record(0);
            assert!(demand.at(50_000) < ONE || load_us > 0);
            assert!(demand.at(60_000_000) <= ONE / 2);
        }
    }
}
