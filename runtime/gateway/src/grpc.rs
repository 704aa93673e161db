//! The Open Inference Protocol over gRPC, with Triton's extensions: which call is meant, and what
//! answers it. Inference itself is the same as over HTTP. Nothing here is kept between calls.

mod contents;
mod control;
mod infer;
mod messages;
mod parameter;
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "prost generates it so")]
pub mod protocol;
mod queries;
mod regions;
mod request;
mod response;
mod stream;
mod timeout;
mod wire;

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::{HeaderMap, Request, StatusCode, Version, header::CONTENT_TYPE};
use hyper::body::Incoming;
use quern_types::{ByteSize, Caller, Deadline, Trace};
use tracing::Instrument;

pub(crate) use messages::MessageError;
pub(crate) use request::FieldError;
#[cfg(any(test, fuzzing))]
pub(crate) use request::{Names, Outline};
pub(crate) use response::AnswerTooLarge;
pub(crate) use timeout::TimeoutError;

use crate::{
    Gateway,
    access::Needs,
    body::{Reply, RequestBody},
    errors::Failure,
    held::held,
    invocation::Invocation,
    metrics::Traffic,
    request::{INVOCATION, caught},
    traces::RequestSpan,
    v2::Coding,
};
use messages::{MessageLimits, Messages};
use response::Framed;

/// Bytes of a message that brings no tensors.
const PLAIN_MESSAGE: ByteSize = ByteSize(64 << 10);
/// The path of every call, before its name.
const SERVICE: &str = "/inference.GRPCInferenceService/";

/// Why a call is refused before anything is read of it, or for what it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no such call.
    #[error("{path:?} is no call of inference.GRPCInferenceService")]
    Unknown {
        /// Its path.
        path: String,
    },
    /// The protocol has it, this server does not.
    #[error("{call} is not supported: {reason}")]
    Unsupported {
        /// The call.
        call: &'static str,
        /// Why, or what to do instead.
        reason: &'static str,
    },
    /// The caller's time is over.
    #[error("call took longer than the {allowed:?} of its grpc-timeout")]
    Late {
        /// The time that was allowed.
        allowed: std::time::Duration,
    },
    /// The server stops while a stream is open.
    #[error("the server is shutting down and reads no more of this stream: open another")]
    Closing,
}

