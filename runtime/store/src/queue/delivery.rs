//! Messages to webhooks as the queue keeps them, and how they are read. Never changes one.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use http::StatusCode;
use quern_types::{DeliveryId, DeliveryState, InvocationId, Name, NamedWebhook, TenantId};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, types::Type};
use uuid::Uuid;

use super::{call, read};
use crate::rows::{self, microseconds};

/// A message that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its name.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The webhook that it goes to.
    pub webhook: NamedWebhook,
    /// What it says.
    pub body: String,
    /// How often it was sent.
    pub attempts: u32,
    /// From when on it is not sent again, once it was sent in vain.
    pub expires: SystemTime,
}

/// A message without what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Its name.
    pub id: DeliveryId,
    /// The webhook that it goes to.
    pub webhook: Name,
    /// The call whose end it tells.
    pub call: InvocationId,
    /// Where it is on its way.
    pub state: DeliveryState,
    /// How often it was sent.
    pub attempts: u32,
    /// When the call ended.
    pub created: SystemTime,
    /// From when on it is not sent again, once it was sent in vain.
    pub expires: SystemTime,
    /// When it is sent next; none unless it waits, and unless it is held back.
    pub due: Option<SystemTime>,
    /// When it was taken or given up.
    pub ended: Option<SystemTime>,
    /// Until when it is kept; none before its end.
    pub kept_until: Option<SystemTime>,
    /// The status of the last answer.
    pub status: Option<StatusCode>,
    /// Why it was not taken the last time.
    pub reason: Option<String>,
}

/// Which messages to list.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Those of this webhook; none: of all.
    pub webhook: Option<Name>,
    /// Those in this state; none: in all.
    pub state: Option<DeliveryState>,
    /// Those before this one; none: the newest.
    pub before: Option<DeliveryId>,
    /// How many at most.
    pub limit: usize,
}

/// Which messages may be sent now.
#[derive(Debug, Clone)]
pub struct DueQuery {
    /// How many at most.
    pub most: usize,
    /// Of one tenant, with those that are under way.
    pub of_tenant: usize,
    /// The tenant that had its turn last.
    pub after: Option<TenantId>,
    /// Those that are under way already.
    pub under_way: HashMap<TenantId, HashSet<DeliveryId>>,
    /// The longest that a message waits: one that is due later waits for a clock that was set back
    /// since.
    pub longest_pause: Duration,
    /// Now.
    pub now: SystemTime,
}

/// Messages that may be sent now.
#[derive(Debug, Clone)]
pub struct Due {
    /// The messages.
    pub deliveries: Vec<Delivery>,
    /// The tenant that had its turn last.
    pub last: Option<TenantId>,
    /// When the next one is due that is not yet; none if there is none.
    pub next: Option<SystemTime>,
}

/// How many messages there are in each state, of all tenants.
pub type DeliveryCounts = Vec<(DeliveryState, u64)>;

const COLUMNS: &str = "id, webhook, call, state, attempts, created_us, expires_us, due_us, \
     ended_us, keep_until_us, status, reason, held";

/// The messages whose time has come, tenant by tenant.
pub(super) fn due(connection: &Connection, query: &DueQuery) -> rusqlite::Result<Due> {
    let waiting = DeliveryState::Waiting.as_str();
    let tenants = read::tenants(connection, "delivery_counts", waiting, query.after.as_ref())?;
    let now = microseconds(query.now);
    let latest = query.now.checked_add(query.longest_pause).map_or(i64::MAX, microseconds);
    let (mut deliveries, mut last) = (Vec::new(), None);
    for tenant in tenants {
        let room = query.most - deliveries.len();
        if room == 0 {
            break;
        }
        let under_way = query.under_way.get(&tenant);
        let busy = under_way.map_or(0, HashSet::len);
        let most = room.min(query.of_tenant.saturating_sub(busy));
        // As many more as are under way: those may be the first.
        let found = due_of(connection, &tenant, (now, latest), most + busy)?;
        let is_idle =
            |delivery: &Delivery| !under_way.is_some_and(|ids| ids.contains(&delivery.id));
        deliveries.extend(found.into_iter().filter(is_idle).take(most));
        last = Some(tenant);
    }
    let next: Option<i64> = connection
        .prepare_cached(
            "SELECT min(due_us) FROM deliveries
             WHERE state = 'waiting' AND held = 0 AND due_us > ?1",
        )?
        .query_row([now], |row| row.get(0))?;
    Ok(Due { deliveries, last, next: next.map(rows::time) })
}

