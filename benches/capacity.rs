//! What a node with thousands of functions costs: its start, its memory, a call of a random one,
//! one more deployment. Never judges: it prints whether each aim was met.
//!
//! `--functions 1000` takes another number than 10,000; `--one-component` leaves out the functions
//! with components of their own, each of which has to be compiled first.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::Client;
use tempfile::TempDir;

use support::{
    client::{self, get},
    function::{deploy_function, distinct, settled_kib},
    load::{progress, quantile},
    process::{ServerProcess, root},
    report::{Table, aim, publish},
};

mod support {
    pub(crate) mod client;
    pub(crate) mod function;
    #[expect(dead_code, reason = "one client is enough: no load is generated")]
    pub(crate) mod load;
    #[expect(dead_code, reason = "there are no peers")]
    pub(crate) mod process;
    pub(crate) mod report;
}

const COMPONENT: &str = "target/functions/wasm32-wasip2/release/hello.wasm";
const ANSWER: &str = "hello\n";
/// Functions, unless the command line says otherwise.
const FUNCTIONS: u32 = 10_000;
/// Most functions that are called.
const CALLED: usize = 1_000;
/// Uploads at the same time.
const UPLOADS: usize = 8;
/// Deployments on top, to measure one.
const MORE: u32 = 50;
/// How long loading ahead of calls may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was measured with so many functions deployed.
#[derive(Debug, Default)]
struct Findings {
    deploy_ms: [f64; 2],
    start_ms: f64,
    idle_kib: f64,
    loaded_kib: f64,
    first_us: [f64; 2],
    second_us: [f64; 2],
    warm_start_ms: f64,
    warmed: f64,
    warmed_after_ms: f64,
    after_restart_us: [f64; 2],
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let functions = match arguments.iter().position(|argument| argument == "--functions") {
        Some(at) => arguments.get(at + 1).context("--functions needs a number")?.parse()?,
        None => FUNCTIONS,
    };
    let component = fs::read(root().join(COMPONENT))
        .with_context(|| format!("{COMPONENT} is missing: `make guests` builds it"))?;
    let mut text = format!(
        "A node with {functions} functions (the template's component, 150 KB). Start: from the \
         start of the process until it listens. Memory: resident set over that of an empty server. \
         Calls: one at a time over one connection, {} functions at random.\n",
        CALLED.min(functions as usize)
    );
    let own = !arguments.iter().any(|argument| argument == "--one-component");
    let shared = |_| component.clone();
    text += &section("One component under all names", &measure(functions, &shared).await?);
    if own {
        let apart = |number| distinct(&component, number);
        text += &section("Each a component of its own", &measure(functions, &apart).await?);
    }
    publish("capacity", "A node with thousands of functions", &text)
}

