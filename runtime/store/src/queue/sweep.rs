//! Removes calls that have come to their end and are kept no longer, a bounded number at a time.

use std::time::SystemTime;

use quern_types::ByteSize;
use rusqlite::{Connection, params};

use crate::rows::microseconds;

/// What is kept of calls that have come to their end; for how long is in their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Bytes of the calls of one tenant, beyond which the oldest go.
    pub tenant_bytes: ByteSize,
    /// Messages to webhooks of one tenant that were taken or given up, beyond which the oldest go.
    pub tenant_messages: u64,
    /// Calls, or messages, that one step removes at most.
    pub step: usize,
}

const ENDED: &str = "('succeeded', 'failed', 'dead', 'cancelled')";

pub(super) fn sweep(
    connection: &Connection,
    keep: &Keep,
    now: SystemTime,
) -> rusqlite::Result<usize> {
    let mut removed = connection
        .prepare_cached(
            "DELETE FROM calls WHERE sequence IN
                 (SELECT sequence FROM calls WHERE keep_until_us <= ?1
                  ORDER BY keep_until_us LIMIT ?2)",
        )?
        .execute(params![microseconds(now), keep.step as i64])?;
    let statement = format!(
        "SELECT tenant FROM usage WHERE state IN {ENDED} AND tenant != ''
         GROUP BY tenant HAVING sum(bytes) > ?1"
    );
    let large: Vec<String> = connection
        .prepare_cached(&statement)?
        .query_map([i64::try_from(keep.tenant_bytes.0).unwrap_or(i64::MAX)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for tenant in large {
        while removed < keep.step && kept_bytes(connection, &tenant)? > keep.tenant_bytes.0 {
            let oldest = connection
                .prepare_cached(
                    "DELETE FROM calls WHERE sequence =
                         (SELECT sequence FROM calls
                          WHERE tenant = ?1 AND keep_until_us IS NOT NULL
                          ORDER BY finished_us LIMIT 1)",
                )?
                .execute([tenant.as_str()])?;
            if oldest == 0 {
                break;
            }
            removed += oldest;
        }
    }
    Ok(removed)
}

fn kept_bytes(connection: &Connection, tenant: &str) -> rusqlite::Result<u64> {
    let statement =
        format!("SELECT coalesce(sum(bytes), 0) FROM usage WHERE state IN {ENDED} AND tenant = ?1");
    let bytes: i64 =
        connection.prepare_cached(&statement)?.query_row([tenant], |row| row.get(0))?;
    Ok(bytes.try_into().unwrap_or(0))
}
