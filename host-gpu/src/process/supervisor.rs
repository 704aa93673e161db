//! Starts a worker, waits for its end on a thread of its own, and starts the next one: at once
//! after one that has worked, and ever later after those that have not. Leaves no process behind.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use prometheus::IntCounter;
use quern_process::socket::{self, MAX_MESSAGE};
use quern_types::{Confinement, DeviceId, WorkerDescription};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{Opened, Process, Started, log};
use crate::engine::shortened;

/// How long a worker may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Of the server's environment, what a worker gets: how to find libraries, which GPUs to see, and
/// how much to log.
const ENVIRONMENT: [&str; 5] =
    ["CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "QUERN_LOG", "RUST_BACKTRACE"];

/// What to start as a worker.
#[derive(Debug, Clone)]
pub struct WorkerProgram {
    /// The program, which has to call [`crate::run_device_worker`].
    pub path: PathBuf,
    /// What to start it with.
    pub arguments: Vec<OsString>,
    /// Variables that it gets beside the few that every worker gets.
    pub environment: Vec<(OsString, OsString)>,
}

/// What a worker is started for.
pub(crate) trait Role: Send + 'static {
    /// The server's side of a worker.
    type Connection: Send + Sync + 'static;

    /// Tells a new worker what it is for, and waits until it can compute.
    fn connect(&self, fresh: Fresh) -> io::Result<Self::Connection>;

    /// The process.
    fn process(connection: &Self::Connection) -> &Process;

    /// What it is kept from.
    fn confinement(connection: &Self::Connection) -> &[Confinement];

    /// Whether it has ever done what it was asked.
    fn has_answered(connection: &Self::Connection) -> bool;
}

/// A worker that has just been started and knows nothing.
pub(crate) struct Fresh {
    /// Counts the workers of its supervisor.
    pub(crate) generation: u64,
    pub(crate) process: Arc<Process>,
    /// Its standard input, open as long as it is to live; waits no longer than it may take to start.
    pub(crate) control: OwnedFd,
    /// How it has ended, once it has.
    pub(crate) ended: watch::Receiver<Option<ExitStatus>>,
}

/// What to start, and for which device.
pub(crate) struct Launch {
    pub(crate) device: DeviceId,
    pub(crate) program: WorkerProgram,
    /// Counts the starts.
    pub(crate) starts: IntCounter,
}

/// Whether there is a worker.
pub(crate) enum State<C> {
    /// One is starting.
    Starting,
    Up(Arc<C>),
    /// The last one has ended or not started, and the next one waits for its time.
    Down {
        reason: String,
    },
}

/// Ends the worker, and its own thread, when it is dropped.
pub(crate) struct Supervisor {
    current: Arc<Mutex<Current>>,
    starts: IntCounter,
    /// Dropped to wake the thread from a wait.
    stop: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The process that runs, and whether there may be one.
#[derive(Default)]
struct Current {
    stopping: bool,
    process: Option<Arc<Process>>,
}

/// What the thread works with.
struct Watch<R: Role> {
    launch: Launch,
    role: R,
    current: Arc<Mutex<Current>>,
    state: watch::Sender<State<R::Connection>>,
    stop: Receiver<()>,
}

/// A worker that has started.
struct Running<C> {
    child: Child,
    log: JoinHandle<()>,
    connection: Arc<C>,
    ended: watch::Sender<Option<ExitStatus>>,
}

impl Supervisor {
    pub(crate) fn start<R: Role>(
        launch: Launch,
        role: R,
    ) -> io::Result<(Self, watch::Receiver<State<R::Connection>>)> {
        let (state, states) = watch::channel(State::Starting);
        let (stop, stopped) = channel();
        let (current, starts) = (Arc::new(Mutex::default()), launch.starts.clone());
        let watch = Watch { launch, role, current: current.clone(), state, stop: stopped };
        let thread = thread::Builder::new().name("device-worker".into());
        let thread = thread.spawn(move || watch.run())?;
        let (stop, thread) = (Mutex::new(Some(stop)), Mutex::new(Some(thread)));
        Ok((Self { current, starts, stop, thread }, states))
    }

