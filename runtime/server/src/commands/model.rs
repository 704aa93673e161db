//! `quern model deploy`: uploads an ONNX file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use quern_types::{ModelManifest, Name, Signature};
use serde::Deserialize as _;

use super::Session;
use crate::{
    client::{Answer, Client, Deployment},
    inputs, output,
};

/// Work with models
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Model {
    /// Deploy an ONNX file
    Deploy(ModelDeploy),
}

/// Deploy an ONNX file
#[derive(Debug, clap::Args)]
pub(crate) struct ModelDeploy {
    /// The ONNX file
    file: PathBuf,

    /// The name to deploy it under
    #[arg(long)]
    name: Name,

    /// The engine to pin it to: onnxruntime or tract [default: ONNX Runtime where the server has
    /// its library]
    #[arg(long, value_parser = ["onnxruntime", "tract"], hide_possible_values = true)]
    engine: Option<String>,

    /// A TOML file with engine, max_batch (rows) and [[inputs]] with their ranges
    #[arg(long, value_name = "FILE", conflicts_with = "engine")]
    manifest: Option<PathBuf>,
}

pub(crate) async fn run(session: &Session, command: Model) -> Result<()> {
    let Model::Deploy(command) = command;
    let manifest = match (&command.manifest, &command.engine) {
        (Some(path), _) => Some(read_manifest(path)?),
        (None, Some(engine)) => Some(format!("engine = \"{engine}\"\n")),
        (None, None) => None,
    };
    let answer = upload(&session.client, &command, manifest).await?;
    if session.json {
        output::json(&answer.json)?;
        return Ok(());
    }
    let deployment = answer.parsed;
    output::line(format_args!("model {} version {}", deployment.name, deployment.version))?;
    output::line(format_args!("  digest  {}", deployment.digest))?;
    if let Some(engine) = &deployment.engine {
        output::line(format_args!("  engine  {engine}"))?;
    }
    output::line(format_args!("  batch   {}", describe_batch(&answer.json["batch"])))?;
    output::line(format_args!("  url     {}", session.client.url().join(&deployment.url)))?;
    let signature = Signature::deserialize(&answer.json["signature"])
        .context("the signature in the server's answer is not understood")?;
    let names = signature.inputs().iter().map(|input| &*input.name);
    output::line(format_args!("  try     {}", inputs::example(&deployment.name, names)))?;
    Ok(())
}

async fn upload(
    client: &Client,
    command: &ModelDeploy,
    manifest: Option<String>,
) -> Result<Answer<Deployment>> {
    let progress = output::byte_progress(0, format!("uploading {}", command.name));
    let answer = client.deploy_model(&command.name, manifest, &command.file, &progress).await;
    progress.finish_and_clear();
    Ok(answer?)
}

fn read_manifest(path: &PathBuf) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read manifest {}", path.display()))?;
    ModelManifest::parse(&text).with_context(|| path.display().to_string())?;
    Ok(text)
}

fn describe_batch(batch: &serde_json::Value) -> String {
    if let Some(max) = batch["rows"]["max"].as_u64() {
        return format!("up to {max} rows of several calls share a run");
    }
    match batch["none"]["reason"].as_str() {
        Some(reason) => format!("no: {reason}"),
        None => batch.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use quern_types::BatchAxis;

    use super::*;

    #[test]
    fn both_batch_axes_are_described() {
        let shown =
            |axis: &BatchAxis| describe_batch(&serde_json::to_value(axis).expect("serialises"));
        assert!(shown(&BatchAxis::Rows { max: 64 }).contains("64 rows"));
        let none = BatchAxis::None { reason: "output \"y\" has no dynamic dimension".into() };
        assert!(shown(&none).starts_with("no: output"));
    }
}
