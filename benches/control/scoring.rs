//! Batch scoring: rows a second beside the engine alone, and what clients feel of a batch that runs.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use parquet::{
    basic::Compression,
    data_type::FloatType,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use prometheus::Registry;
use quern_host_gpu::{Cpu, CpuConfig, inspect};
use quern_types::{Batch, BatchAxis, DataType, Device, ModelSource, ModelSpec, Replica, Tensor};
use reqwest::{
    Client,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{
    client::{deploy, get, plain},
    load::{progress, quantile},
    process::{ServerProcess, root},
    report::{Table, publish},
};

/// Elements of a row, and rows of a run.
const WIDTH: usize = 256;
const RUN: u64 = 64;
/// Rows of the file.
const ROWS: usize = 40_000;
/// Files that wait while a client calls, so that there is always a batch that runs.
const FILES: usize = 12;
/// How long the engine computes alone, and how long a client calls.
const WHILE: Duration = Duration::from_secs(3);

/// Files through a model, the engine alone, and one client beside them.
pub(crate) async fn measure() -> Result<()> {
    let folder = TempDir::new()?;
    let model = folder.path().join("mlp.onnx");
    let made = Command::new(example("mlp")).arg(&model).status().await;
    ensure!(made.context("cargo build --example mlp makes it")?.success(), "mlp failed");
    let onnx = fs::read(&model)?;
    let (engine, alone) = engine(&onnx).await?;
    progress(format!("the engine alone: {alone:.0} rows/s"));

    let data = TempDir::new()?;
    let quern = ServerProcess::quern(data.path()).await?;
    let client = plain();
    deploy(&client, &quern.url("/v1/models/mlp"), [("model", onnx)]).await?;
    let quiet = latencies(&client, &quern).await?;
    let mut table = Table::new(["file", "rows/s", "of the engine alone, one lane"]);
    for (name, kind, file) in [
        ("CSV, a column for each element", "text/csv", csv().into_bytes()),
        ("NDJSON, a list", "application/x-ndjson", ndjson().into_bytes()),
        ("Parquet, a list", "application/vnd.apache.parquet", parquet()?),
    ] {
        let rate = rate(&client, &quern, kind, file).await?;
        progress(format!("{name}: {rate:.0} rows/s"));
        table.row([name.into(), format!("{rate:.0}"), format!("**{:.2}**", rate / alone)]);
    }
    let (mut path, file) = (String::new(), ndjson());
    for _ in 0..FILES {
        path = begin(&client, &quern, "application/x-ndjson", file.clone().into_bytes()).await?;
    }
    let busy = latencies(&client, &quern).await?;
    let last = status(&client, &quern, &path).await?;
    ensure!(last["state"] != "completed", "the batches ended before the client did: {last}");
    quern.stop().await?;
    let mut felt = Table::new(["one client, one row a call", "p50", "p99"]);
    for (name, mut latencies) in [("alone", quiet), ("beside a batch", busy)] {
        let [p50, p99] =
            [0.5, 0.99].map(|part| format!("{:.0} µs", quantile(&mut latencies, part)));
        felt.row([name.into(), p50, p99]);
    }
    let text = format!(
        "The MLP 256 → 512 → 512 → 10 with {ROWS} rows. The engine ({engine}) computes runs of {RUN} \
         rows in a loop, in this process, on one lane.\n\n{table}\n{felt}"
    );
    publish("scoring", "Batch scoring", &text)
}

/// A program that was built with this one.
fn example(name: &str) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_quern"));
    program.with_file_name("examples").join(name)
}

fn value(row: usize, column: usize) -> f32 {
    ((row * 31 + column * 7) % 1_000) as f32 / 500.0 - 1.0
}

fn csv() -> String {
    let header: Vec<_> = (0..WIDTH).map(|column| format!("x.{column}")).collect();
    let mut text = header.join(",") + "\n";
    for row in 0..ROWS {
        let cells: Vec<_> = (0..WIDTH).map(|column| value(row, column).to_string()).collect();
        text += &cells.join(",");
        text.push('\n');
    }
    text
}

fn ndjson() -> String {
    let mut text = String::new();
    for row in 0..ROWS {
        let values: Vec<_> = (0..WIDTH).map(|column| value(row, column).to_string()).collect();
        text += &format!("{{\"x\": [{}]}}\n", values.join(","));
    }
    text
}

