//! Calls of schedules: each time is called once or left out, in the commit that notes it. Never
//! decides which times there are.

use std::time::SystemTime;

use quern_types::{CallState, InvocationId, Name, Overlap, TenantId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    EnqueueError,
    call::{NewCall, id_bytes},
    enqueue::{self, QueueLimits},
    spans::{self, Span},
};
use crate::rows::{self, microseconds};

/// Times of a schedule that have come.
#[derive(Debug, Clone)]
pub struct Fire {
    /// Whose it is.
    pub tenant: TenantId,
    /// The schedule.
    pub name: Name,
    /// When it was made or changed, which tells it from another one of its name.
    pub created: SystemTime,
    /// Which times it has, in words: what was called at the same ones by another one of its name, is
    /// not called again.
    pub times: String,
    /// The times are all those after this one. It is before the last one that is noted where the
    /// clock was set back in between.
    pub after: SystemTime,
    /// The last of its times that have come, whether or not it is called.
    pub until: SystemTime,
    /// All times after this one, up to that one, are among the calls; there may be more of them before.
    pub complete_since: SystemTime,
    /// The calls, with their times.
    pub calls: Vec<(SystemTime, NewCall)>,
    /// What to do while its last call waits or runs.
    pub overlap: Overlap,
}

/// What came of times that have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// Calls that were taken in.
    pub calls: usize,
    /// Times that were called before the clock was set back, and were not called again.
    pub known: usize,
    /// The last time that was called or left out.
    pub until: SystemTime,
    /// Why the times behind that one were not called yet; none if all were.
    pub refusal: Option<EnqueueError>,
}

/// The last time of a schedule that was called or left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFire {
    /// Whose it is.
    pub tenant: TenantId,
    /// The schedule.
    pub name: Name,
    /// When that was made or changed.
    pub created: SystemTime,
    /// The time.
    pub last: SystemTime,
    /// Its last call, if there was one.
    pub call: Option<InvocationId>,
}

/// Queues the calls whose times are behind the last one, up to the first that finds no room.
pub(super) fn fire(
    connection: &Connection,
    fire: &Fire,
    limits: &QueueLimits,
) -> rusqlite::Result<Result<Fired, EnqueueError>> {
    let (tenant, name) = (fire.tenant.as_str(), fire.name.as_str());
    let created = microseconds(fire.created);
    let Noted { last, called, mut call } = noted(connection, fire)?;
    // Times that were called before the clock was set back come again, and are not called again.
    let last = last.min(microseconds(fire.after));
    let (mut calls, mut known) = (0, 0);
    let (mut until, mut refusal) = (microseconds(fire.until), None);
    let mut passed = last;
    for (time, new) in &fire.calls {
        let time = microseconds(*time);
        if time <= last {
            continue;
        }
        if spans::hold(&called, time) {
            known += 1;
        } else if !is_left_out(connection, fire.overlap, call.as_deref())? {
            match enqueue::enqueue(connection, new, limits)? {
                Ok(enqueued) => {
                    call = Some(id_bytes(enqueued.id).to_vec());
                    calls += usize::from(enqueued.is_new);
                }
                Err(error) if passed == last => return Ok(Err(error)),
                Err(error) => {
                    (until, refusal) = (passed, Some(error));
                    break;
                }
            }
        }
        passed = time;
    }
    let called = spans::add(called, Span(microseconds(fire.complete_since), until));
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO fires (tenant, name, created_us, last_us, call, called, times)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            tenant,
            name,
            created,
            until,
            call,
            spans::written(&called),
            fire.times
        ])?;
    Ok(Ok(Fired { calls, known, until: rows::time(until), refusal }))
}

/// What is noted of a schedule.
struct Noted {
    last: i64,
    called: Vec<Span>,
    call: Option<Vec<u8>>,
}

fn noted(connection: &Connection, fire: &Fire) -> rusqlite::Result<Noted> {
    let found = connection
        .prepare_cached(
            "SELECT created_us, last_us, called, call, times FROM fires
             WHERE tenant = ?1 AND name = ?2",
        )?
        .query_row(params![fire.tenant.as_str(), fire.name.as_str()], |row| {
            let called = spans::read(row, 2)?;
            let noted = Noted { last: row.get(1)?, called, call: row.get(3)? };
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(4)?, noted))
        })
        .optional()?;
    let created = microseconds(fire.created);
    Ok(match found {
        Some((of, _, noted)) if of == created => noted,
        // It was changed, and what was called is known of the same times only. One that was deleted is
        // forgotten, unless it was made anew at once, which is a change like any other.
        Some((_, times, noted)) => {
            let called = if times == fire.times { noted.called } else { Vec::new() };
            Noted { last: created, called, call: noted.call }
        }
        None => Noted { last: created, called: Vec::new(), call: None },
    })
}

/// Whether a time is left out because the last call has not come to its end.
fn is_left_out(
    connection: &Connection,
    overlap: Overlap,
    call: Option<&[u8]>,
) -> rusqlite::Result<bool> {
    let (Overlap::Skip, Some(call)) = (overlap, call) else { return Ok(false) };
    let state: Option<CallState> = connection
        .prepare_cached("SELECT state FROM calls WHERE id = ?1")?
        .query_row([call], |row| rows::parsed(row, 0))
        .optional()?;
    Ok(state.is_some_and(|state| !state.is_final()))
}

/// Forgets a schedule that is gone.
pub(super) fn forget(
    connection: &Connection,
    tenant: &TenantId,
    name: &Name,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM fires WHERE tenant = ?1 AND name = ?2")?
        .execute(params![tenant.as_str(), name.as_str()])
        .map(drop)
}

/// When a schedule was called last, if it ever was.
pub(super) fn last(
    connection: &Connection,
    tenant: &TenantId,
    name: &Name,
) -> rusqlite::Result<Option<LastFire>> {
    connection
        .prepare_cached(
            "SELECT tenant, name, created_us, last_us, call FROM fires
             WHERE tenant = ?1 AND name = ?2",
        )?
        .query_row(params![tenant.as_str(), name.as_str()], last_fire)
        .optional()
}

pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<LastFire>> {
    connection
        .prepare("SELECT tenant, name, created_us, last_us, call FROM fires")?
        .query_map([], last_fire)?
        .collect()
}

fn last_fire(row: &Row<'_>) -> rusqlite::Result<LastFire> {
    let call: Option<Vec<u8>> = row.get(4)?;
    Ok(LastFire {
        tenant: TenantId::new(&row.get::<_, String>(0)?),
        name: rows::parsed(row, 1)?,
        created: rows::time(row.get(2)?),
        last: rows::time(row.get(3)?),
        call: call.map(|_| super::call::id(row, 4)).transpose()?,
    })
}
