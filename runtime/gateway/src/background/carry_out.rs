//! Carries out what was stored, by the way that every request takes. Whatever goes wrong is an
//! answer; nothing is tried again here.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{
    HeaderValue, Request, Response,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body_util::BodyExt;
use quern_types::{BodyError, ByteSize, Caller, CarryOut, InvocationId, Role, TenantId};
use tracing::Instrument;

use crate::{
    Gateway,
    body::{Reply, RequestBody},
    errors::{Audience, Code, Failure, Family},
    functions,
    invocation::{Invocation, Way},
    request::caught,
    route::Route,
    traces::RequestSpan,
    v2,
};

impl CarryOut for Gateway {
    fn carry_out(
        self: Arc<Self>,
        id: InvocationId,
        tenant: TenantId,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Response<Bytes>> {
        Box::pin(async move { self.answer_stored(id, tenant, request).await })
    }
}

impl Gateway {
    async fn answer_stored(
        &self,
        id: InvocationId,
        tenant: TenantId,
        request: Request<Bytes>,
    ) -> Response<Bytes> {
        let invocation = Invocation::stored(id);
        let path = request.uri().path().to_owned();
        let span =
            tracing::debug_span!("stored request", %invocation, method = %request.method(), path);
        // It was let in when it came.
        let caller = Caller { tenant, role: Role::Invoker, token: None };
        // Part of its caller's trace, which its headers name.
        let route = Route::of(request.method(), &path);
        let mut traced = RequestSpan::begin(self, &request, invocation, route.as_ref().ok());
        traced.is_of(&caller);
        let trace = traced.trace().clone();
        let work = async {
            let limit = self.jobs.config().max_response;
            let way = Way { invocation, trace: &trace };
            collect(self.dispatch_stored(&caller, way, route?, request).await?, limit).await
        };
        let outcome = caught(work).instrument(span).await;
        match outcome {
            Ok(response) => {
                traced.end(response.status());
                response
            }
            Err(failure) => {
                traced.end(failure.status());
                let (family, trace) = (Family::of(&path), trace.id());
                let reply =
                    failure.into_reply(Audience { family, invocation, owner: false, trace });
                let (mut head, body) = reply.into_parts();
                head.headers.remove(CONTENT_LENGTH);
                let body = body.collect().await.map_or_else(|_| Bytes::new(), |all| all.to_bytes());
                Response::from_parts(head, body)
            }
        }
    }

    async fn dispatch_stored(
        &self,
        caller: &Caller,
        way: Way<'_>,
        route: Route,
        request: Request<Bytes>,
    ) -> Result<Reply, Failure> {
        let (mut head, body) = request.into_parts();
        if !body.is_empty() {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let body = RequestBody::stored(body, self.config.limits.body_stall);
        let request = Request::from_parts(head, body);
        match route {
            Route::Call(name) => functions::call(self, caller, way, name, request).await,
            Route::Infer(target) => v2::infer(self, caller, way, target, request).await,
            other => Err(Failure::internal(format!("{other:?} was stored, but is no call"))),
        }
    }
}

/// An answer, read to its end. One that breaks off or is too large to be kept is an error.
async fn collect(reply: Reply, limit: ByteSize) -> Result<Response<Bytes>, Failure> {
    let (mut head, mut body) = reply.into_parts();
    let mut content = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(part) = frame.into_data() else { continue };
        if (content.len() + part.len()) as u64 > limit.0 {
            let detail =
                format!("the answer is larger than {limit}, async.max_response: it is not kept");
            return Err(Failure::new(Code::ResponseTooLarge, detail));
        }
        content.extend_from_slice(&part);
    }
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    head.extensions.clear();
    Ok(Response::from_parts(head, content.into()))
}

fn broken(error: &BodyError) -> Failure {
    let code = match error {
        BodyError::TooLarge { .. } => Code::ResponseTooLarge,
        BodyError::Broken(_) | BodyError::Stalled(_) | BodyError::Function(_) => Code::Trap,
    };
    Failure::new(code, format!("the answer broke off: {error}"))
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use quern_types::Period;

    use super::*;
    use crate::body::ReplyBody;

    fn streamed(parts: Vec<Result<Bytes, BodyError>>) -> Reply {
        let parts = parts.into_iter().map(|part| part.map(Frame::data));
        Reply::new(ReplyBody::Stream(StreamBody::new(stream::iter(parts)).boxed_unsync()))
    }

    #[tokio::test]
    async fn an_answer_is_kept_whole_or_not_at_all() {
        let part = |text: &'static str| Ok(Bytes::from(text));
        let whole = collect(streamed(vec![part("ab"), part("cd")]), ByteSize(4)).await;
        assert_eq!(whole.expect("fits").body(), "abcd");
        let cases = [
            (vec![part("ab"), part("cde")], 502),
            (vec![part("ab"), Err(BodyError::TooLarge { limit: ByteSize(1) })], 502),
            (vec![part("ab"), Err(BodyError::Function("trap".into()))], 500),
            (vec![Err(BodyError::Stalled(Period::from_millis(1)))], 500),
        ];
        for (parts, status) in cases {
            let failure = collect(streamed(parts), ByteSize(4)).await.expect_err("not whole");
            assert_eq!(failure.status(), status, "{failure:?}");
        }
    }
}
