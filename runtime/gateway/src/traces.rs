//! The span of each request at the edge: begun by what its headers say of a trace, ended with its
//! answer. Whether it is recorded is the tracer's decision, and how it is sent none of this.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use quern_types::{Body, BodyError, Caller, Span, Trace, TraceContext};

use crate::{
    Gateway,
    body::{Reply, ReplyBody},
    errors::ERROR,
    invocation::Invocation,
    route::Route,
};

/// The header of an answer that names the span of its request (W3C Trace Context, level 2).
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Characters of a path that are kept.
const MOST_PATH: usize = 200;

/// The span of one request.
pub(crate) struct RequestSpan(Span);

impl RequestSpan {
    /// Of a request that is none of a trace.
    pub(crate) fn none() -> Self {
        Self(Span::none())
    }

    /// Of an HTTP request, by the semantic conventions of OpenTelemetry.
    pub(crate) fn begin<B>(
        gateway: &Gateway,
        request: &Request<B>,
        invocation: Invocation,
        route: Option<&Route>,
    ) -> Self {
        let Some(tracer) = &gateway.config.tracer else { return Self::none() };
        let method = method(request.method());
        let mut span = tracer.server(TraceContext::of(request.headers()), || {
            let method = method.unwrap_or("HTTP");
            route.map_or_else(|| method.into(), |route| format!("{method} {}", route.template()))
        });
        span.note(|| {
            let version = match request.version() {
                Version::HTTP_2 => "2",
                Version::HTTP_10 => "1.0",
                _ => "1.1",
            };
            [
                ("http.request.method", method.unwrap_or("_OTHER").into()),
                ("url.path", path(request).into()),
                ("network.protocol.version", version.into()),
                ("quern.invocation", invocation.to_string().into()),
            ]
        });
        if let Some(route) = route {
            span.note(|| [("http.route", route.template().into())]);
        }
        Self(span)
    }

    /// Of a call over gRPC. One that there is not has no name: callers can think of any number.
    pub(crate) fn begin_call<B>(
        gateway: &Gateway,
        request: &Request<B>,
        invocation: Invocation,
        is_known: bool,
    ) -> Self {
        let Some(tracer) = &gateway.config.tracer else { return Self::none() };
        let name = || match is_known {
            true => path(request).trim_start_matches('/').to_owned(),
            false => "grpc".into(),
        };
        let mut span = tracer.server(TraceContext::of(request.headers()), name);
        span.note(|| {
            let path = path(request);
            let (service, method) =
                path.trim_start_matches('/').split_once('/').unwrap_or_default();
            [
                ("rpc.system", "grpc".into()),
                ("rpc.service", service.into()),
                ("rpc.method", method.into()),
                ("quern.invocation", invocation.to_string().into()),
            ]
        });
        Self(span)
    }

    /// Where the request stands.
    pub(crate) fn trace(&self) -> &Trace {
        self.0.trace()
    }

    /// Takes down who asks.
    pub(crate) fn is_of(&mut self, caller: &Caller) {
        self.0.note(|| [("quern.tenant", caller.tenant.as_str().into())]);
    }

    /// Takes down the answer, and tells its receiver which trace it is of, if that is recorded.
    pub(crate) fn answer(mut self, reply: Reply) -> Reply {
        let status = reply.status();
        self.0.note(|| [("http.response.status_code", u32::from(status.as_u16()).into())]);
        self.close(reply, status)
    }

    /// The same for a call over gRPC, whose status is none of HTTP.
    pub(crate) fn answer_call(mut self, reply: Reply, status: StatusCode) -> Reply {
        let code = reply.headers().get(GRPC_STATUS);
        let code = code.and_then(|code| code.to_str().ok()?.parse::<u32>().ok());
        if let Some(code) = code {
            self.0.note(|| [("rpc.grpc.status_code", code.into())]);
        }
        self.close(reply, status)
    }

    /// Takes down how a request ended whose answer is kept for later.
    pub(crate) fn end(mut self, status: StatusCode) {
        self.0.note(|| [("http.response.status_code", u32::from(status.as_u16()).into())]);
        if status.is_server_error() {
            self.0.fail(&status);
        }
    }

    /// Ends with the answer's head, or with the last of a body that streams.
    fn close(mut self, mut reply: Reply, status: StatusCode) -> Reply {
        if !self.0.is_recorded() {
            return reply;
        }
        if let Some(error) = reply.headers().get(ERROR).and_then(|error| error.to_str().ok()) {
            self.0.note(|| [("error.type", error.into())]);
        }
        if status.is_server_error() {
            self.0.fail(&status);
        }
        if let Some(context) = self.trace().context() {
            reply.headers_mut().insert(TRACERESPONSE, context.header());
        }
        reply.map(|body| match body {
            ReplyBody::Stream(body) => {
                ReplyBody::Stream(TracedBody { body, span: self.0 }.boxed_unsync())
            }
            body => body,
        })
    }
}

/// A body that streams, whose end is that of its request.
struct TracedBody {
    body: Body,
    span: Span,
}

impl HttpBody for TracedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Err(error))) = &polled {
            self.span.fail(error);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The methods that the conventions know; a caller can think of any number of others.
fn method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] =
        ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str())
}

fn path<B>(request: &Request<B>) -> String {
    request.uri().path().chars().take(MOST_PATH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_nobody_knows_names_no_span() {
        assert_eq!(method(&Method::PATCH), Some("PATCH"));
        assert_eq!(method(&"BREW".parse().expect("a method")), None);
    }
}
