//! HTTP functions, a fresh sandbox for each request, beside `wasmtime serve` with the same
//! components; and what a deployed function costs before anyone calls it. Never judges: it prints
//! whether each aim was met.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use reqwest::Client;
use tempfile::TempDir;
use tokio::process::Command;

use support::{
    ceiling,
    client::{self, get},
    function::{deploy_function, distinct, settled_kib},
    histogram::Histogram,
    load::{Measured, Rounds, Target, compare, measure, progress, quantile},
    process::{Announced, ServerProcess, peer, root},
    report::{Table, aim, publish, said_by},
};

mod support {
    pub(crate) mod ceiling;
    pub(crate) mod client;
    pub(crate) mod function;
    pub(crate) mod histogram;
    pub(crate) mod load;
    pub(crate) mod process;
    pub(crate) mod report;
}

const CONNECTIONS: [u32; 3] = [1, 16, 64];
const ANSWER: &str = "hello\n";
/// Functions that are deployed and left alone.
const IDLE_FUNCTIONS: u32 = 200;

/// A component, and how many times the peer's rate is aimed at under load.
struct Guest {
    name: &'static str,
    what: &'static str,
    file: &'static str,
    aim: f64,
}

const GUESTS: [Guest; 2] = [
    Guest {
        name: "hello",
        what: "hello, as the template builds it",
        file: "target/functions/wasm32-wasip2/release/hello.wasm",
        aim: 4.0,
    },
    Guest {
        name: "default-stack",
        what: "hello, with Rust's stack of 1 MiB",
        file: "target/guests/wasm32-wasip2/release/default_stack.wasm",
        aim: 2.5,
    },
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let client = client::plain();
    let under_load = under_load(&client).await?;
    let idle = idle(&client).await?;
    let wasmtime = said_by(peer("wasmtime"), &["--version"])?;
    let text = format!(
        "Peer: {wasmtime}, `wasmtime serve -Scli`, one instance per request as here. Load: \
         `wrk -t1`, keep-alive. A bare hyper server that answers a word marks the ceiling.\n\n\
         {under_load}\n{idle}"
    );
    publish("http", "HTTP functions", &text)
}

/// Both servers under load with both components, and the time to make an instance.
async fn under_load(client: &Client) -> Result<String> {
    let data = TempDir::new()?;
    let quern = ServerProcess::quern(data.path()).await?;
    let bare = format!("http://{}/", ceiling::start().await?);
    let mut peers = Vec::new();
    let mut targets = vec![target("bare hyper", bare)];
    for guest in &GUESTS {
        let component = component(guest)?;
        deploy_function(client, &quern.url(""), guest.name, fs::read(&component)?).await?;
        let mut command = Command::new(peer("wasmtime"));
        command.args(["serve", "-Scli", "--addr", "127.0.0.1:0"]).arg(component);
        let wasmtime = ServerProcess::start(command, Announced::Stderr).await?;
        targets.push(target(
            &format!("quern, {}", guest.name),
            quern.url(&format!("/f/{}/", guest.name)),
        ));
        targets.push(target(&format!("wasmtime serve, {}", guest.name), wasmtime.url("/")));
        peers.push(wasmtime);
    }
    for target in &targets {
        let answer = get(client, &target.url).await?;
        ensure!(answer == ANSWER, "{} answers {answer:?}", target.name);
    }
    let mut table = Table::new([
        "component",
        "connections",
        "requests/s",
        "of wasmtime serve",
        "ratio",
        "p50, p99",
        "of wasmtime serve",
        "bare hyper, requests/s",
        "aims",
    ]);
    let mut loads = Vec::new();
    for connections in CONNECTIONS {
        loads.push((connections, compare(&targets, connections, Rounds::default()).await?));
    }
    for (index, guest) in GUESTS.iter().enumerate() {
        for (connections, measured) in &loads {
            let (connections, bare, pair) = (*connections, measured[0], 1 + 2 * index);
            let (ours, theirs) = (measured[pair], measured[pair + 1]);
            table.row(Comparison { guest, connections, ours, theirs, bare }.row());
        }
    }
    let instances = instances(client, &quern, &targets).await?;
    for peer in peers {
        peer.stop().await?;
    }
    quern.stop().await?;
    Ok(format!("{table}\n{instances}"))
}

/// One component on both servers, over so many connections.
struct Comparison<'a> {
    guest: &'a Guest,
    connections: u32,
    ours: Measured,
    theirs: Measured,
    bare: Measured,
}

