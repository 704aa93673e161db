//! RQ and Celery on Redis, with their workers: started, and ended. Never measures.

use std::{fs, net::TcpStream, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::support::{
    client::plain,
    group::{Group, free_port},
    load::Target,
    process::{peer, root},
};

/// What the peers run.
const FOLDER: &str = "benches/peers";
/// How long Redis may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Processes that take calls over HTTP, and processes that carry them out.
pub(crate) const PROCESSES: usize = 4;

/// When Redis flushes what it has acknowledged to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Before it acknowledges, as Quern does.
    Always,
    /// So that power loss takes a second of what was acknowledged.
    EverySecond,
}

/// A peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Rq,
    Celery,
}

impl Queue {
    pub(crate) const ALL: [Self; 2] = [Self::Rq, Self::Celery];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rq => "RQ",
            Self::Celery => "Celery",
        }
    }

    /// Its part of paths.
    fn path(self) -> &'static str {
        match self {
            Self::Rq => "rq",
            Self::Celery => "celery",
        }
    }
}

/// Redis, and what takes calls for both peers.
pub(crate) struct Queues {
    flush: Flush,
    redis: Redis,
    origin: String,
    _app: Group,
}

impl Queues {
    /// Starts Redis, and the processes that take calls.
    pub(crate) async fn start(flush: Flush) -> Result<Self> {
        let redis = Redis::start(flush).await?;
        let origin = format!("http://127.0.0.1:{}", free_port()?);
        let mut app = redis.python(&["-m", "uvicorn", "queue_app:app", "--app-dir"]);
        app.arg(root().join(FOLDER))
            .args(["--port", origin.rsplit(':').next().context("a port")?])
            .args(["--workers", &PROCESSES.to_string(), "--no-access-log"])
            .args(["--loop", "uvloop", "--http", "httptools"]);
        let ready = format!("{origin}/openapi.json");
        let app = Group::start(app, TempDir::new()?, &ready).await?;
        Ok(Self { flush, redis, origin, _app: app })
    }

    /// A queue on this Redis.
    pub(crate) fn name(&self, queue: Queue) -> String {
        let flush = match self.flush {
            Flush::Always => "",
            Flush::EverySecond => ", flushed each second",
        };
        format!("{}{flush}", queue.name())
    }

    /// Takes calls with this body over HTTP.
    pub(crate) fn target(&self, queue: Queue, body: &Path) -> Target {
        Target {
            name: self.name(queue),
            url: self.url(queue),
            body: Some(body.to_owned()),
            headers: Vec::new(),
        }
    }

    /// Where calls are taken.
    pub(crate) fn url(&self, queue: Queue) -> String {
        format!("{}/{}", self.origin, queue.path())
    }

    /// Calls a second that a queue's own client hands to Redis, from several processes, without
    /// HTTP.
    pub(crate) async fn alone(&self, queue: Queue, time: Duration, bytes: usize) -> Result<f64> {
        let mut client = self.redis.python(&["queue_client.py", queue.path()]);
        client.args([PROCESSES, time.as_secs() as usize, bytes].map(|number| number.to_string()));
        let output = client.output().await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the client of {}: {errors}", queue.name());
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    }

    /// Forgets all calls.
    pub(crate) async fn forget(&self) -> Result<()> {
        let answer = plain().delete(format!("{}/calls", self.origin)).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// Starts what carries calls out; it ends when this is dropped.
    pub(crate) async fn workers(&self, queue: Queue) -> Result<Workers> {
        let count = PROCESSES.to_string();
        let mut command = match queue {
            // One that runs a call in itself, as RQ's default starts a process for each.
            Queue::Rq => {
                let pool = ["-m", "rq.cli", "worker-pool", "--quiet", "--num-workers", &count];
                let mut command = self.redis.python(&pool);
                command.args(["--worker-class", "rq.worker.SimpleWorker", "--path", "."]);
                command.args(["--url", &self.redis.url()]);
                command
            }
            Queue::Celery => {
                let worker = ["-m", "celery", "--app", "queue_tasks", "worker"];
                let mut command = self.redis.python(&worker);
                command.args(["--concurrency", &count, "--loglevel", "WARNING"]);
                command
            }
        };
        let folder = TempDir::new()?;
        let log = fs::File::create(folder.path().join("log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let child =
            command.spawn().context("workers can't be started: `make peers` installs them")?;
        // They answer nobody: they are ready when they have carried out a first call.
        plain().post(self.url(queue)).json(&call("")).send().await?.error_for_status()?;
        let path = folder.path().join("log");
        timeout(PATIENCE, self.finished_are(queue, 1)).await.with_context(|| {
            let log = fs::read_to_string(path).unwrap_or_default();
            format!("no worker of {} carries out a call\n{log}", queue.name())
        })??;
        Ok(Workers { child, _folder: folder })
    }

    /// Waits until so many calls are finished.
    pub(crate) async fn finished_are(&self, queue: Queue, count: usize) -> Result<()> {
        let url = format!("{}/finished/{}", self.origin, queue.path());
        loop {
            let answer = plain().get(&url).send().await?.error_for_status()?;
            if answer.json::<usize>().await? >= count {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The body of a call.
pub(crate) fn call(text: &str) -> serde_json::Value {
    serde_json::json!({ "text": text })
}

/// What carries calls out.
pub(crate) struct Workers {
    child: Child,
    _folder: TempDir,
}

impl Workers {
    /// Ends them, and waits until they have ended.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let id = self.child.id().context("the workers have ended")?.to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().await?;
        ensure!(asked.success(), "kill -TERM {id} failed");
        timeout(PATIENCE, self.child.wait()).await.context("the workers do not end")??;
        Ok(())
    }
}

struct Redis {
    port: u16,
    _child: Child,
    _folder: TempDir,
}

impl Redis {
    async fn start(flush: Flush) -> Result<Self> {
        let flush = match flush {
            Flush::Always => "always",
            Flush::EverySecond => "everysec",
        };
        let (port, folder) = (free_port()?, TempDir::new()?);
        let mut command = Command::new(peer("redis-server"));
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"])
            .arg(folder.path())
            .args(["--appendonly", "yes", "--appendfsync", flush, "--save", ""])
            .args(["--logfile", "log"])
            .kill_on_drop(true);
        let child = command.spawn().context("Redis can't be started: `make peers` installs it")?;
        let listens = async {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, listens).await.context("Redis does not start")?;
        Ok(Self { port, _child: child, _folder: folder })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The peers' Python, in the folder of what they run.
    fn python(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(peer("queues-python"));
        command
            .args(arguments)
            .current_dir(root().join(FOLDER))
            .env("REDIS", self.url())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .kill_on_drop(true);
        command
    }
}
