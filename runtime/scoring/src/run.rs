//! One turn of a batch: a thread that reads, calls that score, a thread that writes, and short
//! channels between them. Both threads are of a lower priority than those that serve.

use std::{sync::Arc, thread, time::Duration};

use futures::{StreamExt, stream};
use quern_dispatcher::{Dispatcher, Found};
use quern_parquet::{ReaderConfig, Stop};
use quern_types::{StorageFault, Tracer};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    batch::{BatchRecord, Ending},
    calls::{Caller, CallsError, Pace, ScoredChunk},
    live::Batch,
    metrics::ScoringMetrics,
    plan::Plan,
    rows::{Chunk, Gatherer},
    source::{self, Opening, SourceError},
    writer::{WriteError, Writer},
};

/// Calls of one batch at a time.
const CALLS: usize = 2;
/// Chunks that wait to be scored, and as many to be written.
const WAITING: usize = 2;
/// How long a batch runs before it makes room for one of another tenant.
const TURN: Duration = Duration::from_secs(20);
/// How often it looks whether one waits.
const LOOK: Duration = Duration::from_secs(1);
/// How much less urgent than others the threads are.
const NICE: i32 = 10;

/// What a turn needs beside its batch.
#[derive(Clone)]
pub(crate) struct Turn {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) metrics: ScoringMetrics,
    /// How long a call is tried again that is refused for want of room.
    pub(crate) patience: Duration,
    /// How files of Parquet are read.
    pub(crate) reader: ReaderConfig,
    /// Cancelled when the server stops.
    pub(crate) closing: CancellationToken,
    /// Begins the traces of calls; none: there are none.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TurnEnd {
    /// The batch has ended.
    Ended(Ending),
    /// The batch goes on later, from its checkpoint.
    Paused,
    /// The same, but the disk is full, or takes no writes: not before long.
    Held(String),
}

/// Why the calls of a turn ended.
enum CallsEnd {
    /// There are no more rows.
    Done,
    /// It is somebody else's turn, or the server stops, or the batch was removed.
    Paused,
    Failed(CallsError),
}

impl Turn {
    /// Runs a batch until it ends or is to make room.
    pub(crate) async fn run(&self, batch: &Arc<Batch>, makes_room: impl Fn() -> bool) -> TurnEnd {
        let record = batch.record();
        let plan = match self.plan(&record) {
            Ok(plan) => Arc::new(plan),
            Err(reason) => return failed(reason),
        };
        let (chunks, chunks_read) = mpsc::channel(WAITING);
        let (scored, scored_read) = mpsc::channel(WAITING);
        let stop = Stop::default();
        let reading = self.read(batch, &record, plan.clone(), (chunks, stop.clone()));
        let writing = write(batch, self.metrics.clone(), plan.clone(), scored_read);
        let caller = Caller {
            dispatcher: self.dispatcher.clone(),
            tracer: self.tracer.clone(),
            batch: record.id,
            tenant: record.tenant.clone(),
            model: record.spec.model.clone(),
            version: record.spec.version,
            patience: self.patience,
            pace: Arc::new(Pace::new(plan.call_rows)),
            layout: plan.layout,
        };
        let called = self.call(batch, caller, chunks_read, scored, makes_room).await;
        // Whoever reads may wait for another process, for rows that nobody takes any more.
        stop.stop();
        let written = ended(writing.await, "writing its results");
        let read = ended(reading.await, "reading its file");
        let read = read.and_then(|read| read.map_err(|error| error.to_string()));
        decide(called, read, written)
    }

    fn plan(&self, record: &BatchRecord) -> Result<Plan, String> {
        let spec = &record.spec;
        let routes = self.dispatcher.routes();
        let found = Found::find(&routes, &record.tenant, &spec.model, Some(spec.version));
        let found = found.map_err(|error| error.to_string())?;
        Plan::new(spec, &found).map_err(|error| error.to_string())
    }

