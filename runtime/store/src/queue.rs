//! Calls that are carried out later: a queue that survives power loss, the answers that came of it,
//! and what was given up. It never carries anything out, and decides no more than what may wait.

mod announce;
mod call;
mod change;
mod claim;
mod deliver;
mod delivery;
mod enqueue;
mod fires;
mod held;
mod read;
mod settle;
mod spans;
mod sweep;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::SystemTime,
};

use bytes::Bytes;
use http::Response;
use quern_types::{
    CallState, DeliveryId, InvocationId, Name, NamedWebhook, StorageFailure, TenantId,
};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub use self::{
    announce::Announcement,
    call::{CallRecord, ClaimedCall, NewCall, Progress},
    change::{Cancellation, ChangeError},
    claim::{ClaimLimits, Claimed},
    deliver::{GivingUp, Next, Retry, RetryError, Sending},
    delivery::{Delivery, DeliveryCounts, DeliveryQuery, DeliveryRecord, Due, DueQuery},
    enqueue::{EnqueueError, Enqueued, QueueFull, QueueLimits, Scope},
    fires::{Fire, Fired, LastFire},
    held::HeldWebhook,
    read::{CallQuery, Found, Usage},
    settle::{Ending, Pause},
    sweep::Keep,
};
use self::{
    read::Reader,
    writer::{Operation, Queued, Writer},
};
use crate::{
    OpenError,
    database::{self, Synchronous},
    folder::FolderLock,
    metrics::StoreMetrics,
    store::join,
};

pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("queue/schema/01_calls.sql"),
    include_str!("queue/schema/02_fires.sql"),
    include_str!("queue/schema/03_callees.sql"),
    include_str!("queue/schema/04_deliveries.sql"),
    include_str!("queue/schema/05_named_webhooks.sql"),
    include_str!("queue/schema/06_held_deliveries.sql"),
    include_str!("queue/schema/07_lapsing_calls.sql"),
    include_str!("queue/schema/08_called_times.sql"),
    include_str!("queue/schema/09_times_of_schedules.sql"),
    include_str!("queue/schema/10_waiting_of_webhooks.sql"),
];

/// Why the queue can't be read or written; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the queue of calls failed: {reason}")]
pub struct QueueFailure {
    /// What failed.
    pub reason: StorageFailure,
}

/// Of a read, which neither a full disk nor a read-only one keeps from anything.
impl From<rusqlite::Error> for QueueFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self { reason: error.to_string().into() }
    }
}

/// The calls of all tenants.
#[derive(Debug)]
pub struct CallQueue {
    operations: Mutex<Option<mpsc::Sender<Box<dyn Operation>>>>,
    reader: Reader,
    writer: Mutex<Option<JoinHandle<()>>>,
    last_noted: Option<SystemTime>,
}

impl CallQueue {
    pub(crate) fn open(
        path: &Path,
        metrics: &StoreMetrics,
        lock: Arc<FolderLock>,
    ) -> Result<Self, OpenError> {
        let connection = database::open(path, Synchronous::Full, MIGRATIONS)?;
        let last_noted = read::last_noted(&connection, SystemTime::now())
            .map_err(|cause| database::failure(path, cause))?;
        let reader = Reader::new(database::open_reader(path)?);
        let (operations, queue) = mpsc::channel(writer::QUEUE);
        let writer = Writer { connection, metrics: metrics.clone(), _lock: lock };
        let writer = writer.start(queue).map_err(|cause| OpenError::Folder {
            action: "start the writer of",
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self {
            operations: Mutex::new(Some(operations)),
            reader,
            writer: Mutex::new(Some(writer)),
            last_noted,
        })
    }

    /// When the newest call or message was noted before the queue was opened, if any was: not counting
    /// those of a clock that was ahead.
    pub fn last_noted(&self) -> Option<SystemTime> {
        self.last_noted
    }

    /// Writes what is queued and ends the writer.
    pub(crate) async fn close(&self) {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(writer).await;
    }

    /// Takes a call in, unless there is one with its key already. Once this returns, power loss
    /// can't take it back.
    ///
    /// # Errors
    /// If the limits leave no room, or its key was used for something else.
    pub async fn enqueue(
        &self,
        call: NewCall,
        limits: QueueLimits,
    ) -> Result<Enqueued, EnqueueError> {
        let sender = self.sender()?;
        let (reply, answer) = oneshot::channel();
        let apply = move |connection: &Connection| enqueue::enqueue(connection, &call, &limits);
        // What waits for the writer is bounded: a caller is refused rather than held.
        let queued: Box<dyn Operation> = Box::new(Queued::new(apply, reply));
        sender.try_send(queued).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EnqueueError::Busy,
            mpsc::error::TrySendError::Closed(_) => stopped().into(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped().into()))
    }

