//! A call as the queue keeps it, and how it stands in the rows. Never changes one.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use quern_types::{
    CallKind, CallState, Callee, Digest, InvocationId, Name, NamedWebhook, TenantId,
};
use rusqlite::{
    Row,
    types::{Type, ValueRef},
};
use uuid::Uuid;

use crate::rows;

/// What a row weighs beside what it carries, so that empty calls count as well.
const ROW_BYTES: usize = 512;

/// A call on its way into the queue.
#[derive(Debug, Clone)]
pub struct NewCall {
    /// Names the request that brought it, and the call from then on.
    pub id: InvocationId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The function or model that it calls.
    pub callee: Callee,
    /// What is to be carried out; its URI is a path with a query.
    pub request: Request<Bytes>,
    /// What its caller names it by; a second call of the callee with the same key is the first.
    pub key: Option<String>,
    /// The webhook that is told how it ends.
    pub webhook: Option<NamedWebhook>,
    /// Of everything that a second call with its key must have in common with it.
    pub digest: Digest,
    /// How often it is tried.
    pub max_attempts: u32,
    /// For how long it is tried.
    pub max_age: Duration,
    /// See [`Progress::lapses`].
    pub lapses: bool,
    /// Now.
    pub created: SystemTime,
}

/// A call without what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// Its name.
    pub id: InvocationId,
    /// The function or model that it calls.
    pub target: Name,
    /// How it calls it.
    pub kind: CallKind,
    /// The method of its request.
    pub method: String,
    /// Path and query of its request.
    pub path: String,
    /// Where it is on its way.
    pub state: CallState,
    /// What its caller names it by.
    pub key: Option<String>,
    /// How often it was begun.
    pub attempts: u32,
    /// How often it is tried at most.
    pub max_attempts: u32,
    /// When it was taken in.
    pub created: SystemTime,
    /// From when on it is not tried again.
    pub expires: SystemTime,
    /// When it is tried next; none unless it waits.
    pub due: Option<SystemTime>,
    /// When it was begun last.
    pub started: Option<SystemTime>,
    /// When it came to its end.
    pub finished: Option<SystemTime>,
    /// Until when it is kept; none before its end.
    pub kept_until: Option<SystemTime>,
    /// The status of its last answer.
    pub status: Option<StatusCode>,
    /// Why it was given up, or is tried again.
    pub reason: Option<String>,
    /// The webhook that is told how it ends.
    pub webhook: Option<Name>,
}

/// A call that is to be carried out now.
#[derive(Debug)]
pub struct ClaimedCall {
    /// Its name.
    pub id: InvocationId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What to carry out.
    pub request: Request<Bytes>,
    /// Where it stands.
    pub progress: Progress,
}

/// How far the tries of a call have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How often it was begun, this time included.
    pub attempts: u32,
    /// How often it is tried at most.
    pub max_attempts: u32,
    /// How often it could not be begun.
    pub refusals: u32,
    /// From when on it is not tried again.
    pub expires: SystemTime,
    /// Whether it is not even begun then: its caller said for how long it may be tried.
    pub lapses: bool,
}

impl NewCall {
    pub(super) fn bytes(&self) -> usize {
        let head = encode(self.request.headers()).len() + self.path().len();
        ROW_BYTES + head + self.request.body().len()
    }

    pub(super) fn path(&self) -> &str {
        self.request.uri().path_and_query().map_or("/", |path| path.as_str())
    }
}

/// What a response takes up.
pub(super) fn response_bytes(response: &Response<Bytes>) -> usize {
    encode(response.headers()).len() + response.body().len()
}

/// The columns of [`record`], in its order.
pub(super) const COLUMNS: &str = "id, target, method, path, state, key, attempts, max_attempts, \
     created_us, expires_us, due_us, started_us, finished_us, keep_until_us, status, reason, kind, \
     webhook";

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<CallRecord> {
    let time = |column| row.get::<_, Option<i64>>(column).map(|time| time.map(rows::time));
    let state: CallState = rows::parsed(row, 4)?;
    let status: Option<u16> = row.get(14)?;
    Ok(CallRecord {
        id: id(row, 0)?,
        target: rows::parsed(row, 1)?,
        kind: rows::parsed(row, 16)?,
        method: row.get(2)?,
        path: row.get(3)?,
        state,
        key: row.get(5)?,
        attempts: row.get(6)?,
        max_attempts: row.get(7)?,
        created: rows::time(row.get(8)?),
        expires: rows::time(row.get(9)?),
        due: time(10)?.filter(|_| state == CallState::Queued),
        started: time(11)?,
        finished: time(12)?,
        kept_until: time(13)?,
        status: status.and_then(|status| StatusCode::from_u16(status).ok()),
        reason: row.get(15)?,
        webhook: name(row, 17)?,
    })
}

/// A name of a column that may have none.
fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Name>> {
    let is_there = row.get_ref(column)? != ValueRef::Null;
    is_there.then(|| rows::parsed(row, column)).transpose()
}

/// An id of a column.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<InvocationId> {
    let bytes: Vec<u8> = row.get(column)?;
    let uuid = Uuid::from_slice(&bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
    })?;
    Ok(InvocationId::from_uuid(uuid))
}

/// What stands in a column for an id.
pub(super) fn id_bytes(id: InvocationId) -> [u8; 16] {
    *id.uuid().as_bytes()
}

/// The request of these columns: method, path, headers, body.
pub(super) fn request(row: &Row<'_>, first: usize) -> rusqlite::Result<Request<Bytes>> {
    let damaged = |column, error: http::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    };
    let method: String = row.get(first)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|e| damaged(first, e.into()))?;
    let path: String = row.get(first + 1)?;
    let headers: Vec<u8> = row.get(first + 2)?;
    let body: Vec<u8> = row.get(first + 3)?;
    let request = Request::builder().method(method).uri(path).body(Bytes::from(body));
    let mut request = request.map_err(|error| damaged(first + 1, error))?;
    *request.headers_mut() = decode(&headers);
    Ok(request)
}

/// Headers as HTTP/1 writes them: a name, a colon and a value in each line.
pub(super) fn encode(headers: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in headers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.push(b':');
        lines.extend_from_slice(value.as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// What [`encode`] has written; a value has no line break, and a name no colon.
pub(super) fn decode(lines: &[u8]) -> HeaderMap {
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.split(|byte| *byte == b'\n').filter_map(header) {
        headers.append(name, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_as_they_are() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("a", &b"1"[..]), ("a", b"2: x"), ("b", b""), ("c", b"\xff\t\xe9"), ("d", b" : ")]
        {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        assert_eq!(decode(&encode(&headers)), headers);
        assert!(decode(b"").is_empty());
    }
}
