//! How long a model's next run may take, judged by its recent ones. Never measures anything
//! itself.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Handing a run to a thread and waking up the caller took 15 to 70 µs where it was measured,
/// about what a small model computes; a run on the spot costs 1 to 6 µs above the engine's time.
/// Runs this short stay on the thread that asks: they block it for less than a request's own work
/// does. All others go to a lane, so that requests are served meanwhile.
pub(crate) const SHORT: Duration = Duration::from_micros(200);

/// Time and input of recent runs, later ones weighing more. Runs of different lanes may overwrite
/// each other's: either value is as good.
#[derive(Default)]
pub(crate) struct Pace {
    recent_ns: AtomicU64,
    /// Never 0 once a run was measured.
    recent_bytes: AtomicU64,
}

impl Pace {
    /// What a run with so many bytes of input will take: as long as recent ones, and in proportion
    /// longer if it has more input. Nothing before the first run.
    pub(crate) fn predicted(&self, bytes: u64) -> Option<Duration> {
        let recent_bytes = self.recent_bytes.load(Ordering::Relaxed);
        let recent_ns = self.recent_ns.load(Ordering::Relaxed);
        let known = recent_bytes > 0;
        let longer = bytes.max(recent_bytes) as f64 / recent_bytes as f64;
        known.then(|| Duration::from_nanos((recent_ns as f64 * longer) as u64))
    }

    /// Takes note of a run.
    pub(crate) fn measured(&self, bytes: u64, compute: Duration) {
        let first = self.recent_bytes.load(Ordering::Relaxed) == 0;
        let update = |recent: &AtomicU64, now: u64| {
            let before = if first { now } else { recent.load(Ordering::Relaxed) };
            recent.store(before - before / 4 + now / 4, Ordering::Relaxed);
        };
        update(&self.recent_ns, u64::try_from(compute.as_nanos()).unwrap_or(u64::MAX));
        // At least what survives the division by four.
        update(&self.recent_bytes, bytes.max(4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn nothing_is_known_before_the_first_run() {
        let pace = Pace::default();
        assert_eq!(pace.predicted(1), None);
        pace.measured(0, 10 * US);
        assert_eq!(pace.predicted(0), Some(10 * US));
    }

    #[test]
    fn more_input_takes_longer_and_less_takes_no_shorter() {
        let pace = Pace::default();
        pace.measured(1000, 20 * US);
        let cases = [(1000, 20), (10, 20), (0, 20), (2000, 40), (64_000, 1280)];
        for (bytes, expected) in cases {
            assert_eq!(pace.predicted(bytes), Some(expected * US), "{bytes} bytes");
        }
    }

    #[test]
    fn later_runs_outweigh_earlier_ones() {
        let pace = Pace::default();
        pace.measured(1000, 4000 * US);
        for _ in 0..20 {
            pace.measured(1000, 20 * US);
        }
        let predicted = pace.predicted(1000).expect("it ran");
        assert!((20 * US..50 * US).contains(&predicted), "{predicted:?}");
    }
}