/// Messages of a tenant whose time has come; and those that wait for longer than any pause, for which
/// the clock must have been set. Two reads, each of which has an index to itself.
fn due_of(
    connection: &Connection,
    tenant: &TenantId,
    (now, latest): (i64, i64),
    most: usize,
) -> rusqlite::Result<Vec<Delivery>> {
    let mut found = Vec::new();
    for (times, bound) in [("due_us <= ?2", now), ("due_us > ?2", latest)] {
        let mut select = connection.prepare_cached(&format!(
            "SELECT id, webhook, webhook_created_us, body, attempts, expires_us FROM deliveries
             WHERE tenant = ?1 AND state = 'waiting' AND held = 0 AND {times}
             ORDER BY due_us LIMIT ?3",
        ))?;
        let room = (most - found.len()) as i64;
        let read = select.query_map(params![tenant.as_str(), bound, room], |row| {
            Ok(Delivery {
                id: id(row, 0)?,
                tenant: tenant.clone(),
                webhook: named(row, 1, 2)?,
                body: row.get(3)?,
                attempts: row.get(4)?,
                expires: rows::time(row.get(5)?),
            })
        })?;
        for delivery in read {
            found.push(delivery?);
        }
    }
    Ok(found)
}

pub(super) fn one(
    connection: &Connection,
    tenant: &TenantId,
    id: DeliveryId,
) -> rusqlite::Result<Option<DeliveryRecord>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM deliveries WHERE id = ?1 AND tenant = ?2"))?
        .query_row(params![id.uuid().as_bytes(), tenant.as_str()], record)
        .optional()
}

pub(super) fn list(
    connection: &Connection,
    query: &DeliveryQuery,
) -> rusqlite::Result<Vec<DeliveryRecord>> {
    let DeliveryQuery { tenant, webhook, state, before, limit } = query;
    let before = before.map_or([0xff; 16], |id| *id.uuid().as_bytes());
    let (state, webhook) = (state.map(DeliveryState::as_str), webhook.as_ref().map(Name::as_str));
    let (tenant, limit) = (tenant.as_str(), i64::try_from(*limit).unwrap_or(i64::MAX));
    let mut statement = format!("SELECT {COLUMNS} FROM deliveries WHERE tenant = ?1 AND id < ?2");
    let mut values: Vec<&dyn ToSql> = vec![&tenant, &before, &limit];
    // Each filter has an index; of both together, that of the webhook is used.
    if let Some(webhook) = &webhook {
        values.push(webhook);
        statement += &format!(" AND webhook = ?{}", values.len());
    }
    if let Some(state) = &state {
        values.push(state);
        let plus = if webhook.is_some() { "+" } else { "" };
        statement += &format!(" AND {plus}state = ?{}", values.len());
    }
    statement += " ORDER BY id DESC LIMIT ?3";
    connection.prepare_cached(&statement)?.query_map(&values[..], record)?.collect()
}

/// How many messages of a tenant, or of all, are in a state.
pub(super) fn count(
    connection: &Connection,
    tenant: &str,
    state: DeliveryState,
) -> rusqlite::Result<u64> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT count FROM delivery_counts WHERE state = ?1 AND tenant = ?2")?
        .query_row(params![state.as_str(), tenant], |row| row.get(0))
        .optional()?;
    Ok(found.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<DeliveryCounts> {
    let of = |state| Ok((state, count(connection, read::ALL, state)?));
    DeliveryState::ALL.into_iter().map(of).collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<DeliveryRecord> {
    let time = |column| row.get::<_, Option<i64>>(column).map(|time| time.map(rows::time));
    let state: DeliveryState = rows::parsed(row, 3)?;
    let (status, is_held): (Option<u16>, bool) = (row.get(10)?, row.get(12)?);
    Ok(DeliveryRecord {
        id: id(row, 0)?,
        webhook: rows::parsed(row, 1)?,
        call: call::id(row, 2)?,
        state,
        attempts: row.get(4)?,
        created: rows::time(row.get(5)?),
        expires: rows::time(row.get(6)?),
        due: time(7)?.filter(|_| state == DeliveryState::Waiting && !is_held),
        ended: time(8)?,
        kept_until: time(9)?,
        status: status.and_then(|status| StatusCode::from_u16(status).ok()),
        reason: row.get(11)?,
    })
}

/// The webhook of two columns.
pub(super) fn named(row: &Row<'_>, name: usize, created: usize) -> rusqlite::Result<NamedWebhook> {
    let created: Option<i64> = row.get(created)?;
    Ok(NamedWebhook { name: rows::parsed(row, name)?, created: created.map(rows::time) })
}

fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<DeliveryId> {
    let bytes: Vec<u8> = row.get(column)?;
    let uuid = Uuid::from_slice(&bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
    })?;
    Ok(DeliveryId::from_uuid(uuid))
}
