//! The table of what tenants may ask of the server, and what changes it. Never counts a request.

use quern_types::{Access, Caller, StorageFailure, TenantId, TenantLimits};
use rusqlite::{Connection, params};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    Removed,
    audit::Entry,
    operation::{Effects, Operation, Subject, failure},
};

/// Most tenants with limits of their own, which are all kept in memory.
const MOST: u32 = 100_000;

/// Why a tenant's limits were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantLimitsError {
    /// As many tenants have limits of their own as may.
    #[error("{limit} tenants have limits of their own, as many as may: take those of some away")]
    TooMany {
        /// The limit.
        limit: u32,
    },
    /// The database failed; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// Says how much a tenant may ask for.
#[derive(Debug)]
pub(crate) struct LimitTenant {
    caller: Caller,
    tenant: TenantId,
    limits: TenantLimits,
    outcome: Option<Result<(), TenantLimitsError>>,
    reply: oneshot::Sender<Result<(), TenantLimitsError>>,
}

impl LimitTenant {
    pub(crate) fn new(
        caller: Caller,
        tenant: TenantId,
        limits: TenantLimits,
        reply: oneshot::Sender<Result<(), TenantLimitsError>>,
    ) -> Self {
        Self { caller, tenant, limits, outcome: None, reply }
    }
}

impl Operation for LimitTenant {
    fn subject(&self) -> Subject<'_> {
        Subject::Access
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        connection
            .prepare_cached("DELETE FROM tenant_limits WHERE tenant = ?1")?
            .execute([self.tenant.as_str()])?;
        let outcome = match self.limits.is_nothing() {
            true => Ok(()),
            false if count(connection)? >= MOST => Err(TenantLimitsError::TooMany { limit: MOST }),
            false => Ok(insert(connection, &self.tenant, self.limits)?),
        };
        // What was deleted comes back with a refusal: nothing of it is committed.
        let changed = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(Effects::of(changed))
    }

    fn show(&self, access: &mut Access) {
        access.limit(self.tenant.clone(), self.limits);
    }

    fn entry(&self) -> Entry<'_> {
        let subject = format!("tenant {}", self.tenant);
        let detail = json!(self.limits);
        Entry { caller: &self.caller, action: "tenant.limit", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let answer = match (group, self.outcome) {
            (Ok(_), Some(outcome)) => outcome,
            (group, _) => Err(TenantLimitsError::Storage { reason: failure(group) }),
        };
        let _ = self.reply.send(answer);
    }
}

fn count(connection: &Connection) -> rusqlite::Result<u32> {
    connection.prepare_cached("SELECT count(*) FROM tenant_limits")?.query_row([], |row| row.get(0))
}

fn insert(
    connection: &Connection,
    tenant: &TenantId,
    limits: TenantLimits,
) -> rusqlite::Result<()> {
    let TenantLimits { requests_per_second, burst, concurrency } = limits;
    connection
        .prepare_cached(
            "INSERT INTO tenant_limits (tenant, requests_per_second, burst, concurrency)
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![tenant.as_str(), requests_per_second, burst, concurrency])
        .map(drop)
}

/// Adds the limits of all tenants.
pub(crate) fn load(connection: &Connection, access: &mut Access) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare("SELECT tenant, requests_per_second, burst, concurrency FROM tenant_limits")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let limits = TenantLimits {
            requests_per_second: row.get(1)?,
            burst: row.get(2)?,
            concurrency: row.get(3)?,
        };
        access.limit(TenantId::new(&row.get::<_, String>(0)?), limits);
    }
    Ok(())
}
