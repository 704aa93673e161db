//! The two bodies of an exchange, each cut off at its limit. Never more than a frame of either is
//! held here.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use quern_types::{Body, BodyError, ByteSize, Exceeded, GuestFault, InvokeError};
use tokio::time::timeout;
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use super::{Guest, exchange::Exchange};

/// How long the head of a response waits for the first of its body.
const HEAD_HELD: Duration = Duration::from_millis(100);

/// A request's body, as the guest reads it.
pub(super) struct RequestBody {
    body: Body,
    left: u64,
    limit: ByteSize,
    exchange: Arc<Exchange>,
}

impl RequestBody {
    pub(super) fn new(body: Body, limit: ByteSize, exchange: Arc<Exchange>) -> Self {
        Self { body, left: limit.0, limit, exchange }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(BodyError::TooLarge { limit }) => {
                return Poll::Ready(Some(Err(HttpError::HttpRequestBodySize(Some(limit.0)))));
            }
            Err(error) => {
                self.exchange.fail(InvokeError::RequestBody(error));
                return Poll::Ready(Some(Err(HttpError::ConnectionTerminated)));
            }
        };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(length) {
            Some(left) => self.left = left,
            None => {
                let limit = self.limit;
                self.exchange.exceed(Exceeded::Request(limit));
                return Poll::Ready(Some(Err(HttpError::HttpRequestBodySize(Some(limit.0)))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body as the guest writes it. It ends well only if the guest ended it, and if it is
/// as long as the response declares: whatever fails in the middle breaks the connection off, so that
/// nobody takes a part for the whole.
///
/// A guest may go on once its response is delivered; one whose client has left before is cancelled.
pub(super) struct GuestBody {
    body: WasiBody,
    length: Option<Length>,
    /// What the guest has sent and is not passed on yet: the first frame, until the head is sent,
    /// and the one that completes the declared length, until it is known that nothing follows.
    taken: VecDeque<Frame<Bytes>>,
    ended: bool,
    failed: bool,
    broken: Option<BodyError>,
    guest: Guest,
    exchange: Arc<Exchange>,
}

/// The length that a response declares, in bytes.
struct Length {
    declared: u64,
    left: u64,
}

impl GuestBody {
    pub(super) fn new(
        body: WasiBody,
        declared: Option<u64>,
        guest: Guest,
        exchange: Arc<Exchange>,
    ) -> Self {
        let length = declared.map(|declared| Length { declared, left: declared });
        let taken = VecDeque::new();
        let (ended, failed, broken) = (false, false, None);
        Self { body, length, taken, ended, failed, broken, guest, exchange }
    }

    /// Waits a moment for the body to begin: what fails before it does is told as an error rather
    /// than by a head and nothing after it.
    pub(super) async fn begin(&mut self) -> Result<(), InvokeError> {
        let begun = timeout(HEAD_HELD, poll_fn(|context| self.poll_taken(context)));
        // A guest that takes longer streams: its head must not wait for that.
        begun.await.unwrap_or(Ok(()))
    }

    /// Lets the guest go on by itself: the response has no body, so that nobody asks for its end.
    pub(super) fn release(&mut self) {
        self.guest.release();
    }

    /// Takes frames until there is one to pass on, or the body is over.
    fn poll_taken(&mut self, context: &mut Context<'_>) -> Poll<Result<(), InvokeError>> {
        let is_full = |length: &Length| length.left == 0;
        while !self.ended && (self.taken.is_empty() || self.length.as_ref().is_some_and(is_full)) {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            let passed = match frame {
                Some(Ok(frame)) => self.take(frame),
                None => self.end(),
                Some(Err(error)) => Err(self.given_up(&error)),
            };
            if let Err(error) = passed {
                self.failed = true;
                // Whatever failed first explains the rest.
                return Poll::Ready(Err(self.exchange.failure().cloned().unwrap_or(error)));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), InvokeError> {
        if let Some(bytes) = frame.data_ref() {
            let sent = bytes.len() as u64;
            if let Err(limit) = self.exchange.send(sent) {
                // That ends the guest, which is reported.
                self.guest.release();
                return Err(InvokeError::Limit(limit));
            }
            if let Some(length) = &mut self.length {
                let Some(left) = length.left.checked_sub(sent) else { return Err(length.wrong()) };
                length.left = left;
            }
            if sent == 0 {
                return Ok(());
            }
        }
        let is_last = frame.is_trailers();
        self.taken.push_back(frame);
        if is_last { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), InvokeError> {
        if let Some(error) = self.exchange.failure() {
            return Err(error.clone());
        }
        if let Some(length) = self.length.as_ref().filter(|length| length.left > 0) {
            return Err(length.wrong());
        }
        self.ended = true;
        self.guest.release();
        Ok(())
    }

    fn given_up(&self, error: &HttpError) -> InvokeError {
        match (&self.length, error) {
            // How the host ends a body of another length.
            (Some(length), HttpError::HttpResponseBodySize(_)) => length.wrong(),
            (Some(length), HttpError::HttpProtocolError) if length.left > 0 => length.wrong(),
            _ => InvokeError::Guest {
                fault: GuestFault::Internal,
                message: format!("the function gave up on its response: {error}"),
            },
        }
    }
}

impl Length {
    fn wrong(&self) -> InvokeError {
        let declared = self.declared;
        InvokeError::Guest {
            fault: GuestFault::Internal,
            message: format!(
                "the function's response is not as long as the {declared} B it declares"
            ),
        }
    }
}

impl Drop for GuestBody {
    /// Takes down that the client has left, before the guest can see that nobody reads any more:
    /// it may end sooner than it is ended.
    fn drop(&mut self) {
        if self.guest.is_held() && !self.failed {
            self.exchange.desert();
        }
    }
}

impl http_body::Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if let Err(error) = ready!(self.poll_taken(context)) {
            // Whoever sends it drops what is unsent at an error, and sends it when there is no more
            // for now: so the head, and all of the body that is there, always get out.
            self.broken = Some(BodyError::Function(error.to_string()));
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.taken.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.taken.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len) as u64;
        let taken: u64 = self.taken.iter().map(bytes).sum();
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(taken));
        }
        hint.set_lower(hint.lower().saturating_add(taken));
        hint
    }
}
