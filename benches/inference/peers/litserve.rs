//! LitServe: HTTP servers that hand requests to worker processes, and poll for them without a pause.
//! Never speaks the protocol's binary form or gRPC.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;
use tokio::process::Command;

use super::Peer;
use crate::support::{
    group::{Group, free_port},
    process::{peer, root},
};

/// How requests become batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workers {
    pub(crate) count: usize,
    /// Most requests in a batch; those that wait are taken, none is waited for.
    pub(crate) rows: usize,
}

/// Starts it with as many HTTP servers as workers, which is its default.
pub(crate) async fn start(model: &Path, workers: Workers) -> Result<Peer> {
    let port = free_port()?;
    let mut command = Command::new(peer("python"));
    command.arg(root().join("benches/peers/litserve_app.py")).arg(model).args([
        port.to_string(),
        workers.count.to_string(),
        workers.rows.to_string(),
    ]);
    let http = format!("http://127.0.0.1:{port}");
    let group = Group::start(command, TempDir::new()?, &format!("{http}/health")).await?;
    Ok(Peer {
        name: "LitServe".to_owned(),
        http,
        grpc: None,
        sleeper: Some(group.rest()),
        _group: group,
    })
}
