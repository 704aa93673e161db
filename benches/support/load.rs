//! Load from `wrk` on several targets in turn, so that what else happens on the machine hits all
//! of them. Never counts a run in which a request failed.

use std::{fmt::Display, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use super::process::{peer, root};

/// Load before the first round, not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// The rounds of a comparison; each number reported is the median over them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    /// How long load lasts, once in each round, in whole seconds.
    pub(crate) time: Duration,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { count: 5, time: Duration::from_secs(3) }
    }
}

/// What can be put under load.
pub(crate) trait Loaded {
    /// Who answers.
    fn name(&self) -> &str;

    /// Keeps so many requests under way for so long.
    async fn load(&self, connections: u32, time: Duration) -> Result<Measured>;
}

/// What `wrk` loads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// Who answers.
    pub(crate) name: String,
    /// Where.
    pub(crate) url: String,
    /// The body of a POST; without one it is a GET.
    pub(crate) body: Option<PathBuf>,
    /// Headers of the request, each as `Name: value`.
    pub(crate) headers: Vec<String>,
}

impl Loaded for Target {
    fn name(&self) -> &str {
        &self.name
    }

    async fn load(&self, connections: u32, time: Duration) -> Result<Measured> {
        measure(self, connections, time).await
    }
}

/// What one target did under load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Requests answered in a second.
    pub(crate) per_second: f64,
    /// Median latency.
    pub(crate) p50_us: f64,
    /// The latency that one request in a hundred exceeds.
    pub(crate) p99_us: f64,
}

/// Loads the targets in turn over so many connections; the medians, in the targets' order.
pub(crate) async fn compare(
    targets: &[impl Loaded],
    connections: u32,
    rounds: Rounds,
) -> Result<Vec<Measured>> {
    for target in targets {
        target.load(connections, WARM_UP).await?;
    }
    let mut all = vec![Vec::new(); targets.len()];
    for _ in 0..rounds.count {
        for (target, measured) in targets.iter().zip(&mut all) {
            measured.push(target.load(connections, rounds.time).await?);
        }
    }
    let medians: Vec<_> = all.iter().map(|measured| medians(measured)).collect();
    for (target, measured) in targets.iter().zip(&medians) {
        let Measured { per_second, p50_us, p99_us } = measured;
        let name = target.name();
        progress(format!(
            "{name} at {connections}: {per_second:.0}/s, p50 {p50_us} µs, p99 {p99_us} µs"
        ));
    }
    Ok(medians)
}

/// Loads one target once.
pub(crate) async fn measure(target: &Target, connections: u32, time: Duration) -> Result<Measured> {
    let mut wrk = Command::new(peer("wrk"));
    wrk.args(["--threads", "1", "--connections", &connections.to_string()])
        .args(["--duration", &format!("{}s", time.as_secs())])
        // Rather than count what a slow server still answers as failed.
        .args(["--timeout", "30s"])
        .arg("--script")
        .arg(root().join("benches/support/wrk.lua"))
        .arg(&target.url)
        .kill_on_drop(true);
    if let Some(body) = &target.body {
        wrk.env("WRK_BODY", body).env("WRK_HEADERS", target.headers.join("\n"));
    }
    let output = wrk.output().await.context("wrk can't be run: `make bench` installs it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "wrk on {}: {text}{errors}", target.name);
    parse(&text).with_context(|| format!("load on {} ({})", target.name, target.url))
}

fn parse(text: &str) -> Result<Measured> {
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers: Vec<f64> = line
        .with_context(|| format!("wrk printed no result:\n{text}"))?
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [requests, duration_us, p50_us, p99_us, failed] = numbers[..] else {
        bail!("wrk printed {} numbers, expected 5", numbers.len());
    };
    ensure!(failed == 0.0, "{failed} of {requests} requests failed");
    ensure!(requests > 0.0 && duration_us > 0.0, "nothing was answered");
    Ok(Measured { per_second: requests / duration_us * 1e6, p50_us, p99_us })
}

fn medians(rounds: &[Measured]) -> Measured {
    let by = |field: fn(&Measured) -> f64| {
        let mut values: Vec<_> = rounds.iter().map(field).collect();
        quantile(&mut values, 0.5)
    };
    Measured {
        per_second: by(|measured| measured.per_second),
        p50_us: by(|measured| measured.p50_us),
        p99_us: by(|measured| measured.p99_us),
    }
}

/// The value below which this part of the values lies, by nearest rank; sorts them.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (part * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// Tells whoever waits what has been measured.
pub(crate) fn progress(what: impl Display) {
    eprintln!("   {what}");
}
