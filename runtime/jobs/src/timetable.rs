//! The times of a schedule: five fields of cron in a time zone. Pure functions: the time is handed
//! in, and the same schedule, last time and moment always give the same plan.
//!
//! Where clocks are set forward, a time of day that is left out comes at the first moment after the
//! gap; where they are set back, a time of day that comes twice is taken at its first. Schedules
//! whose hours or minutes are given by `*` or steps follow the clock on the wall instead, and so
//! come in both of its hours.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, Zoned, tz::TimeZone};
use quern_types::Missed;

/// Longest text of the fields.
const MAX_CRON: usize = 256;
/// How late a time may be noticed and still not count as missed.
const GRACE: Duration = Duration::from_secs(60);
/// Most missed times that are called.
const MOST_MISSED: usize = 100;

/// When something is to be called.
#[derive(Clone)]
pub struct Timetable {
    cron: Cron,
    zone: TimeZone,
}

/// Why a text is no timetable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// The fields make no sense.
    #[error("field `cron` {cron:?}: {reason}")]
    Cron {
        /// The fields.
        cron: String,
        /// What is wrong.
        reason: String,
    },
    /// The zone is not known.
    #[error(
        "field `time_zone` {zone:?} is not a name of the IANA database: write one such as \
         \"Europe/Berlin\", or \"UTC\""
    )]
    Zone {
        /// The name.
        zone: String,
    },
    /// Its times never come.
    #[error("field `cron` {cron:?}: there is no such day")]
    Never {
        /// The fields.
        cron: String,
    },
}

/// What is to be done at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The times to call, in order.
    pub(crate) fire: Vec<SystemTime>,
    /// The last time that has come; none if none has.
    pub(crate) until: Option<SystemTime>,
    /// All times after this one, and up to `until`, are to be called.
    pub(crate) complete_since: SystemTime,
    /// The next time; none if none ever comes.
    pub(crate) next: Option<SystemTime>,
}

impl fmt::Debug for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.cron, self.zone.iana_name())
    }
}

