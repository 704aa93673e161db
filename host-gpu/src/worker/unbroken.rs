//! A future that is not broken off: should whoever waits for it leave, it goes on to its end
//! without them. Until then it needs no task of its own, which would cost another thread's waking.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::runtime::Handle;

pub(super) struct Unbroken<T: Send + 'static> {
    rest: Option<BoxFuture<'static, T>>,
    begun: bool,
    runtime: Handle,
}

impl<T: Send + 'static> Unbroken<T> {
    pub(super) fn new(runtime: Handle, future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { rest: Some(Box::pin(future)), begun: false, runtime }
    }
}

impl<T: Send + 'static> Future for Unbroken<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(rest) = &mut self.rest else { return Poll::Pending };
        let polled = rest.as_mut().poll(context);
        if polled.is_ready() {
            self.rest = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Unbroken<T> {
    fn drop(&mut self) {
        // Nobody waits for what has not begun.
        if let Some(rest) = self.rest.take().filter(|_| self.begun) {
            self.runtime.spawn(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_has_begun_goes_on_without_whoever_waited() {
        for begins in [true, false] {
            let (go_on, gone_on) = oneshot::channel::<()>();
            let (end, ended) = oneshot::channel();
            let mut future = Unbroken::new(Handle::current(), async move {
                gone_on.await.expect("is sent");
                end.send(()).expect("is waited for");
            });
            if begins {
                assert!((&mut future).now_or_never().is_none());
            }
            drop(future);
            let _ = go_on.send(());
            assert_eq!(ended.await.is_ok(), begins);
        }
    }

    #[tokio::test]
    async fn what_is_waited_for_gives_its_result() {
        assert_eq!(Unbroken::new(Handle::current(), async { 7 }).await, 7);
    }
}
