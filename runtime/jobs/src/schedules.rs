//! Schedules as the edge sees them: put, asked for, deleted. When they are called is in `cron`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use quern_store::{LastFire, QueueFailure, ScheduleError};
use quern_types::{Caller, Name, Period, Schedule, ScheduleSpec, TenantId};

use crate::{Jobs, Timetable, TimetableError, cron};

/// Most bytes of the body of a schedule's call.
const MAX_BODY: usize = 64 << 10;
/// Most headers of a schedule's call, and most bytes of each.
const MAX_HEADERS: usize = 64;
const MAX_HEADER: usize = 4 << 10;

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// Its times make no sense.
    #[error(transparent)]
    Times(#[from] TimetableError),
    /// Another field makes no sense.
    #[error("field `{field}` {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// Why a schedule was not put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// It makes no sense.
    #[error(transparent)]
    Invalid(#[from] InvalidSchedule),
    /// It was not stored.
    #[error(transparent)]
    Store(#[from] ScheduleError),
}

impl Jobs {
    /// Adds a schedule, or changes one; returns whether it is new. What its path leads to is
    /// checked by whoever knows.
    pub async fn put_schedule(
        &self,
        caller: &Caller,
        name: Name,
        spec: ScheduleSpec,
    ) -> Result<bool, PutError> {
        let now = SystemTime::now();
        self.check(&spec, now)?;
        let is_new = self.catalog().put_schedule(caller, name, spec, now).await?;
        self.changed.notify_one();
        Ok(is_new)
    }

    /// Takes a schedule away: it calls nothing more.
    pub async fn delete_schedule(&self, caller: &Caller, name: Name) -> Result<(), ScheduleError> {
        self.catalog().delete_schedule(caller, name).await?;
        self.changed.notify_one();
        Ok(())
    }

    /// A tenant's schedules, by name.
    pub fn schedules(&self, tenant: &TenantId) -> Vec<Arc<Schedule>> {
        let all = self.catalog().schedules();
        all.iter().filter(|schedule| schedule.tenant == *tenant).cloned().collect()
    }

    /// One schedule of a tenant.
    pub fn schedule(&self, tenant: &TenantId, name: &Name) -> Option<Arc<Schedule>> {
        let all = self.catalog().schedules();
        let found = all.binary_search_by(|schedule| {
            (schedule.tenant.as_str(), schedule.name.as_str())
                .cmp(&(tenant.as_str(), name.as_str()))
        });
        found.ok().map(|at| all[at].clone())
    }

    /// When a schedule was called last.
    pub async fn last_fire(&self, schedule: &Schedule) -> Result<Option<LastFire>, QueueFailure> {
        let Schedule { tenant, name, created, .. } = schedule;
        let last = self.queue.last_fire(tenant.clone(), name.clone()).await?;
        // Another one of its name may have been called before.
        Ok(last.filter(|fire| fire.created == *created))
    }

    fn check(&self, spec: &ScheduleSpec, now: SystemTime) -> Result<(), InvalidSchedule> {
        let refuse = |field, problem: String| Err(InvalidSchedule::Field { field, problem });
        Timetable::parse(&spec.cron, &spec.time_zone, now)?;
        if spec.body.len() > MAX_BODY {
            return refuse("body", format!("has more than {MAX_BODY} bytes"));
        }
        let is_large = |(name, value): (&String, &String)| name.len() + value.len() > MAX_HEADER;
        if spec.headers.len() > MAX_HEADERS || spec.headers.iter().any(is_large) {
            let problem =
                format!("has more than {MAX_HEADERS}, or one of more than {MAX_HEADER} bytes");
            return refuse("headers", problem);
        }
        let most = self.config().max_attempts;
        if spec.max_attempts.is_some_and(|attempts| !(1..=most).contains(&attempts)) {
            return refuse("max_attempts", format!("is not 1 to {most}"));
        }
        let longest = self.config().max_age;
        let bounds = Duration::from_millis(1)..=longest;
        if spec.max_age.is_some_and(|Period(age)| !bounds.contains(&age)) {
            return refuse("max_age", format!("is not 1ms to {}", Period(longest)));
        }
        cron::check(spec)
    }
}
