//! Device tensors in a process of their own: they answer as those of this process, and whatever
//! becomes of the process costs its sessions alone.

use std::{
    any::Any,
    fs,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use prometheus::IntCounter;
use quern_host_gpu::{
    Account, Computing, Opening, RemoteConfig, RemoteDevice, RemoteError, TensorConfig,
    TensorDevice, WorkerProgram,
};
use quern_kernels::{Device as _, suite::suite};
use quern_operators::{
    Binary, Description, Dtype, Fill, Kernel, KernelSession, LaneError, Range, Scalar,
    SessionError, SessionRequest, Shape, TensorId, View,
};
use quern_types::{DeviceId, TenantId};
use rustix::process::{Pid, Signal, kill_process};

use crate::device::worker_config;

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

fn remote_config() -> RemoteConfig {
    RemoteConfig {
        device: DeviceId::Cpu(0),
        program: worker_config().program,
        computing: Computing::Cpu { threads: TWO },
        lanes: TWO,
        patience: Duration::from_secs(60),
    }
}

async fn remote(config: RemoteConfig) -> RemoteDevice {
    let starts = IntCounter::new("starts", "Starts").expect("a name");
    RemoteDevice::start(config, starts).await.expect("a process starts")
}

/// A device for sessions, and the same as itself.
async fn device(config: RemoteConfig) -> (TensorDevice, RemoteDevice) {
    let remote = remote(config).await;
    let config = TensorConfig { lanes: TWO, work: 1 << 40, tensors: 10_000, on_the_spot: true };
    let device = TensorDevice::remote(DeviceId::Cpu(0), remote.clone(), config);
    (device.expect("threads"), remote)
}

/// Tells when it is dropped.
struct Lease(Arc<AtomicBool>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

pub(crate) struct Opened {
    pub(crate) session: Box<dyn KernelSession>,
    pub(crate) account: Arc<Account>,
    pub(crate) ended: Arc<AtomicBool>,
}

pub(crate) async fn open(device: &TensorDevice, lane: usize) -> Opened {
    device.settled().await;
    let (account, ended) = (Arc::new(Account::default()), Arc::new(AtomicBool::new(false)));
    let lease: Arc<dyn Any + Send + Sync> = Arc::new(Lease(Arc::clone(&ended)));
    let opening = Opening {
        lane,
        tenant: TenantId::default(),
        share_milli: SessionRequest::WHOLE_MILLI,
        bytes: 1 << 28,
        account: Arc::clone(&account),
        lease,
    };
    Opened { session: device.open(opening).expect("the process is there"), account, ended }
}

/// Waits for something that another thread is about to do.
pub(crate) async fn until(what: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it does not come");
}

fn signal(remote: &RemoteDevice, signal: Signal) -> u32 {
    let id = remote.describe().process_id.expect("it is up");
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, signal).expect("it is there");
    id
}

/// Stops a process, which goes on when it is told to; waits until all of it has stopped.
fn stop(remote: &RemoteDevice) {
    let process = signal(remote, Signal::STOP);
    let is_stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
    };
    let tasks = || fs::read_dir(format!("/proc/{process}/task")).expect("it is there");
    while !tasks().all(|task| is_stopped(task.expect("it is there"))) {
        std::thread::yield_now();
    }
}

fn vector(elements: u64) -> Shape {
    Shape::new(&[elements]).expect("a shape")
}

pub(crate) fn fill(
    session: &mut dyn KernelSession,
    elements: u64,
) -> Result<TensorId, SessionError> {
    let (shape, value) = (vector(elements), Scalar::Float(1.0));
    let fill = Fill { dtype: Dtype::Fp32, shape, value };
    Ok(session.run(&Kernel::Fill(fill).into(), &[])?[0])
}

pub(crate) fn add(session: &mut dyn KernelSession, x: TensorId) -> Result<TensorId, SessionError> {
    Ok(session.run(&Kernel::Binary(Binary::Add).into(), &[x, x])?[0])
}

/// Computes something, of which the answer is right.
pub(crate) async fn works(device: &TensorDevice) {
    let mut session = open(device, 0).await.session;
    let x = fill(&mut *session, 3).expect("room");
    let sum = add(&mut *session, x).expect("room");
    let expected: Vec<u8> = [2f32; 3].into_iter().flat_map(f32::to_le_bytes).collect();
    assert_eq!(session.read(sum).await, Ok(expected));
}

