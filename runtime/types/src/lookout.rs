//! How long to look out for something before sleeping until it comes. A judgement alone: whoever
//! looks has the clock.

use std::time::Duration;

/// Looking out for what mostly comes soon. To sleep and be woken up takes 20 to 50 µs on a virtual
/// machine with idle cores, so that looking pays where as much passes between two arrivals, and
/// costs processor time for nothing where more does.
#[derive(Debug, Clone)]
pub struct Lookout {
    recent: Duration,
}

impl Lookout {
    /// Longest time to look.
    pub const MOST: Duration = Duration::from_micros(100);
    /// What longer gaps count as, and what the first one is taken to have been.
    const LONG: Duration = Duration::from_millis(1);

    /// For how long to look this time: not at all unless the recent gaps were short, all of them.
    pub fn patience(&self) -> Duration {
        if self.recent <= Self::MOST { Self::MOST } else { Duration::ZERO }
    }

    /// Takes note of how long it took to come.
    pub fn came_after(&mut self, gap: Duration) {
        self.recent = (self.recent * 3 + gap.min(Self::LONG)) / 4;
    }
}

impl Default for Lookout {
    fn default() -> Self {
        Self { recent: Self::LONG }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(50);

    #[test]
    fn looking_begins_after_some_short_gaps_and_ends_with_a_long_one() {
        let mut lookout = Lookout::default();
        for (short, looks) in [(0, false), (9, false), (5, true), (1_000, true)] {
            (0..short).for_each(|_| lookout.came_after(SHORT));
            assert_eq!(!lookout.patience().is_zero(), looks, "after {short} more");
        }
        lookout.came_after(Duration::from_secs(3_600));
        for (short, looks) in [(0, false), (3, false), (5, true)] {
            (0..short).for_each(|_| lookout.came_after(SHORT));
            assert_eq!(!lookout.patience().is_zero(), looks, "after {short} more");
        }
    }

    #[test]
    fn gaps_that_are_a_little_too_long_are_never_waited_for() {
        let mut lookout = Lookout::default();
        (0..1_000).for_each(|_| lookout.came_after(Lookout::MOST + SHORT));
        assert!(lookout.patience().is_zero());
    }
}
