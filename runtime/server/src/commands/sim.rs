//! `quern sim`: what policies make of a scenario, in virtual time.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use quern_simulation::{PolicyKind, Scenario, Spread, Summary, summarise};
use serde_json::{Value, json};

use crate::output::{self, Table};

/// Simulate how models are served on many devices, under the scheduler's policy and others
///
/// A scenario in TOML says which devices and models there are, how long batches take, and how often
/// each model is called: see docs/simulation.md and examples/simulation. Every policy gets the same
/// calls. Nothing is computed, and no server is needed.
#[derive(Debug, clap::Args)]
pub(crate) struct Sim {
    /// The scenario
    #[arg(value_name = "FILE")]
    scenario: PathBuf,

    /// A policy: quern, fifo, delay:TIME, clockwork, symphony or replicated; can be repeated [default: all of them]
    #[arg(long = "policy", value_name = "NAME")]
    policies: Vec<PolicyKind>,

    /// How many loads are simulated, each of a seed of its own; means and deviations are printed
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,

    /// The first seed
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(command: &Sim, as_json: bool) -> Result<()> {
    let path = command.scenario.display();
    let text = fs::read_to_string(&command.scenario).with_context(|| format!("reading {path}"))?;
    let scenario: Scenario = text.parse().with_context(|| format!("the scenario {path}"))?;
    let setting = scenario.setting().with_context(|| format!("the scenario {path}"))?;
    let seeds = (0..command.seeds).map(|number| command.seed.wrapping_add(number));
    let policies = match command.policies.as_slice() {
        [] => &PolicyKind::ALL,
        policies => policies,
    };
    let progress = progress(policies.len());
    let mut summaries = Vec::new();
    for policy in policies {
        progress.set_message(policy.to_string());
        let load = |seed| scenario.load(seed);
        let summary = summarise(&setting, seeds.clone(), load, || policy.start());
        summaries.push((*policy, summary.with_context(|| format!("the policy {policy}"))?));
        progress.inc(1);
    }
    progress.finish_and_clear();
    match as_json {
        true => output::json(&document(command, &summaries))?,
        false => output::line(table(&summaries))?,
    }
    Ok(())
}

/// A bar on standard error, invisible where that is no terminal.
fn progress(policies: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} policies, {msg} {elapsed}");
    ProgressBar::new(policies as u64).with_style(style.expect("a template"))
}

fn table(summaries: &[(PolicyKind, Summary)]) -> Table {
    let headings = ["POLICY", "IN TIME", "REFUSED", "P50 MS", "P99 MS", "BATCH", "BUSY", "LOADS"];
    let mut table = Table::new(&headings);
    for (policy, summary) in summaries {
        let part = |spread: Spread| {
            format!("{:.2}% ±{:.2}", 100.0 * spread.mean, 100.0 * spread.deviation)
        };
        let number = |spread: Spread| format!("{:.1} ±{:.1}", spread.mean, spread.deviation);
        table.row(vec![
            policy.to_string(),
            part(summary.in_time),
            part(summary.refused),
            summary.median_ms.map_or("-".into(), number),
            summary.p99_ms.map_or("-".into(), number),
            number(summary.batch),
            part(summary.busy),
            number(summary.loads),
        ]);
    }
    table
}

fn document(command: &Sim, summaries: &[(PolicyKind, Summary)]) -> Value {
    let spread = |spread: Spread| json!({ "mean": spread.mean, "deviation": spread.deviation });
    let policy = |(policy, summary): &(PolicyKind, Summary)| {
        json!({
            "policy": policy.to_string(),
            "in_time": spread(summary.in_time),
            "refused": spread(summary.refused),
            "median_ms": summary.median_ms.map(spread),
            "p99_ms": summary.p99_ms.map(spread),
            "batch_calls": spread(summary.batch),
            "busy": spread(summary.busy),
            "loads": spread(summary.loads),
        })
    };
    json!({
        "calls": summaries.first().map(|(_, summary)| summary.calls),
        "seeds": command.seeds,
        "policies": summaries.iter().map(policy).collect::<Vec<_>>(),
    })
}
