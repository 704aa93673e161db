//! Servers as groups of processes, since most peers have workers that outlive their parent: started
//! on a port of their own, awaited, and ended together. Never leaves one behind.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{client, process::root};

/// How long a server may take to load its models.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    leader: Pid,
    /// What it writes, and what it was given.
    _folder: TempDir,
}

impl Group {
    /// Starts a server with a folder that it may write into, and waits until this address answers
    /// with success.
    pub(crate) async fn start(mut command: Command, folder: TempDir, ready: &str) -> Result<Self> {
        let path = folder.path().join("log");
        let log = File::create(&path)?;
        command.current_dir(root()).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).process_group(0).kill_on_drop(true);
        let program = command.as_std().get_program().to_owned();
        let child = command.spawn().with_context(|| {
            format!("{} can't be started: `make peers` installs it", program.display())
        })?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let leader = leader.context("it has ended already")?;
        let mut group = Self { child, leader, _folder: folder };
        group.answers(ready).await.with_context(|| {
            let log = fs::read_to_string(&path).unwrap_or_default();
            format!("{} did not start\n{log}", program.display())
        })?;
        Ok(group)
    }

    /// Has it stand still from now on, except while someone keeps it awake: for a server that polls
    /// without a pause while it has nothing to do, and would slow down the one that is measured.
    pub(crate) fn rest(&self) -> Sleeper {
        drop(Sleeper(self.leader).awake());
        Sleeper(self.leader)
    }

    async fn answers(&mut self, url: &str) -> Result<()> {
        let client = client::plain();
        let answered = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    bail!("it ended with {status}");
                }
                let answer = client.get(url).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, answered).await.with_context(|| format!("{url} does not answer"))?
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // They keep nothing, and not all of them end when they are asked to. Of a group that is
        // gone there is nothing to end.
        kill_process_group(self.leader, Signal::KILL).ok();
    }
}

/// A group that stands still.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sleeper(Pid);

impl Sleeper {
    /// Lets it run until the guard is dropped.
    pub(crate) fn awake(self) -> Awake {
        // One that has ended fails the request that comes next.
        kill_process_group(self.0, Signal::CONT).ok();
        Awake(self)
    }
}

/// A group that runs.
#[derive(Debug)]
pub(crate) struct Awake(Sleeper);

impl Drop for Awake {
    fn drop(&mut self) {
        kill_process_group(self.0.0, Signal::STOP).ok();
    }
}

/// A client that opens a connection for each request: a server that stood still closes what was
/// idle meanwhile as soon as it wakes.
pub(crate) fn client() -> Result<Client> {
    Ok(client::unencrypted().pool_max_idle_per_host(0).build()?)
}

/// A port of loopback that nobody listens on. Peers can't be told to take one and say which.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
