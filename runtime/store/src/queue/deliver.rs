//! What comes of messages to webhooks: sent again, ended, sent once more on request, and removed.
//! Never decides which.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use quern_types::{DeliveryId, DeliveryState, NamedWebhook, TenantId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Keep, QueueFailure, QueueFull, QueueLimits, enqueue};
use crate::rows::{self, microseconds};

/// What came of sending a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// When it was over.
    pub at: SystemTime,
    /// Whether it was sent at all.
    pub counts: bool,
    /// The status of the answer, if one came.
    pub status: Option<StatusCode>,
    /// Why it was not taken, if it was not.
    pub reason: Option<String>,
    /// What happens next.
    pub next: Next,
}

/// What happens next to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is sent again.
    Again {
        /// When.
        due: SystemTime,
    },
    /// It is held back until [`release_deliveries`](super::CallQueue::release_deliveries) lets it go.
    Held,
    /// It was taken, or is given up.
    End {
        /// Not [`DeliveryState::Waiting`].
        state: DeliveryState,
        /// Until when it is kept.
        kept_until: SystemTime,
    },
}

/// Why, and since when, messages are given up that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivingUp {
    /// Now.
    pub at: SystemTime,
    /// Until when they are kept.
    pub kept_until: SystemTime,
    /// Why.
    pub reason: &'static str,
    /// How many at most.
    pub most: usize,
}

/// Why a message is not sent once more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// There is no such message, or it is kept no longer.
    #[error("delivery {id} is not known, or is kept no longer")]
    NotFound {
        /// The message.
        id: DeliveryId,
    },
    /// It was not given up.
    #[error("delivery {id} is {state}: only one that has failed can be sent again")]
    State {
        /// The message.
        id: DeliveryId,
        /// Its state.
        state: DeliveryState,
    },
    /// As many messages as may wait do.
    #[error("delivery {id} can't be sent again, for {full}")]
    Full {
        /// The message.
        id: DeliveryId,
        /// Whose limit it is.
        full: QueueFull,
    },
    /// The queue failed.
    #[error(transparent)]
    Failed(#[from] QueueFailure),
}

/// When, and for how long, a message is sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Now.
    pub at: SystemTime,
    /// For how long it is tried.
    pub max_age: Duration,
    /// What may wait.
    pub limits: QueueLimits,
}

/// Writes down what came of sending a waiting message.
pub(super) fn settle(
    connection: &Connection,
    id: DeliveryId,
    sending: &Sending,
) -> rusqlite::Result<()> {
    let (state, due, ended, kept_until) = match sending.next {
        Next::Again { due } => (DeliveryState::Waiting, Some(microseconds(due)), None, None),
        Next::Held => (DeliveryState::Waiting, None, None, None),
        Next::End { state, kept_until } => {
            (state, None, Some(microseconds(sending.at)), Some(microseconds(kept_until)))
        }
    };
    connection
        .prepare_cached(
            "UPDATE deliveries SET state = ?2, attempts = attempts + ?3, status = ?4, reason = ?5,
                 due_us = coalesce(?6, due_us), ended_us = ?7, keep_until_us = ?8, held = ?9
             WHERE id = ?1 AND state = 'waiting'",
        )?
        .execute(params![
            id.uuid().as_bytes(),
            state.as_str(),
            sending.counts,
            sending.status.map(|status| status.as_u16()),
            sending.reason,
            due,
            ended,
            kept_until,
            sending.next == Next::Held,
        ])
        .map(drop)
}

/// By an index of those that wait, which those that are given up leave.
const GIVE_UP: &str = "UPDATE deliveries
    SET state = 'failed', reason = ?4, ended_us = ?5, keep_until_us = ?6, held = 0
    WHERE sequence IN
        (SELECT sequence FROM deliveries
         WHERE tenant = ?1 AND state = 'waiting' AND webhook = ?2
             AND (webhook_created_us IS NULL OR webhook_created_us IS ?3)
         LIMIT ?7)";

