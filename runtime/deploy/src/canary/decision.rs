//! Whether a canary goes on: a pure function of where it stands, of what was counted, and of the
//! time. Never looks at a clock, and never changes anything.
//!
//! Both versions are judged by the same while. A difference counts only if chance would hardly
//! make it: it is looked at every second, so that "hardly" is one in ten thousand. What can't be
//! compared yet is neither taken for good nor let fail without bounds: the step waits for both
//! versions, and the new one is held to a bound of its own meanwhile.

use std::time::Duration;

use quern_types::{Canary, CanaryLimits, CanaryState, Latencies, OutcomeCounts, Period};

/// How likely chance may make a difference that is taken for real.
const CHANCE: f64 = 1e-4;
/// The same for latencies, in standard deviations of a rank.
const DEVIATIONS: f64 = 4.0;
/// Failures up to here are judged exactly, more of them by the normal distribution.
const EXACT: u64 = 1_000;
/// Requests up to here are taken for what they are, more of them for without end.
const DRAWN: u64 = 10_000;
/// The share of failures that is too much while there is too little to compare with.
const MOST_ERRORS: f64 = 0.1;
/// The same of traps, which are never the caller's fault, nor want of room.
const MOST_TRAPS: f64 = 0.01;
/// How likely chance may make the failures of the old version that lift these bounds. The first request
/// to a version that traps no more than it may traps with a likelihood of [`MOST_TRAPS`]: no single
/// failure is enough.
const EXCUSE: f64 = 0.005;

/// What was counted in a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Since when, in µs since 1970: since the step began, or the server started.
    pub since_us: u64,
    /// Of the old version.
    pub old: OutcomeCounts,
    /// Of the new one.
    pub new: OutcomeCounts,
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How much of its time is left.
    pub time: Period,
    /// How many requests the new version has to answer yet; where its time is over, the step goes
    /// on for as long as that takes.
    pub requests: u64,
    /// The same of the old version, without which there is nothing to compare with.
    pub old_requests: u64,
}

/// What to do with a canary.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Nothing yet.
    Wait(Waiting),
    /// Take it to this state.
    Enter(CanaryState),
}

/// What to do with a canary; none if it has ended.
pub(crate) fn step(canary: &Canary, observed: &Observed, now_us: u64) -> Option<Action> {
    let (index, step) = canary.step()?;
    if step.percent == 100 {
        return Some(Action::Enter(promoted(now_us)));
    }
    let needed = u64::from(canary.limits.requests);
    let requests = needed.saturating_sub(observed.new.requests);
    let old_requests = needed.saturating_sub(observed.old.requests);
    if requests == 0
        && let Some(reason) = worse(canary, observed)
    {
        return Some(Action::Enter(CanaryState::RolledBack { at_us: now_us, reason }));
    }
    let held = Duration::from_micros(now_us.saturating_sub(observed.since_us));
    let left = step.hold.0.saturating_sub(held);
    if requests > 0 || old_requests > 0 || !left.is_zero() {
        return Some(Action::Wait(Waiting { time: Period(left), requests, old_requests }));
    }
    let next = canary.steps.at(index + 1).filter(|next| next.percent < 100);
    Some(Action::Enter(match next {
        Some(_) => CanaryState::Running { step: index + 1, since_us: now_us },
        None => promoted(now_us),
    }))
}

fn promoted(at_us: u64) -> CanaryState {
    CanaryState::Promoted { at_us, reason: "it did no worse in all steps".into() }
}

/// In what the new version is worse, if in anything.
fn worse(canary: &Canary, Observed { old, new, .. }: &Observed) -> Option<String> {
    let CanaryLimits { errors, latency, .. } = canary.limits;
    if is_excess((new.traps, new.requests), (old.traps, old.requests)) {
        return Some(compare("trapped", canary, (new.traps, old.traps), (new, old)));
    }
    let above = rate(new.errors, new.requests) - rate(old.errors, old.requests);
    if above > errors / 100.0 && is_excess((new.errors, new.requests), (old.errors, old.requests)) {
        return Some(compare("failed", canary, (new.errors, old.errors), (new, old)));
    }
    if old.requests < u64::from(canary.limits.requests).max(1) {
        for (what, bad, old_bad, most) in [
            ("trapped", new.traps, old.traps, MOST_TRAPS),
            ("failed", new.errors, old.errors, MOST_ERRORS),
        ] {
            if is_beyond(most, (bad, new.requests), (old_bad, old.requests)) {
                let compared = compare(what, canary, (bad, old_bad), (new, old));
                return Some(format!("{compared}, which is too few to compare with"));
            }
        }
    }
    [(0.5, "median"), (0.99, "99th percentile")].into_iter().find_map(|(quantile, word)| {
        let least_us = lower_bound(&new.latency, quantile)?;
        let most_us = upper_bound(&old.latency, quantile)?;
        (least_us as f64 > most_us as f64 * latency).then(|| {
            let (version, from) = (canary.version, canary.from);
            format!(
                "the {word} of version {version}'s latency is at least {least_us} µs, more than \
                 {latency} times the {most_us} µs that version {from}'s is at most"
            )
        })
    })
}