/// Measures a node with so many functions, which `component` makes by their number.
async fn measure(functions: u32, component: &impl Fn(u32) -> Vec<u8>) -> Result<Findings> {
    let (client, data) = (client::plain(), TempDir::new()?);
    let quern = ServerProcess::quern(data.path()).await?;
    let empty = settled_kib(&quern).await?;
    progress(format!("deploying {functions} functions"));
    deploy_all(&client, &quern, functions, component).await?;
    let mut found =
        Findings { deploy_ms: one_more(&client, &quern, component).await?, ..Findings::default() };
    quern.stop().await?;

    let (quern, start_ms) = start(data.path()).await?;
    found.start_ms = start_ms;
    found.idle_kib = (settled_kib(&quern).await? - empty) / f64::from(functions);
    progress("calling".to_owned());
    let mut numbers: Vec<u32> = (0..functions).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut numbers);
    numbers.truncate(CALLED);
    found.first_us = call_each(&client, &quern, &numbers).await?;
    found.second_us = call_each(&client, &quern, &numbers).await?;
    let loaded = settled_kib(&quern).await? - empty - found.idle_kib * f64::from(functions);
    found.loaded_kib = loaded / numbers.len() as f64;
    let in_use = metric(&client, &quern, "quern_function_loaded").await?;
    quern.stop().await?;

    let begun = Instant::now();
    let (quern, start_ms) = start(data.path()).await?;
    found.warm_start_ms = start_ms;
    while metric(&client, &quern, "quern_function_loaded").await? < in_use {
        ensure!(begun.elapsed() < PATIENCE, "functions are not loaded again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    found.warmed = in_use;
    found.warmed_after_ms = begun.elapsed().as_secs_f64() * 1e3;
    found.after_restart_us = call_each(&client, &quern, &numbers).await?;
    quern.stop().await?;
    Ok(found)
}

async fn deploy_all(
    client: &Client,
    quern: &ServerProcess,
    functions: u32,
    component: &impl Fn(u32) -> Vec<u8>,
) -> Result<()> {
    let origin = quern.url("");
    futures::stream::iter(0..functions)
        .map(|number| {
            let (name, component, origin) = (name(number), component(number), &origin);
            async move { deploy_function(client, origin, &name, component).await }
        })
        .buffer_unordered(UPLOADS)
        .try_collect()
        .await
}

/// p50 and p99 of deploying a component that is compiled already under a new name.
async fn one_more(
    client: &Client,
    quern: &ServerProcess,
    component: &impl Fn(u32) -> Vec<u8>,
) -> Result<[f64; 2]> {
    let mut took_ms = Vec::new();
    for number in 0..MORE {
        let start = Instant::now();
        deploy_function(client, &quern.url(""), &format!("more-{number}"), component(0)).await?;
        took_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok([quantile(&mut took_ms, 0.5), quantile(&mut took_ms, 0.99)])
}

/// p50 and p99 of calling each once.
async fn call_each(client: &Client, quern: &ServerProcess, numbers: &[u32]) -> Result<[f64; 2]> {
    get(client, &quern.url("/healthz")).await?;
    let mut took_us = Vec::new();
    for number in numbers {
        let url = quern.url(&format!("/f/{}/", name(*number)));
        let start = Instant::now();
        let answer = get(client, &url).await?;
        took_us.push(start.elapsed().as_secs_f64() * 1e6);
        ensure!(answer == ANSWER, "{url} answers {answer:?}");
    }
    Ok([quantile(&mut took_us, 0.5), quantile(&mut took_us, 0.99)])
}

async fn start(data: &Path) -> Result<(ServerProcess, f64)> {
    let start = Instant::now();
    let quern = ServerProcess::quern(data).await?;
    Ok((quern, start.elapsed().as_secs_f64() * 1e3))
}

async fn metric(client: &Client, quern: &ServerProcess, name: &str) -> Result<f64> {
    let text = get(client, &quern.url("/metrics")).await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("/metrics has no {name}"))?.parse()?)
}

fn name(number: u32) -> String {
    format!("idle-{number}")
}

fn section(title: &str, found: &Findings) -> String {
    let mut table = Table::new(["of the node", "measured", "aim"]);
    let ms = |value: f64| format!("{value:.0} ms");
    let quantiles = |[p50, p99]: [f64; 2]| format!("{p50:.0}, {p99:.0} µs");
    let none = || "–".to_owned();
    let Findings { start_ms, idle_kib, warm_start_ms, .. } = *found;
    table.row(["start".into(), ms(start_ms), aim("seconds", start_ms <= 5_000.0)]);
    table.row([
        "memory of an idle function".into(),
        format!("{idle_kib:.1} KiB"),
        aim("≤ 100 KB", idle_kib * 1.024 <= 100.0),
    ]);
    table.row([
        "memory of a called function, on top".into(),
        format!("{:.1} KiB", found.loaded_kib),
        none(),
    ]);
    table.row(["first call, p50, p99".into(), quantiles(found.first_us), none()]);
    table.row(["second call, p50, p99".into(), quantiles(found.second_us), none()]);
    let [p50, p99] = found.deploy_ms;
    table.row([
        "one more deployment, compiled already, p50, p99".into(),
        format!("{p50:.1}, {p99:.1} ms"),
        none(),
    ]);
    table.row([
        "start with functions to load ahead".into(),
        ms(warm_start_ms),
        aim("seconds", warm_start_ms <= 5_000.0),
    ]);
    table.row([format!("until {} are loaded", found.warmed), ms(found.warmed_after_ms), none()]);
    table.row([
        "first call after that restart, p50, p99".into(),
        quantiles(found.after_restart_us),
        none(),
    ]);
    format!("\n{title}:\n\n{table}")
}
