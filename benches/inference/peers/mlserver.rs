//! MLServer: the protocol in JSON and over gRPC, from Python processes.

use std::{fs, path::Path};

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::Peer;
use crate::{
    models::Model,
    support::{
        group::{Group, free_port},
        process::{peer, root},
    },
};

/// Starts it with so many processes that compute; none: in the one that serves.
pub(crate) async fn start(model: &Model, file: &Path, workers: usize) -> Result<Peer> {
    let (http, grpc) = (free_port()?, free_port()?);
    let folder = TempDir::new()?;
    let settings = json!({
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_endpoint": null,
        "metrics_dir": folder.path().join("metrics"),
        "parallel_workers": workers,
        "debug": false,
        "gzip_enabled": false,
    });
    let model_settings = json!({
        "name": model.name,
        "implementation": "mlserver_model.OnnxModel",
        "parameters": {"uri": file},
    });
    fs::create_dir(folder.path().join("metrics"))?;
    fs::write(folder.path().join("settings.json"), settings.to_string())?;
    fs::write(folder.path().join("model-settings.json"), model_settings.to_string())?;
    let mut command = Command::new(peer("mlserver"));
    command.arg("start").arg(folder.path()).env("PYTHONPATH", root().join("benches/peers"));
    let [http, grpc] = [http, grpc].map(|port| format!("http://127.0.0.1:{port}"));
    let ready = format!("{http}/v2/models/{}/ready", model.name);
    let group = Group::start(command, folder, &ready).await?;
    Ok(Peer { name: "MLServer".to_owned(), http, grpc: Some(grpc), sleeper: None, _group: group })
}
