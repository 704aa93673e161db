//! Reads the queue beside its writer: calls, answers, and how many there are of what.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use quern_types::{CallState, InvocationId, Name, TenantId};
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::{
    QueueFailure,
    call::{COLUMNS, CallRecord, decode, id_bytes, record},
};
use crate::rows;

/// The tenant under which all are counted together.
pub(super) const ALL: &str = "";

/// Most tenants that are looked at together; whoever looks next goes on behind them.
const TENANTS: usize = 256;

/// Which calls to list.
#[derive(Debug, Clone)]
pub struct CallQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Those in this state; none: in all.
    pub state: Option<CallState>,
    /// Those of this function or model; none: of all.
    pub target: Option<Name>,
    /// Those before this one; none: the newest.
    pub before: Option<InvocationId>,
    /// How many at most.
    pub limit: usize,
}

/// A call that was found, and what was asked of it.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// Its state.
    pub state: CallState,
    /// What was asked, if it is there.
    pub content: Option<T>,
}

/// How much there is in the queue, of all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls in each state that has any, and their bytes.
    pub states: Vec<(CallState, u64, u64)>,
    /// Since when the call is due that waits longest.
    pub oldest_due: Option<SystemTime>,
}

/// A connection beside the writer's, off the async threads.
#[derive(Debug)]
pub(super) struct Reader(Arc<Mutex<Connection>>);

impl Reader {
    pub(super) fn new(connection: Connection) -> Self {
        Self(Arc::new(Mutex::new(connection)))
    }

    /// Reads what was committed at one point in time.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueFailure> {
        let reader = self.0.clone();
        let task = tokio::task::spawn_blocking(move || {
            let mut connection = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction()?;
            read(&transaction)
        });
        Ok(task.await.map_err(|error| QueueFailure { reason: error.to_string().into() })??)
    }
}

pub(super) fn call(
    connection: &Connection,
    tenant: &TenantId,
    id: InvocationId,
) -> rusqlite::Result<Option<CallRecord>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM calls WHERE id = ?1 AND tenant = ?2"))?
        .query_row(params![id_bytes(id), tenant.as_str()], record)
        .optional()
}

pub(super) fn response(
    connection: &Connection,
    tenant: &TenantId,
    id: InvocationId,
) -> rusqlite::Result<Option<Found<Response<Bytes>>>> {
    connection
        .prepare_cached(
            "SELECT state, status, headers, body
             FROM calls LEFT JOIN responses USING (sequence) WHERE id = ?1 AND tenant = ?2",
        )?
        .query_row(params![id_bytes(id), tenant.as_str()], |row| {
            let headers: Option<Vec<u8>> = row.get(2)?;
            let body: Option<Vec<u8>> = row.get(3)?;
            let status: Option<u16> = row.get(1)?;
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let content = headers.zip(body).zip(status).map(|((headers, body), status)| {
                let mut response = Response::new(Bytes::from(body));
                *response.status_mut() = status;
                *response.headers_mut() = decode(&headers);
                response
            });
            Ok(Found { state: rows::parsed(row, 0)?, content })
        })
        .optional()
}

pub(super) fn list(
    connection: &Connection,
    query: &CallQuery,
) -> rusqlite::Result<Vec<CallRecord>> {
    let CallQuery { tenant, state, target, before, limit } = query;
    let before = before.map_or([0xff; 16], id_bytes);
    let state = state.map(CallState::as_str);
    let target = target.as_ref().map(Name::as_str);
    let (tenant, limit) = (tenant.as_str(), i64::try_from(*limit).unwrap_or(i64::MAX));
    let mut statement = format!("SELECT {COLUMNS} FROM calls WHERE tenant = ?1 AND id < ?2");
    let mut values: Vec<&dyn ToSql> = vec![&tenant, &before, &limit];
    // Each filter has an index; of both together, that of the target is used.
    if let Some(target) = &target {
        values.push(target);
        statement += &format!(" AND target = ?{}", values.len());
    }
    if let Some(state) = &state {
        values.push(state);
        statement +=
            &format!(" AND {}state = ?{}", if target.is_some() { "+" } else { "" }, values.len());
    }
    statement += " ORDER BY id DESC LIMIT ?3";
    connection.prepare_cached(&statement)?.query_map(&values[..], record)?.collect()
}

/// How many calls of a tenant, or of all, are in a state, and their bytes.
pub(super) fn used(
    connection: &Connection,
    tenant: &str,
    state: CallState,
) -> rusqlite::Result<(u64, u64)> {
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let found = connection
        .prepare_cached("SELECT count, bytes FROM usage WHERE state = ?1 AND tenant = ?2")?
        .query_row(params![state.as_str(), tenant], |row| {
            Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)))
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Tenants that have something in a state, as a table of counts has it: those behind one, and then
/// those before it.
pub(super) fn tenants(
    connection: &Connection,
    counts: &'static str,
    state: &'static str,
    after: Option<&TenantId>,
) -> rusqlite::Result<Vec<TenantId>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT tenant FROM {counts} WHERE state = '{state}' AND tenant > ?1 AND tenant <= ?2
         ORDER BY tenant LIMIT ?3",
    ))?;
    // Names of tenants are ASCII, so that nothing comes behind this.
    const LAST: &str = "\u{10ffff}";
    let after = after.map_or(ALL, TenantId::as_str);
    let mut found = Vec::new();
    for (from, to) in [(after, LAST), (ALL, after)] {
        let room = (TENANTS - found.len()) as i64;
        let names = select.query_map(params![from, to, room], |row| row.get::<_, String>(0))?;
        for name in names {
            found.push(TenantId::new(&name?));
        }
    }
    Ok(found)
}

pub(super) fn count(
    connection: &Connection,
    tenant: &str,
    state: CallState,
) -> rusqlite::Result<u64> {
    used(connection, tenant, state).map(|(count, _)| count)
}

/// When the newest call or message was noted, not counting those of a clock that was ahead.
pub(super) fn last_noted(
    connection: &Connection,
    before: SystemTime,
) -> rusqlite::Result<Option<SystemTime>> {
    let newest = |table| {
        let statement = format!(
            "SELECT created_us FROM {table} WHERE created_us <= ?1 ORDER BY sequence DESC LIMIT 1"
        );
        let mut statement = connection.prepare(&statement)?;
        statement.query_row([rows::microseconds(before)], |row| row.get::<_, i64>(0)).optional()
    };
    Ok(newest("calls")?.max(newest("deliveries")?).map(rows::time))
}

pub(super) fn usage(connection: &Connection) -> rusqlite::Result<Usage> {
    let mut states = Vec::new();
    for state in CallState::ALL {
        let (count, bytes) = used(connection, ALL, state)?;
        states.push((state, count, bytes));
    }
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(due_us) FROM calls WHERE state = 'queued'")?
        .query_row([], |row| row.get(0))?;
    Ok(Usage { states, oldest_due: oldest.map(rows::time) })
}
