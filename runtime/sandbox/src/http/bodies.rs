//! The two bodies of an exchange, each cut off at its limit. Neither is ever held here.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use quern_types::{Body, BodyError, ByteSize, Exceeded, InvokeError};
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use super::{Guest, exchange::Exchange};

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

/// A response's body as the guest writes it. It ends well only if the guest ended it: a guest that
/// fails in the middle breaks the connection off, so that nobody takes a part for the whole.
///
/// A guest may go on once its response is delivered; one whose client has left before is cancelled.
pub(super) struct GuestBody {
    body: WasiBody,
    /// Bytes that are left of the length that the response declares. Whoever reads the body stops
    /// after the last of them, without asking for the end.
    left: Option<u64>,
    guest: Guest,
    exchange: Arc<Exchange>,
}

impl GuestBody {
    pub(super) fn new(
        body: WasiBody,
        left: Option<u64>,
        mut guest: Guest,
        exchange: Arc<Exchange>,
    ) -> Self {
        // Where there is nothing to deliver, nobody may ask for it.
        if left == Some(0) || body.is_end_stream() {
            guest.release();
        }
        Self { body, left, guest, exchange }
    }

    /// Takes down what is passed on, and lets the guest go on after the last of it; false if it
    /// exceeds the limit, which ends the guest.
    fn pass_on(&mut self, frame: &Frame<Bytes>) -> bool {
        let mut fits = true;
        if let Some(bytes) = frame.data_ref() {
            let length = bytes.len() as u64;
            fits = self.exchange.send(length);
            self.left = self.left.map(|left| left.saturating_sub(length));
        }
        if !fits || frame.is_trailers() || self.left == Some(0) {
            self.guest.release();
        }
        fits
    }
}

impl http_body::Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let reason = match frame {
            Some(Ok(frame)) if self.pass_on(&frame) => return Poll::Ready(Some(Ok(frame))),
            None if self.exchange.failure().is_none() => {
                self.guest.release();
                return Poll::Ready(None);
            }
            Some(Err(error)) if self.exchange.failure().is_none() => error.to_string(),
            _ => self.exchange.failure().map(ToString::to_string).unwrap_or_default(),
        };
        Poll::Ready(Some(Err(BodyError::Function(reason))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
