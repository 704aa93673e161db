//! FastAPI on uvicorn, with one worker process or several.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;
use tokio::process::Command;

use super::Peer;
use crate::support::{
    group::{Group, free_port},
    process::{peer, root},
};

/// Starts it with so many workers, each of which runs the model in so many threads; none: in its
/// event loop.
pub(crate) async fn start(model: &Path, workers: usize, threads: usize) -> Result<Peer> {
    let port = free_port()?;
    let mut command = Command::new(peer("python"));
    command
        .args(["-m", "uvicorn", "fastapi_app:app", "--app-dir"])
        .arg(root().join("benches/peers"))
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .args(["--workers", &workers.to_string()])
        .args(["--loop", "uvloop", "--http", "httptools", "--no-access-log"])
        .env("MODEL", model)
        .env("THREADS", threads.to_string());
    let http = format!("http://127.0.0.1:{port}");
    let group = Group::start(command, TempDir::new()?, &format!("{http}/openapi.json")).await?;
    let name = match workers {
        1 => "FastAPI".to_owned(),
        _ => format!("FastAPI, {workers} workers"),
    };
    Ok(Peer { name, http, grpc: None, sleeper: None, _group: group })
}
