//! One outbound request and its response: the permit it holds, the bytes it takes, and how it ended.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use ::http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::Error as HttpError;

use super::{
    client::Client,
    fault::{Fault, Part},
};
use crate::output::Capture;

/// What the outbound requests of one invocation share.
pub(crate) struct Invocation {
    /// Where its owner reads of refusals.
    pub(crate) capture: Capture,
    /// Fires when the invocation has ended.
    pub(crate) ended: CancellationToken,
    left_bytes: AtomicU64,
}

impl Invocation {
    pub(crate) fn new(client: &Client, capture: Capture) -> Self {
        let left_bytes = AtomicU64::new(client.bytes.0);
        Self { capture, ended: CancellationToken::new(), left_bytes }
    }
}

/// A request under way. Shared by its two bodies; the last of them gives the permit back.
pub(crate) struct Exchange {
    pub(crate) client: Arc<Client>,
    pub(crate) invocation: Arc<Invocation>,
    fault: OnceLock<Fault>,
    complete: OnceLock<()>,
    _permit: OwnedSemaphorePermit,
}

impl Exchange {
    pub(crate) fn new(
        client: Arc<Client>,
        invocation: Arc<Invocation>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (fault, complete) = (OnceLock::new(), OnceLock::new());
        Self { client, invocation, fault, complete, _permit: permit }
    }

    /// Takes bytes from what the invocation has left.
    pub(crate) fn take(&self, bytes: usize, part: Part) -> Result<(), Fault> {
        let bytes = bytes as u64;
        let left = &self.invocation.left_bytes;
        let taken =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if taken.is_err() {
            return Err(Fault::Bytes { limit: self.client.bytes, part });
        }
        let metrics = &self.client.network.metrics;
        match part {
            Part::RequestHead | Part::RequestBody => metrics.sent_bytes.inc_by(bytes),
            Part::ResponseHead | Part::ResponseBody => metrics.received_bytes.inc_by(bytes),
        }
        Ok(())
    }

    /// Takes down why it failed, the first time; later ones follow from it. Returns the first.
    pub(crate) fn fail(&self, fault: Fault) -> Fault {
        let mut news = false;
        let first = self.fault.get_or_init(|| {
            news = true;
            fault
        });
        if news && !matches!(first, Fault::Ended) {
            self.invocation.capture.note(&format!("outbound request failed: {first}"));
        }
        first.clone()
    }

    /// The same, for the guest.
    pub(crate) fn fail_guest(&self, fault: Fault) -> HttpError {
        self.fail(fault).error()
    }

    /// Takes down that the response was read to its end.
    pub(crate) fn complete(&self) {
        let _ = self.complete.set(());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let outcome = match (self.complete.get(), self.fault.get()) {
            (Some(()), _) => "ok",
            (None, Some(fault)) => fault.outcome(),
            (None, None) => "cancelled",
        };
        self.client.network.metrics.count(outcome);
    }
}

/// Bytes of headers as HTTP/1.1 writes them.
pub(crate) fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}
