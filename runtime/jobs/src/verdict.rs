//! What comes of a try: the call's end, another try, or its being given up. A pure function of the
//! answer, of how far the call has come, and of the time.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use quern_store::Progress;
use quern_types::{CallState, retry_after};

use crate::backoff::Backoff;

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has come to its end.
    Ended(CallState),
    /// It is given up.
    GivenUp(String),
    /// It is tried again.
    Again {
        /// After this pause.
        pause: Duration,
        /// Whether this try counts.
        counts: bool,
        /// Why.
        reason: String,
    },
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome<'a> {
    /// With an answer.
    Answered {
        status: StatusCode,
        /// The code of an error of the server's own.
        error: Option<&'a str>,
        /// How long it asks to wait.
        wait: Option<Duration>,
    },
    /// With the end of the server.
    Interrupted,
}

/// A moment, and chance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: SystemTime,
    /// Whether the clock was set forward a short while ago, or before a start a short while ago, perhaps
    /// by mistake: nothing is given up for its age then.
    pub(crate) hesitates: bool,
    pub(crate) random: u64,
}

impl<'a> Outcome<'a> {
    /// What an answer says.
    pub(crate) fn of(response: &'a Response<Bytes>, now: SystemTime) -> Self {
        let error = response.headers().get("quern-error");
        Self::Answered {
            status: response.status(),
            error: error.and_then(|value| value.to_str().ok()),
            wait: retry_after(response.headers(), now),
        }
    }
}

/// What comes of a call that is too old to be begun; none if it is to be begun. One that was never begun
/// is, however old it is, unless its caller has said for how long it may be tried: the server may have
/// been down all the while.
pub(crate) fn too_late(progress: &Progress, backoff: Backoff, moment: Moment) -> Option<Verdict> {
    let Moment { now, hesitates, random } = moment;
    let is_first = progress.attempts <= 1;
    if now < progress.expires || (is_first && !progress.lapses) {
        return None;
    }
    if !hesitates {
        return Some(Verdict::GivenUp("its time was over before it could be begun".into()));
    }
    let pause = backoff.pause(progress.refusals.saturating_add(1), random);
    let reason = "its time is over, unless the clock is ahead: that is waited for".to_owned();
    Some(Verdict::Again { pause, counts: false, reason })
}

