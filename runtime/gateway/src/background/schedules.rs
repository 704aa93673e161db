//! Schedules over HTTP: put, shown, deleted. When they are called is not known here.

use std::{sync::Arc, time::SystemTime};

use http::{Response, StatusCode};
use quern_jobs::{InvalidSchedule, ScheduleError, Timetable};
use quern_types::{ByteSize, Caller, InvocationId, Name, Schedule, ScheduleSpec};
use schemars::JsonSchema;
use serde::Serialize;

use super::enqueue;
use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::Failure,
    json_body::Form,
    route::Route,
    timestamp::Timestamp,
};

const FORM: Form = Form {
    // A body of 64 KiB may be written with six bytes for each.
    limit: ByteSize(512 << 10),
    example: r#"{"cron": "0 4 * * *", "time_zone": "Europe/Berlin", "path": "/f/report/"}"#,
};
/// Next times that are shown of one schedule.
const SHOWN: usize = 5;

/// A schedule.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ScheduleView {
    /// Its name.
    name: Name,
    #[serde(flatten)]
    spec: ScheduleSpec,
    /// When it was made, or last changed: no time before counts.
    created: Timestamp,
    /// Its last time that was called or left out.
    last: Option<Timestamp>,
    /// Its last call; it may be kept no longer.
    last_invocation: Option<InvocationId>,
    /// Its next times; in a list the next one.
    next: Vec<Timestamp>,
}

/// Some schedules.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ScheduleList {
    /// By name.
    schedules: Vec<ScheduleEntry>,
}

/// A schedule in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ScheduleEntry {
    /// Its name.
    name: Name,
    /// When: minute, hour, day of month, month, day of week.
    cron: String,
    /// The zone of these times.
    time_zone: String,
    /// The method of the call.
    method: String,
    /// What is called.
    path: String,
    /// Its next time.
    next: Option<Timestamp>,
}

/// `GET /v1/schedules`
pub(super) fn list(gateway: &Gateway, caller: &Caller) -> Reply {
    let schedules = gateway.jobs.schedules(&caller.tenant);
    let entry = |schedule: &Arc<Schedule>| {
        let ScheduleSpec { cron, time_zone, method, path, .. } = schedule.spec.clone();
        let next = next(schedule, 1).pop();
        ScheduleEntry { name: schedule.name.clone(), cron, time_zone, method, path, next }
    };
    body::json(&ScheduleList { schedules: schedules.iter().map(entry).collect() })
}

/// `GET /v1/schedules/{name}`
pub(super) async fn show(
    gateway: &Gateway,
    caller: &Caller,
    name: &Name,
) -> Result<Reply, Failure> {
    let found = gateway.jobs.schedule(&caller.tenant, name);
    let schedule = found.ok_or_else(|| ScheduleError::NotFound { name: name.clone() })?;
    let last = gateway.jobs.last_fire(&schedule).await?;
    Ok(body::json(&ScheduleView {
        name: name.clone(),
        spec: schedule.spec.clone(),
        created: schedule.created.into(),
        last: last.as_ref().map(|fire| fire.last.into()),
        last_invocation: last.and_then(|fire| fire.call),
        next: next(&schedule, SHOWN),
    }))
}

/// `PUT /v1/schedules/{name}`
pub(super) async fn put(
    gateway: &Gateway,
    caller: &Caller,
    name: Name,
    body: RequestBody,
) -> Result<Reply, Failure> {
    let spec: ScheduleSpec = FORM.read(gateway, body).await?;
    let request = quern_jobs::request(&name, &spec).map_err(Failure::from)?;
    // Refused now, rather than at four in the morning.
    let route = match Route::of(request.method(), request.uri().path()) {
        Ok(route @ (Route::Call(_) | Route::Infer(_))) => route,
        Ok(_) => return Err(no_call("is neither below /f nor an inference below /v2/models")),
        Err(error) => return Err(no_call(&format!("can't be called: {error}"))),
    };
    enqueue::find(gateway, caller, route)?;
    if let Some(webhook) = &spec.webhook {
        gateway.jobs.webhook(&caller.tenant, webhook)?;
    }
    let is_new = gateway.jobs.put_schedule(caller, name.clone(), spec).await?;
    let mut reply = show(gateway, caller, &name).await?;
    if is_new {
        *reply.status_mut() = StatusCode::CREATED;
    }
    Ok(reply)
}

/// `DELETE /v1/schedules/{name}`
pub(super) async fn delete(
    gateway: &Gateway,
    caller: &Caller,
    name: Name,
) -> Result<Reply, Failure> {
    gateway.jobs.delete_schedule(caller, name).await?;
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    Ok(reply)
}

fn no_call(problem: &str) -> Failure {
    InvalidSchedule::Field { field: "path", problem: problem.to_owned() }.into()
}

fn next(schedule: &Schedule, count: usize) -> Vec<Timestamp> {
    let (spec, now) = (&schedule.spec, SystemTime::now());
    let Ok(timetable) = Timetable::parse(&spec.cron, &spec.time_zone, now) else { return vec![] };
    let times =
        std::iter::successors(timetable.next_after(now), |time| timetable.next_after(*time));
    times.take(count).map(Timestamp::from).collect()
}
