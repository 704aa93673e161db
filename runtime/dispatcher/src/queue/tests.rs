//! The queue with a replica of a few lines: who gets what, and that nobody gets anything else.

mod alone;

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
};

use futures::future::{BoxFuture, join_all};
use proptest::{collection::vec, prelude::*};
use quern_types::{
    BatchResult, DataType, DeviceId, Engine, Signature, TenantId, TensorSpec, VersionNumber,
};

use super::*;
use crate::{metrics::ModelsMetrics, ready::VersionKey};

/// A byte that no run survives which has it.
const POISON: u8 = 255;
/// A byte that a run panics at.
const BOMB: u8 = 254;

/// A replica that adds one to every byte, row by row. Runs take so many turns as the sum of their
/// bytes says, and it keeps account of what it is asked to run.
#[derive(Default)]
struct Increment {
    lanes: usize,
    max_rows: u32,
    running: Vec<AtomicUsize>,
    /// The first byte of each run.
    runs: Mutex<Vec<Option<u8>>>,
    faults: Mutex<Vec<String>>,
}

/// The account as the queue's replica.
struct Increments(Arc<Increment>);

impl Increment {
    fn new(lanes: usize, max_rows: u32) -> Arc<Self> {
        let running = (0..lanes).map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self { lanes, max_rows, running, ..Self::default() })
    }

    fn fault(&self, fault: String) {
        self.faults.lock().expect("no test panics with it").push(fault);
    }

    fn runs(&self) -> Vec<Option<u8>> {
        self.runs.lock().expect("no test panics with it").clone()
    }

    /// Holds a batch against what a replica may rely on.
    fn inspect(&self, batch: &Batch) {
        let shapes: Vec<&[u64]> = batch.calls.iter().map(|call| call[0].shape()).collect();
        let rows: u64 = shapes.iter().map(|shape| shape[0]).sum();
        if rows > self.max_rows.into() || shapes.is_empty() {
            self.fault(format!("{rows} rows of {} calls", shapes.len()));
        }
        if shapes.iter().any(|shape| shape[1..] != shapes[0][1..]) {
            self.fault(format!("different shapes in one run: {shapes:?}"));
        }
    }
}

impl Replica for Increments {
    fn lanes(&self) -> usize {
        self.0.lanes
    }

    fn run(
        &self,
        lane: usize,
        batch: Batch,
    ) -> BoxFuture<'static, Result<BatchResult, DeviceError>> {
        let replica = self.0.clone();
        Box::pin(async move {
            replica.inspect(&batch);
            if replica.running[lane].fetch_add(1, Ordering::Relaxed) > 0 {
                replica.fault(format!("lane {lane} is taken"));
            }
            let bytes = || batch.calls.iter().flat_map(|call| call[0].data().iter().copied());
            replica.runs.lock().expect("no test panics with it").push(bytes().next());
            for _ in 0..bytes().fold(0, |turns, byte| (turns + usize::from(byte)) % 7) {
                tokio::task::yield_now().await;
            }
            replica.running[lane].fetch_sub(1, Ordering::Relaxed);
            assert!(bytes().all(|byte| byte != BOMB), "a fault of the host");
            if bytes().any(|byte| byte == POISON) {
                let reason = "poisoned".into();
                return Err(DeviceError::Run { engine: Engine::Tract, reason });
            }
            let calls = batch.calls.iter().map(|call| vec![incremented(&call[0])]).collect();
            Ok(BatchResult { calls, compute: Duration::from_micros(1), ended: Instant::now() })
        })
    }
}

fn incremented(input: &Tensor) -> Tensor {
    let data: Vec<u8> = input.data().iter().map(|byte| byte.wrapping_add(1)).collect();
    Tensor::new("y", DataType::Uint8, input.shape().to_vec(), data).expect("the same shape")
}

fn tensor(shape: &[u64], data: Vec<u8>) -> Tensor {
    Tensor::new("x", DataType::Uint8, shape.to_vec(), data).expect("a tensor")
}

fn row(byte: u8) -> QueuedCall {
    call(tensor(&[1, 1], vec![byte]))
}

fn call(input: Tensor) -> QueuedCall {
    let rows = u32::try_from(input.shape()[0]).expect("few");
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(60));
    let (inputs, priority, place) = (vec![input], Priority::default(), Place::Elsewhere);
    QueuedCall { inputs, rows, priority, deadline, place, trace: Trace::default() }
}

fn config(replica: &Increment) -> BatcherConfig {
    BatcherConfig {
        lanes: u16::try_from(replica.lanes).expect("few"),
        max_rows: replica.max_rows,
        max_waiting: 1_000,
        max_waiting_bytes: 1_000_000,
        max_delay_us: 0,
        one_bucket: false,
    }
}

