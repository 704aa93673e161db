//! Counts what is under way, so that a server that stops can wait for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Work under way, and whether more is taken.
#[derive(Clone, Default)]
pub(crate) struct Drain(Arc<Shared>);

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    closed: AtomicBool,
    idle: Notify,
}

/// One piece of work, from its admission to its drop.
pub(crate) struct Work(Arc<Shared>);

impl Drain {
    /// Admits a piece of work; none once draining has begun.
    pub(crate) fn admit(&self) -> Option<Work> {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        let work = Work(self.0.clone());
        // Counted before it is asked, so that `wait` can't miss it.
        (!self.0.closed.load(Ordering::SeqCst)).then_some(work)
    }

    /// Admits nothing more, and waits until nothing is under way.
    pub(crate) async fn wait(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        loop {
            let idle = self.0.idle.notified();
            if self.0.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1
            && self.0.closed.load(Ordering::SeqCst)
        {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn draining_waits_for_work_and_admits_no_more() {
        let drain = Drain::default();
        let work = drain.admit().expect("open");
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.wait().await }
        });
        while drain.admit().is_some() {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        drop(work);
        waiting.await.expect("drained");
    }
}
