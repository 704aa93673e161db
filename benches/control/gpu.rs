//! What a function pays for the device's work beyond the work: an operator and an upload beside the
//! same asked for natively, and a network that a function trains beside the same in PyTorch.

use std::{
    fs,
    num::NonZeroUsize,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use quern_kernels::{CpuDevice, Session};
use quern_operators::{Binary, Description, Dtype, Kernel, SessionLimits, Shape};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    callee::serve_configured,
    support::{
        client::{deploy, get, plain},
        load::progress,
        process::{ServerProcess, root},
        report::{Table, aim, publish},
    },
};

const TENSORS: &str = "target/guests/wasm32-wasip2/release/tensors.wasm";
const TRAIN_DIGITS: &str = "target/functions/wasm32-wasip2/release/train_digits.wasm";
const TORCH: &str = ".quern/peers/bin/torch-python";
/// How often each is measured, in turn.
const ROUNDS: usize = 5;
/// For how long natively; a function repeats it as often as its path says.
const PERIOD: Duration = Duration::from_millis(200);
/// Threads that compute, here and there.
const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("two");
const UPLOAD_BYTES: usize = 600_000;
/// Most µs that an operator may cost beyond its compute, and that an upload may take.
const AIM_OPERATOR_US: f64 = 3.0;
const AIM_UPLOAD_US: f64 = 100.0;
/// Of PyTorch's speed in training, what is aimed at.
const AIM_TRAINING: f64 = 0.7;
const EPOCHS: usize = 12;

/// Calls of functions and the same without one.
pub(crate) async fn measure() -> Result<()> {
    let data = TempDir::new()?;
    let configuration = format!("[devices]\nthreads = {THREADS}\n");
    let server = serve_configured(data.path(), &configuration, &[]).await?;
    let manifest =
        "[limits]\ncpu = \"5m\"\ntimeout = \"5m\"\n[grants]\ngpu = { memory = \"64MiB\" }";
    deploy_as(&server, "tensors", manifest, &root().join(TENSORS)).await?;
    let manifest = fs::read_to_string(root().join("functions/train-digits/quern.toml"))?;
    let manifest = manifest.split_once("[limits]").context("it has limits")?.1;
    let manifest = format!("[limits]{manifest}");
    deploy_as(&server, "train-digits", &manifest, &root().join(TRAIN_DIGITS)).await?;
    progress("computing from a function, and natively");
    let calls = calls(&server).await?;
    progress("training in a function, and in PyTorch");
    let training = training(&server).await?;
    server.stop().await?;
    let text = format!(
        "A function asks for an operator, or uploads, and drops what came of it, again and again, \
         and takes the time; natively the same is asked of the device itself, by a program without \
         a sandbox. Medians, in turn, {ROUNDS} rounds.\n\n{calls}\n\
         `functions/train-digits`, {EPOCHS} epochs: a whole request, against the same network, \
         data, batches and optimizer in PyTorch, eager, without the time that it takes to start. \
         Both with {THREADS} threads; the median of {ROUNDS}.\n\n{training}"
    );
    publish("gpu", "Device tensors: calls of functions", &text)
}

async fn deploy_as(server: &ServerProcess, name: &str, manifest: &str, file: &Path) -> Result<()> {
    let component = fs::read(file)
        .with_context(|| format!("{} is missing: `make guests` builds it", file.display()))?;
    let manifest = format!("name = \"{name}\"\nkind = \"http\"\n{manifest}");
    let url = server.url(&format!("/v1/functions/{name}"));
    deploy(&plain(), &url, [("manifest", manifest.into_bytes()), ("component", component)]).await
}

async fn calls(server: &ServerProcess) -> Result<Table> {
    let mut table = Table::new(["what", "from a function", "natively", "beyond", "aim"]);
    for elements in [1, 4_096] {
        let path = format!("/f/tensors/time/add?size={elements}&times=20000");
        let [ours, bare] = alternate(server, &path, || add(elements)).await?;
        let beyond = ours - bare;
        table.row([
            format!("add of {elements} FP32"),
            format!("{ours:.2} µs"),
            format!("{bare:.2} µs"),
            format!("**{beyond:.2} µs**"),
            aim(&format!("≤ {AIM_OPERATOR_US} µs beyond"), beyond <= AIM_OPERATOR_US),
        ]);
    }
    let path = format!("/f/tensors/time/upload?size={UPLOAD_BYTES}&times=2000");
    let [ours, bare] = alternate(server, &path, upload).await?;
    table.row([
        format!("upload of {} KB", UPLOAD_BYTES / 1_000),
        format!("**{ours:.1} µs**"),
        format!("{bare:.1} µs"),
        format!("{:.1} µs", ours - bare),
        aim(&format!("≤ {AIM_UPLOAD_US} µs"), ours <= AIM_UPLOAD_US),
    ]);
    Ok(table)
}

