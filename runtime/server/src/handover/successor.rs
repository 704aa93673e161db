//! The server that takes over from this one: started, waited for, and ended if it fails.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{self, ExitStatus},
    time::Duration,
};

use tokio::process::{Child, Command};

use super::{CONFIGURED, Channel, FIXED, Message, VARIABLE, is_end, send_sockets};
use crate::sockets::Sockets;

/// Longest time until a successor is prepared, during which this server serves.
const PREPARE_LIMIT: Duration = Duration::from_secs(120);
/// Longest time until it serves, during which nobody does.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest time between the end of what it says and its own.
const END_LIMIT: Duration = Duration::from_secs(10);
/// What is for this process alone: the successor's sockets come from its predecessor.
const OWN: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How this program was called, so that it can be called again: at that path there may be another
/// version of it by then.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

/// A process that is about to take over. It is ended if this is dropped.
#[derive(Debug)]
pub(crate) struct Successor {
    child: Child,
    channel: Channel,
}

/// Why there is no successor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandOverError {
    /// Its end would be that of the container.
    #[error(
        "this is process 1, at whose end all others end: start another container, and stop this one"
    )]
    FirstProcess,
    /// It can't be started.
    #[error("can't start {}: {cause}", program.display())]
    Start { program: PathBuf, cause: io::Error },
    /// It ended before it took over.
    #[error("the successor ended ({0}); its log says why")]
    Ended(ExitStatus),
    /// It says nothing.
    #[error("the successor was not there within {0:?}")]
    Silent(Duration),
    /// What it says can't be understood or heard.
    #[error("the successor can't be talked to: {0}")]
    Channel(#[from] io::Error),
}

impl Program {
    /// This one, as it was called. To be asked at the start, when the path still leads to it.
    pub(crate) fn this() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().map(PathBuf::from);
        // A link that led to another version by then is to be followed: not what it leads to now.
        let called = name.and_then(|name| called_as(&name)).filter(|path| is_this(path));
        let path = called.map_or_else(std::env::current_exe, Ok)?;
        Ok(Self { path, arguments: arguments.collect() })
    }
}

/// Where a program of this name is found, as a shell finds it.
fn called_as(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return std::path::absolute(name).ok();
    }
    let folders = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&folders).map(|folder| folder.join(name));
    found.find(|path| path.is_file()).and_then(|path| std::path::absolute(path).ok())
}

fn is_this(path: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    id(path).is_some_and(|found| Some(found) == id(Path::new("/proc/self/exe")))
}

impl Successor {
    /// Starts the program anew, with the same arguments and these sockets.
    pub(crate) fn start(program: &Program, sockets: &Sockets) -> Result<Self, HandOverError> {
        if process::id() == 1 {
            return Err(HandOverError::FirstProcess);
        }
        let (ours, theirs) = UnixStream::pair()?;
        send_sockets(&ours, &sockets.files())?;
        let kind = if sockets.are_fixed { FIXED } else { CONFIGURED };
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).env(VARIABLE, kind).stdin(OwnedFd::from(theirs));
        for name in OWN {
            command.env_remove(name);
        }
        let failed = |cause| HandOverError::Start { program: program.path.clone(), cause };
        let child = command.kill_on_drop(true).spawn().map_err(failed)?;
        Ok(Self { child, channel: Channel::new(ours)? })
    }

    /// Its process.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it has all that it can have beside this server.
    pub(crate) async fn prepared(&mut self) -> Result<(), HandOverError> {
        self.hear(Message::Prepared, PREPARE_LIMIT).await
    }

    /// Tells it that the data folder is free, and waits until it serves.
    pub(crate) async fn take_over(&mut self) -> Result<(), HandOverError> {
        let told = self.channel.tell(Message::Released).await;
        self.unless_it_ended(told).await?;
        self.hear(Message::Serving, START_LIMIT).await
    }

    /// Lets it go on without this process.
    pub(crate) fn leave(self) {
        // Dropped, it would be ended.
        std::mem::forget(self);
    }

    /// Ends it, and waits until it has let go of everything.
    pub(crate) async fn end(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "the successor can't be ended");
        }
    }

    async fn hear(&mut self, message: Message, limit: Duration) -> Result<(), HandOverError> {
        let heard = tokio::time::timeout(limit, self.channel.hear(message)).await;
        let heard = heard.map_err(|_| HandOverError::Silent(limit))?;
        self.unless_it_ended(heard).await
    }

    /// Tells a successor that has closed its end, by ending mostly, from one that is not understood.
    async fn unless_it_ended(&mut self, outcome: io::Result<()>) -> Result<(), HandOverError> {
        match outcome {
            Err(error) if is_end(&error) => {
                // It may not have ended yet, and is of no use any more.
                let ended = tokio::time::timeout(END_LIMIT, self.child.wait()).await;
                let Ok(ended) = ended else { return Err(HandOverError::Silent(END_LIMIT)) };
                Err(HandOverError::Ended(ended?))
            }
            outcome => Ok(outcome?),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::config::Server;

    fn sockets() -> Sockets {
        let listen = "127.0.0.1:0".parse().expect("an address");
        Sockets::open(None, &Server { listen, ..Server::default() }).expect("a port")
    }

    fn shell(script: &str) -> Program {
        Program { path: "/bin/sh".into(), arguments: ["-c", script].map(OsString::from).into() }
    }

    #[tokio::test]
    async fn a_successor_that_fails_is_told_from_one_that_is_there() {
        let absent = Program { path: "/no/such/program".into(), arguments: vec![] };
        let error = Successor::start(&absent, &sockets()).expect_err("absent");
        assert!(error.to_string().contains("can't start /no/such/program"), "{error}");

        let mut ended = Successor::start(&shell("exit 7"), &sockets()).expect("started");
        let error = ended.prepared().await.expect_err("it ended");
        assert!(matches!(error, HandOverError::Ended(_)), "{error}");

        let mut babbles = Successor::start(&shell("echo u >&0"), &sockets()).expect("started");
        let error = babbles.prepared().await.expect_err("it says something else");
        assert!(matches!(error, HandOverError::Channel(_)), "{error}");

        let mut there = Successor::start(&shell("echo p >&0; exec sleep 1000"), &sockets());
        let there = there.as_mut().expect("started");
        there.prepared().await.expect("prepared");
        let limit = Duration::from_millis(1);
        there.channel.0.read_u8().await.expect("the end of the line");
        let error = there.hear(Message::Serving, limit).await.expect_err("it says no more");
        assert!(matches!(error, HandOverError::Silent(_)), "{error}");
    }

    #[test]
    fn a_program_is_found_as_it_was_called() {
        let this = Program::this().expect("it runs");
        assert!(is_this(&this.path), "{}", this.path.display());
        let sh = called_as(Path::new("sh")).expect("a shell");
        assert!(sh.is_absolute() && sh.ends_with("sh"), "{}", sh.display());
        assert!(!is_this(&sh));
        assert_eq!(called_as(Path::new("no-such-program-anywhere")), None);
    }
}
