//! The clock that makes busy guests yield: it advances the engine's epoch, often while guests run
//! and rarely while none does.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use wasmtime::Engine;

/// How long a guest runs before others get a turn.
const BUSY: Duration = Duration::from_millis(1);
/// How soon a guest is noticed that begins after a quiet time.
const QUIET: Duration = Duration::from_millis(10);
/// Ticks without an invocation before the quiet time begins.
const TICKS_UNTIL_QUIET: u32 = 100;

/// A thread that advances the epoch until it is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicU64,
    stop: AtomicBool,
}

/// Tells the ticker that invocations run.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Shared>);

/// One invocation, from its start to its drop.
pub(crate) struct Running(Arc<Shared>);

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: &Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (engine, seen) = (engine.clone(), shared.clone());
        let tick = move || {
            let mut quiet_ticks = 0;
            while !seen.stop.load(Ordering::Relaxed) {
                let busy = seen.running.load(Ordering::Relaxed) > 0;
                quiet_ticks = if busy { 0 } else { quiet_ticks + 1 };
                std::thread::sleep(if quiet_ticks < TICKS_UNTIL_QUIET { BUSY } else { QUIET });
                engine.increment_epoch();
            }
        };
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(tick)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What invocations report to.
    pub(crate) fn activity(&self) -> Activity {
        Activity(self.shared.clone())
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread can't panic, and there is nobody to tell if it did.
            let _ = thread.join();
        }
    }
}

impl Activity {
    /// Counts an invocation as running until the returned value is dropped.
    pub(crate) fn begin(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Running(self.0.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
