//! The batch queue of one model replica: holds the calls, asks the scheduler what to do with them,
//! and does it.

mod answer;
mod guards;
mod recorded;
mod solitude;

use std::{
    collections::HashMap,
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use futures::FutureExt;
use quern_scheduler::{
    Action, Arrival, Batcher, BatcherConfig, CallId, Event, LaneId, Measured, Part, Refusal,
};
use quern_types::{
    Batch, BatchResult, ByteSize, Deadline, DeviceError, Priority, Replica, Tensor, Trace,
};
use tokio::sync::oneshot;

pub(crate) use self::answer::{Answer, Computed, Reply, Uncomputed};
use self::{
    guards::{LaneGuard, Ticket},
    recorded::RunSpan,
    solitude::Solitude,
};
use crate::{
    metrics::{ModelMetrics, REPLICA},
    shapes::Shapes,
    split::{self, PartReply, Split},
    statistics::{Answered, Counters, RunParts},
};

/// A call on its way into the queue.
pub(crate) struct QueuedCall {
    /// In the signature's order.
    pub(crate) inputs: Vec<Tensor>,
    /// The first dimension of all inputs; 1 for a model without a batch axis.
    pub(crate) rows: u32,
    pub(crate) priority: Priority,
    pub(crate) deadline: Deadline,
    pub(crate) place: Place,
    /// Where it stands in a trace.
    pub(crate) trace: Trace,
}

/// Where a call that comes alone is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where it is, if its run is short: nothing else is to be done there, and nobody charges for
    /// the time. What takes longer goes on elsewhere.
    Here,
    /// Elsewhere: the time is not its caller's.
    Elsewhere,
}

/// The queue of one replica.
pub(crate) struct BatchQueue {
    replica: Arc<dyn Replica>,
    config: BatcherConfig,
    metrics: ModelMetrics,
    counters: Arc<Counters>,
    /// The scheduler counts microseconds from here.
    start: Instant,
    core: Mutex<Core>,
}

struct Core {
    batcher: Batcher,
    shapes: Shapes,
    /// The calls of which any row has not been dispatched.
    calls: HashMap<CallId, Waiting>,
    /// Calls that the scheduler has not been told of yet; a task is on its way to tell it.
    arrived: Vec<Arrival>,
    solitude: Solitude,
    next: u64,
    /// When the task wakes up that ends a wait for more rows; none while there is none.
    wakes_us: Option<u64>,
}

struct Waiting {
    /// Without the rows that have been dispatched.
    inputs: Vec<Tensor>,
    /// With them.
    rows: u32,
    arrived: Instant,
    trace: Trace,
    to: Recipient,
}

/// Whom the answer of a call is for.
enum Recipient {
    /// Its caller.
    Caller(Reply),
    /// The call as a whole, once its rows run in parts.
    Split(Arc<Split>),
    /// Nobody: it changes hands.
    Nobody,
}

/// A batch on its way to a lane.
struct Job {
    lane: LaneId,
    parts: Vec<Running>,
}

/// Rows of one call in a batch.
struct Running {
    inputs: Vec<Tensor>,
    rows: u32,
    arrived: Instant,
    trace: Trace,
    to: Destination,
}

/// Where the outputs of these rows go.
enum Destination {
    Caller(Reply),
    Split(PartReply),
}

impl BatchQueue {
    /// A queue whose lanes are all free; `config` says how many there are.
    pub(crate) fn new(
        replica: Arc<dyn Replica>,
        config: BatcherConfig,
        shapes: Shapes,
        metrics: ModelMetrics,
        counters: Arc<Counters>,
    ) -> Self {
        let mut batcher = Batcher::new(config);
        for lane in 0..config.lanes {
            // Nothing waits yet, so there is nothing to be done.
            let _ = batcher.step(Event::LaneFree { lane: LaneId(lane) }, 0);
        }
        let core = Core {
            batcher,
            shapes,
            calls: HashMap::new(),
            arrived: Vec::new(),
            solitude: Solitude::default(),
            next: 0,
            wakes_us: None,
        };
        let (start, core) = (Instant::now(), Mutex::new(core));
        Self { replica, config, metrics, counters, start, core }
    }

