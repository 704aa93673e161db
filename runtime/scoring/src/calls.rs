//! The calls that score a chunk: of as many rows as leave room for others, tried again where the
//! server has too much to do, and cut into halves where one of the rows is to blame.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use quern_dispatcher::{Dispatcher, InferReply, InferRequest};
use quern_types::{
    DeviceError, GuestFault, InvocationId, InvokeError, ModelError, Name, Picked, Priority, Span,
    TenantId, Tensor, Tracer, VersionNumber,
};
use tokio::time::Instant;

use crate::{BatchId, plan::Layout, rows::Chunk};

/// How long a call may occupy a lane of a device, as far as the rows of one call decide it: about
/// as long may a call wait that somebody else makes meanwhile.
const OCCUPIED: Duration = Duration::from_millis(10);
/// First and longest pause before a call that was refused is made again.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Makes the calls of one batch.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) dispatcher: Arc<Dispatcher>,
    /// Begins the trace of each call: one for a whole batch would have no end.
    pub(crate) tracer: Option<Arc<Tracer>>,
    pub(crate) batch: BatchId,
    pub(crate) tenant: TenantId,
    pub(crate) model: Name,
    pub(crate) version: VersionNumber,
    /// How long a call is tried again that is refused for want of room.
    pub(crate) patience: Duration,
    pub(crate) pace: Arc<Pace>,
    pub(crate) layout: Layout,
}

/// How many rows a call has.
#[derive(Debug)]
pub(crate) struct Pace {
    rows: AtomicU32,
    most: u32,
}

impl Pace {
    /// At most so many rows, and at first one of them: nothing is known yet.
    pub(crate) fn new(most: usize) -> Self {
        Self { rows: AtomicU32::new(1), most: u32::try_from(most).unwrap_or(u32::MAX).max(1) }
    }

    fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed) as usize
    }

    /// Takes note of how long a run of so many rows took.
    fn took(&self, rows: u32, compute: Duration) {
        self.rows.store(pace(rows.max(1), compute, self.most), Ordering::Relaxed);
    }
}

/// As many rows as would have taken the time that a call may take, but no more than four times as
/// many as were tried.
fn pace(rows: u32, compute: Duration, most: u32) -> u32 {
    let each = (compute.as_nanos() / u128::from(rows)).max(1);
    let fitting = u32::try_from(OCCUPIED.as_nanos() / each).unwrap_or(u32::MAX);
    fitting.min(rows.saturating_mul(4)).clamp(1, most)
}

/// What became of good rows that follow each other.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The outputs of so many rows.
    Computed(usize, Vec<Tensor>),
    /// One row could not be scored.
    Failed(String),
}

/// A chunk whose good rows were scored.
#[derive(Debug)]
pub(crate) struct ScoredChunk {
    pub(crate) chunk: Chunk,
    pub(crate) pieces: Vec<Piece>,
}

/// Why a batch can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallsError {
    /// The server stops; the batch goes on when it runs again.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// No row could be scored.
    #[error("{0}")]
    Impossible(String),
}

/// What an error of a call means to its batch.
enum Meaning {
    /// One of its rows is to blame, or what the model makes of it.
    Row(String),
    /// Another try may succeed.
    Later(String),
    Fatal(CallsError),
}

impl Caller {
    /// Scores the good rows of a chunk, in order.
    pub(crate) async fn score(self, chunk: Chunk) -> Result<ScoredChunk, CallsError> {
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < chunk.good {
            let part = done..chunk.good.min(done + self.pace.rows());
            done = part.end;
            self.score_part(&chunk, part, &mut pieces).await?;
        }
        Ok(ScoredChunk { chunk, pieces })
    }

    /// Scores some rows; if they fail together, each half on its own.
    async fn score_part(
        &self,
        chunk: &Chunk,
        rows: Range<usize>,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), CallsError> {
        let mut left = vec![rows];
        while let Some(rows) = left.pop() {
            match self.call(inputs(chunk, &rows), rows.len()).await? {
                Ok(reply) if self.layout == Layout::Rows && !has_rows(&reply, rows.len()) => {
                    let reason = "the outputs have another number of rows";
                    blame(rows, reason.into(), &mut left, pieces);
                }
                Ok(reply) => {
                    if let Some(served) = reply.served {
                        self.pace.took(served.batch_rows, served.compute);
                    } else {
                        // Nobody tells how long a function computes, and it asked for these rows.
                        self.pace.took(self.pace.most, Duration::ZERO);
                    }
                    pieces.push(Piece::Computed(rows.len(), reply.outputs));
                }
                Err(reason) => blame(rows, reason, &mut left, pieces),
            }
        }
        Ok(())
    }