/// Decides what comes of a try.
pub(crate) fn judge(
    outcome: Outcome<'_>,
    progress: &Progress,
    backoff: Backoff,
    moment: Moment,
) -> Verdict {
    let Moment { now, hesitates, random } = moment;
    let (reason, wait, counts) = match outcome {
        Outcome::Interrupted => ("the server ended while it ran".to_owned(), None, true),
        Outcome::Answered { status, .. } if status.as_u16() < 400 => {
            return Verdict::Ended(CallState::Succeeded);
        }
        Outcome::Answered { status, .. }
            if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS =>
        {
            return Verdict::Ended(CallState::Failed);
        }
        Outcome::Answered { status, error, wait } => {
            let reason = match error {
                Some(code) => format!("it was answered with {} ({code})", status.as_u16()),
                None => format!("it was answered with {}", status.as_u16()),
            };
            // It was not begun: there was no room, or the server was about to end.
            let counts = !matches!(error, Some("busy" | "shutting-down"));
            (reason, wait, counts)
        }
    };
    if counts && progress.attempts >= progress.max_attempts {
        return Verdict::GivenUp(format!("{reason}, at the last of {} tries", progress.attempts));
    }
    let tries = if counts { progress.attempts } else { progress.refusals.saturating_add(1) };
    let wait = wait.unwrap_or_default().min(backoff.longest);
    let pause = backoff.pause(tries, random).max(wait);
    let is_over = now.checked_add(pause).is_none_or(|due| due >= progress.expires);
    match is_over && !hesitates {
        false => Verdict::Again { pause, counts, reason },
        true => Verdict::GivenUp(format!("{reason}, and its time is over")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::header::RETRY_AFTER;

    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_secs(8), longest: Duration::from_secs(100) };

    fn progress(attempts: u32) -> Progress {
        let expires = UNIX_EPOCH + Duration::from_secs(1_000);
        Progress { attempts, max_attempts: 3, refusals: 0, expires, lapses: false }
    }

    fn at(seconds: u64) -> Moment {
        let now = UNIX_EPOCH + Duration::from_secs(seconds);
        Moment { now, hesitates: false, random: 1 << 63 }
    }

    fn answered(status: u16, error: Option<&'static str>, wait: Option<u64>) -> Outcome<'static> {
        let status = StatusCode::from_u16(status).expect("a status");
        Outcome::Answered { status, error, wait: wait.map(Duration::from_secs) }
    }

    fn again(seconds: u64, counts: bool, reason: &str) -> Verdict {
        Verdict::Again { pause: Duration::from_secs(seconds), counts, reason: reason.into() }
    }

    #[test]
    fn the_answer_decides_what_comes_next() {
        let cases = [
            (answered(200, None, None), 1, Verdict::Ended(CallState::Succeeded)),
            (answered(302, None, None), 1, Verdict::Ended(CallState::Succeeded)),
            (answered(400, None, None), 1, Verdict::Ended(CallState::Failed)),
            (answered(404, Some("not-found"), None), 1, Verdict::Ended(CallState::Failed)),
            (answered(408, None, None), 3, Verdict::Ended(CallState::Failed)),
            (
                answered(500, Some("trap"), None),
                1,
                again(4, true, "it was answered with 500 (trap)"),
            ),
            (answered(503, None, None), 2, again(8, true, "it was answered with 503")),
            (answered(429, None, Some(30)), 1, again(30, true, "it was answered with 429")),
            (answered(503, None, Some(9_999)), 1, again(100, true, "it was answered with 503")),
            (
                answered(500, None, None),
                3,
                Verdict::GivenUp("it was answered with 500, at the last of 3 tries".into()),
            ),
            (Outcome::Interrupted, 2, again(8, true, "the server ended while it ran")),
            (
                Outcome::Interrupted,
                3,
                Verdict::GivenUp("the server ended while it ran, at the last of 3 tries".into()),
            ),
        ];
        for (outcome, attempts, expected) in cases {
            let verdict = judge(outcome, &progress(attempts), BACKOFF, at(0));
            assert_eq!(verdict, expected, "{outcome:?} after {attempts}");
        }
    }

    #[test]
    fn a_try_that_was_not_begun_does_not_count() {
        for (code, status) in [("busy", 429), ("shutting-down", 503)] {
            let refused = answered(status, Some(code), None);
            let reason = format!("it was answered with {status} ({code})");
            let first = judge(refused, &progress(3), BACKOFF, at(0));
            assert_eq!(first, again(4, false, &reason));
            let later = Progress { refusals: 9, ..progress(3) };
            assert_eq!(judge(refused, &later, BACKOFF, at(0)), again(50, false, &reason));
        }
    }

    #[test]
    fn nothing_is_tried_beyond_its_time() {
        let verdict = |seconds, outcome| judge(outcome, &progress(1), BACKOFF, at(seconds));
        let failed = answered(500, None, None);
        assert!(matches!(verdict(995, failed), Verdict::Again { .. }));
        let over = Verdict::GivenUp("it was answered with 500, and its time is over".into());
        assert_eq!(verdict(996, failed), over);
        assert_eq!(verdict(2_000, failed), over);
        let refused = answered(429, Some("busy"), None);
        assert!(matches!(verdict(996, refused), Verdict::GivenUp(_)), "not even begun");
        let succeeded = verdict(2_000, answered(200, None, None));
        assert_eq!(succeeded, Verdict::Ended(CallState::Succeeded), "late is not never");
    }

    #[test]
    fn what_was_never_begun_is_begun_however_old_it_is() {
        let begun = |attempts, lapses, seconds| {
            let progress = Progress { lapses, ..progress(attempts) };
            too_late(&progress, BACKOFF, at(seconds)).is_none()
        };
        for lapses in [false, true] {
            assert!(begun(1, lapses, 999) && begun(3, lapses, 999), "their time is not over");
        }
        assert!(begun(1, false, 1_000) && begun(1, false, 1 << 30));
        let over = "its time was over before it could be begun";
        for (attempts, lapses) in [(1, true), (2, false), (2, true)] {
            let progress = Progress { lapses, ..progress(attempts) };
            let verdict = too_late(&progress, BACKOFF, at(1_000));
            assert_eq!(verdict, Some(Verdict::GivenUp(over.into())), "{attempts} {lapses}");
        }
    }

    #[test]
    fn nothing_is_given_up_for_its_age_by_a_clock_that_was_set_forward() {
        let moment = Moment { hesitates: true, ..at(1 << 30) };
        let old = Progress { lapses: true, refusals: 2, ..progress(1) };
        let waits =
            again(16, false, "its time is over, unless the clock is ahead: that is waited for");
        assert_eq!(too_late(&old, BACKOFF, moment), Some(waits));
        assert_eq!(too_late(&progress(1), BACKOFF, moment), None);
        let failed = judge(answered(500, None, None), &old, BACKOFF, moment);
        assert_eq!(failed, again(4, true, "it was answered with 500"));
        let last = judge(answered(500, None, None), &progress(3), BACKOFF, moment);
        assert!(matches!(last, Verdict::GivenUp(_)), "its tries are used up");
    }

    #[test]
    fn answers_are_read_from_their_heads() {
        let now = UNIX_EPOCH + Duration::from_secs(946_684_739);
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(Outcome::of(&response, now), answered(429, None, None));
        let headers = response.headers_mut();
        headers.insert("quern-error", "busy".parse().expect("a value"));
        headers.insert(RETRY_AFTER, "7".parse().expect("a value"));
        assert_eq!(Outcome::of(&response, now), answered(429, Some("busy"), Some(7)));
        let date = "Fri, 31 Dec 1999 23:59:59 GMT".parse().expect("a value");
        response.headers_mut().insert(RETRY_AFTER, date);
        assert_eq!(Outcome::of(&response, now), answered(429, Some("busy"), Some(60)));
    }
}
