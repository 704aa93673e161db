//! What comes of sending a message: its end, or another try. A pure function of the answer, of how
//! far the message has come, and of the time.

use std::time::Duration;

use http::StatusCode;
use quern_store::Delivery;
use quern_types::{NotSent, Receipt};

use crate::{backoff::Backoff, verdict::Moment};

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was taken.
    Delivered,
    /// It can't be signed, and waits until it can.
    Held,
    /// It is given up.
    GivenUp(String),
    /// It is sent again.
    Again {
        /// After this pause.
        pause: Duration,
        /// Why.
        reason: String,
    },
}

/// Decides what comes of a message that was sent. Nobody asks before: what is due is sent once more,
/// however old it is, as the server may have been down all the while.
pub(super) fn judge(
    outcome: &Result<Receipt, NotSent>,
    delivery: &Delivery,
    backoff: Backoff,
    moment: Moment,
) -> Verdict {
    let (reason, wait) = match outcome {
        Ok(Receipt { status, .. }) if status.is_success() => return Verdict::Delivered,
        Ok(Receipt { status, .. }) if *status == StatusCode::GONE => {
            let reason = "it was answered with 410: nobody wants messages there any more";
            return Verdict::GivenUp(reason.into());
        }
        Ok(Receipt { status, .. }) if status.is_redirection() => {
            (format!("it was answered with {}: no redirect is followed", status.as_u16()), None)
        }
        Ok(Receipt { status, retry_after }) => {
            (format!("it was answered with {}", status.as_u16()), *retry_after)
        }
        Err(NotSent { reason }) => (reason.clone(), None),
    };
    let Moment { now, hesitates, random } = moment;
    let wait = wait.unwrap_or_default().min(backoff.longest);
    let pause = backoff.pause(delivery.attempts.saturating_add(1), random).max(wait);
    let is_over = now.checked_add(pause).is_none_or(|due| due >= delivery.expires);
    match is_over && !hesitates {
        false => Verdict::Again { pause, reason },
        true => Verdict::GivenUp(format!("{reason}, and its time is over")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use quern_types::{DeliveryId, NamedWebhook};

    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(3_600) };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn delivery(attempts: u32) -> Delivery {
        Delivery {
            id: DeliveryId::from_uuid(Default::default()),
            tenant: Default::default(),
            webhook: NamedWebhook { name: "shop".parse().expect("a name"), created: None },
            body: String::new(),
            attempts,
            expires: at(10_000),
        }
    }

    fn answered(status: u16, retry_after: Option<u64>) -> Result<Receipt, NotSent> {
        let status = StatusCode::from_u16(status).expect("a status");
        Ok(Receipt { status, retry_after: retry_after.map(Duration::from_secs) })
    }

    fn judged(outcome: &Result<Receipt, NotSent>, attempts: u32, now: u64) -> Verdict {
        // Half of the longest pause.
        let moment = Moment { now: at(now), hesitates: false, random: 1 << 63 };
        judge(outcome, &delivery(attempts), BACKOFF, moment)
    }

    #[test]
    fn what_was_taken_is_not_sent_again_and_what_is_not_wanted_neither() {
        for status in [200, 201, 202, 204] {
            assert_eq!(judged(&answered(status, None), 3, 0), Verdict::Delivered, "{status}");
        }
        let Verdict::GivenUp(reason) = judged(&answered(410, None), 0, 0) else {
            panic!("given up");
        };
        assert!(reason.contains("410"), "{reason}");
    }

    #[test]
    fn everything_else_is_sent_again_after_a_growing_pause() {
        let refused = Err(NotSent { reason: "refused".into() });
        let cases = [
            (answered(500, None), 0, 2_500, "it was answered with 500"),
            (answered(404, None), 1, 5_000, "it was answered with 404"),
            (answered(302, None), 2, 10_000, "it was answered with 302: no redirect is followed"),
            (answered(429, Some(60)), 0, 60_000, "it was answered with 429"),
            (answered(503, Some(1)), 2, 10_000, "it was answered with 503"),
            (answered(503, Some(1 << 40)), 0, 3_600_000, "it was answered with 503"),
            (refused, 30, 1_800_000, "refused"),
        ];
        for (outcome, attempts, pause_ms, reason) in cases {
            let pause = Duration::from_millis(pause_ms);
            let expected = Verdict::Again { pause, reason: reason.into() };
            assert_eq!(judged(&outcome, attempts, 0), expected);
        }
    }

    #[test]
    fn nothing_is_sent_again_beyond_its_time() {
        for now in [9_998, 10_000, 1 << 30] {
            let late = judged(&answered(500, None), 0, now);
            let reason = "it was answered with 500, and its time is over";
            assert_eq!(late, Verdict::GivenUp(reason.into()), "at {now}");
            assert_eq!(judged(&answered(200, None), 0, now), Verdict::Delivered);
        }
    }

    #[test]
    fn nothing_is_given_up_for_its_age_by_a_clock_that_was_set_forward() {
        let moment = Moment { now: at(1 << 30), hesitates: true, random: 1 << 63 };
        let (pause, reason) = (Duration::from_millis(2_500), "it was answered with 500".into());
        let judged = judge(&answered(500, None), &delivery(0), BACKOFF, moment);
        assert_eq!(judged, Verdict::Again { pause, reason });
    }
}