    /// Makes a call until it is decided; the inner error is the rows' own.
    async fn call(
        &self,
        inputs: Vec<Tensor>,
        rows: usize,
    ) -> Result<Result<InferReply, String>, CallsError> {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let id = InvocationId::from_uuid(uuid::Uuid::now_v7());
            let mut span = self.span(id, rows);
            let request = InferRequest {
                id,
                routes: self.dispatcher.routes(),
                tenant: self.tenant.clone(),
                target: self.model.clone(),
                picked: Picked { version: self.version, asked: true, counted: false, shadow: None },
                timeout: None,
                priority: Priority::LOWEST,
                trace: span.trace().clone(),
                inputs: inputs.clone(),
            };
            let outcome = self.dispatcher.infer(request).await;
            span.outcome(&outcome);
            drop(span);
            match outcome.map_err(|error| meaning(error, id)) {
                Ok(reply) => return Ok(Ok(reply)),
                Err(Meaning::Row(reason)) => return Ok(Err(reason)),
                Err(Meaning::Fatal(error)) => return Err(error),
                Err(Meaning::Later(reason)) if begun.elapsed() >= self.patience => {
                    let patience = quern_types::Period(self.patience);
                    let reason = format!("no call succeeded for {patience}: {reason}");
                    return Err(CallsError::Impossible(reason));
                }
                Err(Meaning::Later(_)) => tokio::time::sleep(pause).await,
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}

impl Caller {
    /// The span of a call.
    fn span(&self, id: InvocationId, rows: usize) -> Span {
        let Some(tracer) = &self.tracer else { return Span::none() };
        let mut span = tracer.work("score");
        span.note(|| {
            [
                ("quern.tenant", self.tenant.as_str().into()),
                ("quern.batch", self.batch.to_string().into()),
                ("quern.invocation", id.to_string().into()),
                ("quern.rows", (rows as u64).into()),
            ]
        });
        span
    }
}

/// One row is to blame; of several, each half is tried on its own.
fn blame(
    rows: Range<usize>,
    reason: String,
    left: &mut Vec<Range<usize>>,
    pieces: &mut Vec<Piece>,
) {
    if rows.len() == 1 {
        return pieces.push(Piece::Failed(format!("could not be scored: {reason}")));
    }
    let middle = rows.start + rows.len() / 2;
    left.push(middle..rows.end);
    left.push(rows.start..middle);
}

/// Whether each output has so many rows: of a function nobody else has checked it.
fn has_rows(reply: &InferReply, rows: usize) -> bool {
    reply.outputs.iter().all(|output| output.shape().first() == Some(&(rows as u64)))
}

/// The inputs of some of a chunk's rows.
fn inputs(chunk: &Chunk, rows: &Range<usize>) -> Vec<Tensor> {
    if rows.len() == chunk.good {
        return chunk.inputs.clone();
    }
    let rows = rows.start as u64..rows.end as u64;
    let cut = |input: &Tensor| input.rows(rows.clone()).expect("has all good rows");
    chunk.inputs.iter().map(cut).collect()
}

/// What an error means. Causes that are the operator's go to the log, as they do online.
fn meaning(error: InvokeError, id: InvocationId) -> Meaning {
    let hidden = |text: &str, cause: &dyn std::fmt::Display| {
        tracing::warn!(invocation = %id, %cause, "call of a batch failed");
        format!("{text}; the server's log has the cause of invocation {id}")
    };
    match error {
        InvokeError::Busy { .. }
        | InvokeError::MemoryFull { .. }
        | InvokeError::Guest { fault: GuestFault::Overload | GuestFault::Time, .. } => {
            Meaning::Later(error.to_string())
        }
        InvokeError::ShuttingDown => Meaning::Fatal(CallsError::ShuttingDown),
        InvokeError::NotFound { .. }
        | InvokeError::VersionNotFound { .. }
        | InvokeError::AliasNotFound { .. }
        | InvokeError::SecretsLocked { .. }
        | InvokeError::WrongKind { .. } => fatal(error.to_string()),
        InvokeError::Unavailable { ref name, ref reason } => {
            fatal(hidden(&format!("function {name:?} can't be made ready"), reason))
        }
        InvokeError::Model(error) => match error {
            ModelError::QueueFull { .. }
            | ModelError::QueueMemory { .. }
            | ModelError::TooLate { .. }
            | ModelError::DeadlineExceeded { .. }
            | ModelError::Device { error: DeviceError::Lost { .. }, .. } => {
                Meaning::Later(error.to_string())
            }
            ModelError::NotFound { .. }
            | ModelError::NotShared { .. }
            | ModelError::VersionNotFound { .. }
            | ModelError::Unloaded { .. }
            | ModelError::Device { error: DeviceError::EngineAbsent { .. }, .. } => {
                fatal(error.to_string())
            }
            ModelError::Unavailable { ref name, ref reason } => {
                fatal(hidden(&format!("model {name:?} can't be made ready"), reason))
            }
            ModelError::Device { ref name, error: ref cause @ DeviceError::Load { .. } } => {
                fatal(hidden(&format!("model {name:?} can't be made ready"), cause))
            }
            ModelError::Device { ref name, error: ref cause @ DeviceError::Run { engine, .. } } => {
                let text = format!("model {name:?}: the engine {engine} could not compute it");
                Meaning::Row(hidden(&text, cause))
            }
            ModelError::Signature { .. } | ModelError::Rows { .. } => {
                Meaning::Row(error.to_string())
            }
        },
        InvokeError::RequestBody(_)
        | InvokeError::Signature(_)
        | InvokeError::InvalidOutput { .. }
        | InvokeError::Limit(_)
        | InvokeError::Trap { .. }
        | InvokeError::NoResponse
        | InvokeError::Guest { fault: GuestFault::Input | GuestFault::Internal, .. } => {
            Meaning::Row(error.to_string())
        }
    }
}

fn fatal(reason: String) -> Meaning {
    Meaning::Fatal(CallsError::Impossible(reason))
}

#[cfg(test)]
mod tests {
    use quern_types::Engine;

    use super::*;

    #[test]
    fn a_call_has_as_many_rows_as_its_time_allows() {
        let ms = Duration::from_millis;
        for (rows, compute, most, expected) in [
            (1, ms(10), 64, 1),
            (1, ms(100), 64, 1),
            (1, ms(1), 64, 4),
            (8, ms(4), 64, 20),
            (64, ms(40), 64, 16),
            (16, Duration::ZERO, 64, 64),
            (16, Duration::ZERO, 48, 48),
        ] {
            assert_eq!(pace(rows, compute, most), expected, "{rows} rows in {compute:?}");
        }
    }

    #[test]
    fn an_error_concerns_its_row_or_its_batch_or_the_moment() {
        let name: Name = "m".parse().expect("a name");
        let id = InvocationId::from_uuid(uuid::Uuid::nil());
        let run = DeviceError::Run { engine: Engine::Tract, reason: "/secret".into() };
        let model = |error| InvokeError::Model(error);
        for (error, expected) in [
            (InvokeError::NoResponse, "row: function returned without a response"),
            (InvokeError::Busy { scope: "server", limit: 1 }, "later: 1 requests"),
            (InvokeError::ShuttingDown, "fatal: the server is shutting down"),
            (
                model(ModelError::NotFound { name: name.clone() }),
                "fatal: model \"m\" is not deployed",
            ),
            (model(ModelError::QueueFull { name: name.clone(), waiting: 1 }), "later: model \"m\""),
            (
                model(ModelError::Device { name: name.clone(), error: run }),
                "row: model \"m\": the engine tract could not compute it; the server's log",
            ),
            (
                InvokeError::Unavailable { name, reason: "/secret".into() },
                "fatal: function \"m\" can't be made ready; the server's log",
            ),
        ] {
            let found = match meaning(error, id) {
                Meaning::Row(reason) => format!("row: {reason}"),
                Meaning::Later(reason) => format!("later: {reason}"),
                Meaning::Fatal(error) => format!("fatal: {error}"),
            };
            assert!(found.starts_with(expected), "{found:?} should start with {expected:?}");
            assert!(!found.contains("secret"), "{found}");
        }
    }
}
