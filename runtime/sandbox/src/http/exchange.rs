//! What the ends of one exchange share: why it failed, what was answered, and what was delivered.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use prometheus::IntCounter;
use quern_types::{ByteSize, Exceeded, InvokeError};
use tokio::sync::Notify;

use crate::report::Overrun;

/// One request and its response, on their ways.
pub(super) struct Exchange {
    /// Most bytes of the response's body.
    limit: ByteSize,
    failure: OnceLock<InvokeError>,
    answered: AtomicBool,
    deserted: AtomicBool,
    sent_bytes: AtomicU64,
    /// Bytes of all responses of the server.
    all_sent_bytes: IntCounter,
    overrun: Notify,
    delivered: Notify,
}

impl Exchange {
    pub(super) fn new(limit: ByteSize, all_sent_bytes: IntCounter) -> Self {
        Self {
            limit,
            failure: OnceLock::new(),
            answered: AtomicBool::new(false),
            deserted: AtomicBool::new(false),
            sent_bytes: AtomicU64::new(0),
            all_sent_bytes,
            overrun: Notify::new(),
            delivered: Notify::new(),
        }
    }

    /// Takes down why it failed; the first reason counts.
    pub(super) fn fail(&self, error: InvokeError) {
        // What follows from a failure is none of its own.
        let _ = self.failure.set(error);
    }

    pub(super) fn failure(&self) -> Option<&InvokeError> {
        self.failure.get()
    }

    /// Takes down that a body exceeds its limit, and ends the guest.
    pub(super) fn exceed(&self, limit: Exceeded) {
        self.fail(InvokeError::Limit(limit));
        self.overrun.notify_one();
    }

    /// The limit that a body exceeded, if that is why it failed.
    pub(super) fn exceeded(&self) -> Option<Exceeded> {
        match self.failure() {
            Some(&InvokeError::Limit(limit @ (Exceeded::Request(_) | Exceeded::Response(_)))) => {
                Some(limit)
            }
            _ => None,
        }
    }

    /// Runs a guest until it ends, or a body exceeds its limit.
    pub(super) async fn unless_exceeded(
        &self,
        guest: impl Future<Output = wasmtime::Result<()>>,
    ) -> wasmtime::Result<()> {
        let (mut guest, mut overrun) = (pin!(guest), pin!(self.overrun.notified()));
        poll_fn(|context| {
            if overrun.as_mut().poll(context).is_ready()
                && let Some(limit) = self.exceeded()
            {
                return Poll::Ready(Err(Overrun(limit).into()));
            }
            guest.as_mut().poll(context)
        })
        .await
    }

    /// Takes down that the guest has answered, with a head or with an error.
    pub(super) fn answer(&self) {
        self.answered.store(true, Ordering::Release);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Takes down that the client has left in the middle of the response's body.
    pub(super) fn desert(&self) {
        self.deserted.store(true, Ordering::Release);
    }

    /// Whether a guest that has ended may have done so because its client had left.
    pub(super) fn is_deserted(&self) -> bool {
        self.deserted.load(Ordering::Acquire)
    }

    /// Takes down bytes of the response's body on their way to the client, unless they exceed its
    /// limit: that ends the guest.
    pub(super) fn send(&self, bytes: u64) -> Result<(), Exceeded> {
        let before = self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit.0 {
            let limit = Exceeded::Response(self.limit);
            self.exceed(limit);
            return Err(limit);
        }
        self.all_sent_bytes.inc_by(bytes);
        Ok(())
    }

    /// Whether a body of which at most so many bytes have not been sent yet stays within its limit.
    pub(super) fn fits(&self, unsent_bytes: u64) -> bool {
        self.sent_bytes.load(Ordering::Relaxed).saturating_add(unsent_bytes) <= self.limit.0
    }

    /// Takes down that nothing is left to be delivered.
    pub(super) fn deliver(&self) {
        self.delivered.notify_one();
    }

    /// Waits until the response's body has been delivered to its end.
    pub(super) async fn delivered(&self) {
        self.delivered.notified().await;
    }
}
