//! A well-behaved function beside hostile ones: its latency at a steady rate, alone and while others
//! do their worst. Never judges: it prints whether each aim was met.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use futures::future::try_join_all;
use reqwest::Client;
use tempfile::TempDir;
use tokio::{
    runtime,
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use support::{
    client::{self, deploy, get},
    load::{progress, quantile},
    process::{ServerProcess, root},
    report::{Table, aim, publish},
};

mod support {
    pub(crate) mod client;
    // The load of this bench is its own.
    #[expect(dead_code, reason = "wrk has no steady rate")]
    pub(crate) mod load;
    #[expect(dead_code, reason = "there is no peer")]
    pub(crate) mod process;
    pub(crate) mod report;
}

const ANSWER: &str = "hello\n";
/// Callers of the neighbour, and how often each calls.
const CALLERS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(4);
/// Callers of the hostile function, each as often as it is answered.
const ATTACKERS: u32 = 8;
const ROUND: Duration = Duration::from_secs(5);
/// Times the p99 without others that it may be with them.
const AIM: f64 = 2.0;

/// One way to misbehave, by the path of the guest `misbehave`.
struct Attack {
    what: &'static str,
    path: &'static str,
    /// The error that ends it; none if it succeeds.
    code: Option<&'static str>,
}

static ATTACKS: [Attack; 6] = [
    Attack { what: "computes for ever", path: "/loop", code: Some("cpu-time-exceeded") },
    Attack { what: "takes all memory", path: "/grow", code: Some("out-of-memory") },
    Attack { what: "overflows its stack", path: "/overflow", code: Some("trap") },
    Attack { what: "panics", path: "/trap", code: Some("trap") },
    Attack { what: "prints 1 MiB", path: "/print?lines=16384&width=56", code: None },
    Attack { what: "streams 64 MiB", path: "/stream?chunks=1024&bytes=65536", code: None },
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let client = client::plain();
    let data = TempDir::new()?;
    let quern = ServerProcess::quern(data.path()).await?;
    for (name, file, limits) in [
        ("hello", "target/functions/wasm32-wasip2/release/hello.wasm", ""),
        (
            "misbehave",
            "target/guests/wasm32-wasip2/release/misbehave.wasm",
            "[limits]\ncpu = \"200ms\"\ntimeout = \"5s\"\nmemory = \"32MiB\"\n",
        ),
    ] {
        let path = root().join(file);
        ensure!(path.exists(), "{file} is missing: `make guests` builds it");
        let manifest = format!("name = \"{name}\"\nkind = \"http\"\n{limits}").into_bytes();
        let url = quern.url(&format!("/v1/functions/{name}"));
        deploy(&client, &url, [("manifest", manifest), ("component", fs::read(path)?)]).await?;
    }
    let neighbour = quern.url("/f/hello/");
    steady(&client, &neighbour, Duration::from_secs(1)).await?;

    let mut table =
        Table::new(["neighbour", "attacks ended", "p50", "p99", "p99, alone", "ratio", "aim"]);
    for attack in &ATTACKS {
        let mut alone = steady(&client, &neighbour, ROUND).await?;
        let (mut beside, ended) = attacked(&client, &quern, &neighbour, attack).await?;
        let before = quantile(&mut alone, 0.99);
        let (p50, p99) = (quantile(&mut beside, 0.5), quantile(&mut beside, 0.99));
        let ratio = p99 / before;
        progress(format!("{}: p99 {p99:.0} µs, {ratio:.2} of {before:.0} µs", attack.what));
        table.row([
            attack.what.into(),
            ended.to_string(),
            format!("{p50:.0} µs"),
            format!("{p99:.0} µs"),
            format!("{before:.0} µs"),
            format!("**{ratio:.2}**"),
            aim(&format!("≤ {AIM} ×"), ratio <= AIM),
        ]);
    }
    quern.stop().await?;
    let text = format!(
        "`hello` is called by {CALLERS} callers, each every {} ms; every call succeeds. Beside it \
         {ATTACKERS} callers call one hostile function (200 ms of processor time, 32 MiB) without a \
         pause. Load, server and attacks share the machine.\n\n{table}",
        PAUSE.as_millis()
    );
    publish("isolation", "Hostile neighbours", &text)
}

/// The latencies in µs of the neighbour while it is attacked, and how many attacks came to an end.
async fn attacked(
    client: &Client,
    quern: &ServerProcess,
    neighbour: &str,
    attack: &'static Attack,
) -> Result<(Vec<f64>, usize)> {
    let (stop, stopped) = watch::channel(false);
    let url = quern.url(&format!("/f/misbehave{}", attack.path));
    // On a thread of their own: what they receive must not keep those waiting who are measured.
    let attackers = std::thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let client = client::plain();
        let attacks = (0..ATTACKERS).map(|_| attack_until(&client, &url, attack, stopped.clone()));
        runtime.block_on(try_join_all(attacks))
    });
    let latencies = steady(client, neighbour, ROUND).await;
    stop.send_replace(true);
    let ended = attackers.join().map_err(|_| anyhow!("the attackers panicked"))??;
    Ok((latencies?, ended.into_iter().sum()))
}

/// Attacks again and again; each attack must end as it should.
async fn attack_until(
    client: &Client,
    url: &str,
    attack: &Attack,
    stopped: watch::Receiver<bool>,
) -> Result<usize> {
    let mut ended = 0;
    while !*stopped.borrow() {
        let response = client.get(url).send().await?;
        let code = response.headers().get("quern-error").and_then(|code| code.to_str().ok());
        ensure!(code == attack.code, "{url} ended with {code:?}");
        response.bytes().await?;
        ended += 1;
    }
    Ok(ended)
}

/// Calls at a steady rate; the latencies in µs.
async fn steady(client: &Client, url: &str, time: Duration) -> Result<Vec<f64>> {
    let until = Instant::now() + time;
    let caller = async || {
        let mut latencies = Vec::new();
        let mut turn = interval(PAUSE);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < until {
            turn.tick().await;
            let start = Instant::now();
            let answer = get(client, url).await?;
            latencies.push(start.elapsed().as_secs_f64() * 1e6);
            ensure!(answer == ANSWER, "{url} answers {answer:?}");
        }
        anyhow::Ok(latencies)
    };
    Ok(try_join_all((0..CALLERS).map(|_| caller())).await?.concat())
}
