//! The limits on time: a future that polls a guest until it ends, or has used up its processor
//! time or its wall time.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use quern_types::Deadline;
use tokio::time::Sleep;

use crate::busy::thread_time;

/// A guest within its limits on time. A busy guest yields at every tick of the epoch, so it
/// overruns by one tick at most.
///
/// Processor time is taken around each poll, host calls included. A poll begins and ends on one
/// thread.
pub(crate) struct Budget<F> {
    guest: Pin<Box<F>>,
    limit: Duration,
    used: Duration,
    deadline: Pin<Box<Sleep>>,
}

/// How a guest's run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending<T> {
    /// By itself.
    Guest(T),
    /// It had used up its processor time.
    Cpu,
    /// It had used up its wall time.
    Deadline,
}

impl<F: Future> Budget<F> {
    /// Must be made within a runtime that has timers.
    pub(crate) fn new(guest: F, limit: Duration, deadline: Deadline) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(deadline.at().into()));
        Self { guest: Box::pin(guest), limit, used: Duration::ZERO, deadline }
    }
}

impl<F: Future> Future for Budget<F> {
    /// How it ended, and the processor time it used.
    type Output = (Ending<F::Output>, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let start = thread_time();
        let polled = self.guest.as_mut().poll(context);
        self.used += thread_time().saturating_sub(start);
        if let Poll::Ready(output) = polled {
            return Poll::Ready((Ending::Guest(output), self.used));
        }
        if self.used > self.limit {
            return Poll::Ready((Ending::Cpu, self.used));
        }
        self.deadline.as_mut().poll(context).map(|()| (Ending::Deadline, self.used))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::busy::BusyThreads;

    fn budget<F: Future>(guest: F, cpu_ms: u64, wall_ms: u64) -> Budget<F> {
        let deadline = Deadline::after(Instant::now(), Duration::from_millis(wall_ms));
        Budget::new(guest, Duration::from_millis(cpu_ms), deadline)
    }

    #[tokio::test]
    async fn a_guest_that_waits_uses_wall_time_alone() {
        let (ending, used) = budget(std::future::pending::<()>(), 10, 30).await;
        assert_eq!(ending, Ending::Deadline);
        assert!(used < Duration::from_millis(10));
    }

    #[tokio::test]
    async fn a_busy_guest_whose_thread_has_to_wait_uses_wall_time_alone() {
        let threads = BusyThreads::start().expect("threads");
        let held_up = async {
            std::thread::sleep(Duration::from_millis(50));
            tokio::task::yield_now().await;
        };
        let sorter = threads.sorter();
        for _ in 0..8 {
            sorter.clone().sort(async { std::thread::sleep(Duration::from_millis(3)) }).await;
        }
        let (ending, used) = sorter.sort(budget(held_up, 10, 60_000)).await;
        assert_eq!(ending, Ending::Guest(()));
        assert!(used < Duration::from_millis(10));
    }

    #[tokio::test]
    async fn a_busy_guest_uses_processor_time() {
        let busy = async {
            loop {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(1) {}
                tokio::task::yield_now().await;
            }
        };
        let (ending, used): (Ending<()>, _) = budget(busy, 10, 60_000).await;
        assert_eq!(ending, Ending::Cpu);
        assert!(used > Duration::from_millis(10));
    }

    #[tokio::test]
    async fn a_guest_that_ends_in_time_is_left_alone() {
        assert_eq!(budget(async { 7 }, 10, 10).await.0, Ending::Guest(7));
    }
}
