//! Inference of a small MLP over JSON beside FastAPI with ONNX Runtime, on both engines, and what
//! the endpoint adds to the engine's own time. Never compares servers whose answers differ.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Response, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use support::{
    ceiling,
    client::{deploy, get},
    load::{Measured, Target, compare, progress, quantile},
    process::{Announced, ServerProcess, peer, root},
    report::{Table, aim, publish, said_by},
};

mod support {
    pub(crate) mod ceiling;
    pub(crate) mod client;
    pub(crate) mod load;
    pub(crate) mod process;
    pub(crate) mod report;
}

const ENGINES: [&str; 2] = ["onnxruntime", "tract"];
/// Connections, and how many times the peer's rate is aimed at.
const LOADS: [(u32, f64); 2] = [(1, 3.0), (32, 12.0)];
/// The peer in two forms; the aims are held against the first, which checks requests as we do.
const PEERS: [(&str, &str); 2] = [("FastAPI", "/validated"), ("FastAPI, unchecked", "/unchecked")];
const INPUTS: usize = 256;
const OUTPUTS: usize = 10;
/// Answers of two servers may differ by this much.
const TOLERANCE: f64 = 1e-4;
/// Calls whose compute time is read.
const SAMPLES: usize = 2000;
/// Most µs that the endpoint should add to the engine's own.
const OVERHEAD_AIM_US: f64 = 100.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let folder = TempDir::new()?;
    let model = write_model(folder.path())?;
    let request = serde_json::to_vec(&request())?;
    let body = folder.path().join("request.json");
    fs::write(&body, &request)?;
    let target = |name: &str, url| Target { name: name.to_owned(), url, body: Some(body.clone()) };

    let client = Client::new();
    let quern = ServerProcess::quern(&folder.path().join("data")).await?;
    let fastapi = start_fastapi(&model).await?;
    let mut targets = Vec::new();
    for engine in ENGINES {
        deploy_model(&client, &quern, engine, &model).await?;
        let url = quern.url(&format!("/v2/models/{engine}/infer"));
        targets.push(target(&format!("Quern, {engine}"), url));
    }
    for (name, path) in PEERS {
        targets.push(target(name, fastapi.url(path)));
    }
    check_agreement(&client, &targets, &request).await?;
    targets.push(target("bare hyper", format!("http://{}/", ceiling::start().await?)));

    let mut rates = Table::new([
        "connections",
        "server",
        "requests/s",
        "p50",
        "p99",
        "rows a run",
        "× FastAPI",
        "× unchecked",
        "aim",
    ]);
    let mut overhead = String::new();
    for (connections, times) in LOADS {
        let before = runs(&client, &quern).await?;
        let measured = compare(&targets, connections).await?;
        let after = runs(&client, &quern).await?;
        let rows: Vec<_> =
            before.iter().zip(&after).map(|(before, after)| after.since(before)).collect();
        let load = Load { connections, times, measured: &measured, rows_a_run: &rows };
        for (index, target) in targets.iter().enumerate() {
            rates.row(load.row(index, &target.name));
        }
        if connections == 1 {
            overhead = overhead_of(&client, &targets, &measured, &request).await?;
        }
    }
    fastapi.stop().await?;
    quern.stop().await?;
    publish("inference", "Models", &format!("{}\n\n{rates}\n{overhead}", introduction()?))
}

fn introduction() -> Result<String> {
    let versions = "import fastapi, uvicorn, onnxruntime as o; \
                    print(f'FastAPI {fastapi.__version__} on uvicorn {uvicorn.__version__} \
                    (httptools, uvloop) with ONNX Runtime {o.__version__}')";
    let peer = said_by(peer("python"), &["-c", versions])?;
    Ok(format!(
        "An MLP of 256 → 512 → 512 → 10, one row of 256 floats as JSON in the Open Inference \
         Protocol, the same bytes to every server; answers agree to {TOLERANCE}. Peer: {peer}, \
         one worker, one intra-op thread ([its source](../benches/peers/fastapi_app.py)): with \
         the request validated by pydantic, as Quern validates it, which the aims are held \
         against; and unchecked, parsed by orjson. Load: `wrk -t1`, keep-alive. Ratios are of \
         requests/s. A bare hyper server that reads the request and answers a word marks the \
         ceiling."
    ))
}

/// One load on all targets; `times` is how many times the peer's rate is aimed at.
struct Load<'a> {
    connections: u32,
    times: f64,
    measured: &'a [Measured],
    rows_a_run: &'a [f64],
}

impl Load<'_> {
    fn row(&self, index: usize, name: &str) -> [String; 9] {
        let Measured { per_second, p50_us, p99_us } = self.measured[index];
        let times = |peer: usize| per_second / self.measured[ENGINES.len() + peer].per_second;
        let verdict = match index {
            0 => aim(&format!("≥ {} ×", self.times), times(0) >= self.times),
            _ => "–".into(),
        };
        [
            self.connections.to_string(),
            name.to_owned(),
            format!("{per_second:.0}"),
            format!("{p50_us} µs"),
            format!("{p99_us} µs"),
            self.rows_a_run.get(index).map_or("–".into(), |rows| format!("{rows:.1}")),
            format!("**{:.2}**", times(0)),
            format!("{:.2}", times(1)),
            verdict,
        ]
    }
}