    /// Has chunks scored and hands them on in order, until there are no more or the turn is over.
    async fn call(
        &self,
        batch: &Batch,
        caller: Caller,
        chunks: mpsc::Receiver<Chunk>,
        scored: mpsc::Sender<ScoredChunk>,
        makes_room: impl Fn() -> bool,
    ) -> CallsEnd {
        let chunks =
            stream::unfold(chunks, async |mut chunks| Some((chunks.recv().await?, chunks)));
        let mut results =
            std::pin::pin!(chunks.map(|chunk| caller.clone().score(chunk)).buffered(CALLS));
        let begun = Instant::now();
        let mut has_reached = false;
        let mut look = tokio::time::interval(LOOK);
        loop {
            let result = tokio::select! {
                biased;
                () = self.closing.cancelled() => return CallsEnd::Paused,
                () = batch.removed.cancelled() => return CallsEnd::Paused,
                _ = look.tick() => {
                    // A turn that has reached nothing would be computed again, and again.
                    if has_reached && begun.elapsed() >= TURN && makes_room() {
                        return CallsEnd::Paused;
                    }
                    continue;
                }
                result = results.next() => result,
            };
            match result {
                None => return CallsEnd::Done,
                Some(Err(error)) => return CallsEnd::Failed(error),
                Some(Ok(chunk)) => {
                    // The writer says why it takes no more.
                    if scored.send(chunk).await.is_err() {
                        return CallsEnd::Done;
                    }
                    has_reached = true;
                }
            }
        }
    }

    /// Reads the rows of a batch from its checkpoint on.
    fn read(
        &self,
        batch: &Batch,
        record: &BatchRecord,
        plan: Arc<Plan>,
        (chunks, stop): (mpsc::Sender<Chunk>, Stop),
    ) -> oneshot::Receiver<Result<(), SourceError>> {
        let (path, reader) = (batch.folder.input(), self.reader.clone());
        let (format, at) = (record.spec.format, record.checkpoint.position);
        start("batch-reader", move || {
            let (plan, reader, stop) = (&*plan, &reader, &stop);
            let mut source =
                source::open(&Opening { path: &path, format, plan, at, reader, stop })?;
            let mut gatherer = Gatherer::new(plan);
            loop {
                let mut full = None;
                let more = source.next(&mut |place, record| full = gatherer.take(place, record));
                let is_last = !matches!(more, Ok(true));
                // What was read before the file ended, or broke, is scored all the same.
                let chunk = if is_last { gatherer.finish() } else { full };
                if let Some(chunk) = chunk
                    && chunks.blocking_send(chunk).is_err()
                {
                    return Ok(());
                }
                if is_last {
                    return more.map(drop);
                }
            }
        })
    }
}

/// Writes the results of a batch from its checkpoint on.
fn write(
    batch: &Arc<Batch>,
    metrics: ScoringMetrics,
    plan: Arc<Plan>,
    scored: mpsc::Receiver<ScoredChunk>,
) -> oneshot::Receiver<Result<(), WriteError>> {
    let batch = batch.clone();
    start("batch-writer", move || Writer::open(batch, metrics, &plan)?.write_all(scored))
}

/// Starts a thread; what it gives comes when it ends, and nothing if it panics.
fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    let started = thread::Builder::new().name(name.into()).spawn(move || {
        // On Linux a priority is a thread's own; elsewhere it would be the whole program's.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "a batch runs at the priority of all others");
        }
        let _ = sender.send(work());
    });
    if let Err(error) = started {
        tracing::error!(%error, name, "thread can't be started");
    }
    receiver
}

fn decide(
    called: CallsEnd,
    read: Result<(), String>,
    written: Result<Result<(), WriteError>, String>,
) -> TurnEnd {
    let written = match written {
        Ok(written) => written,
        Err(reason) => return failed(reason),
    };
    match (written, called, read) {
        (Err(WriteError::Row(row)), ..) => {
            let reason = row.to_string();
            TurnEnd::Ended(Ending::Failed { reason, row: Some(row) })
        }
        (Err(WriteError::Disk(error)), ..)
            if StorageFault::from(error.kind()) != StorageFault::Other =>
        {
            TurnEnd::Held(error.to_string())
        }
        (Err(error), ..) => failed(error.to_string()),
        (_, CallsEnd::Paused | CallsEnd::Failed(CallsError::ShuttingDown), _) => TurnEnd::Paused,
        (_, CallsEnd::Failed(CallsError::Impossible(reason)), _)
        | (_, CallsEnd::Done, Err(reason)) => failed(reason),
        (Ok(()), CallsEnd::Done, Ok(())) => TurnEnd::Ended(Ending::Completed),
    }
}

fn failed(reason: String) -> TurnEnd {
    TurnEnd::Ended(Ending::Failed { reason, row: None })
}

/// What a thread gave; one that gave nothing has panicked.
fn ended<T>(outcome: Result<T, oneshot::error::RecvError>, what: &str) -> Result<T, String> {
    outcome.map_err(|_| format!("{what} failed in the host"))
}
