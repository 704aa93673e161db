//! Begins calls whose time has come, in turns between tenants. Never decides what comes of them.

use std::time::{Duration, SystemTime};

use quern_types::{CallState, InvocationId, TenantId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    call::{self, ClaimedCall, Progress},
    read,
};
use crate::rows::{self, microseconds};

/// How many calls may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimLimits {
    /// In this claim.
    pub most: usize,
    /// Of one tenant at a time, with those that run already.
    pub tenant_running: u64,
    /// The longest that a call waits between two tries: one that is due later waits for a clock that
    /// was set back since.
    pub longest_pause: Duration,
}

/// Calls that were begun.
#[derive(Debug)]
pub struct Claimed {
    /// The calls.
    pub calls: Vec<ClaimedCall>,
    /// The tenant that was looked at last: the next claim begins behind it.
    pub last: Option<TenantId>,
    /// When the next call that waits is due, and it may be due already; none if none waits.
    pub next_due: Option<SystemTime>,
}

pub(super) fn claim(
    connection: &Connection,
    limits: &ClaimLimits,
    after: Option<&TenantId>,
    now: SystemTime,
) -> rusqlite::Result<Claimed> {
    hasten(connection, limits.longest_pause, now)?;
    let tenants = read::tenants(connection, "usage", CallState::Queued.as_str(), after)?;
    let mut calls = Vec::new();
    // Rounds, in each of which every tenant gets the same.
    loop {
        let room = limits.most - calls.len();
        let share = room.div_ceil(tenants.len().max(1));
        let before = calls.len();
        for tenant in &tenants {
            let (running, _) = read::used(connection, tenant.as_str(), CallState::Running)?;
            let free = limits.tenant_running.saturating_sub(running);
            let left = limits.most - calls.len();
            let most = share.min(left).min(usize::try_from(free).unwrap_or(usize::MAX));
            begin(connection, tenant, most, now, &mut calls)?;
        }
        if calls.len() == before || calls.len() == limits.most {
            break;
        }
    }
    let next_due = connection
        .prepare_cached("SELECT min(due_us) FROM calls WHERE state = 'queued'")?
        .query_row([], |row| row.get::<_, Option<i64>>(0))?;
    // Whoever was served last where there was no room for all: the next ones come first then.
    let last = match calls.last() {
        Some(call) if calls.len() == limits.most => Some(call.tenant.clone()),
        _ => tenants.last().cloned(),
    };
    Ok(Claimed { calls, last, next_due: next_due.map(rows::time) })
}

/// Makes calls due that would be so later than any pause says.
fn hasten(connection: &Connection, longest: Duration, now: SystemTime) -> rusqlite::Result<()> {
    let latest = now.checked_add(longest).map_or(i64::MAX, microseconds);
    connection
        .prepare_cached("UPDATE calls SET due_us = ?1 WHERE state = 'queued' AND due_us > ?2")?
        .execute(params![microseconds(now), latest])
        .map(drop)
}

fn begin(
    connection: &Connection,
    tenant: &TenantId,
    most: usize,
    now: SystemTime,
    calls: &mut Vec<ClaimedCall>,
) -> rusqlite::Result<()> {
    let now = microseconds(now);
    for _ in 0..most {
        let sequence: Option<i64> = connection
            .prepare_cached(
                "SELECT sequence FROM calls WHERE tenant = ?1 AND state = 'queued' AND due_us <= ?2
                 ORDER BY due_us LIMIT 1",
            )?
            .query_row(params![tenant.as_str(), now], |row| row.get(0))
            .optional()?;
        let Some(sequence) = sequence else { return Ok(()) };
        connection
            .prepare_cached(
                "UPDATE calls SET state = 'running', attempts = attempts + 1, started_us = ?2
                 WHERE sequence = ?1",
            )?
            .execute(params![sequence, now])?;
        let call = connection
            .prepare_cached(
                "SELECT id, attempts, max_attempts, refusals, expires_us, lapses, method, path,
                     headers, body
                 FROM calls JOIN requests USING (sequence) WHERE sequence = ?1",
            )?
            .query_row([sequence], |row| {
                let (id, progress) = progress(row)?;
                let request = call::request(row, 6)?;
                Ok(ClaimedCall { id, tenant: tenant.clone(), request, progress })
            })?;
        calls.push(call);
    }
    Ok(())
}

pub(super) fn stranded(
    connection: &Connection,
    most: usize,
) -> rusqlite::Result<Vec<(InvocationId, Progress)>> {
    connection
        .prepare_cached(
            "SELECT id, attempts, max_attempts, refusals, expires_us, lapses FROM calls
             WHERE state = 'running' ORDER BY sequence LIMIT ?1",
        )?
        .query_map([most as i64], progress)?
        .collect()
}

fn progress(row: &Row<'_>) -> rusqlite::Result<(InvocationId, Progress)> {
    let progress = Progress {
        attempts: row.get(1)?,
        max_attempts: row.get(2)?,
        refusals: row.get(3)?,
        expires: rows::time(row.get(4)?),
        lapses: row.get(5)?,
    };
    Ok((call::id(row, 0)?, progress))
}
