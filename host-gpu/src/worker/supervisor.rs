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

use prometheus::{IntCounter, Registry};
use quern_process::socket;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tokio::{runtime::Handle, sync::watch};

use super::{
    channel::Channel,
    connection::{Connection, Limits, Parts, Process},
    log,
    protocol::{MAX_MESSAGE, Opened, Ready, Setup, Started},
};
use crate::{cpu::ID, engine::shortened};

/// Models that are loaded at the same time.
const LOADERS: usize = 2;

/// How long a worker may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Of the server's environment, what a worker gets: how to find libraries, and how much to log.
const ENVIRONMENT: [&str; 3] = ["LD_LIBRARY_PATH", "QUERN_LOG", "RUST_BACKTRACE"];

/// What to start.
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) lanes: usize,
    pub(super) ort_library: Option<PathBuf>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) limits: Limits,
    pub(super) runtime: Handle,
}

/// Whether there is a worker.
pub(super) enum State {
    /// One is starting.
    Starting,
    Up(Arc<Connection>),
    /// The last one has ended or not started, and the next one waits for its time.
    Down {
        reason: String,
    },
}

/// Ends the worker, and its own thread, when it is dropped.
pub(super) struct Supervisor {
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
struct Watch {
    launch: Launch,
    current: Arc<Mutex<Current>>,
    starts: IntCounter,
    state: watch::Sender<State>,
    stop: Receiver<()>,
}

/// A worker that has started.
struct Running {
    child: Child,
    log: JoinHandle<()>,
    connection: Arc<Connection>,
    ended: watch::Sender<Option<ExitStatus>>,
}

impl Supervisor {
    pub(super) fn start(
        launch: Launch,
        registry: &Registry,
    ) -> Result<(Self, watch::Receiver<State>), super::WorkerError> {
        let starts = IntCounter::new(
            "quern_device_worker_starts_total",
            "Starts of the process that computes models; all but the first follow an end of it",
        )?;
        registry.register(Box::new(starts.clone()))?;
        let (state, states) = watch::channel(State::Starting);
        let (stop, stopped) = channel();
        let current = Arc::new(Mutex::default());
        let watch = Watch {
            launch,
            current: current.clone(),
            starts: starts.clone(),
            state,
            stop: stopped,
        };
        let thread = thread::Builder::new().name("device-worker".into());
        let thread = thread.spawn(move || watch.run())?;
        let (stop, thread) = (Mutex::new(Some(stop)), Mutex::new(Some(thread)));
        Ok((Self { current, starts, stop, thread }, states))
    }

    pub(super) fn starts(&self) -> u64 {
        self.starts.get()
    }

    pub(super) fn stop(&self) {
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

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Watch {
    fn run(self) {
        // Sockets are watched by the runtime's threads.
        let runtime = self.launch.runtime.clone();
        let _entered = runtime.enter();
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
            tracing::warn!(device = %ID, reason, ?pause, "the device worker is down");
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
    fn watch(&self, running: Running) -> (String, bool) {
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
        (reason, connection.has_answered())
    }

    fn launch(&self, generation: u64) -> io::Result<Running> {
        self.starts.inc();
        let (control, theirs) = socket::pair()?;
        let mut child = self.command(theirs).spawn()?;
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
                tracing::info!(
                    device = %ID, process = child.id(), confined = confined(&connection.ready),
                    "device worker started"
                );
                for missing in &connection.ready.confinement {
                    if let Some(reason) = &missing.absent {
                        let measure = &missing.measure;
                        tracing::warn!(device = %ID, measure, reason, "not kept from the worker");
                    }
                }
                Ok(Running { child, log, connection, ended })
            }
            Err(error) => {
                // It may have ended already.
                let _ = child.kill();
                let status = child.wait();
                self.forget();
                join_log(log);
                match status {
                    Ok(status) if socket::is_end(&error) => {
                        Err(io::Error::other(format!("its process ended: {status}")))
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// The command that starts a worker. It has nothing of this process but one end of a socket,
    /// as its standard input; signals that a terminal sends to this process's group don't reach it.
    fn command(&self, socket: OwnedFd) -> Command {
        let mut command = Command::new(&self.launch.program);
        command
            .arg0("quern")
            .args(&self.launch.arguments)
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            // What ONNX Runtime collects it could not send, and it would start threads to try.
            .env("ORT_DISABLE_TELEMETRY", "1")
            .envs(self.launch.environment.iter().cloned())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Gives a new worker its channels, and waits until it can compute.
    fn connect(
        &self,
        generation: u64,
        child: &Child,
        control: OwnedFd,
        ended: watch::Receiver<Option<ExitStatus>>,
    ) -> io::Result<Connection> {
        let process = Arc::new(Process::of(child.id())?);
        self.remember(&process);
        for direction in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&control, direction, Some(START_LIMIT))?;
        }
        let setup = Setup {
            lanes: u32::try_from(self.launch.lanes).map_err(io::Error::other)?,
            loaders: LOADERS as u32,
            ort_library: self.launch.ort_library.clone(),
            memory_bytes: self.launch.memory_bytes,
        };
        socket::send(&control, &setup, None)?;
        let mut lanes = Vec::new();
        for channel in 0..setup.lanes + setup.loaders {
            let (ours, theirs) = socket::pair()?;
            socket::send(&control, &Opened { channel }, Some(theirs.as_fd()))?;
            lanes.push(Channel::new(ours)?);
        }
        let loaders = lanes.split_off(self.launch.lanes);
        let ready = match socket::receive(&control, &mut vec![0; MAX_MESSAGE]) {
            Ok(Started::Ready(ready)) => ready,
            Ok(Started::Failed { reason }) => return Err(io::Error::other(shortened(&reason))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::other(format!("it was not ready within {START_LIMIT:?}")));
            }
            Err(error) => return Err(error),
        };
        let limits = self.launch.limits;
        let parts = Parts { generation, process, ready, limits, lanes, loaders, ended, control };
        Ok(Connection::new(parts))
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

fn confined(ready: &Ready) -> String {
    let measures = ready.confinement.iter().filter(|measure| measure.by.is_some());
    measures.map(|measure| measure.measure.as_str()).collect::<Vec<_>>().join(", ")
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
