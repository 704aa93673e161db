//! A server for the demo: this program as a child process, with a temporary data folder and a
//! free port. It ends with the demo, however that ends.

use std::{fs::File, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use crate::client::ServerUrl;

/// Time that a server gets to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const LOG_FILE: &str = "server.log";

/// A running server.
pub(super) struct DemoServer {
    child: Child,
    url: ServerUrl,
    folder: TempDir,
}

impl DemoServer {
    /// Starts a server and waits until it takes requests.
    pub(super) async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("quern-demo-").tempdir()?;
        let log = File::create(folder.path().join(LOG_FILE))?;
        let program = std::env::current_exe().context("can't find this program's own file")?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            // Whatever it is here, the demo is the same.
            .env_remove("QUERN_CONFIG")
            // Libraries leave temporary files of their own: they go with the folder.
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("can't start a server")?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(START_TIMEOUT, lines.next_line()).await;
        let url = first.ok().and_then(Result::ok).flatten();
        let url = url.as_deref().and_then(|line| line.strip_prefix("listening on "));
        let Some(url) = url.and_then(|url| url.parse().ok()) else {
            bail!("the server did not start\n{}", log_tail(&folder));
        };
        Ok(Self { child, url, folder })
    }

    pub(super) fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// The end of the server's log.
    pub(super) fn log_tail(&self) -> String {
        log_tail(&self.folder)
    }

    /// Ends the server and removes its folder.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("can't stop the server")?;
        self.folder.close().context("can't remove the demo's folder")
    }
}

/// Resolves when somebody asks this process to stop.
pub(super) async fn stop_signal() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn log_tail(folder: &TempDir) -> String {
    let log = std::fs::read_to_string(folder.path().join(LOG_FILE)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
