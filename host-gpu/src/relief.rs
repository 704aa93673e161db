//! Sees to it that a run on one of the runtime's threads holds up nobody else. That thread may be
//! the one that waited for connections and timers on behalf of all: where a run takes longer than
//! it was predicted to, another thread is woken, which takes that over. Short runs wake nobody.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::runtime::Handle;

/// How often runs are looked at, while there are any. Far more than a run on the spot should take.
const PERIOD: Duration = Duration::from_millis(5);

/// Watches over the runs on the threads of a runtime, from a thread of its own.
pub(crate) struct Relief {
    runs: Arc<Runs>,
    thread: Option<JoinHandle<()>>,
}

/// How many runs there were.
#[derive(Default)]
struct Runs {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Whether the thread that watches sleeps until a run begins.
    asleep: AtomicBool,
    closed: AtomicBool,
}

/// A run that is under way until this is dropped.
pub(crate) struct Underway<'a>(&'a Runs);

impl Relief {
    pub(crate) fn start(runtime: Handle) -> io::Result<Self> {
        let runs = Arc::new(Runs::default());
        let watched = runs.clone();
        // To be given something to do wakes one of its threads that sleep.
        let watch = move || watched.watch(|| drop(runtime.spawn(async {})));
        let thread = thread::Builder::new().name("cpu-relief".into()).spawn(watch)?;
        Ok(Self { runs, thread: Some(thread) })
    }

    /// Watches over a run that begins here.
    pub(crate) fn underway(&self) -> Underway<'_> {
        self.runs.begun.fetch_add(1, SeqCst);
        if self.runs.asleep.load(SeqCst) && self.runs.asleep.swap(false, SeqCst) {
            self.wake();
        }
        Underway(&self.runs)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
    }
}

impl Drop for Relief {
    fn drop(&mut self) {
        self.runs.closed.store(true, SeqCst);
        self.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches over runs panicked");
        }
    }
}

impl Runs {
    /// Asks for relief once, whenever no run has begun or ended for a period although one is under
    /// way.
    fn watch(&self, relieve: impl Fn()) {
        let (mut seen, mut relieved) = ((0, 0), true);
        while !self.closed.load(SeqCst) {
            thread::park_timeout(PERIOD);
            let now = (self.begun.load(SeqCst), self.ended.load(SeqCst));
            if now != seen {
                (seen, relieved) = (now, false);
            } else if now.0 == now.1 {
                self.sleep(now.0);
            } else if !relieved {
                relieve();
                relieved = true;
            }
        }
    }

    /// Sleeps until there are more runs than so many.
    fn sleep(&self, begun: u64) {
        // Before it is looked at how many there are: whoever begins one later sees it.
        self.asleep.store(true, SeqCst);
        while self.begun.load(SeqCst) == begun && !self.closed.load(SeqCst) {
            thread::park();
        }
        self.asleep.store(false, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixDatagram as Client, sync::mpsc};

    use tokio::{net::UnixDatagram, runtime::Builder};

    use super::*;

    /// Far longer than anything here takes.
    const BOUND: Duration = Duration::from_secs(60);

    fn pair() -> (Client, UnixDatagram) {
        let (client, server) = Client::pair().expect("a pair");
        server.set_nonblocking(true).expect("a socket");
        (client, UnixDatagram::from_std(server).expect("in a runtime"))
    }

    #[test]
    fn a_run_that_takes_long_holds_up_nobody_else() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_io().build();
        let runtime = runtime.expect("a runtime");
        let _within = runtime.enter();
        let relief = Arc::new(Relief::start(runtime.handle().clone()).expect("a thread"));
        for _ in 0..20 {
            let ((caller, call), (other, request)) = (pair(), pair());
            let (begin, begun) = mpsc::channel();
            let (end, ended) = mpsc::channel();
            let relief = relief.clone();
            let run = runtime.spawn(async move {
                call.recv(&mut [0]).await.expect("comes");
                let _underway = relief.underway();
                begin.send(()).expect("is waited for");
                ended.recv_timeout(BOUND)
            });
            runtime.spawn(async move {
                request.recv(&mut [0]).await.expect("comes");
                end.send(()).expect("the run goes on");
            });
            caller.send(b"x").expect("there is room");
            begun.recv().expect("it begins");
            other.send(b"x").expect("there is room");
            assert_eq!(runtime.block_on(run).expect("no panic"), Ok(()));
        }
    }

    #[test]
    fn each_run_that_takes_long_is_relieved_once_and_no_other() {
        let runs = Runs::default();
        let (relieve, relieved) = mpsc::channel();
        thread::scope(|scope| {
            let watching = scope.spawn(|| runs.watch(|| relieve.send(()).expect("is open")));
            for _ in 0..3 {
                // As the thread is asleep, or not yet.
                runs.begun.fetch_add(1, SeqCst);
                watching.thread().unpark();
                relieved.recv_timeout(BOUND).expect("relief");
                runs.ended.fetch_add(1, SeqCst);
            }
            runs.closed.store(true, SeqCst);
            watching.thread().unpark();
        });
        assert!(relieved.try_recv().is_err(), "once each");
    }
}