/// What a model has computed so far.
struct Runs {
    rows: f64,
    runs: f64,
}

impl Runs {
    /// Rows in the mean run after an earlier reading.
    fn since(&self, earlier: &Self) -> f64 {
        (self.rows - earlier.rows) / (self.runs - earlier.runs)
    }
}

/// What the models have computed so far, by engine.
async fn runs(client: &Client, quern: &ServerProcess) -> Result<[Runs; ENGINES.len()]> {
    let text = get(client, &quern.url("/metrics")).await?;
    let sum = |name: &str, model: &str| {
        let label = format!("model=\"{model}\"");
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(&label));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    };
    Ok(ENGINES.map(|engine| Runs {
        rows: sum("quern_batch_rows_sum", engine),
        runs: sum("quern_batch_rows_count", engine),
    }))
}

/// What the endpoint takes beyond the engine's own time, where `alone` was measured at one
/// connection.
async fn overhead_of(
    client: &Client,
    targets: &[Target],
    alone: &[Measured],
    request: &[u8],
) -> Result<String> {
    let bare = alone.last().context("the ceiling was measured")?.p50_us;
    let mut table = Table::new(["engine", "endpoint p50", "engine's own p50", "overhead", "aim"]);
    for (engine, (target, measured)) in ENGINES.iter().zip(targets.iter().zip(alone)) {
        let mut compute_us = Vec::new();
        for _ in 0..SAMPLES {
            let response = infer(client, target, request).await?;
            let header = response.headers().get("quern-compute-us");
            let header = header.context("the answer has no header quern-compute-us")?;
            compute_us.push(header.to_str()?.parse()?);
            response.bytes().await?;
        }
        let compute = quantile(&mut compute_us, 0.5);
        let overhead = measured.p50_us - compute;
        table.row([
            (*engine).to_owned(),
            format!("{} µs", measured.p50_us),
            format!("{compute} µs"),
            format!("**{overhead} µs**"),
            aim(&format!("≤ {OVERHEAD_AIM_US} µs"), overhead <= OVERHEAD_AIM_US),
        ]);
    }
    Ok(format!(
        "What the endpoint adds to the engine's own time at 1 connection; {bare} µs of it are \
         the bare server's p50 (two sides of a socket, and wrk):\n\n{table}"
    ))
}

/// Fails unless every server answers the same numbers.
async fn check_agreement(client: &Client, targets: &[Target], request: &[u8]) -> Result<()> {
    let mut first: Option<Vec<f64>> = None;
    for target in targets {
        let name = &target.name;
        let answer: Value = infer(client, target, request).await?.json().await?;
        let numbers = answer["outputs"][0]["data"].as_array().context("no outputs")?;
        let numbers: Vec<_> = numbers.iter().filter_map(Value::as_f64).collect();
        ensure!(numbers.len() == OUTPUTS, "{name} answers {answer}");
        let expected = first.get_or_insert_with(|| numbers.clone());
        let most = expected.iter().zip(&numbers).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        progress(format!("{name} answers within {most:.0e} of the first"));
        ensure!(most <= TOLERANCE, "{name} answers {numbers:?}, not {expected:?}");
    }
    Ok(())
}

async fn infer(client: &Client, target: &Target, request: &[u8]) -> Result<Response> {
    let url = &target.url;
    let call = client.post(url).header(CONTENT_TYPE, "application/json").body(request.to_vec());
    let response = call.send().await.with_context(|| format!("POST {url}"))?;
    let status = response.status();
    ensure!(status.is_success(), "POST {url}: {status} {}", response.text().await?);
    Ok(response)
}

/// Floats with the six decimals that a client would send.
fn request() -> Value {
    let data: Vec<_> =
        (0..INPUTS).map(|index| ((index as f64 * 0.7).sin() * 1e6).round() / 1e6).collect();
    json!({"inputs": [{"name": "x", "shape": [1, INPUTS], "datatype": "FP32", "data": data}]})
}

async fn deploy_model(
    client: &Client,
    quern: &ServerProcess,
    engine: &str,
    model: &Path,
) -> Result<()> {
    let manifest = format!("engine = \"{engine}\"\n");
    let url = quern.url(&format!("/v1/models/{engine}"));
    deploy(client, &url, [("manifest", manifest.into_bytes()), ("model", fs::read(model)?)]).await
}

async fn start_fastapi(model: &Path) -> Result<ServerProcess> {
    let mut command = Command::new(peer("python"));
    command
        .args(["-m", "uvicorn", "fastapi_app:app", "--app-dir"])
        .arg(root().join("benches/peers"))
        .args(["--host", "127.0.0.1", "--port", "0", "--workers", "1"])
        .args(["--loop", "uvloop", "--http", "httptools", "--no-access-log"])
        .env("MODEL", model);
    ServerProcess::start(command, Announced::Stderr).await
}

/// Lets the example of the device crate write the model.
fn write_model(folder: &Path) -> Result<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_quern")).with_file_name("examples").join("mlp");
    let model = folder.join("mlp.onnx");
    let written = std::process::Command::new(&program)
        .arg(&model)
        .status()
        .with_context(|| format!("{} can't be run: `make bench` builds it", program.display()))?;
    ensure!(written.success(), "{} failed", program.display());
    Ok(model)
}