    /// The worker as people see it.
    pub(crate) fn describe<R: Role>(&self, state: &State<R::Connection>) -> WorkerDescription {
        let starts = self.starts.get();
        let down = match state {
            State::Up(connection) => {
                return WorkerDescription {
                    process_id: Some(R::process(connection).id),
                    down: None,
                    starts,
                    confinement: R::confinement(connection).to_vec(),
                };
            }
            State::Starting => "it is starting",
            State::Down { reason } => reason,
        };
        let (down, confinement) = (Some(down.to_owned()), Vec::new());
        WorkerDescription { process_id: None, down, starts, confinement }
    }

    pub(crate) fn stop(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.stopping = true;
        if let Some(process) = &current.process {
            process.kill();
        }
        drop(current);
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that supervises the device worker panicked");
        }
    }
}

/// The first worker, or why it did not start.
pub(crate) async fn first<C>(state: &watch::Receiver<State<C>>) -> Result<Arc<C>, String> {
    let mut first = state.clone();
    match first.wait_for(|state| !matches!(state, State::Starting)).await.as_deref() {
        Ok(State::Up(connection)) => Ok(connection.clone()),
        Ok(State::Down { reason }) => Err(reason.clone()),
        _ => Err("its supervisor has ended".to_owned()),
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<R: Role> Watch<R> {
    fn run(self) {
        let mut pauses = Pauses::default();
        for generation in 1.. {
            self.state.send_replace(State::Starting);
            let (reason, worked) = match self.launch(generation) {
                Ok(running) => self.watch(running),
                Err(error) => (error.to_string(), false),
            };
            let pause = pauses.after(worked);
            if self.is_stopping() {
                break;
            }
            let device = self.launch.device;
            tracing::warn!(%device, reason, ?pause, "the device worker is down");
            if !pause.is_zero() {
                self.state.send_replace(State::Down { reason });
                if self.stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        }
        self.state.send_replace(State::Down { reason: "it was stopped".into() });
    }

    /// Waits for the end of a worker. Returns what became of it, and whether it has done anything.
    fn watch(&self, running: Running<R::Connection>) -> (String, bool) {
        let Running { mut child, log, connection, ended } = running;
        self.state.send_replace(State::Up(connection.clone()));
        let status = child.wait();
        self.forget();
        ended.send_replace(status.as_ref().ok().copied());
        join_log(log);
        let reason = match status {
            Ok(status) => format!("its process ended: {status}"),
            Err(error) => format!("its process can't be waited for: {error}"),
        };
        (reason, R::has_answered(&connection))
    }

    fn launch(&self, generation: u64) -> io::Result<Running<R::Connection>> {
        self.launch.starts.inc();
        let device = self.launch.device;
        let (control, theirs) = socket::pair()?;
        let mut child = self.launch.program.command(theirs).spawn()?;
        let log = match log::relay(child.stderr.take()) {
            Ok(log) => log,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let (ended, ending) = watch::channel(None);
        match self.connect(generation, &child, control, ending) {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let measures = R::confinement(&connection);
                let (process, confined) = (child.id(), confined(measures));
                tracing::info!(%device, process, confined, "device worker started");
                for missing in measures {
                    if let Some(reason) = &missing.absent {
                        let measure = &missing.measure;
                        tracing::warn!(%device, measure, reason, "not kept from the worker");
                    }
                }
                Ok(Running { child, log, connection, ended })
            }
            Err(error) => {
                let error = failed(&mut child, error);
                self.forget();
                join_log(log);
                Err(error)
            }
        }
    }

    /// Has a new worker told what it is for.
    fn connect(
        &self,
        generation: u64,
        child: &Child,
        control: OwnedFd,
        ended: watch::Receiver<Option<ExitStatus>>,
    ) -> io::Result<R::Connection> {
        let process = Arc::new(Process::of(child.id())?);
        self.remember(&process);
        limit_start(&control)?;
        self.role.connect(Fresh { generation, process, control, ended })
    }

    /// Lets the process be ended by whoever stops the device, who may have done so already.
    fn remember(&self, process: &Arc<Process>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.stopping {
            process.kill();
        }
        current.process = Some(process.clone());
    }

    fn forget(&self) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).process = None;
    }

    fn is_stopping(&self) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).stopping
    }
}