    /// Computes one call, in a batch with others that wait, or in several batches if it has more
    /// rows than one takes. Dropping the future cancels the call.
    pub(crate) async fn compute(
        self: &Arc<Self>,
        call: QueuedCall,
    ) -> Result<Computed, Uncomputed> {
        let deadline = call.deadline.at();
        let (reply, answer) = oneshot::channel();
        let (call, jobs) = self.arrive(call, reply);
        let mut ticket = Ticket { queue: self, call, waits: true };
        self.begin(jobs).await;
        let answered = tokio::time::timeout_at(deadline.into(), answer).await;
        // Of a call whose run was lost, other parts may wait.
        ticket.waits = matches!(answered, Err(_) | Ok(Ok(Err(Uncomputed::Lost))));
        match answered {
            Ok(Ok(Ok(Answer::Whole(computed)))) => Ok(computed),
            Ok(Ok(Ok(Answer::Parts(parts)))) => parts.join().await,
            Ok(Ok(Err(uncomputed))) => Err(uncomputed),
            // The task that held the reply is gone, which only a panic in the host can do.
            Ok(Err(_)) => Err(Uncomputed::Lost),
            Err(_) => Err(Uncomputed::Expired),
        }
    }

    /// How long runs have taken so far, by their rows.
    pub(crate) fn profile(&self) -> Vec<Measured> {
        self.lock().batcher.profile().all().collect()
    }

    /// The labels of its metrics.
    pub(crate) fn labels(&self) -> [&str; REPLICA.len()] {
        self.metrics.labels()
    }

    /// Takes down a call that succeeded.
    pub(crate) fn answered(&self, call: Answered) {
        self.metrics.seconds.observe(call.took.as_secs_f64());
        self.counters.succeeded(call);
    }

    /// Takes a call in. What it sets off at once, because it is alone, is for its caller to begin.
    fn arrive(self: &Arc<Self>, call: QueuedCall, reply: Reply) -> (CallId, Vec<Job>) {
        let QueuedCall { inputs, rows, priority, deadline, place, trace } = call;
        let deadline_us = self.micros(deadline.at());
        let bytes = inputs.iter().map(|input| input.data().len() as u64).sum();
        let (arrived, to) = (Instant::now(), Recipient::Caller(reply));
        let mut core = self.lock();
        let call = CallId(core.next);
        core.next += 1;
        let bucket = core.shapes.bucket(&inputs);
        let alone = core.arrived.is_empty() && core.batcher.is_at_rest();
        let alone = core.solitude.note(alone);
        core.arrived.push(Arrival { call, rows, bytes, bucket, priority, deadline_us });
        core.calls.insert(call, Waiting { inputs, rows, arrived, trace, to });
        if alone && place == Place::Here {
            return (call, self.gathered(core));
        }
        if core.arrived.len() == 1 {
            tokio::spawn(self.clone().gather());
        }
        (call, Vec::new())
    }

    /// Begins batches where their caller is. What is not computed within this turn goes on in a
    /// task of its own, so that a caller who leaves takes nothing with it.
    async fn begin(self: &Arc<Self>, mut jobs: Vec<Job>) {
        let Some(own) = jobs.pop() else { return };
        self.set_off(jobs);
        // As in a task, a fault of the host is this run's: its reply is dropped with it.
        let mut run = AssertUnwindSafe(self.clone().run(own)).catch_unwind().boxed();
        if poll_fn(|context| Poll::Ready(run.as_mut().poll(context))).await.is_pending() {
            tokio::spawn(run);
        }
    }

    /// Tells the scheduler of the calls that have arrived, once the requests that are ready at
    /// this moment have had their turn to become calls: what costs a microsecond when one comes
    /// alone makes one batch of many that come at once.
    async fn gather(self: Arc<Self>) {
        tokio::task::yield_now().await;
        let mut jobs = self.gathered(self.lock());
        let own = jobs.pop();
        self.set_off(jobs);
        if let Some(job) = own {
            self.run(job).await;
        }
    }

    fn gathered(self: &Arc<Self>, mut core: MutexGuard<'_, Core>) -> Vec<Job> {
        let mut calls = std::mem::take(&mut core.arrived);
        // Whoever left meanwhile is not computed.
        calls.retain(|arrival| core.calls.contains_key(&arrival.call));
        self.decide(core, Event::Arrivals { calls })
    }

