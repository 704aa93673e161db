//! What a tenant may do to its calls: call one off that waits, replay or drop a dead letter.

use std::time::SystemTime;

use quern_types::{CallState, InvocationId, TenantId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    QueueFailure, QueueFull, QueueLimits,
    announce::{Announcement, announce},
    call::id_bytes,
    enqueue::{self, Room},
    settle::forget_request,
};
use crate::rows::{self, microseconds};

/// Why a call was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such call, or it is kept no longer.
    #[error("invocation {id} is not known: it is no asynchronous one, or is kept no longer")]
    NotFound {
        /// The call.
        id: InvocationId,
    },
    /// It is in another state.
    #[error("invocation {id} is {state}: only one that is {needed} can be changed so")]
    State {
        /// The call.
        id: InvocationId,
        /// Its state.
        state: CallState,
        /// The state that it takes.
        needed: CallState,
    },
    /// There is no room for it in the queue.
    #[error("invocation {id} can't be replayed, for {full}")]
    Full {
        /// The call.
        id: InvocationId,
        /// Whose limit it is, and which.
        full: QueueFull,
    },
    /// The queue failed.
    #[error(transparent)]
    Failed(#[from] QueueFailure),
}

/// The end of a call that is called off.
#[derive(Debug, Clone, Copy)]
pub struct Cancellation {
    /// Now.
    pub at: SystemTime,
    /// Until when it is kept.
    pub kept_until: SystemTime,
    /// How it is told to the call's webhook.
    pub announcement: Announcement,
}

type Changed = rusqlite::Result<Result<(), ChangeError>>;

/// Calls a waiting call off; returns whether there is a message to its webhook now.
pub(super) fn cancel(
    connection: &Connection,
    tenant: &TenantId,
    id: InvocationId,
    end: &Cancellation,
) -> rusqlite::Result<Result<bool, ChangeError>> {
    let sequence = match find(connection, tenant, id, CallState::Queued)? {
        Ok(sequence) => sequence,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let freed = forget_request(connection, sequence)?;
    connection
        .prepare_cached(
            "UPDATE calls SET state = 'cancelled', finished_us = ?2, keep_until_us = ?3,
                 reason = NULL, bytes = bytes - ?4
             WHERE sequence = ?1",
        )?
        .execute(params![sequence, microseconds(end.at), microseconds(end.kept_until), freed])?;
    announce(connection, id, end.at, &end.announcement).map(Ok)
}

/// What is replayed counts as what is taken in anew: the limits of the queue hold for it as well.
pub(super) fn replay(
    connection: &Connection,
    tenant: &TenantId,
    id: InvocationId,
    limits: &QueueLimits,
    now: SystemTime,
) -> Changed {
    let sequence = match find(connection, tenant, id, CallState::Dead)? {
        Ok(sequence) => sequence,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let freed: Option<i64> = connection
        .prepare_cached(
            "DELETE FROM responses WHERE sequence = ?1 RETURNING length(headers) + length(body)",
        )?
        .query_row([sequence], |row| row.get(0))
        .optional()?;
    let (bytes, has_webhook): (i64, bool) = connection
        .prepare_cached("SELECT bytes - ?2, webhook IS NOT NULL FROM calls WHERE sequence = ?1")?
        .query_row(params![sequence, freed.unwrap_or(0)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let weight = u64::try_from(bytes).unwrap_or(0);
    let room = Room { tenant: tenant.as_str(), bytes: weight, has_webhook };
    // A refusal takes back what was done so far.
    if let Some(full) = enqueue::full(connection, &room, limits)? {
        return Ok(Err(ChangeError::Full { id, full }));
    }
    connection
        .prepare_cached(
            "UPDATE calls SET state = 'queued', attempts = 0, refusals = 0, due_us = ?2,
                 expires_us = ?2 + max_age_us, finished_us = NULL, keep_until_us = NULL,
                 status = NULL, reason = NULL, bytes = ?3
             WHERE sequence = ?1",
        )?
        .execute(params![sequence, microseconds(now), bytes])?;
    Ok(Ok(()))
}

pub(super) fn drop_dead(connection: &Connection, tenant: &TenantId, id: InvocationId) -> Changed {
    let sequence = match find(connection, tenant, id, CallState::Dead)? {
        Ok(sequence) => sequence,
        Err(refusal) => return Ok(Err(refusal)),
    };
    connection.prepare_cached("DELETE FROM calls WHERE sequence = ?1")?.execute([sequence])?;
    Ok(Ok(()))
}

/// The row of a tenant's call that is in a state.
fn find(
    connection: &Connection,
    tenant: &TenantId,
    id: InvocationId,
    needed: CallState,
) -> rusqlite::Result<Result<i64, ChangeError>> {
    let found = connection
        .prepare_cached("SELECT sequence, state FROM calls WHERE id = ?1 AND tenant = ?2")?
        .query_row(params![id_bytes(id), tenant.as_str()], |row| {
            Ok((row.get(0)?, rows::parsed::<CallState>(row, 1)?))
        })
        .optional()?;
    Ok(match found {
        None => Err(ChangeError::NotFound { id }),
        Some((sequence, state)) if state == needed => Ok(sequence),
        Some((_, state)) => Err(ChangeError::State { id, state, needed }),
    })
}
