//! What an operator costs beside its compute: asked of the device while the caller waits, of a lane
//! that has nothing else to do, and of a lane's thread. Asserts nothing.
//!
//! `cargo run --release -p quern-host-gpu --example operator_calls`

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use quern_host_gpu::{Opening, TensorConfig, TensorDevice};
use quern_kernels::{CpuDevice, Session};
use quern_operators::{
    Binary, Description, Dtype, Kernel, KernelSession, Operator, SessionLimits, SessionRequest,
    Shape, TensorId,
};
use quern_types::TenantId;

/// How long each thing is repeated.
const PERIOD: Duration = Duration::from_millis(500);

/// Bytes that are uploaded.
const UPLOAD: usize = 600_000;

fn main() {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    println!("| elements | bare | lane, on the spot | lane's thread, read after each | in a row |");
    println!("|---|---|---|---|---|");
    for elements in [1, 256, 4_096] {
        let bare = bare(threads, elements);
        let spot = lane(threads, elements, true);
        let waited = lane(threads, elements, false);
        let rows = in_a_row(threads, elements);
        println!("| {elements} | {bare:.2} µs | {spot:.2} µs | {waited:.2} µs | {rows:.2} µs |");
    }
    let mut session = open(threads, true);
    let shape = Shape::new(&[UPLOAD as u64]).expect("a shape");
    let (description, bytes) = (Description::new(Dtype::Uint8, shape), vec![7; UPLOAD]);
    let upload = median_us(|| {
        let tensor = session.upload(description, &bytes).expect("room");
        session.release(tensor).expect("a tensor");
    });
    println!("\n{UPLOAD} bytes uploaded and released: {upload:.1} µs");
}

/// The median time that something takes.
fn median_us(mut run: impl FnMut()) -> f64 {
    (0..1_000).for_each(|_| run());
    let (begin, mut times) = (Instant::now(), Vec::new());
    while begin.elapsed() < PERIOD {
        let begin = Instant::now();
        (0..10).for_each(|_| run());
        times.push(begin.elapsed().as_secs_f64() * 1e5);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn ones(elements: u64) -> (Description, Vec<u8>) {
    let shape = Shape::new(&[elements]).expect("a shape");
    let bytes = (0..elements).flat_map(|_| 1.0f32.to_le_bytes()).collect();
    (Description::new(Dtype::Fp32, shape), bytes)
}

fn add() -> Operator {
    Kernel::Binary(Binary::Add).into()
}

fn bare(threads: NonZeroUsize, elements: u64) -> f64 {
    let device = CpuDevice::new(threads).expect("threads");
    let mut session = Session::open(&device, SessionLimits::of_bytes(1 << 28)).expect("opens");
    let (description, bytes) = ones(elements);
    let x = session.upload(description, &bytes).expect("room");
    let add = add();
    median_us(|| {
        let sum = session.run(&add, &[x, x]).expect("room")[0];
        session.release(sum).expect("a tensor");
    })
}

fn open(threads: NonZeroUsize, on_the_spot: bool) -> Box<dyn KernelSession> {
    let config =
        TensorConfig { lanes: NonZeroUsize::MIN, work: 1 << 40, tensors: 1 << 16, on_the_spot };
    // For as long as the program runs.
    let device = Box::leak(Box::new(TensorDevice::cpu(threads, config).expect("threads")));
    let opening = Opening {
        lane: 0,
        tenant: TenantId::default(),
        share_milli: SessionRequest::WHOLE_MILLI,
        bytes: 1 << 28,
        account: Arc::default(),
        lease: Arc::new(()),
    };
    device.open(opening).expect("opens")
}

fn lane(threads: NonZeroUsize, elements: u64, on_the_spot: bool) -> f64 {
    let mut session = open(threads, on_the_spot);
    let (description, bytes) = ones(elements);
    let x = session.upload(description, &bytes).expect("room");
    let add = add();
    median_us(|| {
        let sum: TensorId = session.run(&add, &[x, x]).expect("room")[0];
        if !on_the_spot {
            wait(session.finish()).expect("computed");
        }
        session.release(sum).expect("a tensor");
    })
}

/// A thousand operators, one after the other without waiting.
fn in_a_row(threads: NonZeroUsize, elements: u64) -> f64 {
    const ROW: usize = 1_000;
    let mut session = open(threads, false);
    let (description, bytes) = ones(elements);
    let x = session.upload(description, &bytes).expect("room");
    let add = add();
    let mut times = Vec::new();
    for _ in 0..50 {
        let begin = Instant::now();
        for _ in 0..ROW {
            if let Some(room) = session.room(0) {
                wait(room);
            }
            let sum = session.run(&add, &[x, x]).expect("room")[0];
            session.release(sum).expect("a tensor");
        }
        wait(session.finish()).expect("computed");
        times.push(begin.elapsed().as_secs_f64() * 1e6 / ROW as f64);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Waits for something on this thread.
fn wait<T>(mut future: futures::future::BoxFuture<'static, T>) -> T {
    loop {
        match (&mut future).now_or_never() {
            Some(value) => return value,
            None => std::thread::yield_now(),
        }
    }
}