    /// Tells the scheduler, and answers those whom it refuses; what it dispatches is for the
    /// caller to set off.
    fn decide(self: &Arc<Self>, mut core: MutexGuard<'_, Core>, event: Event) -> Vec<Job> {
        let actions = core.batcher.step(event, self.micros(Instant::now()));
        let mut jobs = Vec::new();
        let mut refused = Vec::new();
        for action in actions {
            match action {
                Action::Dispatch { lane, parts } => {
                    let parts = parts.iter().filter_map(|part| core.take(*part)).collect();
                    jobs.push(Job { lane, parts });
                }
                Action::Reject { call, reason } => {
                    refused.extend(core.calls.remove(&call).map(|waiting| (waiting, reason)));
                }
            }
        }
        self.metrics.waiting.set(core.batcher.waiting() as i64);
        self.metrics.waiting_bytes.set(core.batcher.waiting_bytes() as i64);
        self.wake_for_held(&mut core);
        drop(core);
        for (waiting, reason) in refused {
            self.metrics.refused(reason);
            waiting.to.refuse(self.uncomputed(reason));
        }
        jobs
    }

    fn uncomputed(&self, reason: Refusal) -> Uncomputed {
        match reason {
            Refusal::QueueFull => {
                Uncomputed::QueueFull { waiting: self.config.max_waiting as usize }
            }
            Refusal::MemoryFull => {
                Uncomputed::MemoryFull { limit: ByteSize(self.config.max_waiting_bytes) }
            }
            Refusal::Expired => Uncomputed::Expired,
            Refusal::TooLate { needed_us } => {
                Uncomputed::TooLate { needed: Duration::from_micros(needed_us) }
            }
        }
    }

    /// Sees to it that a batch which waits for more rows goes when its time is over. There is one
    /// such task at a time, unless an earlier time needs another; each ends by that time.
    fn wake_for_held(self: &Arc<Self>, core: &mut Core) {
        let Some(until_us) = core.batcher.held_until_us() else { return };
        if core.wakes_us.is_some_and(|wakes_us| wakes_us <= until_us) {
            return;
        }
        core.wakes_us = Some(until_us);
        let queue = self.clone();
        tokio::spawn(async move {
            // A microsecond later, since the moment itself was rounded down.
            let wakes = queue.start + Duration::from_micros(until_us.saturating_add(1));
            tokio::time::sleep_until(wakes.into()).await;
            let mut core = queue.lock();
            if core.wakes_us == Some(until_us) {
                core.wakes_us = None;
            }
            let jobs = queue.decide(core, Event::Tick);
            queue.set_off(jobs);
        });
    }

    /// Runs each batch in a task of its own, so that a caller who leaves takes none with it. The
    /// tasks end with their batches, which the device bounds.
    fn set_off(self: &Arc<Self>, jobs: Vec<Job>) {
        for job in jobs {
            tokio::spawn(self.clone().run(job));
        }
    }

    async fn run(self: Arc<Self>, job: Job) {
        let Job { lane, parts } = job;
        let begun = Instant::now();
        let rows = parts.iter().map(|part| part.rows).sum();
        let guard = LaneGuard { queue: &self, lane, done: None };
        let mut span = RunSpan::begin(&self.metrics, &parts);
        // Kept for another try; the elements themselves are shared.
        let inputs = parts.iter().map(|part| part.inputs.clone()).collect();
        match self.replica.run(usize::from(lane.0), Batch { calls: inputs }).await {
            Ok(result) => {
                self.ran(rows, &result, begun);
                span.end(rows, result.compute);
                guard.free(rows, result.compute);
                for (part, outputs) in parts.into_iter().zip(result.calls) {
                    let queued = begun.duration_since(part.arrived);
                    self.metrics.queue_seconds.observe(queued.as_secs_f64());
                    let (compute, ended) = (result.compute, result.ended);
                    let (batch_rows, runs) = (rows, span.link_for(&part.trace));
                    let computed = Computed { outputs, batch_rows, queued, compute, ended, runs };
                    part.computed(computed);
                }
            }
            Err(error @ DeviceError::Run { .. }) if parts.len() > 1 => {
                self.metrics.failures.inc();
                span.fail(&error);
                self.run_each(lane, parts).await;
            }
            Err(error) => {
                self.metrics.failures.inc();
                span.fail(&error);
                for part in parts {
                    self.fail(part, error.clone());
                }
            }
        }
    }

