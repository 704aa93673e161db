//! Pauses between tries: exponential, with full jitter, so that calls that failed together don't
//! come back together. It takes its randomness as an argument.

use std::time::Duration;

/// Bounds of a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The longest one after the first try; it doubles with each further one.
    pub(crate) first: Duration,
    /// The longest one of all.
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The longest pause after so many tries.
    pub(crate) fn ceiling(self, tries: u32) -> Duration {
        let doubled = 2_u32.checked_pow(tries.saturating_sub(1));
        let pause = doubled.and_then(|factor| self.first.checked_mul(factor));
        pause.map_or(self.longest, |pause| pause.min(self.longest))
    }

    /// A pause after so many tries: between nothing and its ceiling, evenly, as `random` says.
    pub(crate) fn pause(self, tries: u32, random: u64) -> Duration {
        let nanoseconds = self.ceiling(tries).as_nanos();
        // The upper half of a product of 128 bits; pauses are shorter than 2^64 ns.
        let part = (nanoseconds.min(u64::MAX.into()) * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(300) };

    #[test]
    fn ceilings_double_until_the_longest() {
        let cases =
            [(0, 1), (1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (33, 300), (u32::MAX, 300)];
        for (tries, seconds) in cases {
            assert_eq!(BACKOFF.ceiling(tries), Duration::from_secs(seconds), "{tries}");
        }
    }

    #[test]
    fn the_jitter_is_full() {
        assert_eq!(BACKOFF.pause(3, 0), Duration::ZERO);
        assert_eq!(BACKOFF.pause(3, 1 << 63), Duration::from_secs(2));
        assert!(BACKOFF.pause(3, u64::MAX) > Duration::from_micros(3_999_999));
    }

    proptest! {
        #[test]
        fn no_pause_is_above_its_ceiling(
            first in any::<u64>(), longest in any::<u64>(), tries in any::<u32>(), random in any::<u64>(),
        ) {
            let (first, longest) = (Duration::from_nanos(first), Duration::from_nanos(longest));
            let backoff = Backoff { first, longest };
            prop_assert!(backoff.pause(tries, random) <= backoff.ceiling(tries));
            prop_assert!(backoff.ceiling(tries) <= longest);
            prop_assert!(backoff.ceiling(tries) <= backoff.ceiling(tries.saturating_add(1)));
        }
    }
}
