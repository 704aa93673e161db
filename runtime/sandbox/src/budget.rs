//! The limit on processor time: a future that counts how long it is polled.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// Polls a guest until it ends or has used up its processor time. A busy guest yields at every
/// tick of the epoch, so it overruns by one tick at most.
///
/// Time is taken from the monotonic clock around each poll: it is what the guest kept a thread
/// from doing other work, host calls included.
pub(crate) struct Budget<F> {
    guest: Pin<Box<F>>,
    limit: Duration,
    used: Duration,
}

/// The processor time is used up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl<F: Future> Budget<F> {
    pub(crate) fn new(guest: F, limit: Duration) -> Self {
        Self { guest: Box::pin(guest), limit, used: Duration::ZERO }
    }
}

impl<F: Future> Future for Budget<F> {
    /// What came of it, and the processor time used.
    type Output = (Result<F::Output, Exhausted>, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.used > self.limit {
            return Poll::Ready((Err(Exhausted), self.used));
        }
        let start = Instant::now();
        let polled = self.guest.as_mut().poll(context);
        self.used += start.elapsed();
        match polled {
            Poll::Ready(output) => Poll::Ready((Ok(output), self.used)),
            // A guest that waits for a clock or a model may exceed the limit with its last poll
            // and never be woken in time: end it now.
            Poll::Pending if self.used > self.limit => Poll::Ready((Err(Exhausted), self.used)),
            Poll::Pending => Poll::Pending,
        }
    }
}
