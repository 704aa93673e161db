//! Functions that ask for the reuse of their instances, beside a bare server; and the first call of
//! a function in JavaScript. Never judges: it prints whether each aim was met.

use std::{fs, time::Instant};

use anyhow::{Result, ensure};
use reqwest::Client;
use tempfile::TempDir;

use support::{
    ceiling,
    client::{self, deploy, get},
    load::{Rounds, Target, compare, progress, quantile},
    process::{ServerProcess, root},
    report::{Table, aim, publish},
};

mod support {
    pub(crate) mod ceiling;
    pub(crate) mod client;
    pub(crate) mod load;
    #[expect(dead_code, reason = "the only peer is in this process")]
    pub(crate) mod process;
    pub(crate) mod report;
}

const CONNECTIONS: [u32; 3] = [1, 16, 64];
const HELLO: &str = "target/functions/wasm32-wasip2/release/hello.wasm";
const JAVASCRIPT: &str = "target/javascript/hello-js.wasm";
/// Part of the bare server's rate that is aimed at.
const AIM: f64 = 0.5;
/// Restarts of the server, each with one first call.
const STARTS: usize = 10;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let client = client::plain();
    let reused = reused(&client).await?;
    let javascript = javascript(&client).await?;
    let text = format!(
        "The template's hello with `reuse = {{ requests = 1000000, idle = \"10s\" }}`, and without; \
         beside a bare hyper server that answers a word. Load: `wrk -t1`, keep-alive.\n\n{reused}\n\
         {javascript}"
    );
    publish("reuse", "Reused instances, and JavaScript", &text)
}

async fn reused(client: &Client) -> Result<String> {
    let data = TempDir::new()?;
    let quern = ServerProcess::quern(data.path()).await?;
    let component = fs::read(root().join(HELLO))?;
    let mut targets = vec![target("bare hyper", format!("http://{}/", ceiling::start().await?))];
    for (name, reuse) in
        [("fresh", ""), ("reused", "reuse = { requests = 1000000, idle = \"10s\" }\n")]
    {
        let manifest = format!("name = \"{name}\"\nkind = \"http\"\n{reuse}").into_bytes();
        let url = quern.url(&format!("/v1/functions/{name}"));
        let parts = [("manifest", manifest), ("component", component.clone())];
        deploy(client, &url, parts).await?;
        targets.push(target(name, quern.url(&format!("/f/{name}/"))));
    }
    let mut table = Table::new([
        "connections",
        "reused, requests/s",
        "fresh",
        "bare hyper",
        "reused : bare",
        "p50, p99 reused",
        "aim",
    ]);
    for connections in CONNECTIONS {
        let measured = compare(&targets, connections, Rounds::default()).await?;
        let [bare, fresh, reused] = measured[..] else { unreachable!("three targets") };
        let ratio = reused.per_second / bare.per_second;
        table.row([
            connections.to_string(),
            format!("{:.0}", reused.per_second),
            format!("{:.0}", fresh.per_second),
            format!("{:.0}", bare.per_second),
            format!("**{ratio:.2}**"),
            format!("{}, {} µs", reused.p50_us, reused.p99_us),
            aim(&format!("≥ {AIM} ×"), ratio >= AIM),
        ]);
    }
    quern.stop().await?;
    Ok(table.to_string())
}

/// The first call of a component of 13 MB after a start, and the ones that follow it.
async fn javascript(client: &Client) -> Result<String> {
    let path = root().join(JAVASCRIPT);
    if !path.exists() {
        return Ok("JavaScript was not measured: `make javascript` builds its component.\n".into());
    }
    let data = TempDir::new()?;
    let quern = ServerProcess::quern(data.path()).await?;
    let manifest = fs::read(root().join("functions/hello-js/quern.toml"))?;
    let parts = [("manifest", manifest), ("component", fs::read(path)?)];
    let start = Instant::now();
    deploy(client, &quern.url("/v1/functions/hello-js"), parts).await?;
    let deployed = start.elapsed();
    quern.stop().await?;
    let (mut first, mut next) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        // Without the list of what was in use, which would have it loaded ahead of its call.
        let recent = data.path().join("recent.json");
        if recent.exists() {
            fs::remove_file(recent)?;
        }
        let quern = ServerProcess::quern(data.path()).await?;
        let url = quern.url("/f/hello-js/");
        get(client, &quern.url("/healthz")).await?;
        for latencies in [&mut first, &mut next] {
            let start = Instant::now();
            let answer = get(client, &url).await?;
            latencies.push(start.elapsed().as_secs_f64() * 1e3);
            ensure!(!answer.is_empty(), "{url} answers nothing");
        }
        quern.stop().await?;
    }
    let (first, next) = (quantile(&mut first, 0.5), quantile(&mut next, 0.5));
    progress(format!("JavaScript: first call {first:.1} ms, next {next:.1} ms"));
    let mut table = Table::new(["a function in JavaScript", "measured"]);
    table.row(["deployed in".into(), format!("{:.1} s", deployed.as_secs_f64())]);
    table.row(["first call after a start, p50".into(), format!("{first:.1} ms")]);
    table.row(["call in a fresh instance, p50".into(), format!("{next:.1} ms")]);
    Ok(table.to_string())
}

fn target(name: &str, url: String) -> Target {
    Target { name: name.to_owned(), url, ..Target::default() }
}
