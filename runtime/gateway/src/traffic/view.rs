//! How traffic and canaries look from outside. Never changes what it shows.

use std::time::{Duration, SystemTime};

use quern_deploy::{CanaryStatus, Observed, Waiting};
use quern_types::{
    CanaryLimits, CanaryState, Class, Deployed, InvokeError, ModelError, Name, OutcomeCounts,
    Period, Routing, Share, Shares, Steps, Sticky, TenantId, TrafficOutcomes, VersionNumber,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::shadow::ShadowReply;
use crate::{Gateway, errors::Failure, timestamp::Timestamp};

/// Which versions requests go to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TrafficReply {
    /// The function or model.
    name: Name,
    /// The version that answers where nothing else is set, and after a rollback.
    live: VersionNumber,
    /// The shares, which add up to 100.
    versions: Vec<ShareReply>,
    /// What keeps requests together; null: each goes its own way.
    sticky: Option<Sticky>,
    /// The version that gets copies of requests, and what came of them; null: none does.
    shadow: Option<ShadowReply>,
    /// Names of versions, by which requests can ask for them.
    aliases: Vec<AliasReply>,
}

/// A version's share.
#[derive(Debug, Serialize, JsonSchema)]
struct ShareReply {
    /// The version.
    version: VersionNumber,
    /// Of a hundred requests, how many it answers.
    percent: u8,
    /// What was counted of it while it shared requests with others, since the server started.
    counted: CountsReply,
}

/// A name of a version.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AliasReply {
    /// The name.
    pub(super) alias: Name,
    /// The version.
    pub(super) version: VersionNumber,
}

/// How requests ended.
#[derive(Debug, Serialize, JsonSchema)]
struct CountsReply {
    /// All of them.
    requests: u64,
    /// Those that were refused for what their callers sent, or for want of room.
    rejected: u64,
    /// Those that failed, traps included.
    errors: u64,
    /// Those that trapped.
    traps: u64,
    /// Their median time until the answer began, in µs; null of none.
    p50_us: Option<u64>,
    /// The 99th percentile of it, in µs.
    p99_us: Option<u64>,
}

/// A canary, and how it does.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CanaryReply {
    /// The new version.
    version: VersionNumber,
    /// The old one, which it is compared with.
    from: VersionNumber,
    /// Where it stands.
    state: State,
    /// Why it ended; null while it runs.
    reason: Option<String>,
    /// Its growing shares, and how long it has each of them.
    steps: Steps,
    /// What counts as worse.
    limits: LimitsReply,
    /// When it was started.
    started: Timestamp,
    /// When it ended; null while it runs.
    ended: Option<Timestamp>,
    /// The step that it is at; null once it has ended.
    step: Option<StepReply>,
}

/// Where a canary stands.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CanaryState")]
enum State {
    /// It has the share of a step.
    Running,
    /// The new version has everything.
    Promoted,
    /// The new version was worse, and the old one has everything.
    RolledBack,
    /// Somebody ended it.
    Aborted,
}

/// What counts as worse.
#[derive(Debug, Serialize, JsonSchema)]
struct LimitsReply {
    /// Requests that the new version answers in a step before it is judged, and both before it ends.
    requests: u32,
    /// By how many percentage points its share of errors may be higher.
    errors: f64,
    /// How many times as long its median and 99th percentile may be.
    latency: f64,
}

/// The step that a canary is at.
#[derive(Debug, Serialize, JsonSchema)]
struct StepReply {
    /// Which one, from 1.
    number: usize,
    /// The new version's share.
    percent: u8,
    /// Since when.
    since: Timestamp,
    /// What it waits for; null until it was looked at.
    waits_for: Option<WaitingReply>,
    /// What was counted of the new version in this step.
    new: Option<CountsReply>,
    /// The same of the old one.
    old: Option<CountsReply>,
}

/// What a step waits for.
#[derive(Debug, Serialize, JsonSchema)]
struct WaitingReply {
    /// How much of its time is left.
    time: Period,
    /// How many requests the new version has to answer yet.
    requests: u64,
    /// How many the old one has to, so that there is something to compare with.
    old_requests: u64,
}

