//! Where guests run that are busy, or turn out to be: threads of a lower priority, so that a short
//! request does not wait behind long ones. It ends no guest: limits are not its business.

use std::{
    cell::Cell,
    future::Future,
    io,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// Processor time that a guest has among the others; most requests need less.
const SHORT: Duration = Duration::from_millis(2);
/// Guests of a function that were busy, less those that were not, from which on the next ones begin
/// where busy guests are; at most twice as many are counted.
const MOSTLY_BUSY: u8 = 4;
/// What a guest takes at a time if it only stops because of the epoch's tick, or little less.
const LONG: Duration = Duration::from_micros(500);
/// How much less the system gives a busy thread that competes with others: at 5, a third of theirs.
const NICE: i32 = 5;

thread_local! {
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// The processor time of this thread. On the threads that serve it is taken from the monotonic clock,
/// which costs no system call, on the busy ones from the thread's own, which stands still while the
/// system lets others run.
pub(crate) fn thread_time() -> Duration {
    let clock = if BUSY.get() { ClockId::ThreadCPUTime } else { ClockId::Monotonic };
    Duration::try_from(clock_gettime(clock)).expect("both count up from zero")
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

    /// Sorts the guests of one function.
    pub(crate) fn sorter(&self) -> Arc<Sorter> {
        let busy = self.0.as_ref().expect("taken by drop alone").handle().clone();
        Arc::new(Sorter { busy, tendency: AtomicU8::new(0) })
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

/// Decides where the guests of one function run, by what they were before.
pub(crate) struct Sorter {
    busy: Handle,
    tendency: AtomicU8,
}

impl Sorter {
    /// A guest that is polled where it belongs. Whatever it spawns runs where this is polled.
    pub(crate) fn sort<F: Future>(self: Arc<Self>, guest: F) -> Sorted<F> {
        let place = Place::Home(Box::pin(guest));
        Sorted { place, used: Duration::ZERO, sorter: self }
    }

    fn is_mostly_busy(&self) -> bool {
        self.tendency.load(Ordering::Relaxed) >= MOSTLY_BUSY
    }

    /// Counts a guest that has ended, of itself or with whoever waited for it. One that is nearly
    /// busy counts for neither: the clocks of the two kinds of threads differ.
    fn record(&self, used: Duration) {
        let tendency = self.tendency.load(Ordering::Relaxed);
        let now = match used {
            used if used > SHORT => (tendency + 1).min(2 * MOSTLY_BUSY),
            used if used > SHORT / 2 => tendency,
            _ => tendency.saturating_sub(1),
        };
        // Functions whose guests are all alike write nothing. Should two write at the same time,
        // one of them does not count.
        if now != tendency {
            self.tendency.store(now, Ordering::Relaxed);
        }
    }
}

/// A guest that stays where it is polled while it is short, and moves to the busy threads if it is
/// not; where a function's guests are mostly busy, it begins there.
pub(crate) struct Sorted<F: Future> {
    place: Place<F>,
    used: Duration,
    sorter: Arc<Sorter>,
}

enum Place<F: Future> {
    Home(Pin<Box<F>>),
    Busy(AbortOnDropHandle<F::Output>),
    /// On its way, or lost with its threads.
    Nowhere,
}

impl<F> Future for Sorted<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { place, used, sorter } = &mut *self;
        if let Place::Home(guest) = place {
            if !(used.is_zero() && sorter.is_mostly_busy()) {
                let start = thread_time();
                let polled = guest.as_mut().poll(context);
                *used += thread_time().saturating_sub(start);
                if polled.is_ready() {
                    sorter.record(*used);
                }
                if polled.is_ready() || *used <= SHORT {
                    return polled;
                }
            }
            if let Place::Home(guest) = std::mem::replace(place, Place::Nowhere) {
                let (home, sorter) = (Handle::current(), sorter.clone());
                let away = Away { guest, home, used: *used, sorter: sorter.clone() };
                *place = Place::Busy(AbortOnDropHandle::new(sorter.busy.spawn(away)));
            }
        }
        let Place::Busy(guest) = place else { return Poll::Pending };
        match std::task::ready!(Pin::new(guest).poll(context)) {
            Ok(output) => Poll::Ready(output),
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The threads are shut down with the server: nobody waits for this guest any more.
            Err(_) => {
                *place = Place::Nowhere;
                Poll::Pending
            }
        }
    }
}

/// A guest on the busy threads.
struct Away<F> {
    guest: Pin<Box<F>>,
    home: Handle,
    used: Duration,
    sorter: Arc<Sorter>,
}

impl<F: Future> Future for Away<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // What the host does for the guest, a batch of others' model calls say, is not busy work.
        let Self { guest, home, used, sorter } = &mut *self;
        let at_home = home.enter();
        let start = thread_time();
        let polled = guest.as_mut().poll(context);
        let turn = thread_time().saturating_sub(start);
        drop(at_home);
        *used += turn;
        if polled.is_ready() {
            sorter.record(std::mem::take(used));
        } else if turn >= LONG {
            // The system would let a short request wait to the end of this thread's time slice.
            std::thread::yield_now();
        }
        polled
    }
}

