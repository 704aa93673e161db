//! Asynchronous calls and dead letters, as they are shown and changed.

use http::{HeaderName, HeaderValue, Response, StatusCode};
use quern_jobs::{CallRecord, ChangeError};
use quern_types::{CallState, Caller, InvocationId, Name};
use serde::Serialize;
use serde_json::json;

use super::query;
use crate::{
    Gateway,
    body::{self, Reply, ReplyBody},
    errors::{Code, Failure},
    inspection::timestamp,
    invocation::Invocation,
    request::INVOCATION,
};

/// The state of the call whose result an answer is. An answer without it is about the request.
const STATE: HeaderName = HeaderName::from_static("quern-state");

/// A call, as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct CallView {
    id: InvocationId,
    state: &'static str,
    target: Name,
    method: String,
    path: String,
    idempotency_key: Option<String>,
    attempts: u32,
    max_attempts: u32,
    created: String,
    expires: String,
    due: Option<String>,
    started: Option<String>,
    finished: Option<String>,
    kept_until: Option<String>,
    status: Option<u16>,
    reason: Option<String>,
}

/// A list of calls.
#[derive(Debug, Serialize)]
pub(crate) struct CallList {
    invocations: Vec<CallView>,
}

impl From<CallRecord> for CallView {
    fn from(call: CallRecord) -> Self {
        Self {
            id: call.id,
            state: call.state.as_str(),
            target: call.target,
            method: call.method,
            path: call.path,
            idempotency_key: call.key,
            attempts: call.attempts,
            max_attempts: call.max_attempts,
            created: timestamp(call.created),
            expires: timestamp(call.expires),
            due: call.due.map(timestamp),
            started: call.started.map(timestamp),
            finished: call.finished.map(timestamp),
            kept_until: call.kept_until.map(timestamp),
            status: call.status.map(|status| status.as_u16()),
            reason: call.reason,
        }
    }
}

/// `GET /v1/invocations`
pub(super) async fn list(
    gateway: &Gateway,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    list_of(gateway, caller, query, None).await
}

/// `GET /v1/dead-letters`
pub(super) async fn dead_letters(
    gateway: &Gateway,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    list_of(gateway, caller, query, Some(CallState::Dead)).await
}

async fn list_of(
    gateway: &Gateway,
    caller: &Caller,
    query: Option<&str>,
    state: Option<CallState>,
) -> Result<Reply, Failure> {
    let query = query::parse(query, &caller.tenant, state)?;
    let calls = gateway.jobs.list(query).await?;
    let invocations = calls.into_iter().map(CallView::from).collect();
    Ok(body::json(&json!(CallList { invocations })))
}

/// `GET /v1/invocations/{id}`
pub(super) async fn show(
    gateway: &Gateway,
    caller: &Caller,
    id: InvocationId,
) -> Result<Reply, Failure> {
    Ok(body::json(&json!(find(gateway, caller, id).await?)))
}

/// `GET /v1/invocations/{id}/result`
pub(super) async fn result(
    gateway: &Gateway,
    caller: &Caller,
    id: InvocationId,
) -> Result<Reply, Failure> {
    let found = gateway.jobs.response(&caller.tenant, id).await?;
    let found = found.ok_or(ChangeError::NotFound { id })?;
    let Some(response) = found.content else {
        let detail = match found.state {
            CallState::Queued | CallState::Running => {
                format!("invocation {id} is {}: it has no result yet", found.state)
            }
            state => format!("invocation {id} is {state}, and has no result"),
        };
        return Err(Failure::new(Code::NoResult, detail));
    };
    let mut reply = response.map(ReplyBody::full);
    let headers = reply.headers_mut();
    headers.insert(INVOCATION, Invocation::stored(id).header());
    headers.insert(STATE, HeaderValue::from_static(found.state.as_str()));
    Ok(reply)
}

/// `DELETE /v1/invocations/{id}`
pub(super) async fn cancel(
    gateway: &Gateway,
    caller: &Caller,
    id: InvocationId,
) -> Result<Reply, Failure> {
    gateway.jobs.cancel(&caller.tenant, id).await?;
    Ok(nothing())
}

/// `POST /v1/dead-letters/{id}/replay`
pub(super) async fn replay(
    gateway: &Gateway,
    caller: &Caller,
    id: InvocationId,
) -> Result<Reply, Failure> {
    gateway.jobs.replay(&caller.tenant, id).await?;
    let mut reply = show(gateway, caller, id).await?;
    *reply.status_mut() = StatusCode::ACCEPTED;
    Ok(reply)
}

/// `DELETE /v1/dead-letters/{id}`
pub(super) async fn drop_dead(
    gateway: &Gateway,
    caller: &Caller,
    id: InvocationId,
) -> Result<Reply, Failure> {
    gateway.jobs.drop_dead(&caller.tenant, id).await?;
    Ok(nothing())
}

async fn find(gateway: &Gateway, caller: &Caller, id: InvocationId) -> Result<CallView, Failure> {
    let found = gateway.jobs.call(&caller.tenant, id).await?;
    Ok(found.ok_or(ChangeError::NotFound { id })?.into())
}

fn nothing() -> Reply {
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}
