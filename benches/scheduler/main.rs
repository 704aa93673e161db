//! How models are served on devices, simulated: our policy beside those of others, under the same
//! calls. Never judges: it prints where another is ahead.

use std::time::Instant;

use anyhow::{Context as _, Result};
use quern_simulation::{PolicyKind, Scenario, Spread, Summary, simulate, summarise};

#[path = "../support"]
mod support {
    pub(crate) mod report;

    /// What reports are told of where they are.
    pub(crate) mod process {
        use std::path::PathBuf;

        /// The repository.
        pub(crate) fn root() -> PathBuf {
            concat!(env!("CARGO_MANIFEST_DIR"), "/../..").into()
        }
    }
}

use support::report::{self, Table, aim};

/// How many loads each figure is the mean of.
const SEEDS: u64 = 10;
/// Parts of what the devices can do that are offered.
const LOADS: [f64; 7] = [0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5];
const DEVICES: [u32; 4] = [2, 8, 16, 64];
const POLICIES: [PolicyKind; 5] = [
    PolicyKind::Quern,
    PolicyKind::Fifo,
    PolicyKind::Delay { delay_us: 5_000 },
    PolicyKind::Clockwork,
    PolicyKind::Symphony,
];
/// Rows of a batch that is done in half the time that calls have, and what it takes: what devices
/// can do is counted in these.
const GOOD_ROWS: f64 = 25.0;
const GOOD_SECONDS: f64 = 0.030;
/// What AlpaServe's replication attains at each SLO scale, as published (OSDI '23, figure 12).
const PUBLISHED: [(u32, f64); 3] = [(3, 0.485), (5, 0.640), (10, 0.826)];

fn main() -> Result<()> {
    let mut text = format!(
        "Simulated, by `make bench-scheduler`: every policy sees the same calls; means of {SEEDS} \
         seeds ± the standard deviation. How far the policies of others are \
         like the systems is said in [simulation](simulation.md).\n\n"
    );
    text += &shared()?;
    text += &replicas()?;
    text += &size()?;
    report::publish("scheduler", "Scheduling, simulated", text.trim_end())
}

/// Sixteen models on all of some devices, at several loads.
fn shared() -> Result<String> {
    let mut text = String::from(
        "Sixteen models on every device, 5 ms and 1 ms for each row a batch, at most 32 rows; calls \
         of one row, Poisson, 60 ms of time each. The load is a part of what the devices do in \
         batches of 25 rows, which take half of that. Answered in time, of all calls, and the 99th \
         percentile of the answered ones' latency:\n\n",
    );
    let mut behind = Vec::new();
    let [quern, fifo, delay, clockwork, symphony] = POLICIES.map(|policy| policy.to_string());
    let mut table = Table::new(["devices", "load", &quern, &fifo, &delay, &clockwork, &symphony]);
    for devices in DEVICES {
        for load in LOADS {
            eprintln!("== {devices} devices, load {load}");
            let rate = load * f64::from(devices) * GOOD_ROWS / GOOD_SECONDS;
            let scenario: Scenario = shared_scenario(devices, rate).parse()?;
            let setting = scenario.setting()?;
            let load_of = |seed| scenario.load(seed);
            let mut found = Vec::new();
            for policy in POLICIES {
                let summary = summarise(&setting, 1..=SEEDS, load_of, || policy.start())?;
                found.push((policy, summary));
            }
            behind.extend(losses(devices, load, &found));
            let cell = |place: usize| {
                let summary = &found[place].1;
                let p99 = summary.p99_ms.map_or(f64::NAN, |p99| p99.mean);
                format!("{}, {p99:.1} ms", percent(summary.in_time))
            };
            let cells = [0, 1, 2, 3, 4].map(cell);
            let [quern, fifo, delay, clockwork, symphony] = cells;
            let at = [devices.to_string(), load.to_string()];
            let [devices, load] = at;
            table.row([devices, load, quern, fifo, delay, clockwork, symphony]);
        }
    }
    text += &format!("{table}\n");
    text += &match behind.is_empty() {
        true => "Ours is first, or within 1 %, everywhere.\n\n".to_owned(),
        false => format!(
            "Ours is first or within 1 % in what is answered in time and, where both answer as \
             much, in the 99th percentile, but for: {}.\n\n",
            behind.join("; ")
        ),
    };
    Ok(text)
}

fn shared_scenario(devices: u32, rate: f64) -> String {
    format!(
        r#"
        duration = "10s"
        [[devices]]
        count = {devices}
        memory = "16GiB"
        [[models]]
        name = "model"
        count = 16
        memory = "100MiB"
        load = "450ms"
        batch = 32
        profile = [{{ rows = 1, time = "6ms" }}, {{ rows = 32, time = "37ms" }}]
        calls = {{ rate = {rate:.1}, slo = "60ms" }}
        "#
    )
}

