//! Calls what schedules say when its time has come. When that is, is decided in `timetable`; that
//! each time is called once, is in the queue.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header::HOST};
use quern_store::{Fire, Fired, NewCall, QueueFailure};
use quern_types::{
    CallKind, Callee, ClockJump, ClockWatch, Digest, InvocationId, Name, Schedule, ScheduleSpec,
    TenantId,
};
use uuid::Uuid;

use crate::{InvalidSchedule, Jobs, timetable::Timetable};

/// Longest sleep: the clock may have been set in between.
const IDLE: Duration = Duration::from_secs(1);
/// Pause after a schedule could not be called.
const PAUSE: Duration = Duration::from_secs(1);
/// Schedules whose calls are made at the same time.
const TOGETHER: usize = 64;

/// A schedule that is looked after.
struct Watched {
    schedule: Arc<Schedule>,
    timetable: Timetable,
    /// The last time that was called or left out.
    last: SystemTime,
    /// When to look at it next; none if no time ever comes.
    next: Option<SystemTime>,
    /// Whether `last` is on the disk, if it is before what is there and is to be.
    is_noted: bool,
}

type Key = (TenantId, Name);

/// Looks after all schedules until nothing more is to be begun.
pub(crate) async fn run(jobs: Arc<Jobs>) {
    let mut last = loop {
        match load(&jobs).await {
            Ok(last) => break last,
            Err(error) => tracing::error!(%error, "schedules can't be read yet"),
        }
        if jobs.closes_within(PAUSE).await {
            return;
        }
    };
    let mut watched: HashMap<Key, Watched> = HashMap::new();
    let mut followed = None;
    let mut clock = ClockWatch::new(SystemTime::now(), Instant::now());
    loop {
        let schedules = jobs.catalog().schedules();
        if followed.as_ref().is_none_or(|followed| !Arc::ptr_eq(followed, &schedules)) {
            follow(&jobs, &schedules, &mut watched, &mut last).await;
            followed = Some(schedules);
        }
        let now = SystemTime::now();
        match clock.look(now, Instant::now()) {
            Some(ClockJump::Forward(by)) => {
                // See `Hesitation`.
                tracing::warn!(
                    ?by,
                    "the clock was set forward, or the machine was asleep: nothing that has expired \
                     is removed or given up for ten minutes"
                );
            }
            Some(ClockJump::Back(by)) => tracing::warn!(?by, "the clock was set back"),
            None => {}
        }
        watched.values_mut().for_each(|watch| watch.go_back(now));
        let unnoted = watched.values_mut().filter(|watch| !watch.is_noted);
        stream::iter(unnoted).for_each_concurrent(TOGETHER, |watch| watch.note(&jobs)).await;
        let due = watched.values_mut().filter(|watch| watch.next.is_some_and(|next| next <= now));
        // Some together, so that they share their commits; not all, for each holds its calls.
        stream::iter(due).for_each_concurrent(TOGETHER, |watch| watch.look(&jobs, now)).await;
        let next = watched.values().filter_map(|schedule| schedule.next).min();
        let wait = next.map_or(IDLE, |next| next.duration_since(now).unwrap_or_default().min(IDLE));
        tokio::select! {
            biased;
            () = jobs.closing.cancelled() => return,
            () = jobs.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// When each schedule was called last; what is noted of others is forgotten.
async fn load(jobs: &Jobs) -> Result<HashMap<Key, (SystemTime, SystemTime)>, QueueFailure> {
    let schedules = jobs.catalog().schedules();
    let is_there = |key: &Key| {
        schedules.iter().any(|schedule| schedule.tenant == key.0 && schedule.name == key.1)
    };
    let mut last = HashMap::new();
    for fire in jobs.queue.fires().await? {
        let key = (fire.tenant, fire.name);
        if is_there(&key) {
            last.insert(key, (fire.created, fire.last));
        } else {
            jobs.queue.forget_fires(key.0, key.1).await?;
        }
    }
    Ok(last)
}

/// Takes up what was put and drops what was deleted since it was looked last.
async fn follow(
    jobs: &Jobs,
    schedules: &[Arc<Schedule>],
    watched: &mut HashMap<Key, Watched>,
    last: &mut HashMap<Key, (SystemTime, SystemTime)>,
) {
    let now = SystemTime::now();
    let mut kept = HashMap::with_capacity(schedules.len());
    for schedule in schedules {
        let key = (schedule.tenant.clone(), schedule.name.clone());
        let before = watched.remove(&key).filter(|before| before.schedule == *schedule);
        let noted = last.remove(&key).filter(|(created, _)| *created == schedule.created);
        let watch = before.or_else(|| {
            let last = noted.map_or(schedule.created, |(_, last)| last);
            Watched::new(schedule.clone(), last, now)
        });
        if let Some(watch) = watch {
            kept.insert(key, watch);
        }
    }
    // What is left was deleted, or was changed to what is no timetable.
    for (tenant, name) in std::mem::replace(watched, kept).into_keys() {
        if let Err(error) = jobs.queue.forget_fires(tenant, name).await {
            tracing::warn!(%error, "a deleted schedule is forgotten at the next start only");
        }
    }
}

impl Watched {
    fn new(schedule: Arc<Schedule>, last: SystemTime, now: SystemTime) -> Option<Self> {
        let spec = &schedule.spec;
        match Timetable::parse(&spec.cron, &spec.time_zone, now) {
            Ok(timetable) => {
                let next = timetable.next_after(last);
                let mut watched = Self { schedule, timetable, last, next, is_noted: true };
                // The clock may have been set back since.
                watched.go_back(now);
                Some(watched)
            }
            Err(error) => {
                tracing::error!(schedule = %schedule.name, %error, "schedule is not followed");
                None
            }
        }
    }

    /// Follows a clock that was set back behind the last time: the times between come again, of which
    /// the queue knows those that were called.
    fn go_back(&mut self, now: SystemTime) {
        if self.last > now {
            self.last = self.timetable.last_until(now, true).unwrap_or(now);
            self.next = self.timetable.next_after(now);
            // No time before it was made or changed counts as missed, wherever the clock has gone.
            self.is_noted = self.last < self.schedule.created;
        }
    }

    /// Writes down how far a clock has gone back, so that after a restart the times count as missed that
    /// come until then.
    async fn note(&mut self, jobs: &Jobs) {
        match jobs.queue.fire(self.fire(), jobs.config.waiting).await {
            Ok(_) => self.is_noted = true,
            Err(error) => {
                let Schedule { tenant, name, .. } = &*self.schedule;
                tracing::warn!(schedule = %name, %tenant, %error, "that the clock was set back can't be written");
            }
        }
    }

    /// What the queue is told where no time has come.
    fn fire(&self) -> Fire {
        let Schedule { tenant, name, spec, created } = &*self.schedule;
        Fire {
            tenant: tenant.clone(),
            name: name.clone(),
            created: *created,
            times: format!("{} {}", spec.cron, spec.time_zone),
            after: self.last,
            until: self.last,
            complete_since: self.last,
            calls: Vec::new(),
            overlap: spec.overlap,
        }
    }

    /// Calls what has come due.
    async fn look(&mut self, jobs: &Jobs, now: SystemTime) {
        let plan = self.timetable.plan(self.schedule.spec.missed, self.last, now);
        let Some(until) = plan.until else {
            self.next = plan.next;
            return;
        };
        let calls =
            plan.fire.into_iter().filter_map(|time| Some((time, self.call(jobs, time, now)?)));
        let complete_since = plan.complete_since;
        let fire = Fire { until, complete_since, calls: calls.collect(), ..self.fire() };
        let Schedule { tenant, name, .. } = &*self.schedule;
        match jobs.queue.fire(fire, jobs.config.waiting).await {
            Ok(Fired { calls, known, until, refusal }) => {
                (self.last, self.is_noted) = (until, true);
                self.next = self.timetable.next_after(until);
                jobs.metrics.fired.inc_by(calls as u64);
                jobs.news.notify_one();
                tracing::debug!(schedule = %name, calls, "schedule was due");
                if known > 0 {
                    tracing::info!(
                        schedule = %name, %tenant, times = known,
                        "schedule was due at times that were called before the clock was set back: \
                         they are not called again"
                    );
                }
                if let Some(error) = refusal {
                    jobs.metrics.unfired.inc();
                    tracing::warn!(schedule = %name, %tenant, %error, "schedule is behind its times");
                    self.next = Some(now + PAUSE);
                }
            }
            Err(error) => {
                jobs.metrics.unfired.inc();
                tracing::warn!(schedule = %name, %tenant, %error, "schedule can't be called yet");
                self.next = Some(now + PAUSE);
            }
        }
    }

    /// The call at a time.
    fn call(&self, jobs: &Jobs, time: SystemTime, now: SystemTime) -> Option<NewCall> {
        let Schedule { tenant, name, spec, created } = &*self.schedule;
        let request = match request(name, spec) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(schedule = %name, %error, "what the schedule calls is no request");
                return None;
            }
        };
        Some(NewCall {
            id: InvocationId::from_uuid(Uuid::now_v7()),
            tenant: tenant.clone(),
            callee: callee(&spec.path)?,
            digest: Digest::of(request.body()),
            request,
            // No client can send this: a key of theirs is ASCII.
            key: Some(format!("schedule·{name}·{}·{}", since_epoch(*created), since_epoch(time))),
            webhook: spec.webhook.as_ref().map(|webhook| jobs.named_webhook(tenant, webhook)),
            max_attempts: spec.max_attempts.unwrap_or(jobs.config.attempts),
            max_age: spec.max_age.map_or(jobs.config.age, |age| age.0),
            lapses: spec.max_age.is_some(),
            created: now,
        })
    }
}

fn since_epoch(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros()
}

/// The function or model that a path is of: the name in `/f/{name}/…` or `/v2/models/{name}/…`.
fn callee(path: &str) -> Option<Callee> {
    let path = path.split('?').next()?;
    let http = path.strip_prefix("/f/").map(|rest| (CallKind::Http, rest));
    let (kind, rest) =
        http.or_else(|| Some((CallKind::Inference, path.strip_prefix("/v2/models/")?)))?;
    let name: Name = rest.split('/').next()?.parse().ok()?;
    Some(Callee { kind, name: name.into() })
}

/// What a schedule calls.
pub fn request(name: &Name, spec: &ScheduleSpec) -> Result<Request<Bytes>, InvalidSchedule> {
    let refuse = |field, problem: String| InvalidSchedule::Field { field, problem };
    let method = Method::from_bytes(spec.method.as_bytes())
        .map_err(|_| refuse("method", "is no method of HTTP".into()))?;
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    for (name, value) in &spec.headers {
        let malformed = || refuse("headers", format!("has {name:?}, which is no header"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
        headers.insert(key, value.parse().map_err(|_| malformed())?);
    }
    let by = HeaderValue::from_str(name.as_str()).expect("a name is ASCII");
    headers.insert(SCHEDULE, by);
    let request = Request::builder().method(method).uri(&spec.path);
    let body = Bytes::copy_from_slice(spec.body.as_bytes());
    let request = request.body(body).map_err(|error| refuse("path", error.to_string()));
    let mut request = request?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Whether something can be called as a schedule says.
pub(crate) fn check(spec: &ScheduleSpec) -> Result<(), InvalidSchedule> {
    let anyone: Name = "schedule".parse().expect("a name");
    request(&anyone, spec)?;
    match callee(&spec.path) {
        Some(_) => Ok(()),
        None => {
            let problem = "is neither below /f nor an inference below /v2/models".to_owned();
            Err(InvalidSchedule::Field { field: "path", problem })
        }
    }
}

/// Tells what is called which schedule calls it.
pub const SCHEDULE: HeaderName = HeaderName::from_static("quern-schedule");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_is_the_name_in_a_path() {
        let some = |kind, text: &str| Some(Callee { kind, name: text.parse().expect("a name") });
        for (path, expected) in [
            ("/f/report", some(CallKind::Http, "report")),
            ("/f/report/daily?x=/f/other", some(CallKind::Http, "report")),
            ("/v2/models/digits/infer", some(CallKind::Inference, "digits")),
            ("/v2/models/digits/versions/1/infer", some(CallKind::Inference, "digits")),
            ("/v1/functions", None),
            ("/f/", None),
        ] {
            assert_eq!(callee(path), expected, "{path}");
        }
    }

    #[test]
    fn that_the_clock_was_set_back_is_noted_where_times_of_the_schedule_come_again() {
        let at = |time: &str| -> SystemTime {
            let time = format!("2026-11-21T{time}:00Z");
            time.parse::<jiff::Timestamp>().expect("a time").into()
        };
        let spec = r#"{"cron": "0 * * * *", "path": "/f/hello/"}"#;
        let schedule = Arc::new(Schedule {
            tenant: TenantId::new("a"),
            name: "hourly".parse().expect("a name"),
            spec: serde_json::from_str(spec).expect("a schedule"),
            created: at("09:30"),
        });
        for (last, now, back_to, is_noted) in [
            ("12:00", "12:10", "12:00", true),
            ("12:00", "11:10", "11:00", false),
            ("12:00", "09:10", "09:00", true),
            ("09:30", "09:10", "09:00", true),
        ] {
            let watched = Watched::new(schedule.clone(), at(last), at(now)).expect("a timetable");
            assert_eq!((watched.last, watched.is_noted), (at(back_to), is_noted), "{last} {now}");
        }
    }
}
