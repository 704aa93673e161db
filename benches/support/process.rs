//! Servers under test as processes of their own: started, awaited, stopped by their id. Never
//! leaves one behind.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long a server may take to start, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The stream on which a server says where it listens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Announced {
    Stdout,
    Stderr,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    /// `http://ADDRESS:PORT`.
    origin: String,
    /// What it writes besides.
    _log: TempDir,
}

impl ServerProcess {
    /// Starts the program under test on a data folder.
    pub(crate) async fn quern(data: &Path) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        Self::start(command, Announced::Stdout).await
    }

    /// Starts a server and waits until it says where it listens.
    pub(crate) async fn start(mut command: Command, announced: Announced) -> Result<Self> {
        let log = TempDir::new()?;
        let path = log.path().join("log");
        let file = File::create(&path)?;
        let (stdout, stderr) = match announced {
            Announced::Stdout => (Stdio::piped(), Stdio::from(file)),
            Announced::Stderr => (Stdio::from(file), Stdio::piped()),
        };
        command.current_dir(root()).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let program = command.as_std().get_program().to_owned();
        let mut child = command.kill_on_drop(true).spawn().with_context(|| {
            format!("{} can't be started: `make bench` installs it", program.display())
        })?;
        let origin = match announced {
            Announced::Stdout => announcement(child.stdout.take()).await,
            Announced::Stderr => announcement(child.stderr.take()).await,
        };
        let origin = origin.with_context(|| {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            format!("{} did not start\n{log}", program.display())
        })?;
        Ok(Self { child, origin, _log: log })
    }

    /// The address of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// Asks it to end, and waits for it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let id = self.id()?.to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().await?;
        ensure!(asked.success(), "kill -TERM {id} failed");
        let _ended: ExitStatus = timeout(PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("server {id} does not end on SIGTERM"))??;
        Ok(())
    }
}

/// Reads lines up to the one that names an address, and goes on reading so that the server never
/// waits for a reader.
async fn announcement(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> Result<String> {
    let mut lines = BufReader::new(stream.context("the stream is not piped")?).lines();
    let mut seen = String::new();
    let found = timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await? {
            if let Some(origin) = origin(&line) {
                return Ok(origin);
            }
            seen += &line;
            seen.push('\n');
        }
        anyhow::bail!("it ended")
    });
    let found = found.await.context("it says nothing").flatten().context(seen)?;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(found)
}

fn origin(line: &str) -> Option<String> {
    let (_, address) = line.split_once("http://")?;
    let end = address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    let address = &address[..end.unwrap_or(address.len())];
    address.contains(':').then(|| format!("http://{address}"))
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program that `make bench` has installed.
pub(crate) fn peer(name: &str) -> PathBuf {
    root().join(".quern/peers/bin").join(name)
}
