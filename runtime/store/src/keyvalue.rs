//! The key-value store of functions: writes are committed in groups by one thread, reads have
//! connections of their own. Never answers a write before the disk has it, and never lets one
//! bucket take all the room that waiting writes have.

mod operation;
pub(crate) mod pairs;
mod readers;
mod waiting;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use quern_types::{BucketId, ByteSize, Change, KeyPage, KeyValue, KeyValueError};
use tokio::sync::{mpsc, oneshot};

use self::{
    operation::{Operation, Queued, Writer},
    pairs::{Bucket, Failed},
    readers::Readers,
    waiting::{MAX_OPERATIONS, Waiting},
};
use crate::{
    OpenError,
    database::{self, Synchronous},
    folder::FolderLock,
    metrics::StoreMetrics,
    store::join,
};

/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 1 << 10;
/// Largest value.
const MAX_VALUE: ByteSize = ByteSize::mib(1);
/// Most keys of one operation, and of one page.
const MAX_KEYS: usize = 1_000;
/// Most bytes of keys and values that one operation reads or writes.
const MAX_BATCH: ByteSize = ByteSize::mib(8);

/// The pairs of all buckets.
#[derive(Debug)]
pub(crate) struct KeyValueStore {
    operations: Mutex<Option<mpsc::Sender<Box<dyn Operation>>>>,
    waiting: Arc<Waiting>,
    readers: Arc<Readers>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl KeyValueStore {
    pub(crate) fn open(
        path: &Path,
        bucket_bytes: ByteSize,
        metrics: &StoreMetrics,
        lock: Arc<FolderLock>,
    ) -> Result<Self, OpenError> {
        let connection = database::open(path, Synchronous::Full, pairs::MIGRATIONS)?;
        let readers = Arc::new(Readers::open(path)?);
        let (operations, queue) = mpsc::channel(MAX_OPERATIONS);
        let writer = Writer::new(connection, bucket_bytes, metrics.clone(), lock);
        let writer = writer.start(queue).map_err(|cause| OpenError::Folder {
            action: "start the writer of",
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self {
            operations: Mutex::new(Some(operations)),
            waiting: Arc::new(Waiting::default()),
            readers,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Writes what is queued and ends the writer.
    pub(crate) async fn close(&self) {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(writer).await;
    }

    /// Queues a write of so many bytes, if its keys and values are allowed and there is room.
    fn submit<T: Send + 'static>(
        &self,
        bucket: BucketId,
        checked: Result<usize, KeyValueError>,
        apply: impl FnMut(&Bucket<'_>) -> Result<T, Failed> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, KeyValueError>> {
        let queued = checked.and_then(|bytes| self.queue(bucket, bytes, apply));
        let answer = async move {
            let gone = KeyValueError::Storage { reason: "its writer has stopped".into() };
            queued?.await.unwrap_or(Err(gone))
        };
        answer.boxed()
    }

    fn queue<T: Send + 'static>(
        &self,
        bucket: BucketId,
        bytes: usize,
        apply: impl FnMut(&Bucket<'_>) -> Result<T, Failed> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, KeyValueError>>, KeyValueError> {
        let closed = || KeyValueError::Storage { reason: "it is closed".into() };
        let place = self.waiting.enter(&bucket, bytes).ok_or(KeyValueError::Busy)?;
        let (reply, answer) = oneshot::channel();
        let queued = Queued::new(bucket, apply, reply, place);
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = operations.as_ref().ok_or_else(closed)?;
        sender.try_send(Box::new(queued)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => KeyValueError::Busy,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        Ok(answer)
    }
}

impl KeyValue for KeyValueStore {
    fn get(
        &self,
        bucket: BucketId,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Vec<Option<Bytes>>, KeyValueError>> {
        let checked = check_count(keys.len())
            .and_then(|()| keys.iter().try_for_each(|key| check_key(key).map(|_| ())));
        let readers = self.readers.clone();
        let values = async move {
            checked?;
            readers.read(move |connection| pairs::get(connection, &bucket, &keys, MAX_BATCH)).await
        };
        values.boxed()
    }

    fn keys(
        &self,
        bucket: BucketId,
        after: Option<String>,
        count: usize,
    ) -> BoxFuture<'static, Result<KeyPage, KeyValueError>> {
        let readers = self.readers.clone();
        let after = after.unwrap_or_default();
        let count = count.min(MAX_KEYS);
        let page = async move {
            readers.read(move |connection| pairs::keys(connection, &bucket, &after, count)).await
        };
        page.boxed()
    }

    fn write(
        &self,
        bucket: BucketId,
        changes: Vec<Change>,
    ) -> BoxFuture<'static, Result<(), KeyValueError>> {
        let checked = check_changes(&changes);
        self.submit(bucket, checked, move |bucket| bucket.write(&changes))
    }

    fn increment(
        &self,
        bucket: BucketId,
        key: String,
        delta: i64,
    ) -> BoxFuture<'static, Result<i64, KeyValueError>> {
        let checked = check_key(&key);
        self.submit(bucket, checked, move |bucket| bucket.increment(&key, delta))
    }

    fn compare_and_set(
        &self,
        bucket: BucketId,
        key: String,
        expected: Option<Bytes>,
        value: Bytes,
    ) -> BoxFuture<'static, Result<bool, KeyValueError>> {
        let held = expected.as_ref().map_or(0, Bytes::len);
        let checked = check_pair(&key, &value).map(|bytes| bytes + held);
        self.submit(bucket, checked, move |bucket| {
            bucket.compare_and_set(&key, expected.as_deref(), &value)
        })
    }
}

fn check_count(count: usize) -> Result<(), KeyValueError> {
    match count {
        0..=MAX_KEYS => Ok(()),
        _ => Err(KeyValueError::TooManyKeys { count, limit: MAX_KEYS }),
    }
}

/// The bytes of a key that is allowed.
fn check_key(key: &str) -> Result<usize, KeyValueError> {
    match key.len() {
        length @ 1..=MAX_KEY_BYTES => Ok(length),
        length => Err(KeyValueError::Key { length, limit: MAX_KEY_BYTES }),
    }
}

/// The bytes of a pair that is allowed.
fn check_pair(key: &str, value: &Bytes) -> Result<usize, KeyValueError> {
    let bytes = check_key(key)?;
    if value.len() as u64 > MAX_VALUE.0 {
        return Err(KeyValueError::ValueTooLarge { limit: MAX_VALUE });
    }
    Ok(bytes + value.len())
}

/// The bytes of changes that are allowed together.
fn check_changes(changes: &[Change]) -> Result<usize, KeyValueError> {
    check_count(changes.len())?;
    let mut bytes = 0;
    for change in changes {
        bytes += match change {
            Change::Set(key, value) => check_pair(key, value)?,
            Change::Delete(key) => check_key(key)?,
        };
    }
    if bytes as u64 > MAX_BATCH.0 {
        return Err(KeyValueError::BatchTooLarge { limit: MAX_BATCH });
    }
    Ok(bytes)
}
