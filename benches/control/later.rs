//! Calls for later: how many a second are taken in, and how long it takes until all of them are
//! carried out; beside RQ and Celery.

use std::{
    fs::{self, File},
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    callee::{hello, serve_configured},
    queues::{Flush, PROCESSES, Queue, Queues, call},
    support::{
        client::{get, plain},
        function::deploy_function,
        load::{Measured, Rounds, Target, compare, progress, quantile},
        process::ServerProcess,
        report::{Table, aim, publish},
    },
};

/// Calls a second that are aimed at.
const AIM: f64 = 5_000.0;
const CONNECTIONS: [u32; 3] = [1, 32, 128];
const ROUNDS: Rounds = Rounds { count: 3, time: Duration::from_secs(2) };
/// Bytes of the text in a call.
const BYTES: usize = 200;
/// Calls that are carried out to the last, and how many are handed over at a time.
const CALLS: usize = 5_000;
const AT_A_TIME: usize = 32;
/// Room for all that is taken in.
const QUERN: &str = "[async]\nmax_waiting = 10000000\ntenant_waiting = 10000000\n";

/// Quern, and how it is called.
struct Quern {
    server: ServerProcess,
    _data: TempDir,
}

/// What takes calls in and carries them out.
enum System<'a> {
    Quern(&'a Quern),
    Peer(&'a Queues, Queue),
}

/// What is taken in, and what is carried out.
pub(crate) async fn measure() -> Result<()> {
    let folder = TempDir::new()?;
    let body = folder.path().join("body.json");
    fs::write(&body, call(&"x".repeat(BYTES)).to_string())?;
    let queues = [Queues::start(Flush::Always).await?, Queues::start(Flush::EverySecond).await?];
    let quern = Quern::start().await?;
    let target = Target {
        name: "Quern".to_owned(),
        url: quern.server.url("/f/hello/"),
        body: Some(body.clone()),
        headers: vec!["Prefer: respond-async".to_owned()],
    };
    let mut table =
        Table::new(["taken in by", "connections", "calls/s", "p50", "p99", "Quern : it", "aim"]);
    for connections in CONNECTIONS {
        let mut targets = vec![target.clone()];
        let peers = queues.iter().flat_map(|on| Queue::ALL.map(|queue| on.target(queue, &body)));
        targets.extend(peers);
        let measured = compare(&targets, connections, ROUNDS).await?;
        for on in &queues {
            on.forget().await?;
        }
        for (target, theirs) in targets.iter().zip(&measured) {
            table.row(row(target, connections, measured[0], *theirs));
        }
    }
    let flushes = flushes(folder.path())?;
    let mut alone = String::new();
    let [durable, _] = &queues;
    for queue in Queue::ALL {
        let rate = durable.alone(queue, Duration::from_secs(3), BYTES).await?;
        progress(format!("the client of {} alone: {rate:.0}/s", queue.name()));
        alone += &format!(
            "The client of {} alone, in {PROCESSES} processes and without HTTP, hands {rate:.0} \
             calls a second to Redis. ",
            queue.name()
        );
        durable.forget().await?;
    }
    drop(quern);
    let ends = carried_out(&queues).await?;
    let text = format!(
        "A call of {BYTES} bytes for later, acknowledged once it is on the disk: Redis with \
         `appendfsync always`, and where that is said with `everysec`. RQ and Celery are behind \
         FastAPI on {PROCESSES} processes; all are loaded by the same `wrk -t1`. Nobody carries out \
         what the peers take in meanwhile; Quern does. This disk alone flushes {flushes:.0} times a \
         second.\n\n{table}\n{alone}\n\nFrom the first of {CALLS} calls to the end of the last, \
         {AT_A_TIME} handed over at a time. RQ has {PROCESSES} workers that run calls in \
         themselves, Celery a pool of {PROCESSES} processes; Quern makes a sandbox for each call. \
         All keep what was answered.\n\n{ends}"
    );
    publish("later", "Calls for later", &text)
}

fn row(target: &Target, connections: u32, ours: Measured, theirs: Measured) -> [String; 7] {
    let is_ours = target.name == "Quern";
    let has_aim = is_ours && connections == CONNECTIONS[CONNECTIONS.len() - 1];
    [
        target.name.clone(),
        connections.to_string(),
        format!("{:.0}", theirs.per_second),
        format!("{:.1} ms", theirs.p50_us / 1e3),
        format!("{:.1} ms", theirs.p99_us / 1e3),
        format!("**{:.2}**", ours.per_second / theirs.per_second),
        match has_aim {
            true => aim(&format!("≥ {AIM}/s"), theirs.per_second >= AIM),
            false => "–".to_owned(),
        },
    ]
}

impl Quern {
    async fn start() -> Result<Self> {
        let data = TempDir::new()?;
        let server = serve_configured(data.path(), QUERN, &[]).await?;
        deploy_function(&plain(), &server.url(""), "hello", hello()?).await?;
        Ok(Self { server, _data: data })
    }

    /// Waits until no call waits or runs.
    async fn is_through(&self, client: &Client) -> Result<()> {
        for state in ["queued", "running"] {
            while self.has(client, state).await? {
                sleep(Duration::from_millis(20)).await;
            }
        }
        for state in ["failed", "dead"] {
            ensure!(!self.has(client, state).await?, "calls are {state}");
        }
        Ok(())
    }

    async fn has(&self, client: &Client, state: &str) -> Result<bool> {
        let url = self.server.url(&format!("/v1/invocations?limit=1&state={state}"));
        let found: Value = serde_json::from_str(&get(client, &url).await?)?;
        let calls = found["invocations"].as_array().context("a list of calls")?;
        Ok(!calls.is_empty())
    }
}

/// Calls a second from the first one's begin to the last one's end.
async fn carried_out(queues: &[Queues]) -> Result<Table> {
    let quern = Quern::start().await?;
    let ours = System::Quern(&quern).carry_out().await?;
    let mut table = Table::new(["carried out by", "calls/s", "Quern : it"]);
    table.row(["Quern".to_owned(), format!("{ours:.0}"), "**1.00**".to_owned()]);
    for (on, queue) in queues.iter().flat_map(|on| Queue::ALL.map(|queue| (on, queue))) {
        on.forget().await?;
        let workers = on.workers(queue).await?;
        let theirs = System::Peer(on, queue).carry_out().await?;
        workers.stop().await?;
        table.row([on.name(queue), format!("{theirs:.0}"), format!("**{:.2}**", ours / theirs)]);
    }
    Ok(table)
}

impl System<'_> {
    fn url(&self) -> String {
        match self {
            Self::Quern(quern) => quern.server.url("/f/hello/"),
            Self::Peer(queues, queue) => queues.url(*queue),
        }
    }

    /// Hands over all calls and waits for the last; calls a second.
    async fn carry_out(&self) -> Result<f64> {
        let (client, url) = (plain(), self.url());
        let call = call(&"x".repeat(BYTES));
        let hand_over = |count: usize| {
            let requests = (0..count)
                .map(|_| client.post(&url).header("prefer", "respond-async").json(&call).send());
            futures::stream::iter(requests)
                .buffer_unordered(AT_A_TIME)
                .map_err(anyhow::Error::from)
                .try_for_each(async |answer| {
                    let status = answer.status();
                    if status != 202 {
                        bail!("{url}: {status} {}", answer.json::<Value>().await?);
                    }
                    answer.bytes().await?;
                    Ok(())
                })
        };
        // One more was carried out before: the first is slow.
        if let Self::Quern(quern) = self {
            hand_over(1).await?;
            quern.is_through(&client).await?;
        }
        let begun = Instant::now();
        hand_over(CALLS).await?;
        match self {
            Self::Quern(quern) => quern.is_through(&client).await?,
            Self::Peer(queues, queue) => queues.finished_are(*queue, CALLS + 1).await?,
        }
        let rate = CALLS as f64 / begun.elapsed().as_secs_f64();
        progress(format!("{url}: {rate:.0} calls/s to the end"));
        Ok(rate)
    }
}

/// How often a second a page that is appended to a file gets to the disk, one after the other.
fn flushes(folder: &std::path::Path) -> Result<f64> {
    let mut file = File::create(folder.join("flushed"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(1.0 / quantile(&mut times, 0.5))
}
