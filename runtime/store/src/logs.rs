//! What functions printed: appended without waiting, read by name. Never slows a request down;
//! what the queue has no room for is dropped and counted, and power loss may cost the newest
//! records.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::SystemTime,
};

use prometheus::IntCounter;
use quern_types::{InvocationId, LogLevel, Name, StorageFailure, TenantId, TraceId, VersionNumber};
use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::{
    LogPage, LogQuery, OpenError,
    database::{self, Synchronous},
    folder::FolderLock,
    log_reader,
    log_writer::{LogWriter, MIGRATIONS, Message, Retention},
    metrics::StoreMetrics,
    store::join,
};

/// Records that can wait for the writer, or be written by it.
const QUEUE: usize = 4096;
/// Bytes of text that these records can have together.
const QUEUE_BYTES: usize = 32 << 20;

/// The logs of all functions.
#[derive(Debug)]
pub struct FunctionLogs {
    messages: Mutex<Option<mpsc::Sender<Message>>>,
    room: Arc<Semaphore>,
    written: watch::Receiver<u64>,
    reader: Arc<Mutex<Connection>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    dropped: IntCounter,
}

/// Something that a function printed, or that happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Whose function it is.
    pub tenant: TenantId,
    /// The function.
    pub function: Name,
    /// The version that ran.
    pub version: VersionNumber,
    /// The request that it served.
    pub invocation: InvocationId,
    /// The trace that the request was part of, if it was of one.
    pub trace: Option<TraceId>,
    /// When.
    pub time: SystemTime,
    /// From where.
    pub stream: LogStream,
    /// What.
    pub text: String,
}

/// Where a log record comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogStream {
    /// The function's standard output.
    Stdout,
    /// The function's standard error.
    Stderr,
    /// The server: traps and limits.
    System,
    /// The function's own log, through `wasi:logging`.
    Log {
        /// How much the message matters.
        level: LogLevel,
        /// What groups it with others.
        context: String,
    },
}

impl LogRecord {
    /// Longest text of a record, in bytes; with the queue it bounds memory. What is longer is cut.
    pub const MAX_TEXT: usize = 64 << 10;
}

/// A record that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place among all records; only grows.
    pub sequence: u64,
    /// The record.
    pub record: LogRecord,
}

/// Why logs can't be read or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The database failed.
    #[error("logs of {function:?} can't be read or removed: {reason}")]
    Storage {
        /// The function.
        function: Name,
        /// What failed.
        reason: StorageFailure,
    },
}

impl FunctionLogs {
    pub(crate) fn open(
        path: &Path,
        retention: Retention,
        metrics: &StoreMetrics,
        lock: Arc<FolderLock>,
    ) -> Result<Self, OpenError> {
        let connection = database::open(path, Synchronous::Normal, MIGRATIONS)?;
        let reader = database::open_reader(path)?;
        let (messages, queue) = mpsc::channel(QUEUE);
        let (changes, written) = watch::channel(0);
        let dropped = metrics.dropped_records.clone();
        let writer = LogWriter::new(connection, retention, changes, metrics.clone(), lock);
        let writer = writer.start(queue).map_err(|cause| OpenError::Folder {
            action: "start the writer of",
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self {
            messages: Mutex::new(Some(messages)),
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            written,
            reader: Arc::new(Mutex::new(reader)),
            writer: Mutex::new(Some(writer)),
            dropped,
        })
    }

    /// Hands a record to the writer; never waits. Text over 64 KiB is cut, and says so.
    pub fn append(&self, mut record: LogRecord) {
        cut(&mut record.text);
        if let LogStream::Log { context, .. } = &mut record.stream {
            cut(context);
        }
        if self.queue(record).is_none() {
            self.dropped.inc();
        }
    }

    /// Queues a record, if there is room.
    fn queue(&self, record: LogRecord) -> Option<()> {
        let bytes = u32::try_from(record.text.len()).ok()?;
        let room = self.room.clone().try_acquire_many_owned(bytes).ok()?;
        self.sender()?.try_send(Message::Append { record, _room: room }).ok()
    }

    /// Some records of one function.
    pub async fn page(
        &self,
        tenant: &TenantId,
        function: &Name,
        query: LogQuery,
    ) -> Result<LogPage, LogError> {
        let reader = self.reader.clone();
        let (tenant, name) = (tenant.clone(), function.clone());
        let read = tokio::task::spawn_blocking(move || {
            let connection = reader.lock().unwrap_or_else(PoisonError::into_inner);
            log_reader::page(&connection, &tenant, &name, &query)
        });
        let failed = |reason: String| LogError::Storage {
            function: function.clone(),
            reason: reason.into(),
        };
        match read.await {
            Ok(page) => page.map_err(|error| failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The newest sequence number; changes whenever records were written.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    /// Removes all records of one function, those that still wait included.
    pub async fn remove(&self, tenant: &TenantId, function: &Name) -> Result<(), LogError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Remove { tenant: tenant.clone(), function: function.clone(), reply };
        let failed = |reason| LogError::Storage { function: function.clone(), reason };
        let closed = || failed("the store is closed".into());
        let sender = self.sender().ok_or_else(closed)?;
        sender.send(message).await.map_err(|_| closed())?;
        drop(sender);
        match answer.await {
            Ok(removed) => removed.map_err(failed),
            Err(_) => Err(failed("the writer has stopped".into())),
        }
    }

    /// Writes what is queued and ends the writer.
    pub(crate) async fn close(&self) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(writer).await;
    }

    fn sender(&self) -> Option<mpsc::Sender<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LogStream {
    /// The word of the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
            Self::Log { .. } => "log",
        }
    }

    /// Level and context of the function's own log.
    pub fn logged(&self) -> Option<(LogLevel, &str)> {
        match self {
            Self::Log { level, context } => Some((*level, context)),
            _ => None,
        }
    }
}

/// Cuts a text that is too long, and says so at its end.
fn cut(text: &mut String) {
    let length = text.len();
    if length > LogRecord::MAX_TEXT {
        text.truncate(text.floor_char_boundary(LogRecord::MAX_TEXT));
        text.push_str(&format!("… [cut: {length} bytes]"));
    }
}
