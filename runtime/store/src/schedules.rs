//! The table of schedules and what changes it. Never knows when one is due.

use std::{sync::Arc, time::SystemTime};

use quern_types::{Caller, Name, Schedule, ScheduleSpec, StorageFailure, TenantId};
use rusqlite::{Connection, OptionalExtension, params, types::Type};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    Removed, Scope,
    audit::Entry,
    operation::{Effects, Operation, Subject, failure},
    rows,
};

/// Why a schedule was not put or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There is no such schedule.
    #[error("schedule {name:?} is not known")]
    NotFound {
        /// The name asked for.
        name: Name,
    },
    /// As many as there may be.
    #[error(
        "there are {limit} schedules of the {}, as many as there may be: delete some",
        scope.as_str()
    )]
    TooMany {
        /// Whose limit it is.
        scope: Scope,
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

/// Most schedules of a tenant.
const MOST_OF_TENANT: u32 = 1_000;
/// Most schedules of a server, which are all kept in memory.
const MOST: u32 = 20_000;

type Reply<T> = oneshot::Sender<Result<T, ScheduleError>>;

/// Adds a schedule, or changes one.
#[derive(Debug)]
pub(crate) struct PutSchedule {
    caller: Caller,
    schedule: Schedule,
    outcome: Option<Result<bool, ScheduleError>>,
    reply: Reply<bool>,
}

/// Takes a schedule away.
#[derive(Debug)]
pub(crate) struct DeleteSchedule {
    caller: Caller,
    name: Name,
    outcome: Option<Result<(), ScheduleError>>,
    reply: Reply<()>,
}

impl PutSchedule {
    pub(crate) fn new(
        caller: Caller,
        name: Name,
        spec: ScheduleSpec,
        created: SystemTime,
        reply: Reply<bool>,
    ) -> Self {
        let schedule = Schedule { tenant: caller.tenant.clone(), name, spec, created };
        Self { caller, schedule, outcome: None, reply }
    }

    /// Whether it is new; and whether anything changes.
    fn put(
        &self,
        connection: &Connection,
    ) -> rusqlite::Result<Result<(bool, bool), ScheduleError>> {
        let Schedule { tenant, name, spec, created } = &self.schedule;
        let spec = serde_json::to_string(spec)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let found: Option<String> = connection
            .prepare_cached("SELECT spec FROM schedules WHERE tenant = ?1 AND name = ?2")?
            .query_row(params![tenant.as_str(), name.as_str()], |row| row.get(0))
            .optional()?;
        if found.as_ref() == Some(&spec) {
            return Ok(Ok((false, false)));
        }
        if found.is_none()
            && let Some(refusal) = refuse(connection, tenant)?
        {
            return Ok(Err(refusal));
        }
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO schedules (tenant, name, spec, created_us)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![tenant.as_str(), name.as_str(), spec, rows::microseconds(*created)])?;
        Ok(Ok((found.is_none(), true)))
    }
}

impl Operation for PutSchedule {
    fn subject(&self) -> Subject<'_> {
        Subject::Schedules
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let (outcome, changed) = match self.put(connection)? {
            Ok((is_new, changed)) => (Ok(is_new), changed),
            Err(refusal) => (Err(refusal), false),
        };
        self.outcome = Some(outcome);
        Ok(Effects::of(changed))
    }

    fn entry(&self) -> Entry<'_> {
        let Schedule { name, spec, .. } = &self.schedule;
        // Not the body nor the headers, which may hold secrets.
        let ScheduleSpec { cron, time_zone, method, path, missed, overlap, .. } = spec;
        let detail = json!({
            "cron": cron, "time_zone": time_zone, "method": method, "path": path,
            "missed": missed, "overlap": overlap,
        });
        let subject = format!("schedule {name}");
        Entry { caller: &self.caller, action: "schedule.put", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

impl DeleteSchedule {
    pub(crate) fn new(caller: Caller, name: Name, reply: Reply<()>) -> Self {
        Self { caller, name, outcome: None, reply }
    }
}

impl Operation for DeleteSchedule {
    fn subject(&self) -> Subject<'_> {
        Subject::Schedules
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let removed = connection
            .prepare_cached("DELETE FROM schedules WHERE tenant = ?1 AND name = ?2")?
            .execute(params![self.caller.tenant.as_str(), self.name.as_str()])?;
        let name = self.name.clone();
        let changed = removed > 0;
        self.outcome = Some(if changed { Ok(()) } else { Err(ScheduleError::NotFound { name }) });
        Ok(Effects::of(changed))
    }

    fn entry(&self) -> Entry<'_> {
        let subject = format!("schedule {}", self.name);
        Entry { caller: &self.caller, action: "schedule.delete", subject, detail: json!({}) }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

/// Why there is no room for another schedule of a tenant, if there is none.
fn refuse(connection: &Connection, tenant: &TenantId) -> rusqlite::Result<Option<ScheduleError>> {
    let (of_tenant, of_all): (u32, u32) = connection
        .prepare_cached("SELECT count(*) FILTER (WHERE tenant = ?1), count(*) FROM schedules")?
        .query_row([tenant.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (scope, count, limit) in
        [(Scope::Tenant, of_tenant, MOST_OF_TENANT), (Scope::Server, of_all, MOST)]
    {
        if count >= limit {
            return Ok(Some(ScheduleError::TooMany { scope, limit }));
        }
    }
    Ok(None)
}

fn answer<T>(
    group: Result<Removed, StorageFailure>,
    outcome: Option<Result<T, ScheduleError>>,
) -> Result<T, ScheduleError> {
    match (group, outcome) {
        (Ok(_), Some(outcome)) => outcome,
        (group, _) => Err(ScheduleError::Storage { reason: failure(group) }),
    }
}

/// All schedules, by tenant and name.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Vec<Arc<Schedule>>> {
    connection
        .prepare("SELECT tenant, name, spec, created_us FROM schedules ORDER BY tenant, name")?
        .query_map([], |row| {
            let spec: String = row.get(2)?;
            let spec = serde_json::from_str(&spec).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(2, Type::Text, Box::new(error))
            })?;
            Ok(Arc::new(Schedule {
                tenant: TenantId::new(&row.get::<_, String>(0)?),
                name: rows::parsed(row, 1)?,
                spec,
                created: rows::time(row.get(3)?),
            }))
        })?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::MIGRATIONS;

    #[test]
    fn one_tenant_can_not_take_the_room_of_all() {
        let catalog = Connection::open_in_memory().expect("opens");
        MIGRATIONS.iter().for_each(|step| catalog.execute_batch(step).expect("migrates"));
        let fill = |tenant: &str, count: u32| {
            let statement =
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                 INSERT OR IGNORE INTO schedules SELECT ?1, 's' || i, '{}', 0 FROM n";
            catalog.execute(statement, params![tenant, count]).expect("fills");
        };
        let refused = |tenant: &str| refuse(&catalog, &TenantId::new(tenant)).expect("reads");
        fill("a", MOST_OF_TENANT - 1);
        assert_eq!(refused("a"), None);
        fill("a", MOST_OF_TENANT);
        let (scope, limit) = (Scope::Tenant, MOST_OF_TENANT);
        assert_eq!(refused("a"), Some(ScheduleError::TooMany { scope, limit }));
        assert_eq!(refused("b"), None, "others have their own");
        (1..MOST / MOST_OF_TENANT).for_each(|number| fill(&format!("t{number}"), MOST_OF_TENANT));
        let (scope, limit) = (Scope::Server, MOST);
        assert_eq!(refused("b"), Some(ScheduleError::TooMany { scope, limit }));
    }
}