impl Comparison<'_> {
    fn row(&self) -> [String; 9] {
        let Self { guest, connections, ours, theirs, bare } = self;
        let ratio = ours.per_second / theirs.per_second;
        let (rate, met) = match connections {
            1 => ("ahead".to_owned(), ratio > 1.0),
            _ => (format!("≥ {} ×", guest.aim), ratio >= guest.aim),
        };
        let latency = |measured: &Measured| format!("{}, {} µs", measured.p50_us, measured.p99_us);
        [
            guest.what.to_owned(),
            connections.to_string(),
            format!("{:.0}", ours.per_second),
            format!("{:.0}", theirs.per_second),
            format!("**{ratio:.2}**"),
            latency(ours),
            latency(theirs),
            format!("{:.0}", bare.per_second),
            format!("{}; {}", aim(&rate, met), aim("p99 no worse", ours.p99_us <= theirs.p99_us)),
        ]
    }
}

/// The time to make one instance, under load.
async fn instances(client: &Client, quern: &ServerProcess, targets: &[Target]) -> Result<String> {
    let read = async || {
        let text = get(client, &quern.url("/metrics")).await?;
        Histogram::read(&text, "quern_sandbox_instantiate_seconds")
    };
    let mut table = Table::new(["component", "instantiation p50", "p99"]);
    for (guest, target) in GUESTS.iter().zip(targets[1..].iter().step_by(2)) {
        let before = read().await?;
        measure(target, 16, Duration::from_secs(3)).await?;
        let observed = read().await?.since(&before);
        let us = |part| observed.quantile(part).map(|seconds| format!("{:.0} µs", seconds * 1e6));
        table.row([guest.what.to_owned(), us(0.5)?, us(0.99)?]);
    }
    Ok(format!("Making the instance of a request, at 16 connections:\n\n{table}"))
}

/// What functions cost that are deployed and not called, and their first call.
async fn idle(client: &Client) -> Result<String> {
    let data = TempDir::new()?;
    let quern = ServerProcess::quern(data.path()).await?;
    let empty = settled_kib(&quern).await?;
    let component = fs::read(component(&GUESTS[0])?)?;
    progress(format!("deploying {IDLE_FUNCTIONS} different functions"));
    for number in 0..IDLE_FUNCTIONS {
        // Contents differ, so that each is compiled, stored and loaded on its own.
        deploy_function(client, &quern.url(""), &idle_name(number), distinct(&component, number))
            .await?;
    }
    quern.stop().await?;

    let quern = ServerProcess::quern(data.path()).await?;
    let deployed = settled_kib(&quern).await?;
    get(client, &quern.url("/healthz")).await?;
    let mut first_us = Vec::new();
    for number in 0..IDLE_FUNCTIONS {
        let url = quern.url(&format!("/f/{}/", idle_name(number)));
        let start = Instant::now();
        let answer = get(client, &url).await?;
        first_us.push(start.elapsed().as_secs_f64() * 1e6);
        ensure!(answer == ANSWER, "{url} answers {answer:?}");
    }
    let called = settled_kib(&quern).await?;
    quern.stop().await?;

    let (p50, p99) = (quantile(&mut first_us, 0.5), quantile(&mut first_us, 0.99));
    let each = |before: f64, after: f64| (after - before) / f64::from(IDLE_FUNCTIONS);
    let (unloaded, loaded) = (each(empty, deployed), each(empty, called));
    let mut table = Table::new(["of a deployed function", "measured", "aim"]);
    table.row([
        "first call after a restart, p50".into(),
        format!("{p50:.0} µs"),
        aim("≤ 1 ms", p50 <= 1000.0),
    ]);
    table.row(["the same, p99".into(), format!("{p99:.0} µs"), "–".into()]);
    table.row([
        "memory before its first call".into(),
        format!("{unloaded:.1} KiB"),
        aim("≤ 100 KB", unloaded * 1.024 <= 100.0),
    ]);
    table.row(["memory after its first call".into(), format!("{loaded:.1} KiB"), "–".into()]);
    Ok(format!(
        "With {IDLE_FUNCTIONS} functions deployed, each a component of its own (memory: resident \
         set over that of an empty server):\n\n{table}"
    ))
}

fn target(name: &str, url: String) -> Target {
    Target { name: name.to_owned(), url, ..Target::default() }
}

fn idle_name(number: u32) -> String {
    format!("idle-{number}")
}

fn component(guest: &Guest) -> Result<PathBuf> {
    let path = root().join(guest.file);
    ensure!(path.exists(), "{} is missing: `make guests` builds it", guest.file);
    Ok(path)
}
