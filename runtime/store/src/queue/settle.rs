//! What comes of a running call: its end, with its answer, or another try. Never decides which.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Response, StatusCode};
use quern_types::{CallState, InvocationId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    announce::{Announcement, announce},
    call::{encode, id_bytes, response_bytes},
};
use crate::rows::microseconds;

/// The end of a call.
#[derive(Debug)]
pub struct Ending {
    /// How it ended: not with [`CallState::Queued`] or [`CallState::Running`].
    pub state: CallState,
    /// Its answer; none if none came.
    pub response: Option<Response<Bytes>>,
    /// Why it was given up, where it was.
    pub reason: Option<String>,
    /// Now.
    pub at: SystemTime,
    /// Until when it is kept.
    pub kept_until: SystemTime,
    /// How it is told to the call's webhook.
    pub announcement: Announcement,
}

/// A pause before another try.
#[derive(Debug)]
pub struct Pause {
    /// When to try again.
    pub due: SystemTime,
    /// Whether this try counts; one that could not be begun does not.
    pub counts: bool,
    /// The status of the answer, if one came.
    pub status: Option<StatusCode>,
    /// Why it is tried again.
    pub reason: String,
}

pub(super) fn put_back(
    connection: &Connection,
    id: InvocationId,
    pause: &Pause,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE calls SET state = 'queued', due_us = ?2, status = ?3, reason = ?4,
                 attempts = attempts - NOT ?5, refusals = (refusals + 1) * (NOT ?5)
             WHERE id = ?1 AND state = 'running'",
        )?
        .execute(params![
            id_bytes(id),
            microseconds(pause.due),
            pause.status.map(|status| status.as_u16()),
            pause.reason,
            pause.counts,
        ])
        .map(drop)
}

/// Ends a running call; returns whether there is a message to its webhook now.
pub(super) fn finish(
    connection: &Connection,
    id: InvocationId,
    ending: &Ending,
) -> rusqlite::Result<bool> {
    let found: Option<(i64, bool)> = connection
        .prepare_cached(
            "SELECT sequence, webhook IS NOT NULL FROM calls WHERE id = ?1 AND state = 'running'",
        )?
        .query_row([id_bytes(id)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((sequence, has_webhook)) = found else { return Ok(false) };
    let mut freed = 0;
    // A dead letter may be replayed; of others the request has no more use.
    if ending.state != CallState::Dead {
        freed = forget_request(connection, sequence)?;
    }
    let mut added = 0;
    if let Some(response) = &ending.response {
        added = response_bytes(response) as i64;
        connection
            .prepare_cached("INSERT INTO responses (sequence, headers, body) VALUES (?1, ?2, ?3)")?
            .execute(params![sequence, encode(response.headers()), &response.body()[..]])?;
    }
    connection
        .prepare_cached(
            "UPDATE calls SET state = ?2, status = ?3, reason = ?4, finished_us = ?5,
                 keep_until_us = ?6, bytes = bytes - ?7 + ?8
             WHERE sequence = ?1",
        )?
        .execute(params![
            sequence,
            ending.state.as_str(),
            ending.response.as_ref().map(|response| response.status().as_u16()),
            ending.reason,
            microseconds(ending.at),
            microseconds(ending.kept_until),
            freed,
            added,
        ])?;
    Ok(has_webhook && announce(connection, id, ending.at, &ending.announcement)?)
}

/// Removes what a call carries; returns the bytes that this frees.
pub(super) fn forget_request(connection: &Connection, sequence: i64) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "DELETE FROM requests WHERE sequence = ?1 RETURNING length(headers) + length(body)",
        )?
        .query_row([sequence], |row| row.get(0))
}
