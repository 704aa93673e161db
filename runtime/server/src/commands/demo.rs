//! `quern demo`: starts a server, deploys a model and two functions over HTTP, sends real images
//! through them, and says how it went. Leaves nothing behind.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use super::deploy;
use crate::{
    client::{Client, ModelUpload, ServerUrl, Trust},
    failure::Failure,
    output,
};

mod digits;
mod load;
mod server;

use digits::Image;
use load::Load;
use server::DemoServer;

/// Held-out accuracy below which something must be wrong.
const LEAST_ACCURACY: f64 = 0.96;

/// Show the whole thing: a server, a model, a function, and real images sent through them
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// The folder with the example functions and the model
    #[arg(long, default_value = "functions", value_name = "DIR")]
    functions: PathBuf,
}

/// What the demo has found out.
struct Findings {
    images: usize,
    correct: usize,
    first_call: Duration,
    single: Load,
    many: Load,
    mean_batch: f64,
    engine: String,
    device: String,
}

pub(crate) async fn run(command: Demo, as_json: bool) -> Result<()> {
    let images = held_out(&command.functions)?;
    let server = DemoServer::start().await?;
    let findings = tokio::select! {
        shown = show(server.url(), &command.functions, &images) => {
            shown.inspect_err(|_| eprintln!("the end of the server's log:\n{}", server.log_tail()))
        }
        stopped = server::stop_signal() => {
            stopped.and_then(|()| bail!("the demo was stopped"))
        }
    };
    server.stop().await?;
    report(&findings?, as_json)
}

fn held_out(functions: &Path) -> Result<Vec<Image>> {
    let path = functions.join("digits-mlp/digits.csv");
    let text = std::fs::read_to_string(&path).map_err(|error| Failure {
        message: format!("can't read {}: {error}", path.display()),
        hint: "run the demo in Quern's repository (make demo), or name its functions folder with \
               --functions"
            .into(),
    })?;
    digits::held_out(&text).with_context(|| path.display().to_string())
}

async fn show(url: &ServerUrl, functions: &Path, images: &[Image]) -> Result<Findings> {
    let client = Client::new(url.clone(), &Trust::default())?;
    eprintln!("server   {}", url.join("/"));
    deploy_all(&client, functions).await?;

    let reader = "digit-reader".parse()?;
    let target = url.of_function(&reader, "/").map_err(anyhow::Error::msg)?;
    let started = Instant::now();
    let first = load::send(&client, &target, &images[0]).await?;
    let first_call = started.elapsed();

    let (single, answers) = one_by_one(&client, &target, images).await?;
    let correct = images.iter().zip(&answers).filter(|(image, answer)| image.label == answer.label);
    let correct = correct.count();
    ensure!(first.label == answers[0].label, "the first image was answered in two ways");
    let (engine, device) = check_inference(&client, &images[0], answers[0].label).await?;

    let before = batches(&client).await?;
    let expected: Vec<u8> = answers.iter().map(|answer| answer.label).collect();
    let many = load::many(&client, &target, images, &expected).await?;
    let after = batches(&client).await?;
    ensure!(after.runs > before.runs, "no batch was counted while images were sent");
    let mean_batch = (after.rows - before.rows) / (after.runs - before.runs);
    Ok(Findings {
        images: images.len(),
        correct,
        first_call,
        single,
        many,
        mean_batch,
        engine,
        device,
    })
}

async fn deploy_all(client: &Client, functions: &Path) -> Result<()> {
    let progress = output::byte_progress(0, "uploading digits-mlp".into());
    let model = functions.join("digits-mlp/digits-mlp.onnx");
    let name = "digits-mlp".parse()?;
    let media_type = "application/octet-stream";
    let upload = ModelUpload { manifest: None, content: &model, media_type, live: true };
    let deployed = client.deploy_model(&name, upload, &progress).await;
    progress.finish_and_clear();
    let engine = deployed?.parsed.engine.unwrap_or_default();
    eprintln!("model    digits-mlp, on {engine}");
    for function in ["digits", "digit-reader"] {
        let upload = deploy::build(&functions.join(function)).await?;
        let deployed = deploy::send(client, &upload, true).await?.parsed;
        let compile = Duration::from_secs_f64(deployed.compile_ms.unwrap_or_default() / 1e3);
        eprintln!("function {function}, compiled in {}", output::duration(compile));
    }
    Ok(())
}

/// What `digit-reader` answers.
#[derive(Debug, Clone, Deserialize)]
struct Reading {
    label: u8,
    probabilities: Vec<f64>,
}