    /// Takes in the calls of a schedule whose times are behind the last one, as many of them as the
    /// limits leave room for; the times of the others are yet to come then.
    ///
    /// # Errors
    /// If there is room for none: then none of the times is noted.
    pub async fn fire(&self, fire: Fire, limits: QueueLimits) -> Result<Fired, EnqueueError> {
        self.submit(move |connection| fires::fire(connection, &fire, &limits)).await
    }

    /// When a schedule was called last, if it ever was.
    pub async fn last_fire(
        &self,
        tenant: TenantId,
        name: Name,
    ) -> Result<Option<LastFire>, QueueFailure> {
        self.read(move |connection| fires::last(connection, &tenant, &name)).await
    }

    /// When each schedule was called last.
    pub async fn fires(&self) -> Result<Vec<LastFire>, QueueFailure> {
        self.read(fires::load).await
    }

    /// Forgets when a schedule was called last, which is gone.
    pub async fn forget_fires(&self, tenant: TenantId, name: Name) -> Result<(), QueueFailure> {
        self.submit(move |connection| fires::forget(connection, &tenant, &name).map(Ok)).await
    }

    /// Begins calls whose time has come, taking turns between tenants.
    pub async fn claim(
        &self,
        limits: ClaimLimits,
        after: Option<TenantId>,
        now: SystemTime,
    ) -> Result<Claimed, QueueFailure> {
        self.submit(move |connection| {
            claim::claim(connection, &limits, after.as_ref(), now).map(Ok)
        })
        .await
    }

    /// Calls that were running when the server ended, if any are left; to be settled before the
    /// first one is claimed.
    pub async fn stranded(
        &self,
        most: usize,
    ) -> Result<Vec<(InvocationId, Progress)>, QueueFailure> {
        self.read(move |connection| claim::stranded(connection, most)).await
    }

    /// Puts a running call back, to be tried again.
    pub async fn put_back(&self, id: InvocationId, pause: Pause) -> Result<(), QueueFailure> {
        self.submit(move |connection| settle::put_back(connection, id, &pause).map(Ok)).await
    }

    /// Ends a running call; returns whether its webhook has a message now. Once this returns, its
    /// answer survives power loss, and so does the message.
    pub async fn finish(&self, id: InvocationId, ending: Ending) -> Result<bool, QueueFailure> {
        self.submit(move |connection| settle::finish(connection, id, &ending).map(Ok)).await
    }

    /// Calls a waiting call off; returns whether its webhook has a message now.
    pub async fn cancel(
        &self,
        tenant: TenantId,
        id: InvocationId,
        end: Cancellation,
    ) -> Result<bool, ChangeError> {
        self.submit(move |connection| change::cancel(connection, &tenant, id, &end)).await
    }

    /// Queues a dead letter again, as if it were new, as far as the limits leave room.
    pub async fn replay(
        &self,
        tenant: TenantId,
        id: InvocationId,
        limits: QueueLimits,
        now: SystemTime,
    ) -> Result<(), ChangeError> {
        self.submit(move |connection| change::replay(connection, &tenant, id, &limits, now)).await
    }

    /// Removes a dead letter.
    pub async fn drop_dead(&self, tenant: TenantId, id: InvocationId) -> Result<(), ChangeError> {
        self.submit(move |connection| change::drop_dead(connection, &tenant, id)).await
    }

    /// Removes some of what is kept no longer at this time, or is too much; returns how many calls.
    pub async fn sweep(&self, keep: Keep, now: SystemTime) -> Result<usize, QueueFailure> {
        self.submit(move |connection| sweep::sweep(connection, &keep, now).map(Ok)).await
    }

