//! A task that wakes itself while it has its turn is given another one at once, without a way
//! through the runtime's queue: there, each such wake-up would wake another thread as well, which
//! may take the task from the caches that it is in, and costs more than what is left to do. It
//! keeps nobody else waiting: such turns are few, and within the task's budget.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;
use tokio::task::coop;

/// Most turns in a row. A request whose body has arrived with its head takes three: hyper wakes the
/// connection when the body is asked for, and when it is handed over.
const TURNS: usize = 8;

/// A future for a task of its own.
pub(crate) struct SelfWoken<F> {
    future: Pin<Box<F>>,
    turn: Arc<Turn>,
    /// The same turn, as what the future is polled with.
    waker: Waker,
}

/// Nobody is polling: a wake-up goes on to the task.
const PAUSE: u8 = 0;
/// Somebody is.
const POLL: u8 = 1;
/// Somebody is, and will poll again.
const POLL_AGAIN: u8 = 2;

struct Turn {
    state: AtomicU8,
    task: AtomicWaker,
}

impl<F> SelfWoken<F> {
    pub(crate) fn new(future: F) -> Self {
        let turn = Arc::new(Turn { state: AtomicU8::new(PAUSE), task: AtomicWaker::new() });
        Self { future: Box::pin(future), waker: Waker::from(turn.clone()), turn }
    }
}

impl<F: Future> Future for SelfWoken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, turn, waker } = &mut *self;
        // Before the state says that nobody polls, for a wake-up needs somebody to wake.
        turn.task.register(context.waker());
        for _ in 0..TURNS {
            turn.state.store(POLL, Ordering::Relaxed);
            let polled = future.as_mut().poll(&mut Context::from_waker(waker));
            // Whoever wakes after this wakes the task. Whoever did before is seen here, with what
            // it wrote before.
            let woken = turn.state.swap(PAUSE, Ordering::AcqRel) == POLL_AGAIN;
            if polled.is_ready() || !woken {
                return polled;
            }
            if !coop::has_budget_remaining() {
                break;
            }
        }
        // It is others' turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let seen =
            self.state.compare_exchange(POLL, POLL_AGAIN, Ordering::AcqRel, Ordering::Acquire);
        if seen == Err(PAUSE) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        sync::atomic::AtomicUsize,
    };

    use tokio::sync::mpsc;

    use super::*;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls once, outside of a runtime; says how often the task was woken by it.
    fn poll_once<F: Future>(future: &mut SelfWoken<F>) -> (Poll<F::Output>, usize) {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
        (polled, count.0.load(Ordering::Relaxed))
    }

    /// Wakes itself so many times, each in a poll of its own.
    fn waking(mut times: usize) -> impl Future<Output = ()> {
        poll_fn(move |context| {
            if times == 0 {
                return Poll::Ready(());
            }
            times -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn what_wakes_itself_goes_on_without_its_task() {
        assert_eq!(poll_once(&mut SelfWoken::new(waking(0))), (Poll::Ready(()), 0));
        assert_eq!(poll_once(&mut SelfWoken::new(waking(TURNS - 1))), (Poll::Ready(()), 0));
    }

    #[test]
    fn what_never_stops_waking_itself_lets_others_have_their_turn() {
        let mut endless = SelfWoken::new(waking(usize::MAX));
        for _ in 0..3 {
            assert_eq!(poll_once(&mut endless), (Poll::Pending, 1));
        }
    }

    #[test]
    fn what_waits_is_woken_through_its_task() {
        let mut kept = None;
        let mut waiting =
            SelfWoken::new(poll_fn(|context| match kept.replace(context.waker().clone()) {
                None => Poll::Pending,
                Some(_) => Poll::Ready(()),
            }));
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut waiting).poll(&mut context).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        waiting.waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(Pin::new(&mut waiting).poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn a_task_without_budget_is_polled_no_more() {
        let mut polls = 0;
        let mut greedy = SelfWoken::new(poll_fn(|context| {
            polls += 1;
            while let Poll::Ready(turn) = coop::poll_proceed(context) {
                turn.made_progress();
            }
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        poll_fn(|context| Poll::Ready(Pin::new(&mut greedy).poll(context).is_pending())).await;
        drop(greedy);
        assert_eq!(polls, 1);
    }

    #[test]
    fn no_wake_up_from_another_thread_is_lost() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            const ROUNDS: u32 = 20_000;
            let (there, mut arrived) = mpsc::channel(1);
            let (back, mut returned) = mpsc::channel(1);
            // Each waits for the other in every round: one lost wake-up, and both wait forever.
            let echo = tokio::spawn(SelfWoken::new(async move {
                while let Some(round) = arrived.recv().await {
                    back.send(round).await.expect("is waited for");
                }
            }));
            let asking = tokio::spawn(SelfWoken::new(async move {
                for round in 0..ROUNDS {
                    there.send(round).await.expect("is received");
                    assert_eq!(returned.recv().await, Some(round));
                }
            }));
            asking.await.expect("no panic");
            echo.await.expect("no panic");
        });
    }

    #[test]
    fn the_task_that_polled_last_is_woken() {
        let mut waiting = SelfWoken::new(pending::<()>());
        assert_eq!(poll_once(&mut waiting), (Poll::Pending, 0));
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        assert!(Pin::new(&mut waiting).poll(&mut Context::from_waker(&waker)).is_pending());
        waiting.waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