/// Makes the enum and its table from one list.
macro_rules! methods {
    ($($name:ident $traffic:ident $needs:expr,)*) => {
        /// A call of the service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Method { $($name,)* }

        impl Method {
            fn of(path: &str) -> Option<Self> {
                match path.strip_prefix(SERVICE)? {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// What it counts as, beside HTTP's requests.
            fn traffic(self) -> Traffic {
                match self { $(Self::$name => Traffic::$traffic,)* }
            }

            /// Who may make it.
            fn needs(self) -> Needs {
                match self { $(Self::$name => $needs,)* }
            }
        }
    };
}

methods! {
    ServerLive Operations Needs::Nothing,
    ServerReady Operations Needs::Nothing,
    ModelReady Protocol Needs::Open,
    ServerMetadata Protocol Needs::INVOKER,
    ModelMetadata Protocol Needs::Open,
    ModelInfer Infer Needs::Open,
    // Each of its requests counts for itself.
    ModelStreamInfer Protocol Needs::Open,
    ModelConfig Protocol Needs::Open,
    ModelStatistics Protocol Needs::INVOKER,
    RepositoryIndex Protocol Needs::INVOKER,
    RepositoryModelLoad Change Needs::DEPLOYER,
    RepositoryModelUnload Change Needs::DEPLOYER,
    SystemSharedMemoryStatus Protocol Needs::ADMIN,
    SystemSharedMemoryRegister Protocol Needs::ADMIN,
    SystemSharedMemoryUnregister Protocol Needs::ADMIN,
    CudaSharedMemoryStatus Protocol Needs::ADMIN,
    CudaSharedMemoryRegister Protocol Needs::ADMIN,
    CudaSharedMemoryUnregister Protocol Needs::ADMIN,
    TraceSetting Protocol Needs::INVOKER,
    LogSettings Protocol Needs::INVOKER,
}

/// Whether a request is a call: over HTTP/2, with a content type of gRPC's own. gRPC-Web is another
/// protocol.
pub(crate) fn is_call<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    request.version() == Version::HTTP_2
        && matches!(kind.trim_end(), "application/grpc" | "application/grpc+proto")
}

/// One call, or one request of a stream.
#[derive(Clone)]
struct Call {
    gateway: Arc<Gateway>,
    caller: Arc<Caller>,
    invocation: Invocation,
    /// The other end of its connection.
    address: IpAddr,
    /// What came before its messages: a stream's headers are those of all its requests.
    headers: Arc<HeaderMap>,
    /// When the caller stops waiting, if it says.
    deadline: Option<Deadline>,
    /// Where it stands in a trace.
    trace: Trace,
}

impl Gateway {
    /// Answers a call, always.
    pub(crate) async fn answer_call(
        self: &Arc<Self>,
        address: IpAddr,
        request: Request<Incoming>,
    ) -> Reply {
        let start = Instant::now();
        let invocation = Invocation::new();
        let path = request.uri().path();
        let method = Method::of(path);
        let traffic = method.map_or(Traffic::Unknown, Method::traffic);
        let mut traced = match traffic {
            Traffic::Operations => RequestSpan::none(),
            _ => RequestSpan::begin_call(self, &request, invocation, method.is_some()),
        };
        let trace = traced.trace().clone();
        let span = tracing::debug_span!(
            "request",
            %invocation,
            trace = trace.id().map(tracing::field::display),
            path,
        );

        let (head, incoming) = request.into_parts();
        let limits = self.limits();
        let body = RequestBody::new(incoming, &head, &self.leftovers, limits.body_stall);
        let outcome = async {
            let path = || head.uri.path().chars().take(200).collect();
            let method = method.ok_or_else(|| CallError::Unknown { path: path() })?;
            let caller = Arc::new(self.admit(&head.headers, method.needs(), address)?);
            traced.is_of(&caller);
            let permit = self.charge(&caller, traffic.charge(), address)?;
            let deadline = timeout::of(&head.headers)?;
            let deadline = deadline.map(|allowed| Deadline::after(start, allowed));
            let coding = messages::coding_of(&head.headers)?;
            let (headers, trace) = (Arc::new(head.headers), trace.clone());
            let gateway = self.clone();
            let call = Call { gateway, caller, invocation, address, headers, deadline, trace };
            let reply = call.carry_out(method, body, coding).await;
            reply.map(|reply| held(reply, permit))
        };
        let outcome = caught(outcome).instrument(span.clone()).await;
        let (status, mut reply) = match outcome {
            Ok(reply) => (StatusCode::OK, reply),
            Err(failure) => {
                let status = failure.status();
                (status, response::failed(&failure.into_status(invocation)))
            }
        };
        reply = traced.answer_call(reply, status);
        if traffic == Traffic::Infer {
            reply.headers_mut().insert(INVOCATION, invocation.header());
        }
        let took = start.elapsed();
        self.metrics.answered(traffic, status, took);
        tracing::debug!(parent: &span, status = status.as_u16(), ?took, "answered");
        reply
    }
}

impl Call {
    async fn carry_out(
        self,
        method: Method,
        body: RequestBody,
        coding: Option<Coding>,
    ) -> Result<Reply, Failure> {
        let limits = self.gateway.limits();
        let size = match method {
            Method::ModelInfer | Method::ModelStreamInfer => limits.json_body,
            _ => PLAIN_MESSAGE,
        };
        let limits = MessageLimits { size, patience: limits.body_timeout };
        let room = self.gateway.body_room.clone();
        let messages = Messages::new(body, coding, room, limits);
        let answer = self.answer(method, messages);
        let Some(deadline) = self.deadline else { return answer.await };
        let late = CallError::Late { allowed: deadline.allowed() };
        tokio::time::timeout_at(deadline.at().into(), answer).await.map_err(|_| late)?
    }

    async fn answer(&self, method: Method, mut messages: Messages) -> Result<Reply, Failure> {
        use protocol::*;
        let (gateway, caller) = (&*self.gateway, &*self.caller);
        let framed = match method {
            Method::ModelInfer => return self.infer_alone(messages.only().await?).await,
            Method::ModelStreamInfer => return Ok(stream::open(self.clone(), messages)),
            Method::ServerLive => {
                let ServerLiveRequest {} = messages.only_as().await?;
                Framed::new(&ServerLiveResponse { live: true })
            }
            Method::ServerReady => {
                let ServerReadyRequest {} = messages.only_as().await?;
                Framed::new(&ServerReadyResponse { ready: !gateway.closing.is_cancelled() })
            }
            Method::ServerMetadata => {
                let ServerMetadataRequest {} = messages.only_as().await?;
                Framed::new(&queries::server_metadata(gateway))
            }
            Method::ModelReady => {
                let ModelReadyRequest { name, version } = messages.only_as().await?;
                let ready = queries::model_ready(gateway, caller, &name, &version)?;
                Framed::new(&ModelReadyResponse { ready })
            }
            Method::ModelMetadata => {
                let ModelMetadataRequest { name, version } = messages.only_as().await?;
                Framed::new(&queries::model_metadata(gateway, caller, &name, &version)?)
            }
            Method::ModelConfig => {
                let ModelConfigRequest { name, version } = messages.only_as().await?;
                let config = Some(queries::model_config(gateway, caller, &name, &version)?);
                Framed::new(&ModelConfigResponse { config })
            }
            Method::ModelStatistics => {
                let ModelStatisticsRequest { name, version } = messages.only_as().await?;
                Framed::new(&queries::statistics(gateway, caller, &name, &version)?)
            }
            Method::RepositoryIndex => {
                Framed::new(&control::index(gateway, caller, &messages.only_as().await?)?)
            }
            Method::RepositoryModelLoad => {
                control::load(gateway, caller, messages.only_as().await?).await?;
                Framed::new(&RepositoryModelLoadResponse {})
            }
            Method::RepositoryModelUnload => {
                control::unload(gateway, caller, messages.only_as().await?).await?;
                Framed::new(&RepositoryModelUnloadResponse {})
            }
            Method::LogSettings => {
                Framed::new(&control::log_settings(gateway, caller, messages.only_as().await?)?)
            }
            Method::TraceSetting => {
                Framed::new(&control::trace_settings(gateway, caller, messages.only_as().await?)?)
            }
            _ => regions::answer(gateway, method, &mut messages).await?,
        };
        Ok(response::answered(framed))
    }
}
