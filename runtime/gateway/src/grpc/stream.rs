//! `ModelStreamInfer`: requests that come in one stream and are answered in another, in the order
//! in which they came. Several are under way at a time; the next is read when there is room.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, FuturesOrdered},
};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use quern_types::{BodyError, Deadline};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::{
    Call, CallError,
    messages::{Message, Messages},
    protocol::{
        InferParameter, ModelInferResponse, ModelStreamInferResponse,
        infer_parameter::ParameterChoice,
    },
    request::Names,
    response::{self, Framed},
};
use crate::{
    body::Reply, errors::Failure, invocation::Invocation, limiter::Charge, metrics::Traffic,
    request::caught,
};

/// A stream whose client waits for an answer may be silent for as long as that takes.
const NO_HURRY: Duration = Duration::from_secs(24 * 60 * 60);

/// Answers a stream as it comes.
pub(super) fn open(call: Call, messages: Messages) -> Reply {
    let exchange =
        Exchange { call, messages, answers: FuturesOrdered::new(), sending: None, end: End::Open };
    response::streamed(StreamBody::new(stream::unfold(exchange, Exchange::next)))
}

/// A stream under way.
struct Exchange {
    call: Call,
    messages: Messages,
    /// Requests under way, the oldest first. Each is a task, so that it goes on while the client
    /// reads slowly; dropping it cancels the request.
    answers: FuturesOrdered<AbortOnDropHandle<Framed>>,
    sending: Option<Framed>,
    end: End,
}

/// How far a stream is from its end.
enum End {
    /// Requests are read.
    Open,
    /// Nothing more is read: once everything is answered, these trailers are sent.
    Due(HeaderMap),
    /// They were.
    Sent,
}

impl Exchange {
    /// The next frame to be sent; none at the end.
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, BodyError>, Self)> {
        loop {
            if let Some(piece) = self.sending.as_mut().and_then(Framed::next_piece) {
                return Some((Ok(Frame::data(piece)), self));
            }
            let waits = !self.answers.is_empty();
            let open = matches!(self.end, End::Open);
            if waits || open {
                self.go_on(open, waits).await;
                continue;
            }
            return match std::mem::replace(&mut self.end, End::Sent) {
                End::Due(trailers) => Some((Ok(Frame::trailers(trailers)), self)),
                End::Open | End::Sent => None,
            };
        }
    }

    /// Waits for an answer, or for what is to be answered.
    async fn go_on(&mut self, open: bool, waits: bool) {
        let limits = self.call.gateway.limits();
        let idle = if waits { NO_HURRY } else { limits.body_timeout };
        let reads = open && self.answers.len() < limits.stream_requests;
        tokio::select! {
            biased;
            Some(answer) = self.answers.next(), if waits => {
                self.sending = Some(answer.unwrap_or_else(|_| lost()));
            }
            () = self.call.gateway.closing.cancelled(), if open => {
                self.close(Err(CallError::Closing.into()));
            }
            allowed = passed(self.call.deadline), if open => {
                self.close(Err(CallError::Late { allowed }.into()));
            }
            message = self.messages.next(idle), if reads => match message {
                // A token that lets nobody in any more does so in the middle of a stream, too.
                Ok(Some(message)) => match self.call.gateway.still_admits(&self.call.caller) {
                    Ok(()) => self.begin(message),
                    Err(error) => {
                        let address = self.call.address;
                        self.close(Err(self.call.gateway.refuse(error, address)));
                    }
                },
                Ok(None) => self.close(Ok(())),
                Err(error) => self.close(Err(error.into())),
            },
        }
    }

    fn begin(&mut self, message: Message) {
        let call = Call { invocation: Invocation::new(), ..self.call.clone() };
        self.answers
            .push_back(AbortOnDropHandle::new(tokio::spawn(call.answer_in_stream(message))));
    }

    /// Reads no more.
    fn close(&mut self, outcome: Result<(), Failure>) {
        let trailers = match outcome {
            Ok(()) => response::good(),
            Err(failure) => response::headers_of(&failure.into_status(self.call.invocation)),
        };
        self.end = End::Due(trailers);
    }
}

impl Call {
    /// Answers a request of a stream, always.
    async fn answer_in_stream(self, message: Message) -> Framed {
        let start = Instant::now();
        let invocation = self.invocation;
        let span = tracing::debug_span!("request", %invocation, stream = true);
        // Kept for the names in it: they are read only if it fails.
        let mut kept = Bytes::new();
        let outcome = caught(async {
            let _permit = self.gateway.charge(&self.caller, Charge::Call, self.address)?;
            let message = message.open().await?;
            kept = (*message).clone();
            Ok(self.infer(message).await?.answer.in_stream()?)
        });
        let outcome = outcome.instrument(span).await;
        let status = outcome.as_ref().map_or_else(Failure::status, |_| StatusCode::OK);
        self.gateway.metrics.answered(Traffic::Infer, status, start.elapsed());
        outcome.unwrap_or_else(|failure| refusal(failure, kept, invocation))
    }
}

/// The answer to a request that failed: the stream goes on.
fn refusal(failure: Failure, message: Bytes, invocation: Invocation) -> Framed {
    let Names { model_name, model_version, id } = Names::of(message);
    let (code, error_message) = failure.into_message(invocation);
    let code = ParameterChoice::StringParam(code.as_str().into());
    let code = InferParameter { parameter_choice: Some(code) };
    let parameters = [("quern-error".to_owned(), code)].into();
    let response =
        ModelInferResponse { model_name, model_version, id, parameters, ..Default::default() };
    Framed::new(&ModelStreamInferResponse { error_message, infer_response: Some(response) })
}

/// The answer of a task that is gone, which only the end of the server can do.
fn lost() -> Framed {
    let error_message = "the server failed".into();
    Framed::new(&ModelStreamInferResponse { error_message, infer_response: None })
}

/// Resolves with the time that was allowed, once it is over.
async fn passed(deadline: Option<Deadline>) -> Duration {
    match deadline {
        Some(deadline) => {
            tokio::time::sleep_until(deadline.at().into()).await;
            deadline.allowed()
        }
        None => std::future::pending().await,
    }
}
