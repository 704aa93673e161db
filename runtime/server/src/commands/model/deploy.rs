//! `quern model deploy`: uploads an ONNX file, or the folder of a model whose weights lie in other
//! files.

use std::path::PathBuf;

use anyhow::{Context, Result};
use quern_types::{ModelManifest, Name, Signature};
use serde::Deserialize as _;

use super::{Session, pack::pack};
use crate::{
    client::{Answer, Client, Deployment, ModelUpload},
    failure::UsageError,
    inputs, output,
};

/// Deploy a model: an ONNX file, or a folder with one and the files that hold its weights
///
/// The server reads the signature from the file, tries whether calls can share a run, and makes
/// the new version live once that is done; the old one serves until then.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelDeploy {
    /// The ONNX file, or the model's folder
    file: PathBuf,

    /// The name to deploy it under
    #[arg(long)]
    name: Name,

    /// The engine to pin it to: onnxruntime or tract [default: ONNX Runtime where the server has
    /// its library]
    #[arg(long, value_parser = ["onnxruntime", "tract"], hide_possible_values = true)]
    engine: Option<String>,

    /// A TOML file with engine, max_batch (rows), timeout, lanes, warm_up, ranges of inputs and
    /// labels of outputs, each of which may be left out; docs/models.md has them all
    #[arg(long, value_name = "FILE", conflicts_with = "engine")]
    manifest: Option<PathBuf>,

    /// A text file with the labels of an output, one a line; may be given several times
    #[arg(long, value_name = "OUTPUT=FILE")]
    labels: Vec<String>,

    /// Don't give it any requests yet but those that ask for it; see `quern canary` and `quern
    /// traffic`
    #[arg(long)]
    no_traffic: bool,
}

pub(crate) async fn run(session: &Session, command: ModelDeploy) -> Result<()> {
    let manifest = manifest(&command)?;
    let answer = upload(&session.client, &command, manifest).await?;
    if session.json {
        output::json(&answer.json)?;
        return Ok(());
    }
    let deployment = answer.parsed;
    let note = if deployment.live { "" } else { ", which gets no requests yet" };
    let (name, version) = (&deployment.name, deployment.version);
    output::line(format_args!("model {name} version {version}{note}"))?;
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
    let path = command.file.clone();
    let packed = tokio::task::spawn_blocking(move || pack(&path)).await??;
    let (content, media_type) = (packed.path(), packed.media_type());
    let upload = ModelUpload { manifest, content, media_type, live: !command.no_traffic };
    let progress = output::byte_progress(0, format!("uploading {}", command.name));
    let answer = client.deploy_model(&command.name, upload, &progress).await;
    progress.finish_and_clear();
    Ok(answer?)
}

/// The manifest that the flags ask for, if any.
fn manifest(command: &ModelDeploy) -> Result<Option<String>> {
    let mut manifest = match (&command.manifest, &command.engine) {
        (Some(path), _) => read_manifest(path)?,
        (None, Some(engine)) => format!("engine = \"{engine}\"\n"),
        (None, None) => String::new(),
    };
    for labels in &command.labels {
        manifest += &read_labels(labels)?;
    }
    if !command.labels.is_empty() {
        ModelManifest::parse(&manifest).context("the manifest with these labels")?;
    }
    Ok((!manifest.is_empty()).then_some(manifest))
}

/// The part of a manifest that gives an output the labels of a file.
fn read_labels(text: &str) -> Result<String> {
    let (output, path) = text
        .split_once('=')
        .filter(|(output, path)| !output.is_empty() && !path.is_empty())
        .ok_or_else(|| UsageError(format!("--labels {text:?}: write OUTPUT=FILE")))?;
    let labels = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the labels of {output} from {path}"))?;
    let labels: Vec<_> = labels.lines().map(str::trim_end).map(toml::Value::from).collect();
    let name = toml::Value::from(output);
    Ok(format!("\n[[outputs]]\nname = {name}\nlabels = {}\n", toml::Value::Array(labels)))
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

    fn command(manifest: Option<PathBuf>, labels: Vec<String>) -> ModelDeploy {
        let (file, name) = (PathBuf::from("m.onnx"), "m".parse().expect("a name"));
        ModelDeploy { file, name, engine: None, manifest, labels, no_traffic: false }
    }

    #[test]
    fn labels_of_files_come_after_the_manifest() {
        let folder = tempfile::tempdir().expect("a folder");
        let (manifest, labels) = (folder.path().join("m.toml"), folder.path().join("labels.txt"));
        std::fs::write(&manifest, "max_batch = 4").expect("written");
        std::fs::write(&labels, "cat\r\n\"dog\" \n").expect("written");
        let labels = format!("a \"b\"={}", labels.display());
        let text = super::manifest(&command(Some(manifest), vec![labels])).expect("valid");
        let parsed = ModelManifest::parse(&text.expect("a manifest")).expect("valid");
        assert_eq!(parsed.max_batch, Some(4));
        assert_eq!(&*parsed.outputs[0].name, "a \"b\"");
        assert_eq!(parsed.outputs[0].labels, ["cat", "\"dog\""]);
        assert_eq!(super::manifest(&command(None, vec![])).expect("none"), None);
        for (bad, part) in [("y", "write OUTPUT=FILE"), ("y=/nowhere.txt", "/nowhere.txt")] {
            let error = super::manifest(&command(None, vec![bad.into()])).expect_err(bad);
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn both_batch_axes_are_described() {
        let shown =
            |axis: &BatchAxis| describe_batch(&serde_json::to_value(axis).expect("serialises"));
        assert!(shown(&BatchAxis::Rows { max: 64 }).contains("64 rows"));
        let none = BatchAxis::None { reason: "output \"y\" has no dynamic dimension".into() };
        assert!(shown(&none).starts_with("no: output"));
    }
}
