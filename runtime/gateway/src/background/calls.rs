//! Asynchronous calls and dead letters, as they are shown and changed.

use http::{HeaderName, HeaderValue, Response, StatusCode};
use quern_jobs::{CallQuery, CallRecord, ChangeError};
use quern_types::{CallKind, CallState, Caller, InvocationId, Name};
use schemars::JsonSchema;
use serde::Serialize;

use super::query::{CallFilter, DeadLetterFilter};
use crate::{
    Gateway,
    body::{self, Reply, ReplyBody},
    errors::{Code, Failure},
    invocation::Invocation,
    query,
    request::INVOCATION,
    timestamp::Timestamp,
};

/// The state of the call whose result an answer is. An answer without it is about the request.
const STATE: HeaderName = HeaderName::from_static("quern-state");

/// An asynchronous call.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CallView {
    /// Its id, which is that of the request that brought it.
    id: InvocationId,
    /// Where it is on its way.
    state: CallState,
    /// The function or model that it calls.
    target: Name,
    /// How it calls it.
    kind: CallKind,
    /// The method of its request.
    method: String,
    /// Path and query of its request.
    path: String,
    /// What its caller names it by.
    idempotency_key: Option<String>,
    /// How often it was begun.
    attempts: u32,
    /// How often it is tried at most.
    max_attempts: u32,
    /// When it was taken in.
    created: Timestamp,
    /// From when on it is not tried again.
    expires: Timestamp,
    /// When it is tried next; null unless it waits.
    due: Option<Timestamp>,
    /// When it was begun last.
    started: Option<Timestamp>,
    /// When it came to its end.
    finished: Option<Timestamp>,
    /// Until when it is kept; null before its end.
    kept_until: Option<Timestamp>,
    /// The status of its last answer.
    status: Option<u16>,
    /// Why it was given up, or is tried again.
    reason: Option<String>,
    /// The webhook that is told how it ends.
    webhook: Option<Name>,
}

/// Some asynchronous calls.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CallList {
    /// The newest first.
    invocations: Vec<CallView>,
}

impl From<CallRecord> for CallView {
    fn from(call: CallRecord) -> Self {
        Self {
            id: call.id,
            state: call.state,
            target: call.target,
            kind: call.kind,
            method: call.method,
            path: call.path,
            idempotency_key: call.key,
            attempts: call.attempts,
            max_attempts: call.max_attempts,
            created: call.created.into(),
            expires: call.expires.into(),
            due: call.due.map(Timestamp::from),
            started: call.started.map(Timestamp::from),
            finished: call.finished.map(Timestamp::from),
            kept_until: call.kept_until.map(Timestamp::from),
            status: call.status.map(|status| status.as_u16()),
            reason: call.reason,
            webhook: call.webhook,
        }
    }
}

/// `GET /v1/invocations`
pub(super) async fn list(
    gateway: &Gateway,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    show_all(gateway, query::parse::<CallFilter>(query)?.of(&caller.tenant)).await
}

/// `GET /v1/dead-letters`
pub(super) async fn dead_letters(
    gateway: &Gateway,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    show_all(gateway, query::parse::<DeadLetterFilter>(query)?.of(&caller.tenant)).await
}

async fn show_all(gateway: &Gateway, query: CallQuery) -> Result<Reply, Failure> {
    let calls = gateway.jobs.list(query).await?;
    let invocations = calls.into_iter().map(CallView::from).collect();
    Ok(body::json(&CallList { invocations }))
}

/// `GET /v1/invocations/{id}`
pub(super) async fn show(
    gateway: &Gateway,
    caller: &Caller,
    id: InvocationId,
) -> Result<Reply, Failure> {
    Ok(body::json(&find(gateway, caller, id).await?))
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