/// Sends every image once over one connection.
async fn one_by_one(
    client: &Client,
    target: &Url,
    images: &[Image],
) -> Result<(Load, Vec<Reading>)> {
    let progress = output::count_progress(images.len() as u64, "images".into());
    let (mut latencies, mut answers) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for image in images {
        let started = Instant::now();
        answers.push(load::send(client, target, image).await?);
        latencies.push(started.elapsed());
        progress.inc(1);
    }
    let load = Load::new(1, latencies, begun.elapsed());
    progress.finish_and_clear();
    Ok((load, answers))
}

/// Sends one image to the model and to the inference function; gives engine and device.
async fn check_inference(client: &Client, image: &Image, label: u8) -> Result<(String, String)> {
    let pixels = json!({"name": "image", "shape": [1, 64], "datatype": "FP32",
        "data": image.pixels});
    let body = serde_json::to_vec(&json!({"inputs": [pixels]}))?;
    let function = client.infer(&"digits".parse()?, None, body.clone().into()).await?;
    let outputs = function.json["outputs"].as_array().context("digits answered no outputs")?;
    let said = outputs.iter().find(|output| output["name"] == "label");
    let said = said.map(|output| &output["data"][0]);
    ensure!(
        said == Some(&Value::from(label)),
        "the functions digits and digit-reader disagree: {said:?} and {label}"
    );
    let model = client.infer(&"digits-mlp".parse()?, None, body.into()).await?;
    let header = |name: &str| {
        let value = model.headers.get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned).with_context(|| format!("the answer has no header {name}"))
    };
    Ok((header("quern-engine")?, header("quern-device")?))
}

/// Runs of models so far, and their rows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Batches {
    runs: f64,
    rows: f64,
}

async fn batches(client: &Client) -> Result<Batches> {
    let text = client.metrics().await?;
    let runs = sum_of("quern_batch_rows_count", &text);
    let rows = sum_of("quern_batch_rows_sum", &text);
    Ok(Batches { runs, rows })
}

/// The sum of a metric over all its labels, in Prometheus text.
fn sum_of(metric: &str, text: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(metric)?;
        let labelled = rest.starts_with(['{', ' ']);
        labelled.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    };
    text.lines().filter_map(value).sum()
}

fn report(findings: &Findings, as_json: bool) -> Result<()> {
    let Findings { images, correct, first_call, single, many, mean_batch, engine, device } =
        findings;
    let accuracy = *correct as f64 / *images as f64;
    if as_json {
        output::json(&json!({
            "images": images, "accuracy": accuracy, "first_call_us": first_call.as_micros(),
            "p50_us": single.p50().as_micros(), "p99_us": single.p99().as_micros(),
            "connections": many.connections, "requests_per_second": many.rate(),
            "mean_batch_rows": mean_batch, "engine": engine, "device": device,
        }))?;
    } else {
        let (p50, p99) = (output::duration(single.p50()), output::duration(single.p99()));
        output::line(format_args!(
            "accuracy         {accuracy:.4} ({correct} of {images} held-out images, sent as PNG)"
        ))?;
        output::line(format_args!("first call       {}", output::duration(*first_call)))?;
        output::line(format_args!("1 connection     p50 {p50}, p99 {p99}"))?;
        output::line(format_args!(
            "{} connections   {:.0} requests/s, p99 {}",
            many.connections,
            many.rate(),
            output::duration(many.p99())
        ))?;
        output::line(format_args!("mean batch       {mean_batch:.2} rows"))?;
        output::line(format_args!("computed by      {engine} on {device}"))?;
    }
    ensure!(accuracy >= LEAST_ACCURACY, "accuracy {accuracy:.4} is below {LEAST_ACCURACY}");
    if !as_json {
        output::line(next_steps())?;
    }
    Ok(())
}

/// How to go on, with commands that can be copied.
fn next_steps() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "quern".into());
    let program = program.display();
    format!(
        "
Go on with a server of your own:
  alias quern={program}
  quern serve                                # in one terminal
  quern new numbers                          # in another, with the same alias
  quern deploy numbers
  quern call numbers --data '3 1 4 1 5'
  quern dev numbers                          # deploys on every change, and follows the logs"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text = "# HELP quern_batch_rows Rows.\n\
                    quern_batch_rows_sum{model=\"a\"} 6\n\
                    quern_batch_rows_sum{model=\"b c\"} 1.5\n\
                    quern_batch_rows_sum_other 99\n\
                    quern_batch_rows_count 3\n";
        assert_eq!(sum_of("quern_batch_rows_sum", text), 7.5);
        assert_eq!(sum_of("quern_batch_rows_count", text), 3.0);
        assert_eq!(sum_of("absent", text), 0.0);
    }
}
