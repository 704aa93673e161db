//! Where guests go on that turn out to be busy: threads of a lower priority, so that a short
//! request does not wait behind long ones. It ends no guest: limits are not its business.

use std::{
    cell::Cell,
    future::Future,
    io,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// Processor time that a guest has among the others; most requests need less.
const SHORT: Duration = Duration::from_millis(2);
/// What a guest takes at a time if it only stops because of the epoch's tick, or little less.
const LONG: Duration = Duration::from_micros(500);
/// How much less the system gives a busy thread that competes with others: at 5, a third of theirs.
const NICE: i32 = 5;

thread_local! {
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is one of busy guests.
pub(crate) fn is_here() -> bool {
    BUSY.get()
}

/// The threads of busy guests, as many as there are cores.
pub(crate) struct BusyThreads(Option<Runtime>);

impl BusyThreads {
    pub(crate) fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(cores).thread_name("busy").on_thread_start(begin_thread);
        Ok(Self(Some(builder.build()?)))
    }

    /// What guests are sent there by.
    pub(crate) fn handle(&self) -> Handle {
        self.0.as_ref().expect("taken by drop alone").handle().clone()
    }
}

impl Drop for BusyThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Without waiting: this may be one of the threads that serve.
            runtime.shutdown_background();
        }
    }
}

fn begin_thread() {
    BUSY.set(true);
    // On Linux a priority is a thread's own; elsewhere it would be the whole program's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "busy guests run at the priority of all others");
    }
}

/// A guest that stays where it is polled while it is short, and moves to the busy threads if it
/// is not. Whatever it spawns runs where it began.
pub(crate) struct Sorted<F: Future> {
    place: Place<F>,
    used: Duration,
    home: Handle,
    busy: Handle,
}

enum Place<F: Future> {
    Home(Pin<Box<F>>),
    Busy(AbortOnDropHandle<F::Output>),
    /// On its way, or lost with its threads.
    Nowhere,
}

impl<F: Future> Sorted<F> {
    /// Must be made within the runtime of the short ones.
    pub(crate) fn new(guest: F, busy: Handle) -> Self {
        let place = Place::Home(Box::pin(guest));
        Self { place, used: Duration::ZERO, home: Handle::current(), busy }
    }
}

impl<F> Future for Sorted<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if let Place::Home(guest) = &mut self.place {
            let start = Instant::now();
            let polled = guest.as_mut().poll(context);
            self.used += start.elapsed();
            if polled.is_ready() || self.used <= SHORT {
                return polled;
            }
            if let Place::Home(guest) = std::mem::replace(&mut self.place, Place::Nowhere) {
                let guest = Away { guest, home: self.home.clone() };
                self.place = Place::Busy(AbortOnDropHandle::new(self.busy.spawn(guest)));
            }
        }
        let Place::Busy(guest) = &mut self.place else { return Poll::Pending };
        match std::task::ready!(Pin::new(guest).poll(context)) {
            Ok(output) => Poll::Ready(output),
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The threads are shut down with the server: nobody waits for this guest any more.
            Err(_) => {
                self.place = Place::Nowhere;
                Poll::Pending
            }
        }
    }
}

/// A guest on the busy threads.
struct Away<F> {
    guest: Pin<Box<F>>,
    home: Handle,
}

impl<F: Future> Future for Away<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // What the host does for the guest, a batch of others' model calls say, is not busy work.
        let Self { guest, home } = &mut *self;
        let at_home = home.enter();
        let start = Instant::now();
        let polled = guest.as_mut().poll(context);
        drop(at_home);
        if polled.is_pending() && start.elapsed() >= LONG {
            // The system would let a short request wait to the end of this thread's time slice.
            std::thread::yield_now();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> Option<String> {
        std::thread::current().name().map(str::to_owned)
    }

    fn spin(time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {}
    }

    #[tokio::test]
    async fn a_short_guest_stays_and_a_busy_one_moves() {
        let threads = BusyThreads::start().expect("threads");
        let here = thread();
        let guest = |time| async move {
            spin(time);
            tokio::task::yield_now().await;
            let spawned = tokio::spawn(async { thread() }).await.expect("no panic");
            (thread(), spawned)
        };
        let short = Sorted::new(guest(Duration::ZERO), threads.handle()).await;
        assert_eq!(short, (here.clone(), here.clone()));
        let long = Sorted::new(guest(2 * SHORT), threads.handle()).await;
        assert_eq!(long, (Some("busy".into()), here), "what it spawns stays at home");
    }

    #[tokio::test]
    async fn a_guest_that_moved_ends_with_whoever_waits_for_it() {
        struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.take().map(|sender| sender.send(()));
            }
        }
        let threads = BusyThreads::start().expect("threads");
        let (sender, dropped) = tokio::sync::oneshot::channel();
        let mut guest = Box::pin(Sorted::new(
            async move {
                let _held = Dropped(Some(sender));
                spin(2 * SHORT);
                tokio::task::yield_now().await;
                std::future::pending::<()>().await;
            },
            threads.handle(),
        ));
        let first = std::future::poll_fn(|context| Poll::Ready(guest.as_mut().poll(context)));
        assert!(first.await.is_pending());
        drop(guest);
        dropped.await.expect("is dropped");
    }

    #[tokio::test]
    async fn a_guest_whose_threads_are_gone_never_ends() {
        let threads = BusyThreads::start().expect("threads");
        let guest = async {
            spin(2 * SHORT);
            tokio::task::yield_now().await;
            std::future::pending::<()>().await;
        };
        let mut guest = Box::pin(Sorted::new(guest, threads.handle()));
        let mut is_pending = async || {
            std::future::poll_fn(|context| Poll::Ready(guest.as_mut().poll(context).is_pending()))
                .await
        };
        assert!(is_pending().await);
        drop(threads);
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(1));
            assert!(is_pending().await);
        }
    }

    #[tokio::test]
    #[should_panic(expected = "a fault of the host")]
    async fn a_panic_on_the_busy_threads_is_passed_on() {
        let threads = BusyThreads::start().expect("threads");
        let guest = async {
            spin(2 * SHORT);
            tokio::task::yield_now().await;
            panic!("a fault of the host");
        };
        Sorted::new(guest, threads.handle()).await
    }
}