    /// Messages to webhooks whose time has come.
    pub async fn due_deliveries(&self, query: DueQuery) -> Result<Due, QueueFailure> {
        self.read(move |connection| delivery::due(connection, &query)).await
    }

    /// Writes down what came of sending a message.
    pub async fn settle_delivery(
        &self,
        id: DeliveryId,
        sending: Sending,
    ) -> Result<(), QueueFailure> {
        self.submit(move |connection| deliver::settle(connection, id, &sending).map(Ok)).await
    }

    /// Has a message sent again that was given up.
    pub async fn retry_delivery(
        &self,
        tenant: TenantId,
        id: DeliveryId,
        retry: Retry,
    ) -> Result<(), RetryError> {
        self.submit(move |connection| deliver::retry(connection, &tenant, id, &retry)).await
    }

    /// Gives up some of the messages that wait for a webhook, which is gone; returns how many.
    pub async fn give_up_deliveries(
        &self,
        tenant: TenantId,
        webhook: NamedWebhook,
        end: GivingUp,
    ) -> Result<usize, QueueFailure> {
        self.submit(move |connection| deliver::give_up(connection, &tenant, &webhook, &end).map(Ok))
            .await
    }

    /// The webhooks for whose secrets messages wait.
    pub async fn held_webhooks(&self) -> Result<Vec<HeldWebhook>, QueueFailure> {
        self.read(held::webhooks).await
    }

    /// Has some of the messages sent now that wait for a webhook's secret; returns how many.
    pub async fn release_deliveries(
        &self,
        webhook: HeldWebhook,
        most: usize,
        now: SystemTime,
    ) -> Result<usize, QueueFailure> {
        self.submit(move |connection| held::release(connection, &webhook, most, now).map(Ok)).await
    }

    /// Removes some of the messages that are kept no longer at this time, or are too many; returns how
    /// many.
    pub async fn sweep_deliveries(
        &self,
        keep: Keep,
        now: SystemTime,
    ) -> Result<usize, QueueFailure> {
        self.submit(move |connection| deliver::sweep(connection, &keep, now).map(Ok)).await
    }

    /// One message of a tenant.
    pub async fn delivery(
        &self,
        tenant: TenantId,
        id: DeliveryId,
    ) -> Result<Option<DeliveryRecord>, QueueFailure> {
        self.read(move |connection| delivery::one(connection, &tenant, id)).await
    }

    /// The messages that are asked for, the newest first.
    pub async fn deliveries(
        &self,
        query: DeliveryQuery,
    ) -> Result<Vec<DeliveryRecord>, QueueFailure> {
        self.read(move |connection| delivery::list(connection, &query)).await
    }

    /// How many messages there are in each state.
    pub async fn delivery_counts(&self) -> Result<DeliveryCounts, QueueFailure> {
        self.read(delivery::counts).await
    }

    /// One call of a tenant.
    pub async fn call(
        &self,
        tenant: TenantId,
        id: InvocationId,
    ) -> Result<Option<CallRecord>, QueueFailure> {
        self.read(move |connection| read::call(connection, &tenant, id)).await
    }

    /// The answer to a call of a tenant; none of the inner where it has none, or none yet.
    pub async fn response(
        &self,
        tenant: TenantId,
        id: InvocationId,
    ) -> Result<Option<Found<Response<Bytes>>>, QueueFailure> {
        self.read(move |connection| read::response(connection, &tenant, id)).await
    }

    /// The calls that are asked for, the newest first.
    pub async fn list(&self, query: CallQuery) -> Result<Vec<CallRecord>, QueueFailure> {
        self.read(move |connection| read::list(connection, &query)).await
    }

    /// How many calls there are in each state, and since when the one that waits longest is due.
    pub async fn usage(&self) -> Result<Usage, QueueFailure> {
        self.read(read::usage).await
    }

    /// How many calls of a tenant are in a state.
    pub async fn count(&self, tenant: TenantId, state: CallState) -> Result<u64, QueueFailure> {
        self.read(move |connection| read::count(connection, tenant.as_str(), state)).await
    }

    fn sender(&self) -> Result<mpsc::Sender<Box<dyn Operation>>, QueueFailure> {
        let sender = self.operations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sender.ok_or_else(stopped)
    }