fn queue_with(replica: &Arc<Increment>, config: BatcherConfig) -> Arc<BatchQueue> {
    let name = "increment".parse().expect("a name");
    let metrics = ModelsMetrics::register(&prometheus::Registry::new()).expect("fresh").model(
        &TenantId::default(),
        &name,
        Engine::Tract,
        DeviceId::Cpu(0),
    );
    let spec =
        TensorSpec { name: "x".into(), dtype: DataType::Uint8, shape: vec![-1, -1], range: None };
    let shapes = Shapes::of(&Signature::new(vec![spec], vec![]).expect("a signature"));
    let (replica, counters) = (Arc::new(Increments(replica.clone())), Arc::default());
    Arc::new(BatchQueue::new(replica, config, shapes, metrics, counters))
}

fn queue(replica: &Arc<Increment>) -> Arc<BatchQueue> {
    queue_with(replica, config(replica))
}

fn poisoned<T>(answer: &Result<T, Uncomputed>) -> bool {
    matches!(answer, Err(Uncomputed::Device(DeviceError::Run { .. })))
}

#[tokio::test]
async fn calls_that_come_together_share_a_batch_and_get_their_own() {
    let queue = queue(&Increment::new(1, 8));
    let asked = [2, 0, 1].map(|byte| queue.compute(row(byte)));
    for (computed, expected) in join_all(asked).await.into_iter().zip([3, 1, 2]) {
        let computed = computed.expect("computed");
        assert_eq!(computed.outputs[0].data()[..], [expected]);
        assert_eq!(computed.batch_rows, 3);
    }
}

#[tokio::test]
async fn a_call_that_fails_its_batch_fails_alone() {
    let queue = queue(&Increment::new(1, 8));
    let asked = [0, POISON, 2].map(|byte| queue.compute(row(byte)));
    let answers = join_all(asked).await;
    assert_eq!(answers[0].as_ref().expect("computed").outputs[0].data()[..], [1]);
    assert!(poisoned(&answers[1]));
    assert_eq!(answers[2].as_ref().expect("computed").outputs[0].data()[..], [3]);
    assert!(queue.compute(row(1)).await.is_ok(), "the lane is free again");
}

#[tokio::test]
async fn runs_are_counted_by_their_rows_when_they_succeed() {
    let queue = queue(&Increment::new(1, 8));
    let asked = [2, 0, 1].map(|byte| queue.compute(row(byte)));
    assert!(join_all(asked).await.iter().all(Result::is_ok));
    // Of a run that fails, what each of its calls asked for is tried alone.
    let asked = [0, POISON].map(|byte| queue.compute(row(byte)));
    assert_eq!(join_all(asked).await.iter().filter(|answer| answer.is_ok()).count(), 1);
    let (tenant, name) = (TenantId::default(), "increment".parse().expect("a name"));
    let key = VersionKey { tenant, name, version: VersionNumber::FIRST };
    let read = queue.counters.read(&key);
    let runs: Vec<_> =
        read.batches.iter().map(|size| (size.rows, size.parts.compute.count)).collect();
    assert_eq!((read.executions, &runs[..]), (2, &[(1, 1), (3, 1)][..]));
}

#[tokio::test]
async fn who_leaves_is_forgotten() {
    let queue = queue(&Increment::new(1, 8));
    {
        let mut call = std::pin::pin!(queue.compute(row(0)));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_pending());
        assert_eq!(queue.lock().calls.len(), 1);
    }
    assert_eq!(queue.lock().calls.len(), 0);
    assert!(queue.compute(row(1)).await.is_ok());
}

#[tokio::test]
async fn an_oversized_call_runs_in_parts_and_is_answered_as_one() {
    let replica = Increment::new(2, 4);
    let queue = queue(&replica);
    let bytes: Vec<u8> = (0..22).collect();
    let expected: Vec<u8> = (1..23).collect();
    let (large, small) =
        tokio::join!(queue.compute(call(tensor(&[11, 2], bytes))), queue.compute(row(9)));
    let Computed { outputs, batch_rows, .. } = large.expect("computed");
    assert_eq!((outputs[0].shape(), &outputs[0].data()[..]), ([11, 2].as_slice(), &expected[..]));
    assert!(batch_rows <= 4 && replica.runs().len() >= 3, "{:?}", replica.runs());
    assert_eq!(small.expect("computed").outputs[0].data()[..], [10]);
    assert_eq!(queue.lock().calls.len(), 0);
}

#[tokio::test]
async fn a_failed_part_fails_its_call_and_no_further_part_runs() {
    let replica = Increment::new(1, 2);
    let queue = queue(&replica);
    let mut bytes = vec![0; 20];
    bytes[2] = POISON;
    assert!(poisoned(&queue.compute(call(tensor(&[20, 1], bytes))).await));
    assert_eq!(replica.runs().len(), 2);
    assert!(queue.lock().calls.is_empty());
    assert!(queue.compute(row(1)).await.is_ok(), "the lane is free again");
}

