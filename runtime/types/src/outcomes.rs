//! How the requests to a version ended: what is counted of them, and how two versions' counts can be
//! had over the same time. Never decides which of them is better.

use std::time::Duration;

use crate::{Class, Name, TenantId, VersionNumber};

/// How requests to one version ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// All of them.
    pub requests: u64,
    /// Those that were refused for what their callers sent, or for want of room.
    pub rejected: u64,
    /// Those that failed, traps included.
    pub errors: u64,
    /// Those that trapped.
    pub traps: u64,
    /// How long they took.
    pub latency: Latencies,
}

/// How often something took how long: a histogram whose buckets are an eighth of their value wide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies(Vec<u64>);

/// How the requests to versions ended: inverts the edge from the deployment, where canaries are
/// decided, to the dispatcher, where they are counted.
pub trait TrafficOutcomes: Send + Sync + 'static {
    /// What was counted of a version since the server started; it only grows.
    fn outcomes(
        &self,
        class: Class,
        tenant: &TenantId,
        name: &Name,
        version: VersionNumber,
    ) -> OutcomeCounts;
}

impl OutcomeCounts {
    /// What was counted since an earlier time.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            errors: self.errors.saturating_sub(earlier.errors),
            traps: self.traps.saturating_sub(earlier.traps),
            latency: self.latency.since(&earlier.latency),
        }
    }
}

impl Latencies {
    /// How many buckets there are.
    pub const BUCKETS: usize = 240;

    /// The counts of the buckets.
    pub fn new(counts: impl IntoIterator<Item = u64>) -> Self {
        let mut counts: Vec<u64> = counts.into_iter().take(Self::BUCKETS).collect();
        counts.resize(Self::BUCKETS, 0);
        Self(counts)
    }

    /// The bucket of a time.
    pub fn bucket(time: Duration) -> usize {
        let us = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        match us {
            0..8 => us as usize,
            _ => {
                let exponent = us.ilog2() as usize;
                (exponent - 2) * 8 + ((us >> (exponent - 3)) & 7) as usize
            }
        }
    }

    /// The least time of a bucket, in µs.
    pub fn floor_us(bucket: usize) -> u64 {
        match bucket {
            0..16 => bucket as u64,
            _ => (8 + bucket as u64 % 8) << (bucket / 8 - 1),
        }
    }

    /// Takes down a time.
    pub fn add(&mut self, time: Duration) {
        self.0[Self::bucket(time)] += 1;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Between which times, in µs, the one of this rank is, counted from 1; none if there are fewer.
    pub fn at_rank(&self, rank: u64) -> Option<(u64, u64)> {
        let mut passed = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            passed += count;
            if rank > 0 && passed >= rank {
                return Some((Self::floor_us(bucket), Self::floor_us(bucket + 1)));
            }
        }
        None
    }

    /// A quantile in µs, in the middle of its bucket; none of nothing.
    pub fn quantile_us(&self, quantile: f64) -> Option<u64> {
        let rank = (self.count() as f64 * quantile).ceil().max(1.0) as u64;
        self.at_rank(rank).map(|(floor, ceiling)| floor.midpoint(ceiling))
    }

    fn since(&self, earlier: &Self) -> Self {
        let pairs = self.0.iter().zip(&earlier.0);
        Self(pairs.map(|(now, then)| now.saturating_sub(*then)).collect())
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self(vec![0; Self::BUCKETS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_and_hold_their_times() {
        for bucket in 0..Latencies::BUCKETS {
            let (floor, next) = (Latencies::floor_us(bucket), Latencies::floor_us(bucket + 1));
            assert!(floor < next, "{bucket}");
            for us in [floor, next - 1] {
                assert_eq!(Latencies::bucket(Duration::from_micros(us)), bucket, "{us} µs");
            }
            assert!(bucket < 8 || (next - floor) * 8 <= floor, "{bucket} is too wide");
        }
        assert_eq!(Latencies::bucket(Duration::MAX), Latencies::BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_taken_down() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.quantile_us(0.5), latencies.at_rank(1)), (None, None));
        for us in 1..=1_000 {
            latencies.add(Duration::from_micros(us));
        }
        for (quantile, us) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = latencies.quantile_us(quantile).expect("some") as f64;
            assert!((found - us).abs() < us / 8.0, "{quantile}: {found}");
        }
        assert_eq!(latencies.at_rank(1_001), None);
    }

    #[test]
    fn counts_of_a_while_are_the_difference() {
        let mut counts = OutcomeCounts { requests: 5, errors: 2, ..OutcomeCounts::default() };
        counts.latency.add(Duration::from_millis(1));
        let earlier = counts.clone();
        counts.requests += 3;
        counts.traps += 1;
        counts.latency.add(Duration::from_millis(9));
        let since = counts.since(&earlier);
        assert_eq!((since.requests, since.errors, since.traps), (3, 0, 1));
        assert_eq!((since.latency.count(), earlier.latency.count()), (1, 1));
    }
}