impl<F> Drop for Away<F> {
    fn drop(&mut self) {
        // It did not end of itself: a limit did it, or its client has left.
        if self.used > SHORT {
            self.sorter.record(self.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
        let short = threads.sorter().sort(guest(Duration::ZERO)).await;
        assert_eq!(short, (here.clone(), here.clone()));
        let long = threads.sorter().sort(guest(2 * SHORT)).await;
        assert_eq!(long, (Some("busy".into()), here), "what it spawns stays at home");
    }

    #[tokio::test]
    async fn guests_of_a_function_that_is_mostly_busy_begin_on_the_busy_threads() {
        let threads = BusyThreads::start().expect("threads");
        let sorter = threads.sorter();
        let begins = async |time| {
            let guest = async move {
                let thread = thread();
                spin(time);
                thread
            };
            sorter.clone().sort(guest).await
        };
        let (here, busy) = (thread(), Some("busy".into()));
        for _ in 0..MOSTLY_BUSY {
            assert_eq!(begins(2 * SHORT).await, here);
        }
        assert_eq!(begins(Duration::ZERO).await, busy);
        assert_eq!(begins(Duration::ZERO).await, here, "it is no longer mostly busy");
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
        let mut guest = Box::pin(threads.sorter().sort(async move {
            let _held = Dropped(Some(sender));
            spin(2 * SHORT);
            tokio::task::yield_now().await;
            std::future::pending::<()>().await;
        }));
        let first = std::future::poll_fn(|context| Poll::Ready(guest.as_mut().poll(context)));
        assert!(first.await.is_pending());
        drop(guest);
        dropped.await.expect("is dropped");
    }

    #[tokio::test]
    async fn a_guest_that_is_nearly_busy_counts_for_neither() {
        let sorter = BusyThreads::start().expect("threads").sorter();
        for (used, tendency) in [
            (2 * SHORT, 1),
            (SHORT, 1),
            (SHORT / 2, 0),
            (Duration::ZERO, 0),
            (2 * SHORT, 1),
            (2 * SHORT, 2),
        ] {
            sorter.record(used);
            assert_eq!(sorter.tendency.load(Ordering::Relaxed), tendency);
        }
    }

    #[tokio::test]
    async fn a_busy_guest_that_does_not_end_of_itself_is_counted() {
        let sorter = BusyThreads::start().expect("threads").sorter();
        let away = |used| Away {
            guest: Box::pin(std::future::ready(())),
            home: Handle::current(),
            used,
            sorter: sorter.clone(),
        };
        drop(away(2 * SHORT));
        assert_eq!(sorter.tendency.load(Ordering::Relaxed), 1);
        drop(away(Duration::ZERO));
        assert_eq!(sorter.tendency.load(Ordering::Relaxed), 1);
        away(2 * SHORT).await;
        assert_eq!(sorter.tendency.load(Ordering::Relaxed), 2, "counted once");
    }

    #[tokio::test]
    async fn a_guest_whose_threads_are_gone_never_ends() {
        let threads = BusyThreads::start().expect("threads");
        let guest = async {
            spin(2 * SHORT);
            tokio::task::yield_now().await;
            std::future::pending::<()>().await;
        };
        let mut guest = Box::pin(threads.sorter().sort(guest));
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
        threads.sorter().sort(guest).await
    }
}