pub(crate) fn lost(error: SessionError) -> String {
    match error {
        SessionError::Lane(LaneError::Lost { reason }) => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_device_in_a_process_of_its_own_answers_as_every_device_must() {
    let remote = remote(remote_config()).await;
    let device = remote.clone();
    let report = tokio::task::spawn_blocking(move || suite(&device)).await.expect("no panic");
    let shown: Vec<_> = report.failures.iter().take(40).collect();
    assert!(shown.is_empty(), "{} of {}: {shown:#?}", report.failures.len(), report.cases);
    assert!(report.cases > 1_000, "{}", report.cases);
    assert_eq!((remote.held_bytes(), remote.describe().starts), (0, 1));
}

#[tokio::test]
async fn elements_and_steps_of_any_size_cross() {
    let (device, remote) = device(remote_config()).await;
    let Opened { mut session, account, ended } = open(&device, 1).await;
    // From nothing to more than a link has room for, and back.
    for elements in [0u64, 1, 700_000, 5, 9 << 20, 20 << 20, 3] {
        let bytes: Vec<u8> = (0..elements).map(|at| (at * 7 + at / 251) as u8).collect();
        let description = Description::new(Dtype::Uint8, vector(elements));
        let x = session.upload(description, &bytes).expect("room");
        let copy = session.run(&Kernel::Copy.into(), &[x]).expect("room")[0];
        assert!(session.read(copy).await.expect("elements") == bytes, "{elements}");
        session.release(x).expect("a tensor");
        session.release(copy).expect("a tensor");
    }
    // A step of many inputs.
    let one = fill(&mut *session, 1).expect("room");
    let shape = Shape::new(&[1, 1, 1, 1, 1, 1]).expect("a shape");
    let one = session.run(&View::Reshape(shape).into(), &[one]).expect("a view")[0];
    let many = session.run(&Kernel::Concat(0).into(), &[one; 1_024]).expect("room")[0];
    assert_eq!(session.read(many).await.expect("elements").len(), 4_096);
    assert!(account.computed_ns() > 0, "the process says how long it has computed");
    drop(session);
    until(|| ended.load(SeqCst)).await;
    assert_eq!((remote.held_bytes(), account.used_bytes()), (0, 0));
    assert_eq!(remote.describe().starts, 1);
}

#[tokio::test]
async fn a_million_steps_come_to_an_end_in_order() {
    let (device, _) = device(remote_config()).await;
    let Opened { mut session, account, .. } = open(&device, 0).await;
    let mut x = fill(&mut *session, 1).expect("room");
    let zero = session.run(&Kernel::Binary(Binary::Sub).into(), &[x, x]).expect("room")[0];
    let steps = if std::env::var_os("QUERN_LONG_TESTS").is_some() { 1_000_000 } else { 20_000 };
    for _ in 0..steps {
        if let Some(room) = session.room(0) {
            room.await;
        }
        let next = session.run(&Kernel::Binary(Binary::Add).into(), &[x, zero]).expect("room")[0];
        session.release(x).expect("a tensor");
        x = next;
    }
    assert_eq!(session.read(x).await, Ok(1f32.to_le_bytes().to_vec()));
    assert!(account.computed_ns() > 0);
}

#[tokio::test]
async fn a_process_that_is_killed_costs_its_sessions_and_is_replaced() {
    let (device, remote) = device(remote_config()).await;
    for round in 0..3u64 {
        let Opened { mut session, ended, .. } = open(&device, 0).await;
        let mut others = open(&device, 1).await.session;
        let kept = fill(&mut *others, 1 << 20).expect("room");
        others.finish().await.expect("it is there");
        assert!(remote.held_bytes() > 0);
        let mut x = fill(&mut *session, 1 << 12).expect("room");
        for _ in 0..200 {
            x = add(&mut *session, x).expect("it is asked for");
        }
        let before = signal(&remote, Signal::KILL);
        let reason = lost(session.finish().await.expect_err("the process is gone"));
        assert_eq!(reason, "its process has ended: try again", "round {round}");
        assert_eq!(lost(session.read(x).await.expect_err("it is lost")), reason);
        assert_eq!(lost(others.read(kept).await.expect_err("so is this")), reason);
        drop(session);
        until(|| ended.load(SeqCst)).await;
        until(|| remote.describe().process_id.is_some_and(|id| id != before)).await;
        assert_eq!((remote.held_bytes(), remote.describe().starts), (0, round + 2));
        works(&device).await;
    }
}

#[tokio::test]
async fn sessions_that_are_open_when_nobody_asks_find_out_when_they_do() {
    let (device, remote) = device(remote_config()).await;
    let mut session = open(&device, 0).await.session;
    let x = fill(&mut *session, 1).expect("room");
    session.finish().await.expect("it is there");
    let before = signal(&remote, Signal::KILL);
    until(|| remote.describe().process_id.is_some_and(|id| id != before)).await;
    works(&device).await;
    // What it had is not in the new process.
    assert_eq!(
        lost(session.read(x).await.expect_err("it is lost")),
        "its process has ended: try again"
    );
}

#[tokio::test]
async fn a_process_that_hangs_is_ended_and_replaced() {
    let patience = Duration::from_millis(300);
    let (device, remote) = device(RemoteConfig { patience, ..remote_config() }).await;
    let mut session = open(&device, 0).await.session;
    let x = fill(&mut *session, 1).expect("room");
    session.finish().await.expect("it is there");
    stop(&remote);
    let reason = lost(session.read(x).await.expect_err("it hangs"));
    assert_eq!(reason, "it did not get on for 300ms: try again");
    until(|| remote.describe().starts == 2 && remote.describe().process_id.is_some()).await;
    works(&device).await;
}

/// All of this would hang if it waited for the process.
#[tokio::test]
async fn whoever_asks_never_waits_for_a_process_that_does_not_answer() {
    let (device, remote) = device(remote_config()).await;
    let Opened { mut session, ended, .. } = open(&device, 0).await;
    stop(&remote);
    let bytes = vec![1; 10 << 20];
    let description = Description::new(Dtype::Uint8, vector(10 << 20));
    for _ in 0..8 {
        let x = session.upload(description, &bytes).expect("room");
        session.release(x).expect("a tensor");
    }
    assert!(session.room(0).is_some(), "elements that wait are bounded");
    let mut x = fill(&mut *session, 1).expect("room");
    for _ in 0..500 {
        x = add(&mut *session, x).expect("room");
    }
    let part = vec![Range { start: 0, end: 1, step: 1 }];
    session.run(&View::Slice(part).into(), &[x]).expect("a view");
    let _read = session.read(x);
    drop(session);
    drop(open(&device, 0).await);
    assert!(!ended.load(SeqCst), "what the process has is not free");
    signal(&remote, Signal::CONT);
    until(|| ended.load(SeqCst)).await;
    works(&device).await;
    assert_eq!(remote.describe().starts, 1);
}

#[tokio::test]
async fn a_device_that_is_dropped_ends_its_process_and_its_sessions() {
    let (device, remote) = device(remote_config()).await;
    let mut session = open(&device, 0).await.session;
    let process = remote.describe().process_id.expect("it is up");
    drop(device);
    assert_eq!(remote.describe().down.as_deref(), Some("it was stopped"));
    assert!(!PathBuf::from(format!("/proc/{process}")).exists());
    assert_eq!(lost(session.finish().await.expect_err("it has ended")), "the server is stopping");
    let refused = remote.open(0).err().map(SessionError::Lane).map(lost);
    assert_eq!(refused.as_deref(), Some("it was stopped: try again"));
}

#[tokio::test]
async fn a_process_that_does_not_start_is_an_error_that_says_why() {
    for (path, expected) in
        [("/nowhere/worker", "No such file"), ("/bin/true", "its process ended: exit status: 0")]
    {
        let program = WorkerProgram { path: path.into(), ..remote_config().program };
        let starts = IntCounter::new("starts", "Starts").expect("a name");
        let started = RemoteDevice::start(RemoteConfig { program, ..remote_config() }, starts);
        let error = started.await.map(|_| ()).expect_err(expected);
        assert!(matches!(error, RemoteError::Start { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