/// Where another policy answers more than 1 % more in time or, answering as much, is more than 1 %
/// faster at the 99th percentile.
fn losses(devices: u32, load: f64, found: &[(PolicyKind, Summary)]) -> Vec<String> {
    let Some(((_, own), others)) = found.split_first() else { return Vec::new() };
    let p99 = |summary: &Summary| summary.p99_ms.map_or(f64::INFINITY, |p99| p99.mean);
    let [ours, our_p99] = [own.in_time.mean, p99(own)];
    let lost = |(policy, summary): &(PolicyKind, Summary)| {
        let [in_time, p99] = [summary.in_time.mean, p99(summary)];
        let at = format!("{devices} devices at {load}, where {policy}");
        if in_time > ours * 1.01 {
            return Some(format!("{at} answers {:.1} % in time", 100.0 * in_time));
        }
        let is_faster = in_time >= ours * 0.99 && p99 < our_p99 / 1.01;
        is_faster.then(|| format!("{at} has {p99:.1} ms instead of {our_p99:.1}"))
    };
    others.iter().filter_map(lost).collect()
}

/// AlpaServe's setting without model parallelism.
fn replicas() -> Result<String> {
    let mut text = String::from(
        "The setting of AlpaServe (OSDI '23): 24 models on 16 devices, each with room for two; 40 \
         calls a second, by rank^-0.5, gaps with a coefficient of variation of 4, 200 s; 235 ms a \
         call, no batches. A call has so many times that (the SLO scale). Replication is greedy, and \
         fitted to the calls that it then serves; ours begins with nothing loaded, and loads a model \
         in 450 ms. Calls answered in time:\n\n",
    );
    let headings = ["SLO scale", "replication, published", "replication, here", "ours", "loads"];
    let mut table = Table::new(headings);
    for (scale, published) in PUBLISHED {
        eprintln!("== AlpaServe's setting, scale {scale}");
        let (mut replication, mut ours, mut loads) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 1..=SEEDS {
            let [greedy, nowhere] = ["greedy", "nowhere"].map(|place| alpaserve(scale, place));
            let (greedy, nowhere): (Scenario, Scenario) = (greedy.parse()?, nowhere.parse()?);
            let load = greedy.load(seed);
            let fitted = greedy.setting_for(&load)?;
            let replicated = simulate(&fitted, &load, &mut *PolicyKind::Replicated.start(), seed)?;
            replication.push(replicated.attainment());
            let outcome =
                simulate(&nowhere.setting()?, &load, &mut *PolicyKind::Quern.start(), seed)?;
            ours.push(outcome.attainment());
            loads.push(outcome.loads as f64);
        }
        table.row([
            scale.to_string(),
            format!("{:.1} %", 100.0 * published),
            percent(Spread::of(replication.into_iter())),
            percent(Spread::of(ours.into_iter())),
            format!("{:.0}", Spread::of(loads.into_iter()).mean),
        ]);
    }
    text += &format!("{table}\n");
    Ok(text)
}

fn alpaserve(scale: u32, placement: &str) -> String {
    format!(
        r#"
        duration = "200s"
        placement = "{placement}"
        [[devices]]
        count = 16
        memory = "2GiB"
        [[models]]
        name = "model"
        count = 24
        memory = "1GiB"
        load = "450ms"
        profile = [{{ rows = 1, time = "235ms" }}]
        calls = {{ rate = 40.0, skew = 0.5, burstiness = 4.0, slo = "{}ms" }}
        "#,
        235 * scale
    )
}

/// How long a large simulation takes.
fn size() -> Result<String> {
    eprintln!("== 10,000 devices, a million calls");
    let scenario: Scenario = r#"
        duration = "10s"
        placement = "nowhere"
        [[devices]]
        count = 10000
        memory = "16GiB"
        [[models]]
        name = "model"
        count = 1000
        memory = "4GiB"
        load = "450ms"
        batch = 32
        profile = [{ rows = 1, time = "60ms" }, { rows = 32, time = "370ms" }]
        calls = { rate = 100000.0, skew = 0.9, slo = "2s" }
    "#
    .parse()?;
    let (setting, load) = (scenario.setting()?, scenario.load(1));
    let start = Instant::now();
    let outcome = simulate(&setting, &load, &mut *PolicyKind::Quern.start(), 1)
        .context("a large simulation")?;
    let took = start.elapsed();
    Ok(format!(
        "{} calls of 1,000 models on 10,000 devices that begin with nothing: simulated in {:.1} s on \
         one core, {:.1} µs a call with all that is decided and carried out ({}); {:.1} % in time, {} \
         loads.\n",
        load.len(),
        took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / load.len() as f64,
        aim("60 s for a million", took.as_secs_f64() <= 60.0),
        100.0 * outcome.attainment(),
        outcome.loads,
    ))
}

fn percent(spread: Spread) -> String {
    format!("{:.1} ±{:.1} %", 100.0 * spread.mean, 100.0 * spread.deviation)
}