impl WorkerProgram {
    /// The command that starts a worker. It has nothing of this process but one end of a socket,
    /// as its standard input; signals that a terminal sends to this process's group don't reach it.
    pub(super) fn command(&self, socket: OwnedFd) -> Command {
        let mut command = Command::new(&self.path);
        command
            .arg0("quern")
            .args(&self.arguments)
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            // What ONNX Runtime collects it could not send, and it would start threads to try.
            .env("ORT_DISABLE_TELEMETRY", "1")
            .envs(self.environment.iter().cloned())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}

/// Gives a new worker as many channels, which are told apart by their order.
pub(crate) fn channels(control: &OwnedFd, count: u32) -> io::Result<Vec<OwnedFd>> {
    let channel = |channel| {
        let (ours, theirs) = socket::pair()?;
        socket::send(control, &Opened { channel }, Some(theirs.as_fd()))?;
        Ok(ours)
    };
    (0..count).map(channel).collect()
}

/// Waits until a worker can compute.
pub(crate) fn ready<T: DeserializeOwned>(control: &OwnedFd) -> io::Result<T> {
    match socket::receive(control, &mut vec![0; MAX_MESSAGE]) {
        Ok(Started::Ready(ready)) => Ok(ready),
        Ok(Started::Failed { reason }) => Err(io::Error::other(shortened(&reason))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::other(format!("it was not ready within {START_LIMIT:?}")))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn limit_start(control: &OwnedFd) -> io::Result<()> {
    for direction in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(control, direction, Some(START_LIMIT))?;
    }
    Ok(())
}

/// Ends a worker that did not begin; why it did not, if that is how it ended.
pub(super) fn failed(child: &mut Child, error: io::Error) -> io::Error {
    // It may have ended already.
    let _ = child.kill();
    match child.wait() {
        Ok(status) if socket::is_end(&error) => {
            io::Error::other(format!("its process ended: {status}"))
        }
        _ => error,
    }
}

fn confined(measures: &[Confinement]) -> String {
    let in_force = measures.iter().filter(|measure| measure.by.is_some());
    in_force.map(|measure| measure.measure.as_str()).collect::<Vec<_>>().join(", ")
}

fn join_log(log: JoinHandle<()>) {
    if log.join().is_err() {
        tracing::error!("the thread that reads the device worker's log panicked");
    }
}

/// How long to wait before the next start.
#[derive(Default)]
struct Pauses {
    failures: u32,
}

impl Pauses {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);

    /// The wait after a worker that has, or has not, done anything. A crash after some work is
    /// most likely one call's fault, and costs the others least if it is over at once; whoever
    /// can't even begin will most likely not be able to in a moment.
    fn after(&mut self, worked: bool) -> Duration {
        self.failures = if worked { 0 } else { self.failures.saturating_add(1) };
        match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                Self::FIRST.saturating_mul(factor).min(Self::LONGEST)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_work() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.after(true), Duration::ZERO);
        let expected = [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000];
        for milliseconds in expected {
            assert_eq!(pauses.after(false), Duration::from_millis(milliseconds));
        }
        pauses.failures = u32::MAX;
        assert_eq!(pauses.after(false), Pauses::LONGEST);
        assert_eq!(pauses.after(true), Duration::ZERO);
        assert_eq!(pauses.after(false), Pauses::FIRST);
    }
}
