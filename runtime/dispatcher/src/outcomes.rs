//! How requests to versions that share a name's traffic end, so that the versions can be compared.
//! Nothing is counted of a name whose live version answers everything, and nothing is decided here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use dashmap::DashMap;
use http::StatusCode;
use quern_types::{
    BodyError, DeviceError, GuestFault, InvokeError, Latencies, ModelError, OutcomeCounts, Side,
};

use crate::ready::VersionKey;

/// How a request ended, as far as versions are told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With an answer, or with a caller that left before there was one: that took its time, too.
    Good,
    /// It was refused for what the caller sent, or for want of room.
    Rejected,
    /// The version failed.
    Failed,
    /// It failed by a trap.
    Trapped,
}

/// The counters of all versions that share traffic.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(DashMap<VersionKey, Arc<Counters>>);

/// The counters of one version.
#[derive(Debug)]
pub(crate) struct Counters {
    requests: AtomicU64,
    rejected: AtomicU64,
    errors: AtomicU64,
    traps: AtomicU64,
    latency: [AtomicU64; Latencies::BUCKETS],
}

/// A request under way, which is counted when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    counters: Arc<Counters>,
    started: Instant,
    ending: Ending,
}

/// A request whose answer begins before its guest has ended: what happens to it after that still
/// counts, once, whichever of the two is told first.
#[derive(Debug)]
pub(crate) struct Aftermath {
    counters: Arc<Counters>,
    seen: AtomicU8,
}

impl Outcomes {
    /// Watches a request to a version.
    pub(crate) fn watch(&self, key: &VersionKey) -> Watch {
        let counters = match self.0.get(key) {
            Some(counters) => counters.clone(),
            None => self.0.entry(key.clone()).or_default().clone(),
        };
        Watch { counters, started: Instant::now(), ending: Ending::Good }
    }

    /// What was counted of a version; zeros if nothing was.
    pub(crate) fn read(&self, key: &VersionKey) -> OutcomeCounts {
        self.0.get(key).map(|counters| counters.read()).unwrap_or_default()
    }

    /// Forgets the versions that `keep` says no to.
    pub(crate) fn retain(&self, keep: impl Fn(&VersionKey) -> bool) {
        self.0.retain(|key, _| keep(key));
    }
}

impl Counters {
    fn count(&self, ending: Ending) {
        match ending {
            Ending::Good => {}
            Ending::Rejected => {
                self.rejected.fetch_add(1, Relaxed);
            }
            Ending::Failed => {
                self.errors.fetch_add(1, Relaxed);
            }
            Ending::Trapped => {
                self.errors.fetch_add(1, Relaxed);
                self.traps.fetch_add(1, Relaxed);
            }
        }
    }

    fn read(&self) -> OutcomeCounts {
        // Failures first: whoever reads while others count sees no more of them than requests.
        let [traps, errors, rejected] =
            [&self.traps, &self.errors, &self.rejected].map(|counter| counter.load(Relaxed));
        let latency = Latencies::new(self.latency.iter().map(|counter| counter.load(Relaxed)));
        OutcomeCounts { requests: self.requests.load(Relaxed), rejected, errors, traps, latency }
    }
}

impl Default for Counters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        let latency = std::array::from_fn(|_| zero());
        Self { requests: zero(), rejected: zero(), errors: zero(), traps: zero(), latency }
    }
}

