//! Triton on the CPU, with ONNX Runtime in its Python backend: the only one that PyPI has.

use std::{fs, path::Path};

use anyhow::Result;
use tempfile::TempDir;
use tokio::process::Command;

use super::Peer;
use crate::{
    models::{Model, Port},
    support::{
        group::{Group, free_port},
        process::{peer, root},
    },
};

/// A model under a name of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deployed {
    pub(crate) name: &'static str,
    /// Processes that compute it.
    pub(crate) instances: usize,
    /// Most rows in a run.
    pub(crate) rows: u32,
    /// How long its dynamic batcher waits for more.
    pub(crate) delay_us: u32,
}

/// Starts it with the model in several ways.
pub(crate) async fn start(model: &Model, file: &Path, ways: &[Deployed]) -> Result<Peer> {
    let (http, grpc) = (free_port()?, free_port()?);
    let folder = TempDir::new()?;
    let repository = folder.path().join("models");
    for way in ways {
        let version = repository.join(way.name).join("1");
        fs::create_dir_all(&version)?;
        fs::copy(root().join("benches/peers/triton_model.py"), version.join("model.py"))?;
        std::os::unix::fs::symlink(file, version.join("model.onnx"))?;
        fs::write(repository.join(way.name).join("config.pbtxt"), config(model, *way))?;
    }
    let mut command = Command::new(peer("triton"));
    command
        .arg("--model-repository")
        .arg(&repository)
        .args(["--http-address", "127.0.0.1", "--http-port", &http.to_string()])
        .args(["--grpc-address", "127.0.0.1", "--grpc-port", &grpc.to_string()])
        .args(["--disable-auto-complete-config", "--allow-metrics", "false"]);
    let [http, grpc] = [http, grpc].map(|port| format!("http://127.0.0.1:{port}"));
    let group = Group::start(command, folder, &format!("{http}/v2/health/ready")).await?;
    Ok(Peer { name: "Triton".to_owned(), http, grpc: Some(grpc), sleeper: None, _group: group })
}

fn config(model: &Model, way: Deployed) -> String {
    let ports = |kind: &str, ports: &[&Port]| -> String {
        let each = |port: &&Port| {
            let (name, datatype, dims) = (port.name, port.datatype(), port.shape);
            format!("{kind} {{ name: \"{name}\" data_type: TYPE_{datatype} dims: {dims:?} }}\n")
        };
        ports.iter().map(each).collect()
    };
    let inputs: Vec<_> = model.inputs.iter().collect();
    let Deployed { name, instances, rows, delay_us } = way;
    format!(
        "name: \"{name}\"\nbackend: \"python\"\nmax_batch_size: {rows}\n{}{}\
         instance_group {{ count: {instances} kind: KIND_CPU }}\n\
         dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}\n",
        ports("input", &inputs),
        ports("output", &[&model.output]),
    )
}
