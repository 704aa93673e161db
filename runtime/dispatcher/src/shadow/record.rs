//! What came of the copies that a version got: counts, times, and a few examples of what was
//! different. Never keeps more than so many of them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use quern_types::{InvocationId, Latencies};

use super::{Shown, Verdict};

/// Examples that are kept of one version, the newest ones.
const MOST_EXAMPLES: usize = 10;

/// What came of the copies that a version got since the server started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShadowReport {
    /// It answered the same, to the bit.
    pub same: u64,
    /// It answered something else.
    pub different: u64,
    /// It gave no answer, though the caller got one.
    pub failed: u64,
    /// There was no room for the copy, or nothing whole to compare.
    pub dropped: u64,
    /// The greatest absolute difference of two numbers in answers of inference.
    pub max_abs_difference: Option<f64>,
    /// How long the requests took that were compared.
    pub answered: Latencies,
    /// And their copies.
    pub shadowed: Latencies,
    /// What was different, the newest last.
    pub examples: VecDeque<ShadowExample>,
}

/// Two answers to the same request that differ.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowExample {
    /// The request.
    pub id: InvocationId,
    /// When they were compared.
    pub time: SystemTime,
    /// What the caller got, where it differs, or the beginning of it.
    pub answered: String,
    /// What the shadow gave instead.
    pub shadowed: String,
}

/// A request and its copy, compared.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) verdict: Verdict,
    pub(super) shown: Shown,
    pub(super) took: Duration,
    pub(super) shadow_took: Duration,
}

/// The record of one version.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<ShadowReport>);

impl Record {
    pub(super) fn add(&self, id: InvocationId, compared: Compared) {
        let Compared { verdict, shown, took, shadow_took } = compared;
        let mut report = self.lock();
        match verdict {
            Verdict::Same => report.same += 1,
            Verdict::Different(by) => {
                report.different += 1;
                let most = report.max_abs_difference.into_iter().chain(by);
                report.max_abs_difference = most.reduce(f64::max);
            }
            Verdict::Failed => report.failed += 1,
        }
        report.answered.add(took);
        report.shadowed.add(shadow_took);
        if let Some((answered, shadowed)) = shown {
            let time = SystemTime::now();
            report.examples.push_back(ShadowExample { id, time, answered, shadowed });
            if report.examples.len() > MOST_EXAMPLES {
                report.examples.pop_front();
            }
        }
    }

    pub(super) fn dropped(&self) {
        self.lock().dropped += 1;
    }

    pub(super) fn read(&self) -> ShadowReport {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, ShadowReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