impl Watch {
    /// Takes down how it ended.
    pub(crate) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }

    /// Watches what comes after the answer has begun.
    pub(crate) fn aftermath(&self) -> Arc<Aftermath> {
        Arc::new(Aftermath { counters: self.counters.clone(), seen: AtomicU8::new(0) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.counters.requests.fetch_add(1, Relaxed);
        self.counters.latency[Latencies::bucket(took)].fetch_add(1, Relaxed);
        self.counters.count(self.ending);
    }
}

impl Aftermath {
    const BEGUN: u8 = 1;
    const FAILED: u8 = 2;
    const TRAPPED: u8 = 4;

    /// The answer has begun, and was none that counts as a failure.
    pub(crate) fn begun(&self) {
        match self.seen.fetch_or(Self::BEGUN, Relaxed) {
            0 => {}
            seen if seen & Self::TRAPPED != 0 => self.counters.count(Ending::Trapped),
            _ => self.counters.count(Ending::Failed),
        }
    }

    /// The guest has ended so.
    pub(crate) fn ended(&self, ending: Ending) {
        let seen = match ending {
            Ending::Good | Ending::Rejected => return,
            Ending::Failed => Self::FAILED,
            Ending::Trapped => Self::FAILED | Self::TRAPPED,
        };
        if self.seen.fetch_or(seen, Relaxed) & Self::BEGUN != 0 {
            self.counters.count(ending);
        }
    }
}

impl Ending {
    /// What an answer of HTTP counts as.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            500.. => Self::Failed,
            400..=499 => Self::Rejected,
            _ => Self::Good,
        }
    }

    /// What an error of a function counts as.
    pub(crate) fn of(error: &InvokeError) -> Self {
        match error {
            InvokeError::Trap { .. } => Self::Trapped,
            InvokeError::InvalidOutput { .. }
            | InvokeError::Limit(_)
            | InvokeError::NoResponse
            | InvokeError::Unavailable { .. }
            | InvokeError::WrongKind { .. }
            | InvokeError::Guest { fault: GuestFault::Internal | GuestFault::Time, .. }
            | InvokeError::RequestBody(BodyError::Function(_)) => Self::Failed,
            InvokeError::Signature(mismatch) => Self::of_side(mismatch.side),
            InvokeError::Model(error) => Self::of_model(error),
            InvokeError::NotFound { .. }
            | InvokeError::VersionNotFound { .. }
            | InvokeError::AliasNotFound { .. }
            | InvokeError::SecretsLocked { .. }
            | InvokeError::Busy { .. }
            | InvokeError::MemoryFull { .. }
            | InvokeError::ShuttingDown
            | InvokeError::RequestBody(_)
            | InvokeError::Guest { fault: GuestFault::Input | GuestFault::Overload, .. } => {
                Self::Rejected
            }
        }
    }

    /// What an error of a model counts as.
    pub(crate) fn of_model(error: &ModelError) -> Self {
        match error {
            ModelError::Signature { mismatch, .. } => Self::of_side(mismatch.side),
            ModelError::DeadlineExceeded { .. }
            | ModelError::Unavailable { .. }
            | ModelError::Device {
                error:
                    DeviceError::EngineAbsent { .. }
                    | DeviceError::Load { .. }
                    | DeviceError::Run { .. },
                ..
            } => Self::Failed,
            // A device that goes away takes the calls of all versions with it.
            ModelError::Device { error: DeviceError::Lost { .. }, .. }
            | ModelError::NotFound { .. }
            | ModelError::NotShared { .. }
            | ModelError::VersionNotFound { .. }
            | ModelError::Unloaded { .. }
            | ModelError::Rows { .. }
            | ModelError::QueueFull { .. }
            | ModelError::QueueMemory { .. }
            | ModelError::TooLate { .. } => Self::Rejected,
        }
    }

    fn of_side(side: Side) -> Self {
        match side {
            Side::Input => Self::Rejected,
            Side::Output => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quern_types::{Name, TenantId, VersionNumber};

    use super::*;

    fn key(version: u32) -> VersionKey {
        let name: Name = "m".parse().expect("a name");
        let version = VersionNumber::new(version).expect("not zero");
        VersionKey::new(&TenantId::default(), &name, version)
    }

    #[test]
    fn requests_are_counted_by_version_and_ending() {
        let outcomes = Outcomes::default();
        for ending in [Ending::Good, Ending::Rejected, Ending::Failed, Ending::Trapped] {
            outcomes.watch(&key(1)).end(ending);
        }
        drop(outcomes.watch(&key(2)));
        let one = outcomes.read(&key(1));
        assert_eq!((one.requests, one.rejected, one.errors, one.traps), (4, 1, 2, 1));
        assert_eq!(one.latency.count(), 4);
        let left = outcomes.read(&key(2));
        assert_eq!((left.requests, left.errors), (1, 0), "a caller that left");
        assert!(
            left.latency.quantile_us(1.0).expect("one")
                < Duration::from_secs(60).as_micros() as u64
        );
        outcomes.retain(|key| key.version != VersionNumber::FIRST);
        assert_eq!(outcomes.read(&key(1)), OutcomeCounts::default());
    }

    #[test]
    fn what_fails_after_its_answer_has_begun_counts_once() {
        let outcomes = Outcomes::default();
        let begun = |watch: Watch, aftermath: &Aftermath| {
            watch.end(Ending::Good);
            aftermath.begun();
        };
        for ended_first in [false, true] {
            let watch = outcomes.watch(&key(1));
            let aftermath = watch.aftermath();
            if ended_first {
                aftermath.ended(Ending::Trapped);
                begun(watch, &aftermath);
            } else {
                begun(watch, &aftermath);
                aftermath.ended(Ending::Trapped);
            }
        }
        // One that never began is counted by its error alone.
        let watch = outcomes.watch(&key(1));
        watch.aftermath().ended(Ending::Failed);
        watch.end(Ending::Failed);
        let counts = outcomes.read(&key(1));
        assert_eq!((counts.requests, counts.errors, counts.traps), (3, 3, 2));
    }

    #[test]
    fn only_what_a_version_is_to_blame_for_counts_as_its_failure() {
        let name: Name = "m".parse().expect("a name");
        let trap = InvokeError::Trap { reason: "x".into(), trace: Vec::new() };
        let lost = DeviceError::Lost { device: quern_types::DeviceId::Cpu(0) };
        for (error, ending) in [
            (trap, Ending::Trapped),
            (InvokeError::NoResponse, Ending::Failed),
            (InvokeError::Busy { scope: "function", limit: 1 }, Ending::Rejected),
            (InvokeError::RequestBody(BodyError::Broken("x".into())), Ending::Rejected),
            (ModelError::NotFound { name: name.clone() }.into(), Ending::Rejected),
            (ModelError::Device { name, error: lost }.into(), Ending::Rejected),
        ] {
            assert_eq!(Ending::of(&error), ending, "{error}");
        }
        for (status, ending) in [
            (200, Ending::Good),
            (304, Ending::Good),
            (404, Ending::Rejected),
            (503, Ending::Failed),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Ending::of_status(status), ending, "{status}");
        }
    }
}
