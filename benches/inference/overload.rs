//! More requests than a server can compute: how many it still answers in time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::Client;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    agreement,
    models::{self, Form, RESNET},
    peers::{cores, fastapi, triton},
    quern::{ORT, ORT_ROW_BY_ROW, Quern},
    rates::{rate, time},
    support::{
        group::client,
        load::{Target as Wrk, measure as closed, progress},
        open_loop::{Offer, Outcome, offer},
        report::{Table, aim, publish},
    },
};

/// Times its capacity that a server is offered.
const TIMES: [f64; 3] = [1.0, 3.0, 10.0];
/// The part of its peak that should be left.
const AIM: f64 = 0.9;
const WARM_UP: Duration = Duration::from_secs(2);
const TIME: Duration = Duration::from_secs(5);
/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a server may take to come to rest before the next load.
const REST: Duration = Duration::from_secs(60);
/// The model in the ways that Quern serves it, each with what it is called and its manifest.
const MODELS: [(&str, &str, &str); 2] =
    [("resnet18", "Quern", ORT_ROW_BY_ROW), ("resnet18-batches", "Quern, batches up to 64", ORT)];

pub(crate) async fn measure() -> Result<()> {
    let folder = TempDir::new()?;
    models::write(folder.path())?;
    let (model, file) = (&RESNET, RESNET.file(folder.path()));
    let client = client()?;
    let quern = Quern::start("").await?;
    for (name, _, manifest) in MODELS {
        quern.deploy_model(&client, name, manifest, &file).await?;
    }
    let way = triton::Deployed { name: model.name, instances: cores(), rows: 1, delay_us: 0 };
    let triton = triton::start(model, &file, &[way]).await?;
    let fastapi = fastapi::start(&file, 1, cores()).await?;

    let patience_us = PATIENCE.as_micros() as u64;
    let plain = model.request(Form::Binary, model.name, None, folder.path())?;
    let limited = model.request(Form::Binary, model.name, Some(patience_us), folder.path())?;
    let path = format!("/v2/models/{}/infer", model.name);
    let targets = |request| {
        let [one, many] = MODELS.map(|(name, title, _)| quern.target(title, name, request));
        [one, many, triton.target(&path, request), fastapi.target("/binary", request)]
    };
    let (mut patient, mut limited) = (targets(&plain), targets(&limited));
    agreement::check(&client, model, &mut patient).await?;
    agreement::check(&client, model, &mut limited).await?;
    let mut table = Table::new([
        "server",
        "offered",
        "requests/s",
        "answered in time/s",
        "of its peak",
        "refused",
        "too late",
        "p50, p99 in time",
        "aim",
    ]);
    for (patient, limited) in patient.iter().zip(&limited) {
        let _awake = limited.awake();
        add_rows(&client, patient.http()?, limited.http()?, &mut table).await?;
    }
    publish("inference-overload", "Models: overload", &format!("{}\n\n{table}", introduction()))
}

/// Loads a server with requests of callers who wait as long as it takes, to find out its capacity,
/// and then with those of callers who say for how long they wait.
async fn add_rows(client: &Client, patient: &Wrk, limited: &Wrk, table: &mut Table) -> Result<()> {
    let name = &patient.name;
    let alone = answered(client, patient).await?;
    closed(patient, 32, Duration::from_secs(1)).await?;
    let capacity = closed(patient, 32, Duration::from_secs(4)).await?.per_second;
    progress(format!("{name} computes {capacity:.0}/s at 32 connections"));
    let mut outcomes = Vec::new();
    for times in TIMES {
        let per_second = capacity * times;
        // All cores are the servers': a ms more or less counts for nothing here.
        let awake = Duration::ZERO;
        let offered = Offer { per_second, warm_up: WARM_UP, time: TIME, patience: PATIENCE, awake };
        let outcome = offer(limited, offered).await?;
        progress(format!("{name} at {times} ×: {:.0}/s in time", outcome.good_per_second));
        outcomes.push(outcome);
        rest(client, patient, alone).await?;
    }
    let most = outcomes.iter().map(|outcome| outcome.good_per_second).fold(0.0, f64::max);
    let peak = most.max(capacity);
    table.row([
        name.clone(),
        "32 callers".to_owned(),
        rate(capacity),
        rate(capacity),
        format!("**{:.2}**", capacity / peak),
        "–".to_owned(),
        "–".to_owned(),
        "–".to_owned(),
        "–".to_owned(),
    ]);
    for (times, outcome) in TIMES.into_iter().zip(&outcomes) {
        table.row(row(name, times, capacity, peak, outcome));
    }
    Ok(())
}

/// How long one request takes.
async fn answered(client: &Client, target: &Wrk) -> Result<Duration> {
    let start = Instant::now();
    agreement::send(client, target).await?.bytes().await?;
    Ok(start.elapsed())
}

/// Waits until the server has done with what nobody waits for any more, and answers as it does
/// alone.
async fn rest(client: &Client, target: &Wrk, alone: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        let request = timeout(REST, answered(client, target)).await;
        // In an overload it may well be refused.
        if matches!(request, Ok(Ok(took)) if took <= alone * 2) {
            return Ok(());
        }
        ensure!(start.elapsed() < REST, "{} does not come to rest", target.name);
        sleep(Duration::from_millis(100)).await;
    }
}

fn row(name: &str, times: f64, capacity: f64, peak: f64, outcome: &Outcome) -> [String; 9] {
    let share = outcome.good_per_second / peak;
    let part = |count: usize| format!("{:.0} %", 100.0 * count as f64 / outcome.offered as f64);
    let quantile = |part| outcome.quantile(part).map_or("–".to_owned(), time);
    [
        name.to_owned(),
        format!("{times} × capacity"),
        rate(capacity * times),
        rate(outcome.good_per_second),
        format!("**{share:.2}**"),
        part(outcome.refused),
        part(outcome.late()),
        format!("{}, {}", quantile(0.5), quantile(0.99)),
        match name == "Quern" && times > 1.0 {
            true => aim(&format!("≥ {AIM}"), share >= AIM),
            false => "–".to_owned(),
        },
    ]
}

fn introduction() -> String {
    format!(
        "ResNet-18 in binary, whose requests have 602 KB each. Capacity is what 32 callers get \
         with `wrk`; then requests come by a schedule with exponential gaps, whether or not others \
         have been answered (open loop), at multiples of it, from one thread on the same machine. \
         A caller waits {} s, and says so to Quern and Triton (`timeout`); what comes later counts \
         for nothing. Quern has `max_batch = 1`, which is what `quern model profile` proposes for \
         this model, and once the default; Triton has one instance for each core and no batches, \
         FastAPI one worker with as many threads. Peak is the most that a server answered in time at any load. {} s, after {} \
         s that are not counted.",
        PATIENCE.as_secs(),
        TIME.as_secs(),
        WARM_UP.as_secs(),
    )
}
