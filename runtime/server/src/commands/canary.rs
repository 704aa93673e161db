//! `quern canary`: gives a new version more and more of the requests, for as long as it does no
//! worse than the old one. The server does that; this only asks for it.

use anyhow::Result;
use quern_types::{Name, Steps, VersionNumber};
use serde_json::{Map, json};

use super::{ClassFlags, Session};
use crate::{
    client::{Answer, CanaryAnswer, Counts},
    output::{self, Table},
};

/// Give a new version more and more requests, as long as it does no worse than the old one
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Canary {
    Start(Start),
    Status(Status),
    Abort(Abort),
    Promote(Promote),
}

/// Start a canary; the server goes on with it, and rolls it back by itself
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// The function or model
    name: Name,

    /// The new version, deployed with --no-traffic
    version: VersionNumber,

    /// Its share and for how long, step by step
    #[arg(long, default_value = "5% 10m, 25% 10m, 100%")]
    steps: Steps,

    /// Requests that it must answer in a step, before it is judged and before the next step
    /// [default: 50]
    #[arg(long, value_name = "COUNT")]
    requests: Option<u32>,

    /// By how many percentage points its share of errors may be higher [default: 0.1]
    #[arg(long, value_name = "POINTS")]
    errors: Option<f64>,

    /// How many times as long its median and 99th percentile may be [default: 1.5]
    #[arg(long, value_name = "TIMES")]
    latency: Option<f64>,

    #[command(flatten)]
    class: ClassFlags,
}

/// Show how the last canary does, or how it ended and why
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// The function or model
    name: Name,

    #[command(flatten)]
    class: ClassFlags,
}

/// End a canary: the old version gets all requests
#[derive(Debug, clap::Args)]
pub(crate) struct Abort {
    /// The function or model
    name: Name,

    #[command(flatten)]
    class: ClassFlags,
}

/// End a canary: the new version gets all requests
#[derive(Debug, clap::Args)]
pub(crate) struct Promote {
    /// The function or model
    name: Name,

    #[command(flatten)]
    class: ClassFlags,
}

pub(crate) async fn run(session: &Session, command: Canary) -> Result<()> {
    let client = &session.client;
    let answer = match command {
        Canary::Start(start) => begin(session, start).await?,
        Canary::Status(Status { name, class }) => {
            client.canary(class.resolve(client, &name).await?, &name).await?
        }
        Canary::Abort(Abort { name, class }) => {
            client.abort_canary(class.resolve(client, &name).await?, &name).await?
        }
        Canary::Promote(Promote { name, class }) => {
            client.promote_canary(class.resolve(client, &name).await?, &name).await?
        }
    };
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    show(&answer.parsed)
}

async fn begin(session: &Session, start: Start) -> Result<Answer<CanaryAnswer>> {
    let Start { name, version, steps, requests, errors, latency, class } = start;
    let class = class.resolve(&session.client, &name).await?;
    let limits = [
        ("requests", requests.map(|count| json!(count))),
        ("errors", errors.map(|points| json!(points))),
        ("latency", latency.map(|times| json!(times))),
    ];
    let limits = limits.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let limits: Map<_, _> = limits.collect();
    let canary = json!({"version": version, "steps": steps, "limits": limits});
    Ok(session.client.start_canary(class, &name, &canary).await?)
}

fn show(canary: &CanaryAnswer) -> Result<()> {
    let CanaryAnswer { version, from, state, reason, steps, step } = canary;
    let state = state.replace('_', " ");
    output::line(format_args!("canary of version {version} beside version {from}: {state}"))?;
    output::line(format_args!("  steps   {steps}"))?;
    if let Some(reason) = reason {
        output::line(format_args!("  reason  {reason}"))?;
    }
    let Some(step) = step else { return Ok(()) };
    output::line(format_args!("  step    {}, {}% of the requests", step.number, step.percent))?;
    if let Some(waits) = &step.waits_for {
        let time = (!waits.time.0.is_zero()).then(|| format!("{} more", waits.time));
        let requests = [(waits.requests, version), (waits.old_requests, from)];
        let requests = requests.into_iter().filter(|(count, _)| *count > 0);
        let requests = requests.map(|(count, of)| format!("{count} more requests to version {of}"));
        let all: Vec<_> = time.into_iter().chain(requests).collect();
        output::line(format_args!("  waits   for {}", all.join(" and ")))?;
    }
    let (Some(new), Some(old)) = (&step.new, &step.old) else { return Ok(()) };
    let mut table = Table::new(&["VERSION", "REQUESTS", "ERRORS", "TRAPS", "P50", "P99"]);
    for (version, counts) in [(version, new), (from, old)] {
        let mut row = vec![version.to_string()];
        row.extend(cells(counts));
        table.row(row);
    }
    Ok(output::line(table)?)
}

/// Requests, errors, traps, median and 99th percentile.
pub(super) fn cells(counts: &Counts) -> [String; 5] {
    let time = |us: Option<u64>| {
        us.map_or_else(|| "-".into(), |us| output::duration(std::time::Duration::from_micros(us)))
    };
    [
        counts.requests.to_string(),
        counts.errors.to_string(),
        counts.traps.to_string(),
        time(counts.p50_us),
        time(counts.p99_us),
    ]
}
