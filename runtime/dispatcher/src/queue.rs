//! The batch queue of one model replica: holds the calls, asks the scheduler what to do with them,
//! and does it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use quern_scheduler::{Action, Arrival, Batcher, BatcherConfig, CallId, Event, LaneId, Refusal};
use quern_types::{Batch, Deadline, DeviceError, Replica, Tensor};
use tokio::sync::oneshot;

use crate::metrics::ModelMetrics;

/// What one call got from its batch.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) batch_rows: u32,
    pub(crate) queued: Duration,
    pub(crate) compute: Duration,
}

/// Why a call was not computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uncomputed {
    /// As many calls as are allowed wait already.
    QueueFull {
        /// How many that is.
        waiting: usize,
    },
    /// Its deadline passed.
    Expired,
    /// The device failed.
    Device(DeviceError),
    /// The run was lost.
    Lost,
}

type Reply = oneshot::Sender<Result<Computed, Uncomputed>>;

/// The queue of one replica.
pub(crate) struct BatchQueue {
    replica: Arc<dyn Replica>,
    metrics: ModelMetrics,
    max_waiting: u32,
    /// The scheduler counts microseconds from here.
    start: Instant,
    core: Mutex<Core>,
}

struct Core {
    batcher: Batcher,
    calls: HashMap<CallId, Waiting>,
    /// Calls that the scheduler has not been told of yet; a task is on its way to tell it.
    arrived: Vec<Arrival>,
    next: u64,
}

struct Waiting {
    inputs: Vec<Tensor>,
    rows: u32,
    arrived: Instant,
    reply: Reply,
}

/// A batch on its way to a lane.
struct Job {
    lane: LaneId,
    calls: Vec<Waiting>,
}

impl BatchQueue {
    /// A queue whose lanes are all free. `max_rows` is 1 for a model without a batch axis.
    pub(crate) fn new(
        replica: Arc<dyn Replica>,
        max_rows: u32,
        max_waiting: u32,
        metrics: ModelMetrics,
    ) -> Self {
        let lanes = u16::try_from(replica.lanes()).unwrap_or(u16::MAX);
        let mut batcher = Batcher::new(BatcherConfig { lanes, max_rows, max_waiting });
        for lane in 0..lanes {
            // Nothing waits yet, so there is nothing to be done.
            let _ = batcher.step(Event::LaneFree { lane: LaneId(lane) }, 0);
        }
        let core = Core { batcher, calls: HashMap::new(), arrived: Vec::new(), next: 0 };
        Self { replica, metrics, max_waiting, start: Instant::now(), core: Mutex::new(core) }
    }

    /// Computes one call, in a batch with others that wait. Dropping the future cancels the call.
    pub(crate) async fn compute(
        self: &Arc<Self>,
        inputs: Vec<Tensor>,
        rows: u32,
        deadline: Deadline,
    ) -> Result<Computed, Uncomputed> {
        let (reply, answer) = oneshot::channel();
        let call = self.arrive(Waiting { inputs, rows, arrived: Instant::now(), reply }, deadline);
        let mut ticket = Ticket { queue: self, call, waits: true };
        let answered = tokio::time::timeout_at(deadline.at().into(), answer).await;
        ticket.waits = answered.is_err();
        match answered {
            Ok(Ok(answer)) => answer,
            // The task that held the reply is gone, which only a panic in the host can do.
            Ok(Err(_)) => Err(Uncomputed::Lost),
            Err(_) => Err(Uncomputed::Expired),
        }
    }

    fn arrive(self: &Arc<Self>, waiting: Waiting, deadline: Deadline) -> CallId {
        let mut core = self.lock();
        let call = CallId(core.next);
        core.next += 1;
        let deadline_us = self.micros(deadline.at());
        core.arrived.push(Arrival { call, rows: waiting.rows, deadline_us });
        core.calls.insert(call, waiting);
        if core.arrived.len() == 1 {
            tokio::spawn(self.clone().gather());
        }
        call
    }

    /// Tells the scheduler of the calls that have arrived, once the requests that are ready at
    /// this moment have had their turn to become calls: what costs a microsecond when one comes
    /// alone makes one batch of many that come at once.
    async fn gather(self: Arc<Self>) {
        tokio::task::yield_now().await;
        let mut jobs = self.gathered();
        let own = jobs.pop();
        self.set_off(jobs);
        if let Some(job) = own {
            self.run(job).await;
        }
    }