    /// Computes the parts of a failed batch one by one: what one call asked for must not fail the
    /// others.
    async fn run_each(self: &Arc<Self>, lane: LaneId, parts: Vec<Running>) {
        // Whoever has left meanwhile is not computed.
        for part in parts.into_iter().filter(Running::is_wanted) {
            let begun = Instant::now();
            let mut span = RunSpan::begin(&self.metrics, std::slice::from_ref(&part));
            let batch = Batch { calls: vec![part.inputs.clone()] };
            match self.replica.run(usize::from(lane.0), batch).await {
                Ok(mut result) => {
                    self.ran(part.rows, &result, begun);
                    span.end(part.rows, result.compute);
                    let outputs = result.calls.pop().unwrap_or_default();
                    let (batch_rows, queued) = (part.rows, begun.duration_since(part.arrived));
                    let (compute, ended) = (result.compute, result.ended);
                    let runs = span.link_for(&part.trace);
                    let computed = Computed { outputs, batch_rows, queued, compute, ended, runs };
                    part.computed(computed);
                }
                Err(error) => {
                    self.metrics.failures.inc();
                    span.fail(&error);
                    self.fail(part, error);
                }
            }
        }
    }

    /// Takes down a run that has succeeded.
    fn ran(&self, rows: u32, result: &BatchResult, begun: Instant) {
        let compute = result.compute;
        self.metrics.ran(rows, compute);
        let input = result.ended.saturating_duration_since(begun).saturating_sub(compute);
        self.counters.ran(rows, RunParts { input, compute, output: result.ended.elapsed() });
    }

    /// Answers the call of a part that failed; of a call in parts, no further row runs.
    fn fail(self: &Arc<Self>, part: Running, error: DeviceError) {
        match part.over() {
            Destination::Caller(reply) => {
                // Whoever has left needs no answer.
                let _ = reply.send(Err(Uncomputed::Device(error)));
            }
            Destination::Split(reply) => {
                let call = reply.call();
                reply.failed(Uncomputed::Device(error));
                self.withdraw(call);
            }
        }
    }

    /// Takes a call out of the queue, with whatever of it has not been dispatched.
    fn withdraw(self: &Arc<Self>, call: CallId) {
        let mut core = self.lock();
        core.calls.remove(&call);
        let jobs = self.decide(core, Event::Cancel { call });
        self.set_off(jobs);
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// The rows that the scheduler dispatches; a call goes with its last ones. None if it has left,
    /// which the scheduler would know.
    fn take(&mut self, part: Part) -> Option<Running> {
        let Part { call, first, rows } = part;
        let waiting = self.calls.get_mut(&call)?;
        if rows == waiting.rows {
            let Waiting { inputs, rows, arrived, trace, to } = self.calls.remove(&call)?;
            let Recipient::Caller(reply) = to else { return None };
            let to = Destination::Caller(reply);
            return Some(Running { inputs, rows, arrived, trace, to });
        }
        let split = match std::mem::replace(&mut waiting.to, Recipient::Nobody) {
            Recipient::Caller(reply) => Split::new(waiting.rows, reply),
            Recipient::Split(split) => split,
            Recipient::Nobody => return None,
        };
        waiting.to = Recipient::Split(split.clone());
        let inputs = split::cut_off(&mut waiting.inputs, rows);
        let (arrived, is_last) = (waiting.arrived, first + rows == waiting.rows);
        let trace = waiting.trace.clone();
        if is_last {
            self.calls.remove(&call);
        }
        let to = Destination::Split(split.part(part));
        Some(Running { inputs, rows, arrived, trace, to })
    }
}

impl Recipient {
    fn refuse(self, uncomputed: Uncomputed) {
        match self {
            // Whoever has left needs no answer.
            Self::Caller(reply) => drop(reply.send(Err(uncomputed))),
            Self::Split(split) => split.failed(uncomputed),
            Self::Nobody => {}
        }
    }
}

impl Running {
    fn is_wanted(&self) -> bool {
        match &self.to {
            Destination::Caller(reply) => !reply.is_closed(),
            Destination::Split(reply) => reply.is_wanted(),
        }
    }

    /// Whom to answer. By then the inputs are nobody's any more but the caller's, who may have lent
    /// them.
    fn over(self) -> Destination {
        drop(self.inputs);
        self.to
    }

    fn computed(self, computed: Computed) {
        match self.over() {
            // Whoever has left needs no answer.
            Destination::Caller(reply) => drop(reply.send(Ok(Answer::Whole(computed)))),
            Destination::Split(reply) => reply.computed(computed),
        }
    }
}

#[cfg(test)]
mod tests;