/// The medians, in µs, of what a function says and of what is measured here, in turn.
async fn alternate(
    server: &ServerProcess,
    path: &str,
    natively: impl Fn() -> Result<f64>,
) -> Result<[f64; 2]> {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let answer: Value = serde_json::from_str(&get(&plain(), &server.url(path)).await?)?;
        theirs.push(answer["ok"].as_f64().with_context(|| answer.to_string())? / 1e3);
        ours.push(natively()?);
    }
    Ok([median(&mut theirs), median(&mut ours)])
}

fn session() -> Result<Session> {
    // For as long as the program runs.
    let device = Box::leak(Box::new(CpuDevice::new(THREADS)?));
    Ok(Session::open(device, SessionLimits::of_bytes(64 << 20))?)
}

fn add(elements: u64) -> Result<f64> {
    let mut session = session()?;
    let description = Description::new(Dtype::Fp32, Shape::new(&[elements])?);
    let x = session.upload(description, &vec![0; usize::try_from(description.bytes())?])?;
    let add = Kernel::Binary(Binary::Add).into();
    repeated(|| {
        let sum = session.run(&add, &[x, x])?[0];
        Ok(session.release(sum)?)
    })
}

fn upload() -> Result<f64> {
    let mut session = session()?;
    let description = Description::new(Dtype::Uint8, Shape::new(&[UPLOAD_BYTES as u64])?);
    let bytes = vec![7; UPLOAD_BYTES];
    repeated(|| {
        let tensor = session.upload(description, &bytes)?;
        Ok(session.release(tensor)?)
    })
}

/// The median time of something, in µs.
fn repeated(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let (begin, mut times) = (Instant::now(), Vec::new());
    while begin.elapsed() < PERIOD {
        let begin = Instant::now();
        for _ in 0..10 {
            run()?;
        }
        times.push(begin.elapsed().as_secs_f64() * 1e5);
    }
    Ok(median(&mut times))
}

/// Training, where PyTorch is installed beside it.
async fn training(server: &ServerProcess) -> Result<Table> {
    let has_torch = root().join(TORCH).is_file();
    let (mut ours, mut theirs, mut accuracy) = (Vec::new(), Vec::new(), String::new());
    let mut said = Value::Null;
    for _ in 0..ROUNDS {
        let url = server.url(&format!("/f/train-digits/?epochs={EPOCHS}"));
        let begin = Instant::now();
        let answer = plain().post(url).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        let found = answer.headers().get("digits-accuracy").context("it says its accuracy")?;
        accuracy = found.to_str()?.to_owned();
        answer.bytes().await?;
        ours.push(begin.elapsed().as_secs_f64());
        if has_torch {
            said = torch().await?;
            theirs.push(said["seconds"].as_f64().context("it says its time")?);
        }
    }
    let ours = median(&mut ours);
    let mut table = Table::new(["", "time", "held-out accuracy", "ratio", "aim"]);
    let (ratio, met) = if has_torch {
        let theirs = median(&mut theirs);
        let version = said["version"].as_str().unwrap_or_default();
        let reached = said["accuracy"].as_f64().context("it says its accuracy")?;
        let time = format!("{theirs:.2} s");
        table.row([
            format!("PyTorch {version}"),
            time,
            format!("{reached:.4}"),
            "1".into(),
            "–".into(),
        ]);
        let ratio = theirs / ours;
        (format!("**{ratio:.2}**"), aim(&format!("≥ {AIM_TRAINING} ×"), ratio >= AIM_TRAINING))
    } else {
        ("–".into(), "PyTorch is not here: `make bench-device` installs it".into())
    };
    table.row(["train-digits".into(), format!("{ours:.2} s"), accuracy, ratio, met]);
    Ok(table)
}

/// What PyTorch says of the same training.
async fn torch() -> Result<Value> {
    let output = Command::new(root().join(TORCH))
        .arg(root().join("benches/peers/torch_digits.py"))
        .arg(root().join("functions/digits-mlp/digits.csv"))
        .args([THREADS.to_string(), EPOCHS.to_string()])
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
