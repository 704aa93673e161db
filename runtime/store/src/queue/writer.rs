//! The one owner of the queue's writing side: applies what is queued together in one transaction,
//! and answers once it is on the disk. Never knows what an operation is.

use std::{io, sync::Arc, thread::JoinHandle, time::Instant};

use quern_types::StorageFault;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::QueueFailure;
use crate::{database::Database, fault, folder::FolderLock, group, metrics::StoreMetrics};

/// Operations that can wait for the writer; whoever comes next waits for room, or is refused.
pub(crate) const QUEUE: usize = 1_024;
/// Most operations of one commit.
const GROUP: usize = 512;

/// One operation. It is applied, and answered once its group has been committed or has failed.
pub(crate) trait Operation: Send {
    /// Changes the tables; returns whether that is to stay. An error fails the whole group, a
    /// refusal is an answer.
    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<bool>;

    /// Answers with the outcome, or with the reason why the group failed.
    fn answer(self: Box<Self>, failure: Option<&QueueFailure>);
}

/// An operation in the queue, with the way back to whoever asked.
pub(crate) struct Queued<T, E, Apply> {
    apply: Apply,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, Apply> Queued<T, E, Apply> {
    pub(crate) fn new(apply: Apply, reply: oneshot::Sender<Result<T, E>>) -> Self {
        Self { apply, outcome: None, reply }
    }
}

impl<T, E, Apply> Operation for Queued<T, E, Apply>
where
    T: Send,
    E: From<QueueFailure> + Send,
    Apply: FnMut(&Connection) -> rusqlite::Result<Result<T, E>> + Send,
{
    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let outcome = (self.apply)(connection)?;
        let stays = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(stays)
    }

    fn answer(self: Box<Self>, failure: Option<&QueueFailure>) {
        let never = || QueueFailure { reason: "the operation was never applied".into() };
        let answer = match (failure, self.outcome) {
            (None, Some(outcome)) => outcome,
            (failure, _) => Err(failure.cloned().unwrap_or_else(never).into()),
        };
        // Nobody may be waiting any more; what is done is done.
        let _ = self.reply.send(answer);
    }
}

/// Writes to the queue's database.
pub(crate) struct Writer {
    pub(crate) connection: Database,
    pub(crate) metrics: StoreMetrics,
    /// Nobody else may open the folder before the writer is through.
    pub(crate) _lock: Arc<FolderLock>,
}

impl Writer {
    /// Starts the writer's thread; it ends when all senders are gone and the queue is empty.
    pub(crate) fn start(
        mut self,
        queue: mpsc::Receiver<Box<dyn Operation>>,
    ) -> io::Result<JoinHandle<()>> {
        group::start("quern-queue", GROUP, queue, move |operations| self.write(operations))
    }

    fn write(&mut self, mut operations: Vec<Box<dyn Operation>>) {
        let started = Instant::now();
        let failure = self
            .commit(&mut operations)
            .err()
            .map(|error| QueueFailure { reason: fault::of_database(&error, &self.connection) });
        if operations.len() > 1
            && failure.as_ref().is_some_and(|error| error.reason.fault() == StorageFault::Full)
        {
            // What there is no room for must not take with it what there is room for.
            return operations.into_iter().for_each(|operation| self.write(vec![operation]));
        }
        self.metrics.queue_commit_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.queue_group_operations.observe(operations.len() as f64);
        if let Some(error) = &failure {
            self.metrics.queue_failing.failed(&error.reason);
            tracing::error!(%error, operations = operations.len(), "commit of the queue failed");
        }
        for operation in operations {
            operation.answer(failure.as_ref());
        }
    }

    fn commit(&mut self, operations: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
        let mut transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changes = transaction.total_changes();
        for operation in operations {
            let savepoint = transaction.savepoint()?;
            if operation.apply(&savepoint)? {
                savepoint.commit()?;
            }
        }
        let has_changed = transaction.total_changes() != changes;
        transaction.commit()?;
        // One that changes nothing says nothing of the disk.
        if has_changed {
            self.metrics.queue_failing.succeeded();
        }
        Ok(())
    }
}
