//! Writes on their way: applied together in one transaction, answered once it is on the disk.

use std::{io, sync::Arc, thread::JoinHandle, time::Instant};

use quern_types::{BucketId, ByteSize, KeyValueError, StorageFault};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    pairs::{Bucket, Failed},
    waiting::Place,
};
use crate::{database::Database, fault, folder::FolderLock, group, metrics::StoreMetrics};

/// Most operations of one commit.
const GROUP: usize = 256;

/// One write. It is applied, and answered once its group has been committed or has failed.
pub(crate) trait Operation: Send {
    /// Changes the tables; returns whether that is to stay. An error fails the whole group, a
    /// refusal is an answer.
    fn apply(&mut self, connection: &Connection, bucket_bytes: ByteSize) -> rusqlite::Result<bool>;

    /// Answers with the outcome, or with the reason why the group failed.
    fn answer(self: Box<Self>, failure: Option<&str>);
}

/// A write in the queue, with the way back to whoever asked.
pub(crate) struct Queued<T, Apply> {
    bucket: BucketId,
    apply: Apply,
    outcome: Option<Result<T, KeyValueError>>,
    reply: oneshot::Sender<Result<T, KeyValueError>>,
    _place: Place,
}

impl<T, Apply> Queued<T, Apply> {
    pub(crate) fn new(
        bucket: BucketId,
        apply: Apply,
        reply: oneshot::Sender<Result<T, KeyValueError>>,
        place: Place,
    ) -> Self {
        Self { bucket, apply, outcome: None, reply, _place: place }
    }
}

impl<T, Apply> Operation for Queued<T, Apply>
where
    T: Send,
    Apply: FnMut(&Bucket<'_>) -> Result<T, Failed> + Send,
{
    fn apply(&mut self, connection: &Connection, bucket_bytes: ByteSize) -> rusqlite::Result<bool> {
        let outcome = match (self.apply)(&Bucket { connection, id: &self.bucket, bucket_bytes }) {
            Ok(value) => Ok(value),
            Err(Failed::Refused(error)) => Err(error),
            Err(Failed::Database(error)) => return Err(error),
        };
        let stays = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(stays)
    }

    fn answer(self: Box<Self>, failure: Option<&str>) {
        let answer = match (failure, self.outcome) {
            (None, Some(outcome)) => outcome,
            (failure, _) => {
                let reason = failure.unwrap_or("the operation was never applied").to_owned();
                Err(KeyValueError::Storage { reason })
            }
        };
        // Nobody may be waiting any more; what is done is done.
        let _ = self.reply.send(answer);
    }
}

/// The one owner of the database's writing side.
pub(crate) struct Writer {
    connection: Database,
    bucket_bytes: ByteSize,
    metrics: StoreMetrics,
    /// Nobody else may open the folder before the writer is through.
    _lock: Arc<FolderLock>,
}

impl Writer {
    pub(crate) fn new(
        connection: Database,
        bucket_bytes: ByteSize,
        metrics: StoreMetrics,
        lock: Arc<FolderLock>,
    ) -> Self {
        Self { connection, bucket_bytes, metrics, _lock: lock }
    }

    /// Starts the writer's thread; it ends when all senders are gone and the queue is empty.
    pub(crate) fn start(
        mut self,
        queue: mpsc::Receiver<Box<dyn Operation>>,
    ) -> io::Result<JoinHandle<()>> {
        group::start("quern-keyvalue", GROUP, queue, move |operations| self.write(operations))
    }

    fn write(&mut self, mut operations: Vec<Box<dyn Operation>>) {
        let started = Instant::now();
        let failure = self.commit(&mut operations).err();
        let failure = failure.map(|error| fault::of_database(&error, &self.connection));
        if operations.len() > 1
            && failure.as_ref().is_some_and(|failure| failure.fault() == StorageFault::Full)
        {
            // What there is no room for must not take with it what there is room for.
            return operations.into_iter().for_each(|operation| self.write(vec![operation]));
        }
        self.metrics.keyvalue_commit_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.keyvalue_group_operations.observe(operations.len() as f64);
        if let Some(error) = &failure {
            self.metrics.keyvalue_failing.failed(error);
            tracing::error!(%error, operations = operations.len(), "key-value commit failed");
        }
        let failure = failure.map(|failure| failure.to_string());
        for operation in operations {
            operation.answer(failure.as_deref());
        }
    }

    fn commit(&mut self, operations: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
        let mut transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changes = transaction.total_changes();
        for operation in operations {
            let savepoint = transaction.savepoint()?;
            if operation.apply(&savepoint, self.bucket_bytes)? {
                savepoint.commit()?;
            }
        }
        let has_changed = transaction.total_changes() != changes;
        transaction.commit()?;
        // One that changes nothing says nothing of the disk.
        if has_changed {
            self.metrics.keyvalue_failing.succeeded();
        }
        Ok(())
    }
}
