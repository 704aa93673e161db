//! The program under test, with a model or a function deployed.

use std::{fs, path::Path};

use anyhow::Result;
use reqwest::Client;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    models::{Form, Model, Request},
    support::{
        client::{deploy, get},
        group::{Group, free_port},
    },
    target::Target,
};

/// The manifest of a model on ONNX Runtime, and otherwise as it is found.
pub(crate) const ORT: &str = "engine = \"onnxruntime\"\n";
pub(crate) const TRACT: &str = "engine = \"tract\"\n";

/// A heavy model as `quern model profile` proposes it: on one thread, larger batches compute no
/// more, and make calls wait.
pub(crate) const ORT_ROW_BY_ROW: &str = "engine = \"onnxruntime\"\nmax_batch = 1\n";

/// A running server.
pub(crate) struct Quern {
    origin: String,
    _group: Group,
}

impl Quern {
    /// Starts it with the defaults, but for these lines of its configuration.
    pub(crate) async fn start(configuration: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let file = folder.path().join("quern-server.toml");
        fs::write(&file, configuration)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
        command.args(["serve", "--listen", &address, "--config"]).arg(file);
        command.arg("--data").arg(folder.path().join("data"));
        let origin = format!("http://{address}");
        let group = Group::start(command, folder, &format!("{origin}/readyz")).await?;
        Ok(Self { origin, _group: group })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Deploys a model's file under a name, with this manifest.
    pub(crate) async fn deploy_model(
        &self,
        client: &Client,
        name: &str,
        manifest: &str,
        file: &Path,
    ) -> Result<()> {
        let url = self.url(&format!("/v1/models/{name}"));
        let parts = [("manifest", manifest.as_bytes().to_vec()), ("model", fs::read(file)?)];
        deploy(client, &url, parts).await
    }

    /// Deploys an inference function of this folder's manifest under a name of its own.
    pub(crate) async fn deploy_function(
        &self,
        client: &Client,
        name: &str,
        manifest: String,
        component: Vec<u8>,
    ) -> Result<()> {
        let url = self.url(&format!("/v1/functions/{name}"));
        let parts = [("manifest", manifest.into_bytes()), ("component", component)];
        deploy(client, &url, parts).await
    }

    /// What is deployed under a name, as a target for a request of its model.
    pub(crate) fn target(&self, title: &str, name: &str, request: &Request) -> Target {
        let url = match request.form {
            Form::Grpc => self.url(""),
            _ => self.url(&format!("/v2/models/{name}/infer")),
        };
        Target::new(title, url, request, None)
    }

    /// What its models have computed so far, by model: rows and runs.
    pub(crate) async fn computed(&self, client: &Client, model: &Model) -> Result<(f64, f64)> {
        let text = get(client, &self.url("/metrics")).await?;
        let sum = |name: &str| -> f64 {
            let label = format!("model=\"{}\"", model.name);
            let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(&label));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Ok((sum("quern_batch_rows_sum"), sum("quern_batch_rows_count")))
    }
}