fn parquet() -> Result<Vec<u8>> {
    let schema = "message rows { required group x (LIST) { repeated group list { required float \
                  element; } } }";
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let schema = Arc::new(parse_message_type(schema)?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    let mut column = group.next_column()?.context("a column")?;
    let places = (0..ROWS).flat_map(|row| (0..WIDTH).map(move |column| (row, column)));
    let values: Vec<_> = places.clone().map(|(row, column)| value(row, column)).collect();
    let repetitions: Vec<_> = places.map(|(_, column)| i16::from(column > 0)).collect();
    let definitions = vec![1; values.len()];
    let typed = column.typed::<FloatType>();
    typed.write_batch(&values, Some(&definitions), Some(&repetitions))?;
    column.close()?;
    group.close()?;
    Ok(writer.into_inner()?)
}

/// Rows a second that the engine computes in a loop.
async fn engine(onnx: &[u8]) -> Result<(String, f64)> {
    let ort_library = Some(root().join(".quern/ort")).and_then(|folder| library(&folder));
    let cpu = Cpu::new(CpuConfig { lanes: 1, ort_library }, &Registry::new())?;
    let engine = cpu.preferred_engine();
    let signature = inspect(onnx).map_err(|error| anyhow::anyhow!("{error}"))?.signature;
    let spec = ModelSpec::new(signature, engine, BatchAxis::Rows { max: RUN as u32 });
    let source = ModelSource { onnx: bytes::Bytes::copy_from_slice(onnx), spec: Arc::new(spec) };
    let replica: Arc<dyn Replica> = cpu.load(source).await?;
    let elements: Vec<f32> =
        (0..RUN as usize * WIDTH).map(|place| value(place / WIDTH, place % WIDTH)).collect();
    let input = Tensor::from_elements("x", DataType::Fp32, vec![RUN, WIDTH as u64], elements)?;
    let (begun, mut runs) = (Instant::now(), 0u64);
    while begun.elapsed() < WHILE {
        replica.run(0, Batch { calls: vec![vec![input.clone()]] }).await?;
        runs += 1;
    }
    Ok((engine.to_string(), (runs * RUN) as f64 / begun.elapsed().as_secs_f64()))
}

/// ONNX Runtime's library, where the server finds it.
fn library(folder: &std::path::Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let is_library = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so"))
    };
    entries.filter(is_library).max()
}

async fn begin(
    client: &Client,
    quern: &ServerProcess,
    kind: &str,
    file: Vec<u8>,
) -> Result<String> {
    let input = Part::bytes(file).mime_str(kind)?;
    let form =
        Form::new().text("request", json!({"model": "mlp"}).to_string()).part("input", input);
    let response = client.post(quern.url("/v1/batches")).multipart(form).send().await?;
    let made: Value = response.error_for_status()?.json().await?;
    Ok(format!("/v1/batches/{}", made["id"].as_str().context("an id")?))
}

async fn status(client: &Client, quern: &ServerProcess, path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&get(client, &quern.url(path)).await?)?)
}

/// Rows a second of a whole file, from its upload's end to its last result.
async fn rate(client: &Client, quern: &ServerProcess, kind: &str, file: Vec<u8>) -> Result<f64> {
    let path = begin(client, quern, kind, file).await?;
    let begun = Instant::now();
    loop {
        let batch = status(client, quern, &path).await?;
        match batch["state"].as_str() {
            Some("completed") => return Ok(ROWS as f64 / begun.elapsed().as_secs_f64()),
            Some("failed") => anyhow::bail!("{batch}"),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// How long calls take, in µs, that come one after the other.
async fn latencies(client: &Client, quern: &ServerProcess) -> Result<Vec<f64>> {
    let row: Vec<f32> = (0..WIDTH).map(|column| value(0, column)).collect();
    let input = json!({"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": row});
    let body = json!({ "inputs": [input] }).to_string();
    let (url, mut latencies) = (quern.url("/v2/models/mlp/infer"), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < WHILE {
        let sent = Instant::now();
        let response = client.post(&url).body(body.clone()).send().await?;
        response.error_for_status()?.bytes().await?;
        latencies.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}
