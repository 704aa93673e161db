//! The table of schedules and what changes it. Never knows when one is due.

use std::{sync::Arc, time::SystemTime};

use quern_types::{Caller, Name, Schedule, ScheduleSpec, StorageFailure, TenantId};
use rusqlite::{Connection, OptionalExtension, params, types::Type};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    Removed,
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
    #[error("there are {limit} schedules, as many as there may be: delete some")]
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

/// Most schedules of a server, which are all kept in memory.
const MOST: u32 = 10_000;

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
        let count: u32 = connection
            .prepare_cached("SELECT count(*) FROM schedules")?
            .query_row([], |row| row.get(0))?;
        if found.is_none() && count >= MOST {
            return Ok(Err(ScheduleError::TooMany { limit: MOST }));
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
