//! Takes calls in, once for each key, as far as there is room. Never looks at what they carry.

use quern_types::{ByteSize, CallState, Callee, DeliveryState, InvocationId, TenantId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    QueueFailure,
    call::{self, NewCall, encode, id_bytes},
    delivery, read,
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
    /// Messages to webhooks that wait of one tenant; with more, no call is taken in that asks for
    /// another one.
    pub tenant_messages: u64,
    /// Those of all tenants.
    pub messages: u64,
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

/// Why there is no room in the queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    /// As many calls as may wait do.
    #[error(
        "{limit} calls of the {} wait already, as many as may: try again later",
        scope.as_str()
    )]
    Calls {
        /// Whose limit it is.
        scope: Scope,
        /// The limit.
        limit: u64,
    },
    /// As many messages to webhooks as may wait do.
    #[error(
        "{limit} messages to webhooks of the {} wait already, as many as may: try again later, or \
         see with `quern webhook deliveries` why they are not taken",
        scope.as_str()
    )]
    Messages {
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
    Bytes {
        /// Whose limit it is.
        scope: Scope,
        /// The limit.
        limit: ByteSize,
    },
}

/// Why a call was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// There is no room.
    #[error(transparent)]
    Full(#[from] QueueFull),
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
        let (key, target) = (key.clone(), call.callee.name.to_string());
        return Ok(Err(EnqueueError::KeyReused { key, target, id }));
    }
    let bytes = call.bytes();
    let room = Room {
        tenant: call.tenant.as_str(),
        bytes: bytes as u64,
        has_webhook: call.webhook.is_some(),
    };
    if let Some(full) = full(connection, &room, limits)? {
        return Ok(Err(full.into()));
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
            "SELECT id, state, digest FROM calls
             WHERE tenant = ?1 AND target = ?2 AND kind = ?3 AND owner = ?4 AND key = ?5",
        )?
        .query_row(
            params![
                call.tenant.as_str(),
                call.callee.name.name.as_str(),
                call.callee.kind.as_str(),
                owner(&call.callee),
                key
            ],
            |row| Ok((call::id(row, 0)?, rows::parsed(row, 1)?, row.get(2)?)),
        )
        .optional()
}

/// What stands in the column for the owner of what is called: nothing where that is the caller.
fn owner(callee: &Callee) -> &str {
    callee.name.owner.as_ref().map_or("", TenantId::as_str)
}

/// The room that one more call takes.
pub(super) struct Room<'a> {
    pub(super) tenant: &'a str,
    pub(super) bytes: u64,
    pub(super) has_webhook: bool,
}

/// Why there is no room, if there is none.
pub(super) fn full(
    connection: &Connection,
    room: &Room<'_>,
    limits: &QueueLimits,
) -> rusqlite::Result<Option<QueueFull>> {
    let Room { tenant, bytes, has_webhook } = *room;
    if has_webhook && let Some(full) = messages_full(connection, tenant, limits)? {
        return Ok(Some(full));
    }
    let of_tenant = (Scope::Tenant, tenant, limits.tenant_calls, limits.tenant_bytes);
    let of_all = (Scope::Server, read::ALL, limits.calls, limits.bytes);
    for (scope, tenant, most, largest) in [of_tenant, of_all] {
        let (mut calls, mut size) = (1, bytes);
        for state in [CallState::Queued, CallState::Running] {
            let (count, bytes) = read::used(connection, tenant, state)?;
            calls += count;
            size += bytes;
        }
        if calls > most {
            return Ok(Some(QueueFull::Calls { scope, limit: most }));
        }
        if size > largest.0 {
            return Ok(Some(QueueFull::Bytes { scope, limit: largest }));
        }
    }
    Ok(None)
}

/// Why there is no room for one more message to a webhook, if there is none.
pub(super) fn messages_full(
    connection: &Connection,
    tenant: &str,
    limits: &QueueLimits,
) -> rusqlite::Result<Option<QueueFull>> {
    let of_tenant = (Scope::Tenant, tenant, limits.tenant_messages);
    for (scope, tenant, limit) in [of_tenant, (Scope::Server, read::ALL, limits.messages)] {
        if delivery::count(connection, tenant, DeliveryState::Waiting)? >= limit {
            return Ok(Some(QueueFull::Messages { scope, limit }));
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
                 max_age_us, created_us, expires_us, due_us, bytes, kind, owner, webhook,
                 webhook_created_us, lapses)
             VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?7, ?8, ?9, ?10, ?11, ?10, ?12, ?13, ?14,
                 ?15, ?16, ?17)",
        )?
        .execute(params![
            id_bytes(call.id),
            call.tenant.as_str(),
            call.callee.name.name.as_str(),
            call.request.method().as_str(),
            call.path(),
            call.key,
            call.digest.as_bytes(),
            call.max_attempts,
            max_age,
            created,
            created.saturating_add(max_age),
            bytes as i64,
            call.callee.kind.as_str(),
            owner(&call.callee),
            call.webhook.as_ref().map(|webhook| webhook.name.as_str()),
            call.webhook.as_ref().and_then(|webhook| webhook.created).map(microseconds),
            call.lapses,
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
