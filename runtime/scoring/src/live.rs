//! A batch while the server runs: what is known of it, who may change that, and who is told. It
//! shows only what is on the disk already.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use quern_types::TenantId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    batch::{BatchId, BatchRecord, BatchState, BatchStatus, Checkpoint, Ending},
    folder::BatchFolder,
    quota::{Allotment, Quota, QuotaExceeded},
};

/// A batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) tenant: TenantId,
    pub(crate) folder: BatchFolder,
    /// Cancelled when the batch is removed.
    pub(crate) removed: CancellationToken,
    /// Held by whoever runs it.
    pub(crate) running: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Known {
    record: BatchRecord,
    is_running: bool,
    speed: Speed,
    input: Option<Allotment>,
    results: Allotment,
}

/// How fast rows are scored, recent ones counting more.
#[derive(Debug, Default)]
struct Speed {
    since: Option<Instant>,
    rows_per_second: Option<f64>,
}

impl Speed {
    fn scored(&mut self, rows: u64, now: Instant) {
        if let Some(since) = self.since {
            let seconds = (now - since).as_secs_f64().max(1e-6);
            let current = rows as f64 / seconds;
            let before = self.rows_per_second.unwrap_or(current);
            self.rows_per_second = Some(before * 0.7 + current * 0.3);
        }
        self.since = Some(now);
    }
}

impl Batch {
    /// A batch whose files are there, and count.
    pub(crate) fn new(
        record: BatchRecord,
        folder: BatchFolder,
        quota: &std::sync::Arc<Quota>,
    ) -> Self {
        let mut results = quota.allot(&record.tenant);
        results.found(record.checkpoint.results);
        let mut input = quota.allot(&record.tenant);
        input.found(record.input_bytes);
        let has_input = !matches!(record.ending, Some(Ending::Completed));
        let (id, tenant) = (record.id, record.tenant.clone());
        let input = has_input.then_some(input);
        let known = Known { record, is_running: false, speed: Speed::default(), input, results };
        Self {
            id,
            tenant,
            folder,
            removed: CancellationToken::new(),
            running: tokio::sync::Mutex::default(),
            known: Mutex::new(known),
            changes: watch::Sender::new(0),
        }
    }

    /// What is on the disk.
    pub(crate) fn record(&self) -> BatchRecord {
        self.known().record.clone()
    }

    /// Where it is on its way.
    pub(crate) fn state(&self) -> BatchState {
        self.known().state()
    }

    /// Told of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether it has ended and its time is over.
    pub(crate) fn is_expired(&self, keep: Duration, now: SystemTime) -> bool {
        let finished = self.known().record.finished;
        finished.is_some_and(|finished| finished + keep <= now)
    }

    pub(crate) fn status(&self, keep: Duration) -> BatchStatus {
        let known = self.known();
        let BatchRecord { id, spec, created, input_bytes, checkpoint, ending, finished, .. } =
            &known.record;
        let (error, failed_row) = match ending {
            Some(Ending::Failed { reason, row }) => (Some(reason.clone()), row.clone()),
            _ => (None, None),
        };
        let read_bytes = match ending {
            Some(Ending::Completed) => *input_bytes,
            _ => checkpoint.position.byte,
        };
        BatchStatus {
            id: *id,
            spec: spec.clone(),
            state: known.state(),
            created: *created,
            finished: *finished,
            expires: finished.map(|finished| finished + keep),
            rows: checkpoint.position.row,
            failed: checkpoint.failed,
            input_bytes: *input_bytes,
            read_bytes,
            result_bytes: checkpoint.results,
            rows_per_second: known.speed.rows_per_second.filter(|_| known.is_running),
            error,
            failed_row,
        }
    }

    /// Takes room for more results.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), QuotaExceeded> {
        self.known().results.grow(bytes)
    }

    /// Gives back the room of results that lie beyond the checkpoint.
    pub(crate) fn cut_back(&self) {
        let mut known = self.known();
        let reached = known.record.checkpoint.results;
        known.results.cut_to(reached);
    }

    /// Begins or ends a turn.
    pub(crate) fn set_running(&self, is_running: bool) {
        let mut known = self.known();
        known.is_running = is_running;
        known.speed = Speed { since: is_running.then(Instant::now), rows_per_second: None };
        drop(known);
        self.tell();
    }

    /// Shows a checkpoint that is on the disk.
    pub(crate) fn reached(&self, checkpoint: Checkpoint) {
        let mut known = self.known();
        let rows = checkpoint.position.row.saturating_sub(known.record.checkpoint.position.row);
        known.speed.scored(rows, Instant::now());
        known.record.checkpoint = checkpoint;
        drop(known);
        self.tell();
    }

    /// Shows how the batch ended; what has no more use is let go of.
    pub(crate) fn ended(&self, record: BatchRecord) {
        let mut known = self.known();
        if record.ending == Some(Ending::Completed) {
            known.input = None;
        }
        known.record = record;
        drop(known);
        self.tell();
    }

    fn tell(&self) {
        self.changes.send_modify(|change| *change += 1);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn state(&self) -> BatchState {
        match (&self.record.ending, self.is_running) {
            (Some(Ending::Completed), _) => BatchState::Completed,
            (Some(Ending::Failed { .. }), _) => BatchState::Failed,
            (None, true) => BatchState::Running,
            (None, false) => BatchState::Queued,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_follows_what_is_scored_of_late() {
        let start = Instant::now();
        let second = |count: u64| start + Duration::from_secs(count);
        let mut speed = Speed { since: Some(start), rows_per_second: None };
        speed.scored(100, second(1));
        assert_eq!(speed.rows_per_second, Some(100.0));
        speed.scored(200, second(2));
        assert_eq!(speed.rows_per_second, Some(130.0));
    }
}