#[tokio::test]
async fn a_lost_run_loses_its_calls_and_gives_its_lane_back() {
    let replica = Increment::new(1, 2);
    let queue = queue(&replica);
    assert_eq!(queue.compute(row(BOMB)).await.err(), Some(Uncomputed::Lost));
    let mut bytes = vec![0; 400];
    bytes[2] = BOMB;
    let lost = queue.compute(call(tensor(&[400, 1], bytes))).await;
    assert_eq!(lost.err(), Some(Uncomputed::Lost));
    assert!(queue.lock().calls.is_empty());
    assert!(queue.compute(row(1)).await.is_ok());
}

#[tokio::test]
async fn an_oversized_call_whose_caller_leaves_runs_no_further_part() {
    let replica = Increment::new(1, 1);
    let queue = queue(&replica);
    {
        let mut large = std::pin::pin!(queue.compute(call(tensor(&[500, 1], vec![1; 500]))));
        // Until some of it has run.
        poll_fn(|context| {
            assert!(large.as_mut().poll(context).is_pending());
            context.waker().wake_by_ref();
            if replica.runs().len() < 3 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
    assert!(queue.lock().calls.is_empty());
    let before = replica.runs().len();
    assert!(queue.compute(row(1)).await.is_ok());
    assert!(replica.runs().len() <= before + 2, "what was set off already, and this");
}

#[tokio::test]
async fn calls_beyond_the_limits_are_refused_at_once() {
    let replica = Increment::new(1, 1);
    let few = queue_with(&replica, BatcherConfig { max_waiting: 1, ..config(&replica) });
    let answers = join_all([1, 2, 3].map(|byte| few.compute(row(byte)))).await;
    assert!(answers[0].is_ok() && answers[1].is_ok());
    assert_eq!(answers[2].as_ref().err(), Some(&Uncomputed::QueueFull { waiting: 1 }));
    let small = queue_with(&replica, BatcherConfig { max_waiting_bytes: 1, ..config(&replica) });
    let answers = join_all([1, 2, 3].map(|byte| small.compute(row(byte)))).await;
    assert!(answers[0].is_ok() && answers[1].is_ok());
    assert_eq!(answers[2].as_ref().err(), Some(&Uncomputed::MemoryFull { limit: ByteSize(1) }));
}

#[tokio::test]
async fn the_more_urgent_call_runs_first() {
    let replica = Increment::new(1, 1);
    let queue = queue(&replica);
    let compute = |(byte, priority)| {
        let priority = Priority::from_parameter(priority);
        queue.compute(QueuedCall { priority, ..row(byte) })
    };
    let answers = join_all([(1, 7), (2, 0), (3, 1), (4, 0)].map(compute)).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(replica.runs(), [3, 2, 4, 1].map(Some));
}

#[tokio::test]
async fn a_call_without_enough_time_is_refused_by_what_was_measured() {
    let queue = queue(&Increment::new(1, 1));
    let slow = Event::Completion { lane: LaneId(0), rows: 1, compute_us: 3_600_000_000 };
    for _ in 0..100 {
        assert!(queue.lock().batcher.step(slow.clone(), 0).is_empty());
    }
    match queue.compute(row(1)).await {
        Err(Uncomputed::TooLate { needed }) => assert!(needed > Duration::from_secs(60)),
        other => panic!("{other:?}"),
    }
    assert_eq!(queue.profile().len(), 1);
}

#[tokio::test]
async fn an_expired_call_is_answered_as_such() {
    let queue = queue(&Increment::new(1, 1));
    let deadline = Deadline::after(Instant::now(), Duration::ZERO);
    let expired = queue.compute(QueuedCall { deadline, ..row(1) }).await;
    assert_eq!(expired.err(), Some(Uncomputed::Expired));
}

#[tokio::test]
async fn a_batch_that_waits_for_more_goes_when_its_time_is_over() {
    let replica = Increment::new(1, 4);
    let queue = queue_with(&replica, BatcherConfig { max_delay_us: 1_000, ..config(&replica) });
    // Two rows are known to take as long as one: waiting for a second pays.
    for rows in [1, 2] {
        let done = Event::Completion { lane: LaneId(0), rows, compute_us: 100 };
        for _ in 0..100 {
            assert!(queue.lock().batcher.step(done.clone(), 0).is_empty());
        }
    }
    let mut batcher = queue.lock().batcher.clone();
    let arrival = Arrival {
        call: CallId(0),
        rows: 1,
        bytes: 1,
        bucket: Default::default(),
        priority: Priority::default(),
        deadline_us: 1_000_000,
    };
    assert!(batcher.step(Event::Arrivals { calls: vec![arrival] }, 0).is_empty(), "it waits");
    assert_eq!(queue.compute(row(1)).await.expect("computed").batch_rows, 1);
}

/// What a caller does.
#[derive(Debug, Clone)]
struct Caller {
    rows: u64,
    length: u64,
    priority: u64,
    poison: bool,
    /// Turns before it calls.
    late: usize,
    /// Polls after which it leaves; none: it stays.
    leaves: Option<usize>,
    here: bool,
}

fn callers() -> impl Strategy<Value = Vec<Caller>> {
    let rows = prop_oneof![5 => 1..5u64, 1 => 5..40u64];
    let leaves = prop_oneof![4 => Just(None), 1 => (1..6usize).prop_map(Some)];
    // Most come one by one in some cases, and at the same time in others.
    let late = |most| prop_oneof![0..12usize, 0..most];
    let caller = move |most| {
        let poison = prop::bool::weighted(0.05);
        (rows.clone(), 0..3u64, 0..9u64, poison, late(most), leaves.clone(), any::<bool>())
            .prop_map(|(rows, length, priority, poison, late, leaves, here)| Caller {
                rows,
                length,
                priority,
                poison,
                late,
                leaves,
                here,
            })
    };
    (1..400usize).prop_flat_map(move |most| vec(caller(most), 1..40))
}

/// One caller's life; checks its answer against its own input.
async fn live(queue: &Arc<BatchQueue>, caller: Caller, seed: u8) -> Result<bool, TestCaseError> {
    for _ in 0..caller.late {
        tokio::task::yield_now().await;
    }
    let bytes = (caller.rows * caller.length) as usize;
    let mut data: Vec<u8> = (0..bytes).map(|index| seed.wrapping_mul(31) ^ index as u8).collect();
    data.iter_mut().for_each(|byte| *byte &= 0x7f);
    let poison = caller.poison && !data.is_empty();
    if poison {
        data[bytes / 2] = POISON;
    }
    let input = tensor(&[caller.rows, caller.length], data);
    let priority = Priority::from_parameter(caller.priority);
    let place = if caller.here { Place::Here } else { Place::Elsewhere };
    let call = QueuedCall { priority, place, ..call(input.clone()) };
    let mut answer = Box::pin(queue.compute(call));
    let mut polls = 0;
    let answer = poll_fn(|context| {
        polls += 1;
        match answer.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if caller.leaves.is_some_and(|leaves| polls >= leaves) => {
                Poll::Ready(None)
            }
            Poll::Pending => {
                if caller.leaves.is_some() {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    })
    .await;
    match answer {
        None => return Ok(false),
        Some(answer) if poison => prop_assert!(poisoned(&answer), "{:?}", answer),
        Some(Ok(computed)) => prop_assert_eq!(&computed.outputs, &[incremented(&input)]),
        Some(Err(error)) => return Err(TestCaseError::fail(format!("{error:?}"))),
    }
    Ok(true)
}

proptest! {
    #[test]
    fn every_caller_gets_its_own_rows_whatever_others_do(
        callers in callers(),
        lanes in 1..4usize,
        max_rows in 1..9u32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let replica = Increment::new(lanes, max_rows);
            let queue = queue(&replica);
            let lives = callers.into_iter().zip(0..).map(|(caller, seed)| live(&queue, caller, seed));
            for outcome in join_all(lives).await {
                outcome?;
            }
            let faults = replica.faults.lock().expect("no test panics with it").clone();
            prop_assert!(faults.is_empty(), "{:?}", faults);
            let core = queue.lock();
            prop_assert!(core.calls.is_empty() && core.batcher.waiting() == 0);
            Ok(())
        })?;
    }
}

#[test]
fn callers_on_many_threads_get_their_own_rows() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let replica = Increment::new(2, 8);
        let queue = queue(&replica);
        let mut tasks = HashMap::new();
        for number in 0..400u64 {
            let caller = Caller {
                rows: 1 + number % 11,
                length: number % 3,
                priority: number % 8,
                poison: number % 29 == 0,
                late: (number % 13) as usize,
                leaves: (number % 7 == 0).then_some(2),
                here: number % 2 == 0,
            };
            let queue = queue.clone();
            tasks.insert(
                number,
                tokio::spawn(async move { live(&queue, caller, number as u8).await }),
            );
        }
        for (number, task) in tasks {
            let outcome = task.await.expect("ends");
            assert!(outcome.is_ok(), "{number}: {outcome:?}");
        }
        assert!(replica.faults.lock().expect("no test panics with it").is_empty());
        assert!(queue.lock().calls.is_empty());
    });
}