impl Timetable {
    /// The times of five fields (minute, hour, day of month, month, day of week) in a zone.
    ///
    /// # Errors
    /// If the fields or the zone make no sense, or there is no time after `now`.
    pub fn parse(cron: &str, zone: &str, now: SystemTime) -> Result<Self, TimetableError> {
        let shown = || cron.chars().take(80).collect::<String>();
        let refuse = |reason: String| TimetableError::Cron { cron: shown(), reason };
        let fields = cron.split_whitespace().count();
        if fields != 5 || cron.len() > MAX_CRON {
            let form = "minute, hour, day of month, month, day of week";
            return Err(refuse(format!("write five fields: {form}")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let parsed = parser.build().parse(cron).map_err(|error| refuse(error.to_string()))?;
        let is_name = zone.bytes().all(|byte| byte.is_ascii_graphic()) && zone.len() < 64;
        let zone = Some(zone)
            .filter(|_| is_name)
            .and_then(|zone| TimeZone::get(zone).ok())
            .ok_or_else(|| TimetableError::Zone { zone: zone.chars().take(80).collect() })?;
        let timetable = Self { cron: parsed, zone };
        match timetable.next_after(now) {
            Some(_) => Ok(timetable),
            None => Err(TimetableError::Never { cron: shown() }),
        }
    }

    /// The first time after a moment; none if none comes.
    pub fn next_after(&self, moment: SystemTime) -> Option<SystemTime> {
        let moment = Zoned::new(Timestamp::try_from(moment).ok()?, self.zone.clone());
        let next = self.cron.find_next_occurrence(&moment, false).ok()?;
        Some(next.timestamp().into())
    }

    /// The last time up to a moment, or before it; none if there was none.
    pub(crate) fn last_until(&self, moment: SystemTime, inclusive: bool) -> Option<SystemTime> {
        let moment = Zoned::new(Timestamp::try_from(moment).ok()?, self.zone.clone());
        let last = self.cron.find_previous_occurrence(&moment, inclusive).ok()?;
        Some(last.timestamp().into())
    }

    /// What is to be done now, if `last` was the last time that was called or left out. However
    /// long ago that is, no more is looked at than may be called.
    pub(crate) fn plan(&self, missed: Missed, last: SystemTime, now: SystemTime) -> Plan {
        let kept = match missed {
            Missed::Skip => 0,
            Missed::Once => 1,
            Missed::All => MOST_MISSED,
        };
        let until = self.last_until(now, true).filter(|time| *time > last);
        let (mut fire, mut late, mut complete_since) = (Vec::new(), 0, last);
        let mut time = until;
        while let Some(due) = time {
            late += usize::from(now.duration_since(due).is_ok_and(|late| late > GRACE));
            if late > kept {
                complete_since = due;
                break;
            }
            fire.push(due);
            time = self.last_until(due, false).filter(|time| *time > last);
        }
        fire.reverse();
        Plan { fire, until, complete_since, next: self.next_after(until.unwrap_or(last)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().expect("a time").into()
    }

    fn timetable(cron: &str, zone: &str) -> Timetable {
        Timetable::parse(cron, zone, at("2026-01-01T00:00:00Z")).expect("valid")
    }

    fn times(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let timetable = timetable(cron, zone);
        let times = std::iter::successors(timetable.next_after(at(from)), |time| {
            timetable.next_after(*time)
        });
        let text = |time| Timestamp::try_from(time).expect("a time").to_string();
        times.take(count).map(text).collect()
    }

    #[test]
    fn five_fields_say_when() {
        let cases: [(&str, &str, &[&str]); 6] = [
            ("*/15 * * * *", "UTC", &["2026-11-21T20:15:00Z", "2026-11-21T20:30:00Z"]),
            ("0 4 * * *", "UTC", &["2026-11-22T04:00:00Z", "2026-11-23T04:00:00Z"]),
            ("0 4 * * *", "Europe/Berlin", &["2026-11-22T03:00:00Z", "2026-11-23T03:00:00Z"]),
            ("30 9 * * MON-FRI", "America/New_York", &["2026-11-23T14:30:00Z"]),
            ("0 0 29 2 *", "UTC", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
            ("0 0 1 1 7", "UTC", &["2027-01-01T00:00:00Z", "2027-01-03T00:00:00Z"]),
        ];
        for (cron, zone, expected) in cases {
            let found = times(cron, zone, "2026-11-21T20:10:00Z", expected.len());
            assert_eq!(found, expected, "{cron} in {zone}");
        }
    }

    #[test]
    fn a_time_that_is_left_out_comes_after_the_gap_and_one_that_comes_twice_comes_once() {
        // In Berlin, 02:00 to 03:00 is left out on 29 March 2026, and comes twice on 25 October.
        let gap = times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(gap, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let twice = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(twice, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let steps = times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:10:00Z", 4);
        let both = ["00:30", "01:00", "01:30", "02:00"];
        assert_eq!(steps, both.map(|time| format!("2026-10-25T{time}:00Z")));
    }

    #[test]
    fn what_is_no_timetable_is_refused_by_field() {
        let parse = |cron: &str, zone: &str| {
            Timetable::parse(cron, zone, at("2026-01-01T00:00:00Z")).expect_err(cron).to_string()
        };
        for cron in
            ["", "* * * *", "* * * * * *", "60 * * * *", "* * * * MOON", "@daily", "a b c d e"]
        {
            let error = parse(cron, "UTC");
            assert!(error.starts_with("field `cron`"), "{cron}: {error}");
        }
        let long = format!("{} * * * *", "1,".repeat(200));
        assert!(parse(&long, "UTC").contains("five fields"));
        assert!(parse("0 0 30 2 *", "UTC").contains("there is no such day"));
        for zone in ["", "Mars/Phobos", "../etc/passwd", "Europe/Berlin\0"] {
            let error = parse("* * * * *", zone);
            assert!(error.starts_with("field `time_zone`"), "{zone}: {error}");
        }
    }

    #[test]
    fn missed_times_are_called_as_the_schedule_says() {
        let hourly = timetable("0 * * * *", "UTC");
        let hour = |hour: u32| at(&format!("2026-11-21T{hour:02}:00:00Z"));
        // The server was down from four to half past nine; ten is about to come.
        let (last, now) = (hour(4), at("2026-11-21T09:30:00Z"));
        for (missed, expected, complete_since) in [
            (Missed::Skip, vec![], hour(9)),
            (Missed::Once, vec![hour(9)], hour(8)),
            (Missed::All, (5..=9).map(hour).collect(), last),
        ] {
            let plan = hourly.plan(missed, last, now);
            let (until, next) = (Some(hour(9)), Some(hour(10)));
            let expected = Plan { fire: expected, until, complete_since, next };
            assert_eq!(plan, expected, "{missed:?}");
        }
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            let plan = hourly.plan(missed, hour(9), at("2026-11-21T10:00:30Z"));
            assert_eq!(plan.fire, [hour(10)], "{missed:?}: half a minute is not late");
            let plan = hourly.plan(missed, hour(10), at("2026-11-21T10:00:30Z"));
            let (until, complete_since) = (None, hour(10));
            let expected = Plan { fire: vec![], until, complete_since, next: Some(hour(11)) };
            assert_eq!(plan, expected);
            let plan = hourly.plan(missed, hour(10), hour(3));
            assert_eq!(plan.fire, [], "{missed:?}: the clock was set back");
        }
    }

    #[test]
    fn a_clock_that_jumps_makes_no_storm() {
        let (last, now) = (at("2026-01-01T00:00:00Z"), at("2030-01-01T00:00:30Z"));
        let minutely = timetable("* * * * *", "UTC");
        let plan = minutely.plan(Missed::All, last, now);
        assert_eq!(plan.fire.len(), MOST_MISSED + 1, "and the one that is on time");
        assert_eq!(
            (plan.until, plan.next),
            (Some(at("2030-01-01T00:00:00Z")), Some(at("2030-01-01T00:01:00Z")))
        );
    }

    proptest! {
        #[test]
        fn every_time_is_planned_once_however_often_it_is_looked(
            pauses in proptest::collection::vec(1_u64..20_000, 1..40),
        ) {
            let timetable = timetable("*/7 2,3,4 * * *", "Europe/Berlin");
            let begin = at("2026-10-24T00:00:00Z");
            let (mut last, mut now, mut fired) = (begin, begin, Vec::new());
            for pause in pauses {
                now += Duration::from_secs(pause);
                let plan = timetable.plan(Missed::All, last, now);
                fired.extend(plan.fire);
                last = plan.until.unwrap_or(last);
                prop_assert!(plan.next.is_none_or(|next| next > now));
            }
            let all = std::iter::successors(timetable.next_after(begin), |time| timetable.next_after(*time));
            let all: Vec<_> = all.take_while(|time| *time <= now).collect();
            prop_assert_eq!(fired, all);
        }
    }

    proptest! {
        #[test]
        fn a_clock_that_is_set_makes_no_storm_and_keeps_no_time_waiting(
            jumps in proptest::collection::vec(-200_000_i64..200_000, 1..40),
        ) {
            let timetable = timetable("*/7 2,3,4 * * *", "Europe/Berlin");
            let begin = at("2026-10-24T00:00:00Z");
            let (mut last, mut now) = (begin, begin);
            for jump in jumps {
                let by = Duration::from_secs(jump.unsigned_abs());
                now = if jump < 0 { now - by } else { now + by };
                // As whoever follows the clock does.
                last = last.min(now);
                let plan = timetable.plan(Missed::Once, last, now);
                prop_assert!(plan.fire.len() <= 2, "one that was missed, and one on time");
                prop_assert!(plan.fire.iter().all(|time| *time > last && *time <= now));
                last = plan.until.unwrap_or(last);
                prop_assert_eq!(timetable.next_after(last), timetable.next_after(now));
                prop_assert_eq!(plan.next, timetable.next_after(now));
            }
        }
    }
}
