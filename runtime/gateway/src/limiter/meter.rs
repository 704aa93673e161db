//! One rate and what was taken of it, in one number. Is handed the time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How often, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    interval_ns: u64,
    /// How far ahead of an even flow the next one may be.
    slack_ns: u64,
}

impl Rate {
    /// So many a second; after a rest so many at once. Zeros count as one.
    pub(crate) const fn new(per_second: u32, burst: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second };
        let interval_ns = 1_000_000_000 / per_second as u64;
        Self { interval_ns, slack_ns: interval_ns * burst.saturating_sub(1) as u64 }
    }
}

/// What was taken of a rate.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When the next one is due, if all came evenly.
    due_ns: AtomicU64,
}

impl Meter {
    /// Takes one; the error is how long to wait for the next.
    pub(crate) fn take(&self, now_ns: u64, rate: Rate) -> Result<(), Duration> {
        let Rate { interval_ns, slack_ns } = rate;
        let mut due = self.due_ns.load(Ordering::Relaxed);
        loop {
            // Of another rate, which may have been slower, no more counts than this one can owe.
            let ahead = due.saturating_sub(now_ns).min(slack_ns + interval_ns);
            if ahead > slack_ns {
                return Err(Duration::from_nanos(ahead - slack_ns));
            }
            let next = now_ns + ahead + interval_ns;
            match self.due_ns.compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(changed) => due = changed,
            }
        }
    }

    /// Whether it is as if nothing had ever been taken.
    pub(crate) fn is_idle(&self, now_ns: u64) -> bool {
        self.due_ns.load(Ordering::Relaxed) <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How many are taken at a moment.
    fn taken(meter: &Meter, now_ns: u64, rate: Rate) -> usize {
        (0..1_000).take_while(|_| meter.take(now_ns, rate).is_ok()).count()
    }

    #[test]
    fn a_burst_comes_at_once_and_the_rest_evenly() {
        let (meter, rate) = (Meter::default(), Rate::new(10, 5));
        assert_eq!(taken(&meter, SECOND, rate), 5);
        assert_eq!(meter.take(SECOND, rate), Err(Duration::from_millis(100)));
        assert_eq!(taken(&meter, SECOND + SECOND / 10, rate), 1);
        assert_eq!(taken(&meter, SECOND + SECOND / 4, rate), 1);
        assert_eq!(meter.take(SECOND + SECOND / 4, rate), Err(Duration::from_millis(50)));
        assert!(!meter.is_idle(SECOND + SECOND / 4));
        assert!(meter.is_idle(9 * SECOND));
        assert_eq!(taken(&meter, 9 * SECOND, rate), 5, "no more than a burst is saved");
    }

    #[test]
    fn the_long_run_has_the_rate() {
        let (meter, rate) = (Meter::default(), Rate::new(100, 1));
        let taken = (0..10_000).filter(|ms| meter.take(ms * SECOND / 1_000, rate).is_ok()).count();
        assert_eq!(taken, 1_000);
    }

    #[test]
    fn another_rate_counts_at_once() {
        let (meter, slow) = (Meter::default(), Rate::new(1, 1_000));
        assert_eq!(taken(&meter, 0, slow), 1_000);
        let fast = Rate::new(1_000, 1);
        assert_eq!(meter.take(0, fast), Err(Duration::from_millis(1)));
        assert!(meter.take(SECOND / 1_000 + 1_000 * SECOND, fast).is_ok());
    }

    #[test]
    fn nobody_gets_more_when_many_take_at_once() {
        let (meter, rate) = (Meter::default(), Rate::new(1, 64));
        let taken = std::thread::scope(|scope| {
            let take = || taken(&meter, 0, rate);
            let threads = [(); 4].map(|()| scope.spawn(take));
            threads.into_iter().map(|thread| thread.join().expect("takes")).sum::<usize>()
        });
        assert_eq!(taken, 64);
    }
}
