//! Copies of requests for a version whose answers nobody waits for: they are compared with those
//! that callers got. Bounded in number and in bytes: what finds no room is not copied, and counted.

mod bodies;
mod collector;
mod http;
mod record;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use dashmap::DashMap;
use quern_types::{ByteSize, InvocationId, InvokeError, ModelError, Tensor, difference};

use crate::{outcomes::Ending, ready::VersionKey};

pub(crate) use self::collector::ShadowCollector;
use record::{Compared, Record};
pub use record::{ShadowExample, ShadowReport};

/// Answers above this are compared off the async threads.
const LARGE: usize = 256 << 10;

/// What copies of requests may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShadowConfig {
    /// Copies that are under way at the same time; more are dropped.
    pub calls: u32,
    /// Bytes that they have together.
    pub memory: ByteSize,
}

impl Default for ShadowConfig {
    fn default() -> Self {
        Self { calls: 16, memory: ByteSize::mib(64) }
    }
}

/// The copies that are under way, and what came of all of them.
#[derive(Debug)]
pub(crate) struct Shadows {
    room: Arc<Room>,
    records: DashMap<VersionKey, Arc<Record>>,
}

#[derive(Debug)]
struct Room {
    config: ShadowConfig,
    calls: AtomicU64,
    bytes: AtomicU64,
}

/// A copy's place among those under way, and where it is to be recorded. If it is dropped before it
/// is compared, that is recorded, too.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    record: Arc<Record>,
    bytes: u64,
    recorded: bool,
}

/// A copy of a request for inference.
#[derive(Debug)]
pub(crate) struct TensorCopy {
    place: Place,
    id: InvocationId,
    pub(crate) inputs: Vec<Tensor>,
    started: Instant,
}

impl Shadows {
    pub(crate) fn new(config: ShadowConfig) -> Self {
        let room = Room { config, calls: AtomicU64::new(0), bytes: AtomicU64::new(0) };
        Self { room: Arc::new(room), records: DashMap::new() }
    }

    /// A copy of a request for a version that is its shadow; none if there is no room.
    pub(crate) fn copy(
        &self,
        shadow: &VersionKey,
        id: InvocationId,
        inputs: &[Tensor],
    ) -> Option<TensorCopy> {
        let mut place = self.place(shadow)?;
        if !place.take(bytes(inputs)) {
            return None;
        }
        Some(TensorCopy { place, id, inputs: inputs.to_vec(), started: Instant::now() })
    }

    /// What came of the copies that a version got.
    pub(crate) fn read(&self, key: &VersionKey) -> ShadowReport {
        self.records.get(key).map(|record| record.read()).unwrap_or_default()
    }

    /// All of them, by version.
    fn all(&self) -> Vec<(VersionKey, ShadowReport)> {
        self.records.iter().map(|entry| (entry.key().clone(), entry.value().read())).collect()
    }

    /// Forgets the versions that `keep` says no to.
    pub(crate) fn retain(&self, keep: impl Fn(&VersionKey) -> bool) {
        self.records.retain(|key, _| keep(key));
    }

    /// A place for one more copy.
    fn place(&self, shadow: &VersionKey) -> Option<Place> {
        let record = match self.records.get(shadow) {
            Some(record) => record.clone(),
            None => self.records.entry(shadow.clone()).or_default().clone(),
        };
        let room = self.room.clone();
        let before = room.calls.fetch_add(1, Relaxed);
        // From here on the place gives back what it has taken.
        let place = Place { room, record, bytes: 0, recorded: false };
        (before < u64::from(place.room.config.calls)).then_some(place)
    }
}

impl Place {
    /// Takes room for more bytes; none is taken if there is not enough.
    fn take(&mut self, bytes: u64) -> bool {
        let before = self.room.bytes.fetch_add(bytes, Relaxed);
        let fits = before.saturating_add(bytes) <= self.room.config.memory.0;
        match fits {
            true => self.bytes += bytes,
            false => {
                self.room.bytes.fetch_sub(bytes, Relaxed);
            }
        }
        fits
    }

    fn record(mut self, id: InvocationId, compared: Compared) {
        self.record.add(id, compared);
        self.recorded = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.calls.fetch_sub(1, Relaxed);
        self.room.bytes.fetch_sub(self.bytes, Relaxed);
        if !self.recorded {
            self.record.dropped();
        }
    }
}

impl TensorCopy {
    /// Has the copy computed, in a task that nobody waits for, and compares what comes of it with
    /// what the caller was answered.
    pub(crate) fn follow<F, E>(mut self, answer: Result<&[Tensor], String>, shadow: F)
    where
        F: Future<Output = Result<Vec<Tensor>, E>> + Send + 'static,
        E: Into<InvokeError>,
    {
        let took = self.started.elapsed();
        let answer = answer.map(<[Tensor]>::to_vec);
        if !self.place.take(answer.as_ref().map_or(0, |outputs| bytes(outputs))) {
            return;
        }
        tokio::spawn(async move {
            let started = Instant::now();
            let outcome = shadow.await.map_err(Into::into);
            let shadow_took = started.elapsed();
            let Self { place, id, .. } = self;
            match outcome {
                // That there was no room for it says nothing about the version.
                Err(error) if Ending::of(&error) == Ending::Rejected && !is_of_input(&error) => {}
                outcome => {
                    let large = answer.as_ref().is_ok_and(|outputs| bytes(outputs) > LARGE as u64);
                    let compare =
                        move || compare(answer, outcome.map_err(|error| error.to_string()));
                    let (verdict, shown) = match large {
                        true => match tokio::task::spawn_blocking(compare).await {
                            Ok(compared) => compared,
                            Err(_) => return,
                        },
                        false => compare(),
                    };
                    place.record(id, Compared { verdict, shown, took, shadow_took });
                }
            }
        });
    }
}

/// What came of comparing two answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Same,
    /// By how much at most, where that is a number.
    Different(Option<f64>),
    /// The shadow gave no answer, though the caller got one.
    Failed,
}

/// What two answers look like where they differ: the caller's, and the shadow's.
type Shown = Option<(String, String)>;

fn compare(
    answer: Result<Vec<Tensor>, String>,
    shadow: Result<Vec<Tensor>, String>,
) -> (Verdict, Shown) {
    let error = |error: String| format!("failed: {error}");
    match (answer, shadow) {
        (Ok(one), Ok(other)) => match difference(&one, &other) {
            None => (Verdict::Same, None),
            Some(found) => (Verdict::Different(found.max_abs), Some((found.one, found.other))),
        },
        (Ok(_), Err(reason)) => (Verdict::Failed, Some(("answered".into(), error(reason)))),
        (Err(reason), Ok(_)) => {
            (Verdict::Different(None), Some((error(reason), "answered".into())))
        }
        (Err(_), Err(_)) => (Verdict::Same, None),
    }
}

/// Whether a version refuses what it was given.
fn is_of_input(error: &InvokeError) -> bool {
    matches!(
        error,
        InvokeError::Signature(_)
            | InvokeError::Guest { fault: quern_types::GuestFault::Input, .. }
            | InvokeError::Model(ModelError::Signature { .. } | ModelError::Rows { .. })
    )
}

fn bytes(tensors: &[Tensor]) -> u64 {
    tensors.iter().map(|tensor| tensor.data().len() as u64).sum()
}

#[cfg(test)]
mod tests;
