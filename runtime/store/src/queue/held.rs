//! Messages that are held back, as their webhook has no secret that the server can open, and let go.
//! Never decides when.

use std::time::SystemTime;

use quern_types::{NamedWebhook, TenantId};
use rusqlite::{Connection, params};

use super::delivery;
use crate::rows::microseconds;

/// A webhook for whose secret messages wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldWebhook {
    /// Whose it is.
    pub tenant: TenantId,
    /// The webhook.
    pub webhook: NamedWebhook,
}

/// The webhooks of all messages that are held back.
pub(super) fn webhooks(connection: &Connection) -> rusqlite::Result<Vec<HeldWebhook>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT tenant, webhook, webhook_created_us FROM deliveries WHERE held = 1",
        )?
        .query_map([], |row| {
            let tenant = TenantId::new(&row.get::<_, String>(0)?);
            Ok(HeldWebhook { tenant, webhook: delivery::named(row, 1, 2)? })
        })?
        .collect()
}

/// Makes messages due that were held back; returns how many.
pub(super) fn release(
    connection: &Connection,
    HeldWebhook { tenant, webhook }: &HeldWebhook,
    most: usize,
    now: SystemTime,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "UPDATE deliveries SET held = 0, due_us = ?4 WHERE sequence IN
                 (SELECT sequence FROM deliveries
                  WHERE held = 1 AND tenant = ?1 AND webhook = ?2 AND webhook_created_us IS ?3
                  LIMIT ?5)",
        )?
        .execute(params![
            tenant.as_str(),
            webhook.name.as_str(),
            webhook.created.map(microseconds),
            microseconds(now),
            most as i64,
        ])
}