    fn gathered(&self) -> Vec<Job> {
        let mut core = self.lock();
        let mut calls = std::mem::take(&mut core.arrived);
        // Whoever left meanwhile is not computed.
        calls.retain(|arrival| core.calls.contains_key(&arrival.call));
        self.decide(core, Event::Arrivals { calls })
    }

    /// Tells the scheduler, and answers those whom it refuses; what it dispatches is for the
    /// caller to set off.
    fn decide(&self, mut core: MutexGuard<'_, Core>, event: Event) -> Vec<Job> {
        let actions = core.batcher.step(event, self.micros(Instant::now()));
        let mut jobs = Vec::new();
        let mut refused = Vec::new();
        for action in actions {
            match action {
                Action::Dispatch { lane, calls } => {
                    let calls = calls.iter().filter_map(|call| core.calls.remove(call)).collect();
                    jobs.push(Job { lane, calls });
                }
                Action::Reject { call, reason } => {
                    refused.extend(core.calls.remove(&call).map(|waiting| (waiting, reason)));
                }
            }
        }
        self.metrics.waiting.set(core.batcher.waiting() as i64);
        drop(core);
        for (waiting, reason) in refused {
            let uncomputed = match reason {
                Refusal::QueueFull => Uncomputed::QueueFull { waiting: self.max_waiting as usize },
                Refusal::Expired => Uncomputed::Expired,
            };
            // Whoever has left needs no answer.
            let _ = waiting.reply.send(Err(uncomputed));
        }
        jobs
    }

    /// Runs each batch in a task of its own, so that a caller who leaves takes none with it. The
    /// tasks end with their batches, which the device bounds.
    fn set_off(self: &Arc<Self>, jobs: Vec<Job>) {
        for job in jobs {
            tokio::spawn(self.clone().run(job));
        }
    }

    async fn run(self: Arc<Self>, job: Job) {
        let Job { lane, calls } = job;
        let begun = Instant::now();
        let rows = calls.iter().map(|call| call.rows).sum();
        let guard = LaneGuard { queue: &self, lane, done: None };
        // Kept for another try; the elements themselves are shared.
        let inputs = calls.iter().map(|call| call.inputs.clone()).collect();
        match self.replica.run(usize::from(lane.0), Batch { calls: inputs }).await {
            Ok(result) => {
                self.metrics.ran(rows, result.compute);
                guard.free(rows, result.compute);
                for (call, outputs) in calls.into_iter().zip(result.calls) {
                    let queued = begun.duration_since(call.arrived);
                    self.metrics.queue_seconds.observe(queued.as_secs_f64());
                    let compute = result.compute;
                    let computed = Computed { outputs, batch_rows: rows, queued, compute };
                    let _ = call.reply.send(Ok(computed));
                }
            }
            Err(DeviceError::Run { .. }) if calls.len() > 1 => {
                self.metrics.failures.inc();
                self.run_each(lane, calls).await;
            }
            Err(error) => {
                self.metrics.failures.inc();
                drop(guard);
                for call in calls {
                    let _ = call.reply.send(Err(Uncomputed::Device(error.clone())));
                }
            }
        }
    }

    /// Computes the calls of a failed batch one by one: what one of them asked for must not fail
    /// the others.
    async fn run_each(&self, lane: LaneId, calls: Vec<Waiting>) {
        for call in calls {
            let begun = Instant::now();
            let batch = Batch { calls: vec![call.inputs] };
            let answer = match self.replica.run(usize::from(lane.0), batch).await {
                Ok(mut result) => {
                    self.metrics.ran(call.rows, result.compute);
                    let outputs = result.calls.pop().unwrap_or_default();
                    let (queued, compute) = (begun.duration_since(call.arrived), result.compute);
                    Ok(Computed { outputs, batch_rows: call.rows, queued, compute })
                }
                Err(error) => {
                    self.metrics.failures.inc();
                    Err(Uncomputed::Device(error))
                }
            };
            // Whoever has left needs no answer.
            let _ = call.reply.send(answer);
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane in use: given back when this is dropped, also by a panic, so that no lane is ever lost.
struct LaneGuard<'a> {
    queue: &'a Arc<BatchQueue>,
    lane: LaneId,
    done: Option<(u32, Duration)>,
}

impl LaneGuard<'_> {
    /// Gives the lane back before its callers are answered, so that the next batch does not wait
    /// for them.
    fn free(mut self, rows: u32, compute: Duration) {
        self.done = Some((rows, compute));
    }
}

impl Drop for LaneGuard<'_> {
    fn drop(&mut self) {
        let lane = self.lane;
        let event = match self.done {
            Some((rows, compute)) => {
                let compute_us = u64::try_from(compute.as_micros()).unwrap_or(u64::MAX);
                Event::Completion { lane, rows, compute_us }
            }
            None => Event::LaneFree { lane },
        };
        let jobs = self.queue.decide(self.queue.lock(), event);
        self.queue.set_off(jobs);
    }
}

