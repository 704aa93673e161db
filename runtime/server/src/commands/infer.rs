//! `quern infer`: runs a model or an inference function on tensors.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use quern_types::{QualifiedName, VersionNumber};
use serde_json::Value;

use super::Session;
use crate::{
    client::Inference,
    failure::UsageError,
    inputs::{self, NamedValues},
    output,
};

/// Run a model or an inference function on tensors
#[derive(Debug, clap::Args)]
pub(crate) struct Infer {
    /// The model or inference function; another tenant's as NAME@TENANT
    name: QualifiedName,

    /// The version to run [default: the live one]
    #[arg(long)]
    version: Option<VersionNumber>,

    /// A request of the Open Inference Protocol: a file, - for standard input, or the JSON itself
    #[arg(short, long, value_name = "FILE|-|JSON", required_unless_present = "inputs")]
    data: Option<String>,

    /// One input's values, flat or nested: NAME=FILE.json or NAME=[…]; may be given several times
    #[arg(short, long = "input", value_name = "NAME=VALUES", conflicts_with = "data")]
    inputs: Vec<String>,
}

pub(crate) async fn run(session: &Session, command: Infer) -> Result<()> {
    let body = match &command.data {
        Some(data) => read_request(data)?,
        None => request_from_inputs(session, &command).await?,
    };
    let inference = session.client.infer(&command.name, command.version, body).await?;
    if session.json {
        output::json(&inference.json)?;
    } else {
        output::line(describe(&inference))?;
    }
    Ok(())
}

async fn request_from_inputs(session: &Session, command: &Infer) -> Result<Bytes> {
    let read = |text: &String| NamedValues::read(text);
    let values: Vec<_> =
        command.inputs.iter().map(read).collect::<Result<_, String>>().map_err(UsageError)?;
    let metadata = session.client.metadata(&command.name, command.version).await?;
    let request = inputs::request(&values, &metadata.parsed.inputs).map_err(UsageError)?;
    Ok(serde_json::to_vec(&request)?.into())
}

fn read_request(data: &str) -> Result<Bytes> {
    if data.trim_start().starts_with('{') {
        return Ok(data.to_owned().into());
    }
    let mut bytes = Vec::new();
    if data == "-" {
        std::io::stdin().read_to_end(&mut bytes).context("can't read standard input")?;
    } else {
        bytes = std::fs::read(data).with_context(|| format!("can't read {data}"))?;
    }
    Ok(bytes.into())
}

/// The outputs, one a line, and who computed them.
fn describe(inference: &Inference) -> String {
    let header = |name| inference.headers.get(name).and_then(|value| value.to_str().ok());
    let mut lines = Vec::new();
    for output in inference.json["outputs"].as_array().unwrap_or(&Vec::new()) {
        let Value::String(name) = &output["name"] else { continue };
        lines.push(format!(
            "{name} {}{}: {}",
            output["datatype"].as_str().unwrap_or(""),
            output["shape"],
            output["data"]
        ));
    }
    let mut served = Vec::new();
    for (label, name) in [
        ("version", "quern-version"),
        ("engine", "quern-engine"),
        ("device", "quern-device"),
        ("batch rows", "quern-batch-rows"),
        ("queue µs", "quern-queue-us"),
        ("compute µs", "quern-compute-us"),
    ] {
        served.extend(header(name).map(|value| format!("{label} {value}")));
    }
    lines.push(format!("({})", served.join(", ")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_show_outputs_and_who_computed_them() {
        let mut headers = HeaderMap::new();
        headers.insert("quern-version", "2".parse().expect("a value"));
        headers.insert("quern-engine", "tract".parse().expect("a value"));
        let json = json!({"outputs": [
            {"name": "label", "datatype": "INT64", "shape": [1], "data": [7]}]});
        let shown = describe(&Inference { headers, json });
        assert_eq!(shown, "label INT64[1]: [7]\n(version 2, engine tract)");
    }

    #[test]
    fn requests_come_from_text_or_a_file() {
        assert_eq!(read_request(" {}").expect("inline"), " {}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "{\"inputs\": []}").expect("written");
        let path = file.path().to_str().expect("a path in UTF-8");
        assert_eq!(read_request(path).expect("a file"), "{\"inputs\": []}");
        assert!(read_request("/nowhere.json").is_err());
    }
}
