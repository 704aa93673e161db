//! What is counted of every version that can be called for inference, since the server started.
//! Whoever shows it asks for it; nothing is ever decided by it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use dashmap::DashMap;
use quern_types::{Name, VersionNumber};

use crate::ready::VersionKey;

/// Sizes of batches that are told apart. Callers choose how many rows they send: runs of further
/// sizes count in the sums alone.
const MAX_SIZES: usize = 256;

/// How often something was done, and the time that it took together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// What has been counted of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStatistics {
    /// The model or inference function.
    pub name: Name,
    /// Its version.
    pub version: VersionNumber,
    /// When a call ended last; none if there was none.
    pub last_inference: Option<SystemTime>,
    /// Rows of all calls that succeeded; a call of something without a batch axis is one.
    pub inferences: u64,
    /// Runs that succeeded: many calls may share one.
    pub executions: u64,
    /// Calls that succeeded, from their arrival to their answer.
    pub success: Tally,
    /// Calls that failed, for whatever reason; not those whose caller left.
    pub failure: Tally,
    /// The part of the calls that succeeded which they waited for a lane.
    pub queue: Tally,
    /// Their part in which the engine computed their run, with what lies before and behind that.
    pub parts: RunTally,
    /// The runs by their rows, in ascending order; the first 256 sizes that occurred.
    pub batches: Vec<BatchStatistics>,
}

/// What has been counted of the runs of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchStatistics {
    /// Rows of such a run.
    pub rows: u32,
    /// Their parts.
    pub parts: RunTally,
}

/// The parts of runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunTally {
    /// Handing the inputs to the engine.
    pub input: Tally,
    /// The engine; of a function, all of its call.
    pub compute: Tally,
    /// Giving every call its outputs.
    pub output: Tally,
}

/// The counters of all versions that were called.
#[derive(Debug, Default)]
pub(crate) struct Statistics(DashMap<VersionKey, Arc<Counters>>);

/// The counters of one version. All of a call, and all of a run, are changed under one lock, so that
/// whoever reads them finds neither in parts.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    last: Option<SystemTime>,
    inferences: u64,
    executions: u64,
    success: Tally,
    failure: Tally,
    queue: Tally,
    parts: RunTally,
    batches: BTreeMap<u32, RunTally>,
}

/// A call that succeeded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) rows: u32,
    pub(crate) took: Duration,
    pub(crate) queued: Duration,
    pub(crate) parts: RunParts,
}

/// How long the parts of a run took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunParts {
    pub(crate) input: Duration,
    pub(crate) compute: Duration,
    pub(crate) output: Duration,
}

impl Statistics {
    /// The counters of a version.
    pub(crate) fn of(&self, key: &VersionKey) -> Arc<Counters> {
        match self.0.get(key) {
            Some(counters) => counters.clone(),
            None => self.0.entry(key.clone()).or_default().clone(),
        }
    }

    /// What a version's counters say now; nothing but zeros if it was never called.
    pub(crate) fn read(&self, key: &VersionKey) -> ModelStatistics {
        let counters = self.0.get(key).map(|counters| counters.clone()).unwrap_or_default();
        counters.read(key)
    }

    /// Forgets the versions that `keep` says no to.
    pub(crate) fn retain(&self, keep: impl Fn(&VersionKey) -> bool) {
        self.0.retain(|key, _| keep(key));
    }
}

impl Counters {
    /// Takes down a call that succeeded.
    pub(crate) fn succeeded(&self, call: Answered) {
        let mut counts = self.lock();
        counts.inferences += u64::from(call.rows);
        counts.success.add(call.took);
        counts.queue.add(call.queued);
        counts.parts.add(call.parts);
        counts.called();
    }

    /// Takes down a call that failed.
    pub(crate) fn failed(&self, took: Duration) {
        let mut counts = self.lock();
        counts.failure.add(took);
        counts.called();
    }

    /// Takes down a run that succeeded.
    pub(crate) fn ran(&self, rows: u32, parts: RunParts) {
        let mut counts = self.lock();
        counts.executions += 1;
        let batches = &mut counts.batches;
        if batches.len() < MAX_SIZES || batches.contains_key(&rows) {
            batches.entry(rows).or_default().add(parts);
        }
    }

    /// What they say now.
    pub(crate) fn read(&self, key: &VersionKey) -> ModelStatistics {
        let size = |(&rows, &parts): (&u32, &RunTally)| BatchStatistics { rows, parts };
        let counts = self.lock();
        ModelStatistics {
            name: key.name.clone(),
            version: key.version,
            last_inference: counts.last,
            inferences: counts.inferences,
            executions: counts.executions,
            success: counts.success,
            failure: counts.failure,
            queue: counts.queue,
            parts: counts.parts,
            batches: counts.batches.iter().map(size).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn called(&mut self) {
        self.last = self.last.max(Some(SystemTime::now()));
    }
}

impl Tally {
    fn add(&mut self, time: Duration) {
        self.count += 1;
        self.ns = self.ns.saturating_add(nanos(time));
    }
}

impl RunTally {
    fn add(&mut self, parts: RunParts) {
        self.input.add(parts.input);
        self.compute.add(parts.compute);
        self.output.add(parts.output);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use quern_types::TenantId;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn key(version: u32) -> VersionKey {
        VersionKey {
            tenant: TenantId::default(),
            name: "m".parse().expect("a name"),
            version: VersionNumber::new(version).expect("not zero"),
        }
    }

    #[test]
    fn calls_and_runs_are_counted_by_version() {
        let statistics = Statistics::default();
        let first = statistics.of(&key(1));
        let parts = RunParts { input: MS, compute: 6 * MS, output: 2 * MS };
        let call = Answered { rows: 4, took: 11 * MS, queued: 2 * MS, parts };
        first.succeeded(call);
        first.succeeded(Answered { rows: 1, ..call });
        first.failed(3 * MS);
        first.ran(5, parts);
        first.ran(1, RunParts { compute: MS, ..parts });
        first.ran(5, parts);
        let read = statistics.read(&key(1));
        let ms = |count, ms: u64| Tally { count, ns: ms * 1_000_000 };
        assert_eq!((read.inferences, read.executions), (5, 3));
        assert_eq!((read.success, read.failure), (ms(2, 22), ms(1, 3)));
        assert_eq!(read.queue, ms(2, 4));
        let of = |count, input, compute, output| RunTally {
            input: ms(count, input),
            compute: ms(count, compute),
            output: ms(count, output),
        };
        assert_eq!(read.parts, of(2, 2, 12, 4));
        let of_one = BatchStatistics { rows: 1, parts: of(1, 1, 1, 2) };
        let of_five = BatchStatistics { rows: 5, parts: of(2, 2, 12, 4) };
        assert_eq!(read.batches, [of_one, of_five]);
        assert!(read.last_inference.is_some());

        let other = statistics.read(&key(2));
        assert_eq!((other.success, other.last_inference), (Tally::default(), None));
        assert_eq!(other.batches, []);
        statistics.retain(|key| key.version != VersionNumber::FIRST);
        assert_eq!(statistics.read(&key(1)).success, Tally::default());
    }

    #[test]
    fn only_so_many_sizes_of_batches_are_told_apart() {
        let counters = Counters::default();
        for rows in (1..=1_000).chain([1]) {
            counters.ran(rows, RunParts { compute: MS, ..RunParts::default() });
        }
        let read = counters.read(&key(1));
        assert_eq!((read.executions, read.batches.len()), (1_001, MAX_SIZES));
        assert_eq!(read.batches[0].parts.compute.count, 2);
    }
}
