//! Takes calls in, once for each key, as far as there is room. Never looks at what they carry.

use quern_types::{ByteSize, CallState, InvocationId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    QueueFailure,
    call::{self, NewCall, encode, id_bytes},
    read,
};
use crate::rows::{self, microseconds};

/// What may wait at a time: calls that are queued or running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Calls of one tenant.
    pub tenant_calls: u64,
    /// Calls of all tenants.
    pub calls: u64,
    /// Bytes of the calls of one tenant.
    pub tenant_bytes: ByteSize,
    /// Bytes of the calls of all tenants.
    pub bytes: ByteSize,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One tenant's.
    Tenant,
    /// All tenants' together.
    Server,
}

impl Scope {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Server => "server",
        }
    }
}

/// A call that is in the queue, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The call.
    pub id: InvocationId,
    /// Its state.
    pub state: CallState,
    /// Whether it is new; otherwise it was brought before, with the same key.
    pub is_new: bool,
}

/// Why a call was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// As many calls as may wait do.
    #[error(
        "{limit} calls of the {} wait already, as many as may: try again later",
        scope.as_str()
    )]
    TooMany {
        /// Whose limit it is.
        scope: Scope,
        /// The limit.
        limit: u64,
    },
    /// The calls that wait are as large as they may be.
    #[error(
        "the calls of the {} that wait would be larger than {limit} together: try again later",
        scope.as_str()
    )]
    TooLarge {
        /// Whose limit it is.
        scope: Scope,
        /// The limit.
        limit: ByteSize,
    },
    /// The key stands for another call.
    #[error(
        "Idempotency-Key {key:?} was used for another request to {target:?}, invocation {id}: a \
         key stands for one request"
    )]
    KeyReused {
        /// The key.
        key: String,
        /// What was called with it.
        target: String,
        /// The call that it stands for.
        id: InvocationId,
    },
    /// As many writes as may wait for the disk do.
    #[error("too many calls are on their way into the queue: try again later")]
    Busy,
    /// The queue failed.
    #[error(transparent)]
    Failed(#[from] QueueFailure),
}

pub(super) fn enqueue(
    connection: &Connection,
    call: &NewCall,
    limits: &QueueLimits,
) -> rusqlite::Result<Result<Enqueued, EnqueueError>> {
    if let Some(key) = &call.key
        && let Some((id, state, digest)) = by_key(connection, call, key)?
    {
        if digest == call.digest.as_bytes() {
            return Ok(Ok(Enqueued { id, state, is_new: false }));
        }
        let (key, target) = (key.clone(), call.target.to_string());
        return Ok(Err(EnqueueError::KeyReused { key, target, id }));
    }
    let bytes = call.bytes();
    if let Some(refusal) = refuse(connection, call.tenant.as_str(), bytes, limits)? {
        return Ok(Err(refusal));
    }
    insert(connection, call, bytes)?;
    Ok(Ok(Enqueued { id: call.id, state: CallState::Queued, is_new: true }))
}

fn by_key(
    connection: &Connection,
    call: &NewCall,
    key: &str,
) -> rusqlite::Result<Option<(InvocationId, CallState, Vec<u8>)>> {
    connection
        .prepare_cached(
            "SELECT id, state, digest FROM calls WHERE tenant = ?1 AND target = ?2 AND key = ?3",
        )?
        .query_row(params![call.tenant.as_str(), call.target.as_str(), key], |row| {
            Ok((call::id(row, 0)?, rows::parsed(row, 1)?, row.get(2)?))
        })
        .optional()
}

/// Why there is no room for so many bytes more, if there is none.
fn refuse(
    connection: &Connection,
    tenant: &str,
    bytes: usize,
    limits: &QueueLimits,
) -> rusqlite::Result<Option<EnqueueError>> {
    let of_tenant = (Scope::Tenant, tenant, limits.tenant_calls, limits.tenant_bytes);
    let of_all = (Scope::Server, read::ALL, limits.calls, limits.bytes);
    for (scope, tenant, most, largest) in [of_tenant, of_all] {
        let (mut calls, mut size) = (1, bytes as u64);
        for state in [CallState::Queued, CallState::Running] {
            let (count, bytes) = read::used(connection, tenant, state)?;
            calls += count;
            size += bytes;
        }
        if calls > most {
            return Ok(Some(EnqueueError::TooMany { scope, limit: most }));
        }
        if size > largest.0 {
            return Ok(Some(EnqueueError::TooLarge { scope, limit: largest }));
        }
    }
    Ok(None)
}

fn insert(connection: &Connection, call: &NewCall, bytes: usize) -> rusqlite::Result<()> {
    let created = microseconds(call.created);
    let max_age = i64::try_from(call.max_age.as_micros()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO calls (id, tenant, target, method, path, state, key, digest, max_attempts,
                 max_age_us, created_us, expires_us, due_us, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?7, ?8, ?9, ?10, ?11, ?10, ?12)",
        )?
        .execute(params![
            id_bytes(call.id),
            call.tenant.as_str(),
            call.target.as_str(),
            call.request.method().as_str(),
            call.path(),
            call.key,
            call.digest.as_bytes(),
            call.max_attempts,
            max_age,
            created,
            created.saturating_add(max_age),
            bytes as i64,
        ])?;
    connection
        .prepare_cached("INSERT INTO requests (sequence, headers, body) VALUES (?1, ?2, ?3)")?
        .execute(params![
            connection.last_insert_rowid(),
            encode(call.request.headers()),
            &call.request.body()[..],
        ])
        .map(drop)
}