fn compare(
    what: &str,
    canary: &Canary,
    (bad, old_bad): (u64, u64),
    (new, old): (&OutcomeCounts, &OutcomeCounts),
) -> String {
    let percent = |bad, all| 100.0 * rate(bad, all);
    format!(
        "{bad} of {} requests ({:.2} %) to version {} {what}, and {old_bad} of {} ({:.2} %) to \
         version {}",
        new.requests,
        percent(bad, new.requests),
        canary.version,
        old.requests,
        percent(old_bad, old.requests),
        canary.from,
    )
}

fn rate(bad: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { bad as f64 / all as f64 }
}

/// Whether the first of two counts of failures among so many requests is higher than chance makes
/// it. If both versions were alike, the failures would be drawn from all requests, whosever these
/// are (Fisher's exact test). Among very many, each would be the new one's with the probability that
/// a request is (the conditional test of two Poisson rates; Przyborowski and Wilenski, 1940).
fn is_excess((bad, all): (u64, u64), (old_bad, old_all): (u64, u64)) -> bool {
    if bad == 0 || all == 0 || old_all == 0 {
        return false;
    }
    let (failed, total) = (bad + old_bad, all + old_all);
    let chance = match total <= DRAWN {
        true => drawn(bad, failed, all, total),
        false => at_least(bad, failed, all as f64 / total as f64),
    };
    chance < CHANCE
}

/// Whether the first of two counts of failures among so many requests is higher than this share by
/// more than chance. Where the second one is as well, as far as that is known, this says nothing: an old
/// version that fails so often is nothing to go back to, and the two are compared instead. Nor is one
/// that has failed as often so far, and more than once.
fn is_beyond(most: f64, (bad, all): (u64, u64), (old_bad, old_all): (u64, u64)) -> bool {
    let product = |count: u64, requests: u64| u128::from(count) * u128::from(requests);
    let fails_as_often = old_bad > 1 && product(bad, old_all) <= product(old_bad, all);
    !fails_as_often
        && at_least(bad, all, most) < CHANCE
        && at_least(old_bad, old_all, most) >= EXCUSE
}

/// How likely at least `count` of the `failed` ones among `total` requests are among `all` of them.
fn drawn(count: u64, failed: u64, all: u64, total: u64) -> f64 {
    let factorial = |of: u64| (2..=of).map(|number| (number as f64).ln()).sum::<f64>();
    let choices = |of: u64, some: u64| factorial(of) - factorial(some) - factorial(of - some);
    // From the fewest that there can be to the most, each from the one before, as logarithms.
    let fewest = (all + failed).saturating_sub(total);
    let mut log =
        choices(failed, fewest) + choices(total - failed, all - fewest) - choices(total, all);
    let mut sum = 0.0;
    for number in fewest..=failed.min(all) {
        if number >= count {
            sum += log.exp();
        }
        let more = (failed - number) as f64 * (all - number) as f64;
        let fewer = (number + 1) as f64 * (total + number + 1 - failed - all) as f64;
        log += (more / fewer).ln();
    }
    sum
}

/// How likely at least `count` of `all` come true that each do with this probability.
fn at_least(count: u64, all: u64, probability: f64) -> f64 {
    if all > EXACT {
        let mean = all as f64 * probability;
        let deviation = (mean * (1.0 - probability)).sqrt();
        return normal_tail((count as f64 - 0.5 - mean) / deviation);
    }
    // From the probability of none to that of all, each from the one before, as logarithms: the
    // first may be too small for a number.
    let odds = (probability / (1.0 - probability)).ln();
    let mut log = all as f64 * (1.0 - probability).ln();
    let mut sum = 0.0;
    for number in 0..=all {
        if number >= count {
            sum += log.exp();
        }
        log += ((all - number) as f64 / (number + 1) as f64).ln() + odds;
    }
    sum
}

/// How likely a normal variable is so many standard deviations above its mean; an upper bound, and
/// close to it where it matters, far from the mean (Mills' ratio).
fn normal_tail(deviations: f64) -> f64 {
    if deviations < 1.0 {
        return 1.0;
    }
    (-0.5 * deviations * deviations).exp() / (deviations * (2.0 * std::f64::consts::PI).sqrt())
}

/// What a quantile is at least, in µs, by the ranks that it may have.
fn lower_bound(latencies: &Latencies, quantile: f64) -> Option<u64> {
    let (mean, deviation) = rank(latencies, quantile);
    let rank = (mean - DEVIATIONS * deviation).floor().max(0.0) as u64;
    latencies.at_rank(rank).map(|(least_us, _)| least_us)
}

/// What a quantile is at most, in µs; none if there are too few to say.
fn upper_bound(latencies: &Latencies, quantile: f64) -> Option<u64> {
    let (mean, deviation) = rank(latencies, quantile);
    let rank = (mean + DEVIATIONS * deviation).ceil() as u64 + 1;
    latencies.at_rank(rank).map(|(_, most_us)| most_us)
}

/// The rank of a quantile of what these are a sample of, and its standard deviation.
fn rank(latencies: &Latencies, quantile: f64) -> (f64, f64) {
    let mean = latencies.count() as f64 * quantile;
    (mean, (mean * (1.0 - quantile)).sqrt())
}

#[cfg(test)]
mod tests;
