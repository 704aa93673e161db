//! The two bodies of an outbound request: counted, cut off at the limit, and ended with their
//! invocation.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use super::{
    exchange::{Exchange, header_bytes},
    fault::{Fault, Part},
};

/// The body of a request, as the guest writes it.
pub(crate) struct SentBody {
    body: WasiBody,
    /// None of a body that is empty.
    open: Option<Open>,
}

struct Open {
    exchange: Arc<Exchange>,
    /// A guest's body ends when the guest does; without this, that would look like its end.
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl SentBody {
    pub(crate) fn new(body: WasiBody, exchange: &Arc<Exchange>) -> Self {
        let open = (!body.is_end_stream()).then(|| Open {
            exchange: exchange.clone(),
            ended: Box::pin(exchange.invocation.ended.clone().cancelled_owned()),
        });
        Self { body, open }
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let Some(Open { exchange, ended }) = &mut this.open else { return Poll::Ready(None) };
        if ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(exchange.fail(Fault::Ended))));
        }
        let polled = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => {
                let taken = exchange.take(frame_bytes(&frame), Part::RequestBody);
                Some(taken.map(|()| frame).map_err(|fault| exchange.fail(fault)))
            }
            Some(Err(HttpError::HttpRequestBodySize(bytes))) => {
                Some(Err(exchange.fail(Fault::Length { bytes })))
            }
            Some(Err(_)) => Some(Err(exchange.fail(Fault::Abandoned))),
            None => None,
        };
        if polled.is_none() {
            this.open = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response, as the guest reads it.
pub(crate) struct ReceivedBody {
    body: Incoming,
    /// None of a body that was read to its end: its request is no longer under way.
    exchange: Option<Arc<Exchange>>,
    /// Longest wait for the next piece.
    patience: Duration,
    /// Runs while the guest waits: its own pauses don't count against the server.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl ReceivedBody {
    pub(crate) fn new(body: Incoming, exchange: Arc<Exchange>, patience: Duration) -> Self {
        let mut received = Self { body, exchange: Some(exchange), patience, waiting: None };
        received.release_if_read();
        received
    }

    fn release_if_read(&mut self) {
        if self.body.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.complete();
        }
    }

    /// Resolves when the server has been silent for too long.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        let timer = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        timer.as_mut().poll(context)
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Some(exchange) = self.exchange.clone() else { return Poll::Ready(None) };
        let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(context) else {
            return self
                .poll_patience(context)
                .map(|()| Some(Err(exchange.fail_guest(Fault::ReadTimeout))));
        };
        self.waiting = None;
        let fault = match polled {
            Some(Ok(frame)) => match exchange.take(frame_bytes(&frame), Part::ResponseBody) {
                Ok(()) => {
                    self.release_if_read();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Err(fault) => fault,
            },
            Some(Err(error)) => Fault::of_client(&error),
            None => {
                self.release();
                return Poll::Ready(None);
            }
        };
        Poll::Ready(Some(Err(exchange.fail_guest(fault))))
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn frame_bytes(frame: &Frame<Bytes>) -> usize {
    let trailers = || frame.trailers_ref().map_or(0, header_bytes);
    frame.data_ref().map_or_else(trailers, Bytes::len)
}
