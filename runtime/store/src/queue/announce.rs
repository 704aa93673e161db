//! Queues a message to the webhook of a call that has come to its end, in the commit that ends it.
//! What it says is written by whoever ends the call.

use std::time::{Duration, SystemTime};

use quern_types::{DeliveryId, InvocationId, Name};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::call::{COLUMNS, CallRecord, id_bytes, record};
use crate::rows::microseconds;

/// How the end of a call is told to its webhook.
#[derive(Debug, Clone, Copy)]
pub struct Announcement {
    /// Writes the message.
    pub compose: fn(&CallRecord) -> String,
    /// For how long it is tried to deliver it.
    pub max_age: Duration,
}

/// Queues the message that a call has ended, if it has a webhook; returns whether it has.
pub(super) fn announce(
    connection: &Connection,
    call: InvocationId,
    at: SystemTime,
    announcement: &Announcement,
) -> rusqlite::Result<bool> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, tenant, webhook_created_us FROM calls
             WHERE id = ?1 AND webhook IS NOT NULL"
        ))?
        .query_row([id_bytes(call)], |row| {
            Ok((record(row)?, row.get::<_, String>(18)?, row.get::<_, Option<i64>>(19)?))
        })
        .optional()?;
    let Some((record, tenant, webhook_created)) = found else { return Ok(false) };
    let id = DeliveryId::from_uuid(Uuid::now_v7());
    let max_age = i64::try_from(announcement.max_age.as_micros()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO deliveries (id, tenant, webhook, call, body, state, created_us,
                 expires_us, due_us, webhook_created_us)
             VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?6, ?7, ?6, ?8)",
        )?
        .execute(params![
            id.uuid().as_bytes(),
            tenant,
            record.webhook.as_ref().map(Name::as_str),
            id_bytes(call),
            (announcement.compose)(&record),
            microseconds(at),
            microseconds(at).saturating_add(max_age),
            webhook_created,
        ])?;
    Ok(true)
}
