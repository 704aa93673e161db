//! Calls of functions that serve HTTP: the request's body streams in, the response's streams out.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Instant,
};

use ::http::{Request, Response, StatusCode, header::CONTENT_LENGTH};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use quern_types::{Body, BodyError, ByteSize, Call, Exceeded, GuestFault, InvokeError};
use tokio::{sync::oneshot, task::JoinHandle};
use wasmtime::Store;
use wasmtime_wasi_http::{
    Error as HttpError, WasiHttpView,
    p2::{
        bindings::http::types::{ErrorCode, Scheme},
        body::HyperOutgoingBody,
    },
};

use crate::{Report, budget::Budget, function::HttpFunction, report::Reporter, state::State};

type Head = Result<Response<HyperOutgoingBody>, ErrorCode>;

impl HttpFunction {
    /// Calls the function. Resolves with the head of its response; the guest goes on while the
    /// body is read. `report` is called when the guest has ended, however it did. Dropping the
    /// future, or the response's body before its end, cancels the guest.
    pub async fn call(
        self: &Arc<Self>,
        call: Call,
        request: Request<Body>,
        report: impl FnOnce(Report) + Send + 'static,
    ) -> Result<Response<Body>, InvokeError> {
        let limit = self.setting.limits.request;
        if request.body().size_hint().lower() > limit.0 {
            return Err(InvokeError::Limit(Exceeded::Request(limit)));
        }
        let failure = Arc::new(OnceLock::new());
        let request = request.map(|body| LimitedBody::new(body, limit, failure.clone()));
        let (store, reporter) = self.setting.begin(self.entry.engine(), call.clone(), report);
        let (head, answered) = oneshot::channel();
        let run = Run { function: self.clone(), call, store, reporter, failure: failure.clone() };
        let mut guest = Guest(Some(tokio::spawn(run.guest(request, head))));
        let answer = answered.await;
        // A body that was too long, or never came, explains whatever the guest made of it.
        if let Some(
            error @ (InvokeError::Limit(Exceeded::Request(_)) | InvokeError::RequestBody(_)),
        ) = failure.get()
        {
            return Err(error.clone());
        }
        match answer {
            Ok(Ok(response)) => {
                let left = declared_length(&response);
                Ok(response
                    .map(|body| GuestBody { body, left, guest, failure }.released().boxed_unsync()))
            }
            Ok(Err(code)) => Err(InvokeError::Guest {
                fault: GuestFault::Internal,
                message: format!("the function gave up on its response: {code:?}"),
            }),
            Err(_) => Err(guest.ended().await),
        }
    }
}

/// One invocation on its way.
struct Run {
    function: Arc<HttpFunction>,
    call: Call,
    store: Store<State>,
    reporter: Reporter,
    failure: Arc<OnceLock<InvokeError>>,
}

impl Run {
    /// Runs the guest to its end; returns why there is no response, should none have been sent.
    async fn guest(
        mut self,
        request: Request<LimitedBody>,
        head: oneshot::Sender<Head>,
    ) -> InvokeError {
        let setting = &self.function.setting;
        let guest = async {
            let start = Instant::now();
            let proxy = self.function.entry.instantiate_async(&mut self.store).await?;
            setting.metrics.instantiate_seconds.observe(start.elapsed().as_secs_f64());
            let mut view = self.store.data_mut().http();
            let request = view.new_incoming_request(Scheme::Http, request)?;
            let response = view.new_response_outparam(head)?;
            proxy.wasi_http_incoming_handler().call_handle(&mut self.store, request, response).await
        };
        let (ending, cpu) = Budget::new(guest, setting.limits.cpu.0, self.call.deadline).await;
        let error = self.reporter.ended(ending, cpu, setting, &self.store);
        if let Some(error) = &error {
            // Set before the store is dropped, which ends the response's body.
            let _ = self.failure.set(error.clone());
        } else if self.store.data_mut().has_unfinished_body() {
            // Dropping the store would end the body as if the guest had finished it.
            let detail = "function returned without finishing its response's body".to_owned();
            let error = self.reporter.failed(InvokeError::NoResponse, detail);
            let _ = self.failure.set(error);
        }
        error.unwrap_or(InvokeError::NoResponse)
    }
}

/// The task of a guest; dropping this cancels it.
struct Guest(Option<JoinHandle<InvokeError>>);

impl Guest {
    /// Waits for a guest that gave no response, and tells why.
    async fn ended(&mut self) -> InvokeError {
        let Some(task) = &mut self.0 else { return InvokeError::NoResponse };
        let ended = task.await;
        ended.unwrap_or_else(|error| {
            tracing::error!(%error, "the host failed while it ran a guest");
            InvokeError::Trap { reason: "the host failed".into(), trace: Vec::new() }
        })
    }

    /// Lets the guest go on to its own end, which its deadline bounds.
    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A request's body, cut off at its limit.
struct LimitedBody {
    body: Body,
    left: u64,
    limit: ByteSize,
    failure: Arc<OnceLock<InvokeError>>,
}

impl LimitedBody {
    fn new(body: Body, limit: ByteSize, failure: Arc<OnceLock<InvokeError>>) -> Self {
        Self { body, left: limit.0, limit, failure }
    }
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Some(frame) = std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(BodyError::TooLarge { limit }) => {
                return Poll::Ready(Some(Err(HttpError::HttpRequestBodySize(Some(limit.0)))));
            }
            Err(error) => {
                let _ = self.failure.set(InvokeError::RequestBody(error));
                return Poll::Ready(Some(Err(HttpError::ConnectionTerminated)));
            }
        };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(length) {
            Some(left) => self.left = left,
            None => {
                let limit = self.limit;
                let _ = self.failure.set(InvokeError::Limit(Exceeded::Request(limit)));
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
struct GuestBody {
    body: HyperOutgoingBody,
    /// Bytes that are left of the length that the response declares. Whoever reads the body stops
    /// after the last of them, without asking for the end.
    left: Option<u64>,
    guest: Guest,
    failure: Arc<OnceLock<InvokeError>>,
}

impl http_body::Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        let broken = |reason: String| Poll::Ready(Some(Err(BodyError::Function(reason))));
        match (frame, self.failure.get()) {
            (Some(Ok(frame)), _) => {
                self.delivered(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            (_, Some(error)) => broken(error.to_string()),
            (Some(Err(error)), None) => broken(error.to_string()),
            (None, None) => {
                self.guest.release();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl GuestBody {
    /// Takes down what is passed on, and lets the guest go on after the last of it.
    fn delivered(&mut self, frame: &Frame<Bytes>) {
        if let (Some(left), Some(bytes)) = (&mut self.left, frame.data_ref()) {
            *left = left.saturating_sub(bytes.len() as u64);
        }
        if frame.is_trailers() || self.left == Some(0) {
            self.guest.release();
        }
    }

    /// Lets the guest go on where there is nothing to deliver.
    fn released(mut self) -> Self {
        if self.left == Some(0) || self.body.is_end_stream() {
            self.guest.release();
        }
        self
    }
}

/// The length that a response declares, if it does; 0 where its status allows no body.
fn declared_length<B>(response: &Response<B>) -> Option<u64> {
    if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Some(0);
    }
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