impl TrafficReply {
    /// How things are at this moment.
    pub(super) fn of(
        gateway: &Gateway,
        tenant: &TenantId,
        class: Class,
        name: &Name,
    ) -> Result<Self, Failure> {
        let routes = gateway.deployer.routes();
        let (live, routing) = match class {
            Class::Function => {
                let function = routes.function(tenant, name);
                parts(&**function.ok_or_else(|| InvokeError::NotFound { name: name.clone() })?)
            }
            Class::Model => {
                let model = routes.model(tenant, name);
                parts(&**model.ok_or_else(|| ModelError::NotFound { name: name.clone() })?)
            }
        };
        let shadow = routing.and_then(|routing| routing.traffic.shadow);
        let shares = routing.and_then(|routing| routing.traffic.shares.as_ref());
        let all = [Share { version: live, percent: 100 }];
        let shares: Vec<Share> =
            shares.map_or(all.to_vec(), |shares| Shares::iter(shares).copied().collect());
        let count = |Share { version, percent }| {
            let counts = gateway.dispatcher.outcomes(class, tenant, name, version);
            ShareReply { version, percent, counted: CountsReply::from(&counts) }
        };
        let aliases = routing.into_iter().flat_map(|routing| &routing.aliases);
        let alias =
            |(alias, version): (&Name, &_)| AliasReply { alias: alias.clone(), version: *version };
        Ok(Self {
            name: name.clone(),
            live,
            versions: shares.into_iter().map(count).collect(),
            sticky: routing.and_then(|routing| routing.traffic.sticky.clone()),
            shadow: shadow.map(|shadow| {
                let report = gateway.dispatcher.shadowed(class, tenant, name, shadow.version);
                ShadowReply::new(shadow, report)
            }),
            aliases: aliases.map(alias).collect(),
        })
    }
}

impl From<&OutcomeCounts> for CountsReply {
    fn from(counts: &OutcomeCounts) -> Self {
        let OutcomeCounts { requests, rejected, errors, traps, ref latency } = *counts;
        let (p50_us, p99_us) = (latency.quantile_us(0.5), latency.quantile_us(0.99));
        Self { requests, rejected, errors, traps, p50_us, p99_us }
    }
}

impl From<Waiting> for WaitingReply {
    fn from(Waiting { time, requests, old_requests }: Waiting) -> Self {
        // In whole seconds, as often as it is looked at; nothing is left only where nothing is.
        let seconds = time.0.as_micros().div_ceil(1_000_000);
        let time = Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX));
        Self { time: Period(time), requests, old_requests }
    }
}

impl From<CanaryLimits> for LimitsReply {
    fn from(CanaryLimits { requests, errors, latency }: CanaryLimits) -> Self {
        Self { requests, errors, latency }
    }
}

impl From<&CanaryStatus> for CanaryReply {
    fn from(status: &CanaryStatus) -> Self {
        let CanaryStatus { canary, observed, waiting } = status;
        let (state, ended, reason) = match &canary.state {
            CanaryState::Running { .. } => (State::Running, None, None),
            CanaryState::Promoted { at_us, reason } => {
                (State::Promoted, Some(*at_us), Some(reason))
            }
            CanaryState::RolledBack { at_us, reason } => {
                (State::RolledBack, Some(*at_us), Some(reason))
            }
            CanaryState::Aborted { at_us, reason } => (State::Aborted, Some(*at_us), Some(reason)),
        };
        let step = match canary.state {
            CanaryState::Running { step, since_us } => canary.steps.at(step).map(|at| StepReply {
                number: step + 1,
                percent: at.percent,
                since: time(since_us),
                waits_for: waiting.map(WaitingReply::from),
                new: observed.as_ref().map(|Observed { new, .. }| CountsReply::from(new)),
                old: observed.as_ref().map(|Observed { old, .. }| CountsReply::from(old)),
            }),
            _ => None,
        };
        Self {
            version: canary.version,
            from: canary.from,
            state,
            reason: reason.cloned(),
            steps: canary.steps.clone(),
            limits: canary.limits.into(),
            started: time(canary.started_us),
            ended: ended.map(time),
            step,
        }
    }
}

fn parts<Spec>(deployed: &Deployed<Spec>) -> (VersionNumber, Option<&Routing>) {
    (deployed.live().number, deployed.routing())
}

fn time(since_1970_us: u64) -> Timestamp {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_micros(since_1970_us))
}
