//! What lanes promise, on the CPU and on a device that computes when it is told to.

mod conformance;

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
    mpsc::{Receiver, SyncSender, sync_channel},
};

use futures::FutureExt as _;
use quern_kernels::{BufferId, Lane as Computer, Operand, Step};
use quern_operators::{
    Description, Dtype, Fill, Kernel, Operator, Parcel, Scalar, SessionError, SessionRequest,
    Shape, TensorId, Unary, Usage, View,
};

use super::*;

const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}

fn config(lanes: NonZeroUsize, on_the_spot: bool) -> TensorConfig {
    TensorConfig { lanes, work: 1 << 30, tensors: 10_000, on_the_spot }
}

/// Tells when it is dropped.
struct Lease(Arc<AtomicBool>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

struct Opened {
    session: Box<dyn KernelSession>,
    account: Arc<Account>,
    ended: Arc<AtomicBool>,
}

fn open(device: &TensorDevice, lane: usize, bytes: u64) -> Opened {
    let (account, ended) = (Arc::new(Account::default()), Arc::new(AtomicBool::new(false)));
    let opening = Opening {
        lane,
        tenant: TenantId::default(),
        share_milli: SessionRequest::WHOLE_MILLI,
        bytes,
        account: Arc::clone(&account),
        lease: Arc::new(Lease(Arc::clone(&ended))),
    };
    Opened { session: device.open(opening).expect("the device is there"), account, ended }
}

fn fill(session: &mut dyn KernelSession, elements: u64) -> Result<TensorId, SessionError> {
    let shape = Shape::new(&[elements]).expect("a shape");
    let fill = Fill { dtype: Dtype::Fp32, shape, value: Scalar::Float(1.0) };
    Ok(session.run(&Kernel::Fill(fill).into(), &[])?[0])
}

fn unary(
    session: &mut dyn KernelSession,
    function: Unary,
    x: TensorId,
) -> Result<TensorId, SessionError> {
    Ok(session.run(&Kernel::Unary(function).into(), &[x])?[0])
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A device that computes as the CPU does, but for some operators: `neg` waits until it is let
/// through, `sign` panics, and with `abs` the device is gone.
struct Gated {
    cpu: CpuDevice,
    begun: SyncSender<()>,
    gate: Arc<Mutex<Receiver<()>>>,
}

struct GatedLane {
    cpu: Box<dyn Computer>,
    begun: SyncSender<()>,
    gate: Arc<Mutex<Receiver<()>>>,
}

/// The other side of the gate.
struct Gate {
    begun: Receiver<()>,
    open: SyncSender<()>,
}

impl Gate {
    /// Waits until an operator is being computed, which goes on when this is called.
    fn begun(&self) -> impl FnOnce() {
        self.begun.recv().expect("the device is there");
        move || self.open.send(()).expect("the device is there")
    }
}

fn gated(lanes: usize) -> (TensorDevice, Gate) {
    let (begin, begun) = sync_channel(64);
    let (open, gate) = sync_channel(64);
    let gate = Arc::new(Mutex::new(gate));
    let device = Gated { cpu: CpuDevice::new(ONE).expect("a thread"), begun: begin, gate };
    let lanes = NonZeroUsize::new(lanes).expect("lanes");
    let device = TensorDevice::start(DeviceId::Cpu(0), Box::new(device), config(lanes, false));
    (device.expect("threads"), Gate { begun, open })
}

impl Device for Gated {
    fn open(&self, budget_bytes: u64) -> Result<Box<dyn Computer>, LaneError> {
        let (begun, gate) = (self.begun.clone(), Arc::clone(&self.gate));
        Ok(Box::new(GatedLane { cpu: self.cpu.open(budget_bytes)?, begun, gate }))
    }

    fn held_bytes(&self) -> u64 {
        self.cpu.held_bytes()
    }
}

impl Computer for GatedLane {
    fn write(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<(), LaneError> {
        self.cpu.write(buffer, bytes)
    }

    fn execute(&mut self, step: &Step) -> Result<(), LaneError> {
        match step.kernel() {
            Kernel::Unary(Unary::Neg) => {
                self.begun.send(()).expect("the test is there");
                _ = self.gate.lock().expect("no panic").recv();
            }
            Kernel::Unary(Unary::Sign) => panic!("a fault of the device"),
            Kernel::Unary(Unary::Abs) => {
                return Err(LaneError::Lost { reason: "unplugged".to_owned() });
            }
            _ => {}
        }
        self.cpu.execute(step)
    }

    fn read(&mut self, operand: &Operand) -> Result<Vec<u8>, LaneError> {
        self.cpu.read(operand)
    }

    fn free(&mut self, buffer: BufferId) {
        self.cpu.free(buffer);
    }

    fn finish(&mut self) -> Result<(), LaneError> {
        self.cpu.finish()
    }
}

/// Waits for something that another thread is about to do.
fn until(what: impl Fn() -> bool) {
    while !what() {
        thread::yield_now();
    }
}

#[test]
fn an_idle_lane_computes_short_operators_where_they_are_asked_for() {
    let device = TensorDevice::cpu(ONE, config(ONE, true)).expect("threads");
    let Opened { mut session, account, ended } = open(&device, 0, 1 << 20);
    assert_eq!(session.device(), "cpu:0");
    let x = session.upload(
        Description::new(Dtype::Fp32, Shape::new(&[2]).expect("a shape")),
        &floats(&[1.0, -2.0]),
    );
    let y = unary(&mut *session, Unary::Neg, x.expect("room")).expect("room");
    assert_eq!(session.read(y).now_or_never(), Some(Ok(floats(&[-1.0, 2.0]))));
    assert_eq!(session.finish().now_or_never(), Some(Ok(())));
    assert_eq!(session.describe(y).expect("a tensor").to_string(), "FP32 2");
    assert_eq!((session.usage().bytes, account.used_bytes()), (512, 512));
    assert!(account.computed_ns() > 0);
    session.release(y).expect("a tensor");
    assert_eq!(account.used_bytes(), 256);
    drop(session);
    assert!(ended.load(SeqCst), "a small session ends at once");
    assert_eq!((account.used_bytes(), device.held_bytes()), (0, 0));
}

#[test]
fn what_waits_is_computed_in_order() {
    let device = TensorDevice::cpu(ONE, config(ONE, false)).expect("threads");
    let Opened { mut session, .. } = open(&device, 0, 1 << 24);
    let one = fill(&mut *session, 1 << 10).expect("room");
    let mut sum = fill(&mut *session, 1 << 10).expect("room");
    let add = Operator::from(Kernel::Binary(quern_operators::Binary::Add));
    for _ in 0..1_000 {
        if let Some(room) = session.room(0) {
            block_on(room);
        }
        let next = session.run(&add, &[sum, one]).expect("room")[0];
        session.release(sum).expect("a tensor");
        sum = next;
    }
    assert_eq!(block_on(session.read(sum)), Ok(floats(&[1_001.0; 1 << 10])));
    let lost = block_on({
        let read = session.read(sum);
        drop(session);
        read
    });
    // Either it was read before the session ended, or that has cancelled it.
    assert!(lost.is_ok() || matches!(lost, Err(SessionError::Lane(LaneError::Lost { .. }))));
}

#[test]
fn sessions_of_other_lanes_go_on_and_those_of_one_lane_take_turns() {
    let (device, gate) = gated(2);
    let mut slow = open(&device, 0, 1 << 20).session;
    let mut beside = open(&device, 0, 1 << 20).session;
    let mut apart = open(&device, 1, 1 << 20).session;
    let x = fill(&mut *slow, 1).expect("room");
    let first = unary(&mut *slow, Unary::Neg, x).expect("room");
    let second = unary(&mut *slow, Unary::Neg, first).expect("room");
    let go_on = gate.begun();
    let other = fill(&mut *apart, 1).expect("room");
    assert_eq!(block_on(apart.read(other)), Ok(floats(&[1.0])));
    let neighbour = fill(&mut *beside, 1).expect("room");
    let mut read = beside.read(neighbour);
    assert!((&mut read).now_or_never().is_none(), "the lane computes");
    assert_eq!(device.status()[0].sessions, 2);
    go_on();
    let go_on = gate.begun();
    go_on();
    // It had waited for one operator of the other session, or for both if that was ready first.
    assert_eq!(block_on(read), Ok(floats(&[1.0])));
    assert_eq!(block_on(slow.read(second)), Ok(floats(&[1.0])));
}

#[test]
fn a_session_that_floods_its_lane_is_told_to_wait() {
    let (device, gate) = gated(1);
    let mut session = open(&device, 0, 1 << 20).session;
    let x = fill(&mut *session, 1).expect("room");
    unary(&mut *session, Unary::Neg, x).expect("room");
    let go_on = gate.begun();
    let mut asked = 0;
    let mut room = loop {
        match session.room(0) {
            Some(room) => break room,
            None => _ = unary(&mut *session, Unary::Relu, x).expect("it waits, and does not fail"),
        }
        asked += 1;
    };
    assert_eq!(asked, 512);
    assert!((&mut room).now_or_never().is_none());
    go_on();
    block_on(room);
    assert!(session.room(0).is_none());
    assert_eq!(block_on(session.finish()), Ok(()));
}

#[test]
fn an_upload_waits_for_memory_that_is_about_to_be_freed() {
    let (device, gate) = gated(1);
    let mut session = open(&device, 0, 4 << 10).session;
    let description = Description::new(Dtype::Uint8, Shape::new(&[2 << 10]).expect("a shape"));
    let x = fill(&mut *session, 1).expect("room");
    unary(&mut *session, Unary::Neg, x).expect("room");
    let go_on = gate.begun();
    let large = session.upload(description, &[1; 2 << 10]).expect("room");
    session.release(large).expect("a tensor");
    assert!(session.room(1 << 10).is_none());
    let room = session.room(2 << 10).expect("the memory is not free yet");
    // Whoever does not wait is served nevertheless, in its turn.
    let late = session.upload(description, &[2; 2 << 10]).expect("it is within the budget");
    go_on();
    block_on(room);
    assert_eq!(block_on(session.read(late)), Ok(vec![2; 2 << 10]));
    assert!(device.held_bytes() <= 4 << 10);
}

#[test]
fn dropping_a_session_cancels_what_waits_and_frees_everything() {
    let (device, gate) = gated(1);
    let Opened { mut session, account, ended } = open(&device, 0, 1 << 26);
    let x = fill(&mut *session, 1 << 20).expect("room");
    unary(&mut *session, Unary::Neg, x).expect("room");
    let go_on = gate.begun();
    for _ in 0..8 {
        unary(&mut *session, Unary::Neg, x).expect("room");
    }
    let read = session.read(x);
    drop(session);
    let cancelled = block_on(read).expect_err("cancelled").to_string();
    assert_eq!(cancelled, "the device is lost: the session has ended");
    assert!(!ended.load(SeqCst), "what is computed keeps its memory until then");
    go_on();
    until(|| ended.load(SeqCst));
    assert_eq!((device.held_bytes(), account.used_bytes()), (0, 0));
    assert!(gate.begun.try_recv().is_err(), "nothing of it is computed any more");
    assert_eq!((device.status()[0].sessions, device.status()[0].waiting), (0, 0));
}

#[test]
fn large_memory_is_given_back_by_the_lane() {
    let device = TensorDevice::cpu(ONE, config(ONE, true)).expect("threads");
    let Opened { mut session, ended, .. } = open(&device, 0, 1 << 26);
    let x = fill(&mut *session, 4 << 20).expect("room");
    assert_eq!(block_on(session.finish()), Ok(()));
    session.describe(x).expect("a tensor");
    drop(session);
    until(|| ended.load(SeqCst));
    assert_eq!(device.held_bytes(), 0);
}

#[test]
fn a_panic_or_a_loss_ends_its_session_alone() {
    let (device, _gate) = gated(1);
    let mut other = open(&device, 0, 1 << 20).session;
    for (fault, reason) in [(Unary::Sign, "it failed while it computed"), (Unary::Abs, "unplugged")]
    {
        let Opened { mut session, ended, .. } = open(&device, 0, 1 << 20);
        let lost = SessionError::Lane(LaneError::Lost { reason: reason.to_owned() });
        let x = fill(&mut *session, 1).expect("room");
        // It is asked for, or the loss is known already.
        _ = unary(&mut *session, fault, x);
        assert_eq!(block_on(session.read(x)), Err(lost.clone()));
        assert_eq!(block_on(session.finish()), Err(lost.clone()));
        assert_eq!(fill(&mut *session, 1), Err(lost));
        assert!(session.room(0).is_none());
        assert_eq!(session.release(x), Ok(()));
        drop(session);
        until(|| ended.load(SeqCst));
        let y = fill(&mut *other, 1).expect("room");
        assert_eq!(block_on(other.read(y)), Ok(floats(&[1.0])));
    }
}

#[test]
fn what_goes_wrong_later_is_the_answer_to_everything_after_it() {
    let device = TensorDevice::cpu(ONE, config(ONE, false)).expect("threads");
    let mut session = open(&device, 0, 1 << 20).session;
    let x = fill(&mut *session, 3).expect("room");
    let shape = Shape::new(&[1]).expect("a shape");
    let index = session.upload(Description::new(Dtype::Int64, shape), &7i64.to_le_bytes());
    let index = index.expect("room");
    _ = session.run(&Kernel::Gather(0).into(), &[x, index]);
    let error = LaneError::Index { operator: "gather", index: 7, size: 3 };
    assert_eq!(block_on(session.finish()), Err(SessionError::Lane(error.clone())));
    assert_eq!(fill(&mut *session, 1), Err(SessionError::Lane(error.clone())));
    let described = Description::new(Dtype::Uint8, shape);
    assert_eq!(session.upload(described, &[0]), Err(SessionError::Lane(error)));
}

#[test]
fn a_device_that_is_closed_ends_its_sessions() {
    let (device, gate) = gated(1);
    let Opened { mut session, ended, .. } = open(&device, 0, 1 << 20);
    let x = fill(&mut *session, 1).expect("room");
    unary(&mut *session, Unary::Neg, x).expect("room");
    let go_on = gate.begun();
    let read = session.read(x);
    let closing = thread::spawn(move || drop(device));
    let lost = SessionError::Lane(LaneError::Lost { reason: "the server is stopping".to_owned() });
    assert_eq!(block_on(read), Err(lost.clone()));
    go_on();
    closing.join().expect("no panic");
    assert_eq!(fill(&mut *session, 1), Err(lost));
    drop(session);
    assert!(ended.load(SeqCst));
}

#[test]
fn a_lane_that_is_not_there_is_named() {
    let device = TensorDevice::cpu(ONE, config(ONE, true)).expect("threads");
    let opening = Opening {
        lane: 1,
        tenant: TenantId::default(),
        share_milli: 0,
        bytes: 0,
        account: Arc::default(),
        lease: Arc::new(()),
    };
    let refused = device.open(opening).err().expect("there is lane 0 alone");
    assert_eq!(refused.to_string(), "the device is lost: it has no lane 1");
}

#[test]
fn what_is_lent_is_no_copy_and_is_kept_until_it_is_dropped() {
    let device = TensorDevice::cpu(ONE, config(ONE, true)).expect("threads");
    let Opened { mut session, account, ended } = open(&device, 0, 4 << 10);
    let description = Description::new(Dtype::Fp32, Shape::new(&[2, 2]).expect("a shape"));
    let x = session.upload(description, &floats(&[1.0, 2.0, 3.0, 4.0])).expect("room");
    let [first, second] = [(); 2].map(|()| block_on(session.lend(x)).expect("elements"));
    assert_eq!((&first[..], first.as_ptr()), (&floats(&[1.0, 2.0, 3.0, 4.0])[..], second.as_ptr()));
    let turned = session.run(&View::Permute(vec![1, 0]).into(), &[x]).expect("a view")[0];
    let turned_lent = block_on(session.lend(turned)).expect("elements");
    assert_eq!(turned_lent, floats(&[1.0, 3.0, 2.0, 4.0]));
    for tensor in [x, turned] {
        session.release(tensor).expect("a tensor");
    }
    drop((first, turned_lent));
    assert_eq!(session.usage(), Usage { bytes: 256, tensors: 0 });
    assert_eq!(account.used_bytes(), 256);
    // All but what is lent can be had.
    let most = fill(&mut *session, 960).expect("room");
    assert!(matches!(fill(&mut *session, 1), Err(SessionError::Budget { used: 4096, .. })));
    session.release(most).expect("a tensor");
    drop(session);
    assert!(!ended.load(SeqCst), "the lease is what stands for its memory");
    assert_eq!((device.held_bytes(), &second[..4]), (256, &floats(&[1.0])[..]));
    drop(second);
    assert!(ended.load(SeqCst));
    assert_eq!(device.held_bytes(), 0);
}

#[test]
fn lending_waits_for_what_is_computed_and_ends_where_that_fails() {
    let (device, gate) = gated(1);
    let mut session = open(&device, 0, 1 << 20).session;
    let x = fill(&mut *session, 2).expect("room");
    let negated = unary(&mut *session, Unary::Neg, x).expect("room");
    let mut lent = session.lend(negated);
    assert!((&mut lent).now_or_never().is_none());
    // Whoever does not wait for it has borrowed nothing.
    drop(session.lend(negated));
    gate.begun()();
    assert_eq!(block_on(lent).expect("elements"), floats(&[-1.0, -1.0]));
    assert_eq!(session.usage(), Usage { bytes: 512, tensors: 2 });
    let wide = View::Broadcast(Shape::new(&[1 << 17, 2]).expect("a shape")).into();
    let wide = session.run(&wide, &[x]).expect("a view")[0];
    assert!(matches!(block_on(session.lend(wide)), Err(SessionError::Budget { .. })));
    let lost = unary(&mut *session, Unary::Abs, x).expect("room");
    let error = block_on(session.lend(lost)).expect_err("the device is lost");
    assert_eq!(error.to_string(), "the device is lost: unplugged");
    assert_eq!(block_on(session.lend(x)), Err(error));
}

#[test]
fn a_tensor_that_has_its_memory_to_itself_is_handed_over_without_a_copy() {
    let device = TensorDevice::cpu(ONE, config(ONE, true)).expect("threads");
    let Opened { mut session, ended, .. } = open(&device, 0, 4 << 10);
    let x = fill(&mut *session, 64).expect("room");
    let at = |session: &mut dyn KernelSession, tensor| {
        block_on(session.lend(tensor)).expect("elements").as_ptr()
    };
    let place = at(&mut *session, x);
    let parcel = block_on(session.pack(x)).expect("a parcel");
    assert_eq!((parcel.device(), parcel.bytes()), ("cpu:0", 256));
    session.release(x).expect("a tensor");
    assert_eq!(session.usage(), Usage::default(), "it is another's to be charged for");
    drop(session);
    assert!(ended.load(SeqCst));
    assert_eq!(device.held_bytes(), 256);
    let Opened { mut session, .. } = open(&device, 0, 512);
    session.check_room(&parcel.description()).expect("room");
    let y = session.unpack(parcel).expect("room");
    assert_eq!((at(&mut *session, y), device.held_bytes()), (place, 256));
    assert_eq!(block_on(session.read(y)), Ok(floats(&[1.0; 64])));
    // What another session has filled is no memory for this one's tensors.
    session.release(y).expect("a tensor");
    assert_eq!(device.held_bytes(), 0);
    drop(session);
}

#[test]
fn a_tensor_is_handed_over_to_another_device_and_to_none_without_room() {
    let device = TensorDevice::cpu(ONE, config(ONE, true)).expect("threads");
    let other = TensorDevice::cpu(ONE, config(ONE, false)).expect("threads");
    let mut session = open(&device, 0, 4 << 10).session;
    let x = fill(&mut *session, 64).expect("room");
    let parcel = block_on(session.pack(x)).expect("a parcel");
    let Opened { session: mut small, .. } = open(&other, 0, 128);
    assert!(matches!(small.check_room(&parcel.description()), Err(SessionError::Budget { .. })));
    let Opened { session: mut taker, .. } = open(&other, 0, 256);
    let y = taker.unpack(parcel).expect("room");
    assert_eq!(block_on(taker.read(y)), Ok(floats(&[1.0; 64])));
    assert_eq!((device.held_bytes(), other.held_bytes()), (256, 256));
    let foreign = taker.pack(x);
    assert_eq!(block_on(foreign).expect_err("refused"), SessionError::Foreign(x));
    taker.release(y).expect("a tensor");
    let odd =
        Parcel::new("npu:0".to_owned(), session.describe(x).expect("a tensor"), 256, Box::new(7));
    let error = taker.unpack(odd).expect_err("refused").to_string();
    assert_eq!(error, "the device is lost: another kind of device has packed a tensor for it");
}