    /// Queues an operation, waits for its turn if need be, and until it is on the disk.
    async fn submit<T, E>(
        &self,
        apply: impl FnMut(&Connection) -> rusqlite::Result<Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<QueueFailure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let queued: Box<dyn Operation> = Box::new(Queued::new(apply, reply));
        self.sender()?.send(queued).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped().into()))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueFailure> {
        self.reader.read(read).await
    }
}

fn stopped() -> QueueFailure {
    QueueFailure { reason: "its writer has stopped".into() }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use uuid::Uuid;

    use super::*;

    #[test]
    fn calls_of_an_older_server_are_told_apart_by_what_they_call() {
        let queue = Connection::open_in_memory().expect("opens");
        let migrate = |steps: &[&str]| {
            steps.iter().for_each(|step| queue.execute_batch(step).expect("migrates"));
        };
        migrate(&MIGRATIONS[..2]);
        let insert = "INSERT INTO calls (id, tenant, target, method, path, state, key, digest,
             max_attempts, max_age_us, created_us, expires_us, due_us, bytes)
             VALUES (?1, 'a', ?2, 'POST', ?3, 'queued', 'k', x'', 1, 1, 1, 1, 1, 1)";
        for (id, target, path) in [(1, "hello", "/f/hello"), (2, "m", "/v2/models/m/infer")] {
            queue.execute(insert, (vec![id], target, path)).expect("inserts");
        }
        migrate(&MIGRATIONS[2..]);
        let kinds: Vec<(String, String)> = queue
            .prepare("SELECT target, kind FROM calls ORDER BY sequence")
            .and_then(|mut rows| {
                rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .expect("reads");
        let expected = [("hello", "http"), ("m", "inference")];
        assert_eq!(kinds, expected.map(|(target, kind)| (target.to_owned(), kind.to_owned())));
    }

    #[test]
    fn what_an_older_server_has_queued_goes_on() {
        let queue = Connection::open_in_memory().expect("opens");
        let migrate = |steps: &[&str]| {
            steps.iter().for_each(|step| queue.execute_batch(step).expect("migrates"));
        };
        migrate(&MIGRATIONS[..4]);
        let id = Uuid::from_u128(1);
        let insert = "INSERT INTO calls (id, tenant, target, method, path, state, digest, webhook,
             max_attempts, max_age_us, created_us, expires_us, due_us, bytes)
             VALUES (?1, 'a', 'f', 'POST', '/f/f', 'running', x'', 'shop', 1, 1, 1, 1, 1, 1)";
        queue.execute(insert, [id.as_bytes()]).expect("inserts");
        let insert = "INSERT INTO deliveries (id, tenant, webhook, call, body, state, created_us,
             expires_us, due_us) VALUES (?1, 'a', 'shop', ?1, '{}', 'waiting', 1, 1, 1)";
        queue.execute(insert, [id.as_bytes()]).expect("inserts");
        for (name, last) in [("hourly", 2), ("new", 1)] {
            let insert = "INSERT INTO fires VALUES ('a', ?1, 1, ?2, NULL)";
            queue.execute(insert, (name, last)).expect("inserts");
        }
        migrate(&MIGRATIONS[4..]);
        let (_, progress) = claim::stranded(&queue, 1).expect("reads")[0];
        assert!(progress.lapses, "as it was taken in");
        let query = DueQuery {
            most: 9,
            of_tenant: 9,
            after: None,
            under_way: HashMap::new(),
            longest_pause: Duration::ZERO,
            now: SystemTime::now(),
        };
        let due = delivery::due(&queue, &query).expect("reads").deliveries;
        assert_eq!((due[0].webhook.name.as_str(), due[0].webhook.created), ("shop", None));
        assert_eq!(fires::load(&queue).expect("reads").len(), 2);
        let called: Vec<_> = queue
            .prepare("SELECT called FROM fires ORDER BY name")
            .and_then(|mut rows| rows.query_map([], |row| spans::read(row, 0))?.collect())
            .expect("reads");
        assert_eq!(
            called,
            [vec![spans::Span(1, 2)], vec![]],
            "what was called is not called again"
        );
    }
}