/// Gives up messages that wait for a webhook, one that is under way among them; returns how many.
pub(super) fn give_up(
    connection: &Connection,
    tenant: &TenantId,
    webhook: &NamedWebhook,
    end: &GivingUp,
) -> rusqlite::Result<usize> {
    connection.prepare_cached(GIVE_UP)?.execute(params![
        tenant.as_str(),
        webhook.name.as_str(),
        webhook.created.map(microseconds),
        end.reason,
        microseconds(end.at),
        microseconds(end.kept_until),
        end.most as i64,
    ])
}

/// Has a message sent again that was given up.
pub(super) fn retry(
    connection: &Connection,
    tenant: &TenantId,
    id: DeliveryId,
    retry: &Retry,
) -> rusqlite::Result<Result<(), RetryError>> {
    let found: Option<DeliveryState> = connection
        .prepare_cached("SELECT state FROM deliveries WHERE id = ?1 AND tenant = ?2")?
        .query_row(params![id.uuid().as_bytes(), tenant.as_str()], |row| rows::parsed(row, 0))
        .optional()?;
    match found {
        None => return Ok(Err(RetryError::NotFound { id })),
        Some(DeliveryState::Failed) => {}
        Some(state) => return Ok(Err(RetryError::State { id, state })),
    }
    if let Some(full) = enqueue::messages_full(connection, tenant.as_str(), &retry.limits)? {
        return Ok(Err(RetryError::Full { id, full }));
    }
    let (now, age) = (microseconds(retry.at), retry.max_age.as_micros());
    connection
        .prepare_cached(
            "UPDATE deliveries SET state = 'waiting', attempts = 0, due_us = ?2, expires_us = ?3,
                 ended_us = NULL, keep_until_us = NULL, status = NULL, reason = NULL
             WHERE id = ?1",
        )?
        .execute(params![
            id.uuid().as_bytes(),
            now,
            now.saturating_add(i64::try_from(age).unwrap_or(i64::MAX))
        ])?;
    Ok(Ok(()))
}

/// Removes messages that are kept no longer, and of each tenant the oldest of more than may be kept:
/// first of those that were taken.
pub(super) fn sweep(
    connection: &Connection,
    keep: &Keep,
    now: SystemTime,
) -> rusqlite::Result<usize> {
    let mut removed = connection
        .prepare_cached(
            "DELETE FROM deliveries WHERE sequence IN
                 (SELECT sequence FROM deliveries WHERE keep_until_us <= ?1
                  ORDER BY keep_until_us LIMIT ?2)",
        )?
        .execute(params![microseconds(now), keep.step as i64])?;
    let most = i64::try_from(keep.tenant_messages).unwrap_or(i64::MAX);
    let many: Vec<(String, i64)> = connection
        .prepare_cached(
            "SELECT tenant, sum(count) FROM delivery_counts
             WHERE state != 'waiting' AND tenant != '' GROUP BY tenant HAVING sum(count) > ?1",
        )?
        .query_map([most], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (tenant, count) in many {
        let room = (keep.step - removed) as i64;
        removed += connection
            .prepare_cached(
                "DELETE FROM deliveries WHERE sequence IN
                     (SELECT sequence FROM deliveries
                      WHERE tenant = ?1 AND keep_until_us IS NOT NULL
                      ORDER BY state = 'failed', ended_us LIMIT ?2)",
            )?
            .execute(params![tenant, (count - most).min(room)])?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::MIGRATIONS;

    #[test]
    fn giving_up_reads_only_what_waits_for_the_webhook() {
        let queue = Connection::open_in_memory().expect("opens");
        MIGRATIONS.iter().for_each(|step| queue.execute_batch(step).expect("migrates"));
        let plan: Vec<String> = queue
            .prepare(&format!("EXPLAIN QUERY PLAN {GIVE_UP}"))
            .and_then(|mut plan| plan.raw_query().mapped(|row| row.get(3)).collect())
            .expect("a plan");
        let used = "USING INDEX deliveries_waiting_of_webhook (tenant=? AND webhook=?)";
        assert!(plan.iter().any(|step| step.contains(used)), "{plan:?}");
        assert!(!plan.iter().any(|step| step.starts_with("SCAN")), "{plan:?}");
    }
}