/// A call that waits for its answer; dropped without one, it is taken out of the queue.
struct Ticket<'a> {
    queue: &'a Arc<BatchQueue>,
    call: CallId,
    waits: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.waits {
            let mut core = self.queue.lock();
            core.calls.remove(&self.call);
            let jobs = self.queue.decide(core, Event::Cancel { call: self.call });
            self.queue.set_off(jobs);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{BoxFuture, join_all};
    use quern_types::{BatchResult, DataType, DeviceId, Engine, TenantId};

    use super::*;
    use crate::metrics::ModelsMetrics;

    /// A replica that looks up one element of a table, and fails as a whole if any is beyond it.
    struct Table(Vec<u8>);

    impl Replica for Table {
        fn lanes(&self) -> usize {
            1
        }

        fn run(
            &self,
            _: usize,
            batch: Batch,
        ) -> BoxFuture<'static, Result<BatchResult, DeviceError>> {
            let look_up = |call: Vec<Tensor>| {
                let found = self.0.get(usize::from(call[0].data()[0])).ok_or_else(|| {
                    DeviceError::Run { engine: Engine::Tract, reason: "out of range".into() }
                })?;
                Ok(vec![byte(*found)])
            };
            let calls = batch.calls.into_iter().map(look_up).collect();
            let result = |calls| BatchResult { calls, compute: Duration::from_micros(1) };
            Box::pin(std::future::ready(Result::map(calls, result)))
        }
    }

    fn byte(value: u8) -> Tensor {
        Tensor::new("x", DataType::Uint8, vec![1], vec![value]).expect("a tensor")
    }

    fn queue() -> Arc<BatchQueue> {
        let name = "table".parse().expect("a name");
        let metrics = ModelsMetrics::register(&prometheus::Registry::new()).expect("fresh").model(
            &TenantId::default(),
            &name,
            Engine::Tract,
            DeviceId::Cpu(0),
        );
        Arc::new(BatchQueue::new(Arc::new(Table(vec![10, 11, 12])), 8, 16, metrics))
    }

    fn soon() -> Deadline {
        Deadline::after(Instant::now(), Duration::from_secs(10))
    }

    #[tokio::test]
    async fn calls_that_come_together_share_a_batch_and_get_their_own() {
        let queue = queue();
        let asked = [2, 0, 1].map(|index| queue.compute(vec![byte(index)], 1, soon()));
        for (computed, expected) in join_all(asked).await.into_iter().zip([12, 10, 11]) {
            let computed = computed.expect("computed");
            assert_eq!(computed.outputs, [byte(expected)]);
            assert_eq!(computed.batch_rows, 3);
        }
    }

    #[tokio::test]
    async fn a_call_that_fails_its_batch_fails_alone() {
        let queue = queue();
        let asked = [0, 9, 2].map(|index| queue.compute(vec![byte(index)], 1, soon()));
        let answers = join_all(asked).await;
        assert_eq!(answers[0].as_ref().expect("computed").outputs, [byte(10)]);
        assert!(matches!(answers[1], Err(Uncomputed::Device(DeviceError::Run { .. }))));
        assert_eq!(answers[2].as_ref().expect("computed").outputs, [byte(12)]);
        assert!(queue.compute(vec![byte(1)], 1, soon()).await.is_ok(), "the lane is free again");
    }

    #[tokio::test]
    async fn who_leaves_is_forgotten() {
        let queue = queue();
        {
            let mut call = std::pin::pin!(queue.compute(vec![byte(0)], 1, soon()));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(call.as_mut().poll(&mut context).is_pending());
            assert_eq!(queue.lock().calls.len(), 1);
        }
        assert_eq!(queue.lock().calls.len(), 0);
        assert!(queue.compute(vec![byte(1)], 1, soon()).await.is_ok());
    }
}
