//! One started worker as the server sees it: has models loaded and computed, and ends the process
//! as soon as it does not do as it is asked. Never believes what it says about memory or time.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use quern_process::socket;
use quern_types::Lookout;
use rustix::process::Signal;
use tokio::sync::{Semaphore, watch};

use super::{
    channel::Channel,
    protocol::{Load, ModelId, Placed, Ready, Reply, Request},
};
use crate::engine::{Input, Output, shortened};
use crate::process::Process;
use crate::process::region::{KEPT_BYTES, Layout, MAX_BYTES, Misplaced, Part, Region};

/// Smallest region: small runs differ in size from one to the next.
const LEAST_BYTES: u64 = 256 << 10;

/// How long the system may take to say how a process has ended whose sockets are closed.
const ENDING: Duration = Duration::from_secs(5);

/// How long a worker may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) run: Duration,
    pub(super) load: Duration,
}

/// Why a worker did not do something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It ended, or was ended, meanwhile.
    Lost,
    /// The engine did not accept a model, or its inputs.
    Failed { reason: String },
    /// There is no such engine.
    Absent { reason: String },
}

/// What a run should give.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// How many there must be.
    pub(super) outputs: usize,
    /// What they take, as a guess.
    pub(super) bytes: u64,
    /// How long computing takes, as a guess, if that is short.
    pub(super) time: Option<Duration>,
}

/// What a run gave.
pub(super) struct Ran {
    pub(super) outputs: Vec<Output>,
    pub(super) compute: Duration,
    /// When the worker had answered.
    pub(super) ended: Instant,
}

pub(super) struct Connection {
    /// Counts the workers of this server.
    pub(super) generation: u64,
    pub(super) process: Arc<Process>,
    pub(super) ready: Ready,
    limits: Limits,
    lanes: Vec<tokio::sync::Mutex<Lane>>,
    loaders: Loaders,
    /// Whether it has ever done what it was asked.
    answered: AtomicBool,
    /// Requests without an answer; those that never get one stay counted.
    outstanding: AtomicUsize,
    ended: watch::Receiver<Option<ExitStatus>>,
    /// Open as long as the worker is to live.
    _control: OwnedFd,
}

/// What a connection is made of.
pub(super) struct Parts {
    pub(super) generation: u64,
    pub(super) process: Arc<Process>,
    pub(super) ready: Ready,
    pub(super) limits: Limits,
    pub(super) lanes: Vec<Channel>,
    pub(super) loaders: Vec<Channel>,
    pub(super) ended: watch::Receiver<Option<ExitStatus>>,
    pub(super) control: OwnedFd,
}

/// How long to wait for an answer.
#[derive(Debug, Clone, Copy)]
struct Wait {
    /// For so long it is looked for all the time.
    soon: Duration,
    /// So long at most.
    limit: Duration,
}

impl Wait {
    fn of(limit: Duration) -> Self {
        Self { soon: Duration::ZERO, limit }
    }
}

/// A channel that computes, and the memory of its runs.
struct Lane {
    channel: Channel,
    region: Option<Region>,
}

/// Channels for what takes longer than a run; whoever needs one waits until one is free.
struct Loaders {
    free: Semaphore,
    channels: Mutex<Vec<Channel>>,
}

impl Connection {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { generation, process, ready, limits, lanes, loaders, ended, control } = parts;
        let lane = |channel| tokio::sync::Mutex::new(Lane { channel, region: None });
        Self {
            generation,
            process,
            ready,
            limits,
            lanes: lanes.into_iter().map(lane).collect(),
            loaders: Loaders { free: Semaphore::new(loaders.len()), channels: Mutex::new(loaders) },
            answered: AtomicBool::new(false),
            outstanding: AtomicUsize::new(0),
            ended,
            _control: control,
        }
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Loads a model from its sealed memory.
    pub(super) async fn load(&self, load: Load, onnx: &OwnedFd) -> Result<(), Failure> {
        match self.ask_loader(&Request::Load(load), Some(onnx.as_fd())).await {
            Err(Failure::Lost) => Err(self.blamed().await),
            Ok(Reply::Done) => Ok(()),
            Ok(other) => Err(self.unexpected(other)),
            Err(failure) => Err(failure),
        }
    }

    /// Lets go of a model.
    pub(super) async fn unload(&self, model: ModelId) {
        // A worker that does not has been ended, and its models with it.
        let _ = self.ask_loader(&Request::Unload { model }, None).await;
    }

    async fn ask_loader(
        &self,
        request: &Request,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<Reply, Failure> {
        let Ok(_free) = self.loaders.free.acquire().await else { return Err(Failure::Lost) };
        let channels = || self.loaders.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut channel) = channels().pop() else { return Err(Failure::Lost) };
        let reply = self.ask(&mut channel, request, file, Wait::of(self.limits.load)).await;
        channels().push(channel);
        reply
    }

    /// Computes on a lane, once it is free. While nothing else is under way, a run that is expected
    /// to be short is waited for awake, as one in this process would keep its thread.
    pub(super) async fn run(
        &self,
        lane: usize,
        model: ModelId,
        inputs: &[Input],
        expected: Expected,
    ) -> Result<Ran, Failure> {
        let count = self.lanes.len();
        let lane = self.lanes.get(lane).ok_or_else(|| Failure::Failed {
            reason: format!("there is no lane {lane} of {count}"),
        })?;
        let mut lane = lane.lock().await;
        let Lane { channel, region } = &mut *lane;
        let (request, file) = self.placed(region, model, inputs, expected.bytes)?;
        let start = Instant::now();
        let file = file.as_ref().map(AsFd::as_fd);
        let is_alone = self.outstanding.load(Ordering::Relaxed) == 0;
        let soon = expected.time.filter(|_| is_alone).map(|time| time + Lookout::MOST);
        let wait = Wait { soon: soon.unwrap_or_default(), limit: self.limits.run };
        let mut reply = self.ask(channel, &request, file, wait).await?;
        if let Reply::NoRoom { bytes } = reply {
            let file = self.renew(region, bytes)?;
            let file = Some(file.as_fd());
            reply = self.ask(channel, &Request::Collect, file, Wait::of(self.limits.run)).await?;
        }
        let Reply::Ran { compute_ns, outputs: placed } = reply else {
            return Err(self.unexpected(reply));
        };
        let ended = Instant::now();
        let read = region.as_ref().ok_or_else(|| "it has no memory".to_owned());
        let read = read.and_then(|region| read_outputs(region, placed, expected.outputs));
        region.take_if(|region| region.bytes() > KEPT_BYTES);
        match read {
            Ok(outputs) => {
                let compute = Duration::from_nanos(compute_ns).min(ended - start);
                Ok(Ran { outputs, compute, ended })
            }
            Err(problem) => {
                self.give_up(&problem);
                Err(Failure::Lost)
            }
        }
    }

    /// Puts the inputs of a run into memory, new memory if what the lane has is too small.
    fn placed(
        &self,
        region: &mut Option<Region>,
        model: ModelId,
        inputs: &[Input],
        output_bytes: u64,
    ) -> Result<(Request, Option<OwnedFd>), Failure> {
        let too_large = |error: Misplaced| Failure::Failed { reason: error.to_string() };
        let mut layout = Layout::default();
        let mut placed = Vec::with_capacity(inputs.len());
        for input in inputs {
            let part = layout.place(input.byte_length() as u64).map_err(too_large)?;
            let shape = input.shape.iter().map(|&dim| dim as u64).collect();
            placed.push(Placed { dtype: input.dtype, shape, part });
        }
        let offset = layout.end();
        let needed = offset.saturating_add(output_bytes).min(MAX_BYTES);
        let fits = region.as_ref().is_some_and(|region| region.bytes() >= needed);
        let file = if fits { None } else { Some(self.renew(region, needed)?) };
        let Some(region) = region else { return Err(Failure::Lost) };
        for (placed, input) in placed.iter().zip(inputs) {
            region.write(placed.part, &input.parts).map_err(too_large)?;
        }
        let room = Part { offset, length: region.bytes().saturating_sub(offset) };
        Ok((Request::Run { model, inputs: placed, room }, file))
    }

    /// Other memory for a lane, of at least so many bytes.
    fn renew(&self, region: &mut Option<Region>, bytes: u64) -> Result<OwnedFd, Failure> {
        if bytes > MAX_BYTES {
            return Err(Failure::Failed { reason: Misplaced::TooLarge.to_string() });
        }
        let rounded = bytes.max(LEAST_BYTES).next_power_of_two();
        let bytes = if rounded <= KEPT_BYTES { rounded } else { bytes };
        *region = None;
        let (created, file) = Region::create(bytes).map_err(|error| Failure::Failed {
            reason: format!("there is no shared memory of {bytes} bytes: {error}"),
        })?;
        *region = Some(created);
        Ok(file)
    }

    /// Asks on a channel, and ends the worker if it does not answer as it has to.
    async fn ask(
        &self,
        channel: &mut Channel,
        request: &Request,
        file: Option<BorrowedFd<'_>>,
        wait: Wait,
    ) -> Result<Reply, Failure> {
        let Wait { soon, limit } = wait;
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        let asked = tokio::time::timeout(limit, channel.ask(request, file, soon)).await;
        let problem = match asked {
            Ok(Ok(Reply::Refused { reason })) => format!("it refused a request: {reason}"),
            Ok(Ok(reply)) => {
                self.outstanding.fetch_sub(1, Ordering::Relaxed);
                self.answered.store(true, Ordering::Relaxed);
                return Ok(reply);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                self.outstanding.fetch_sub(1, Ordering::Relaxed);
                let reason = "its inputs have too long names or too many dimensions".into();
                return Err(Failure::Failed { reason });
            }
            // How that came about is for its supervisor to say.
            Ok(Err(error)) if socket::is_end(&error) => {
                self.process.kill();
                return Err(Failure::Lost);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) if matches!(request, Request::Load(_)) => {
                self.give_up("a model took too long to load");
                let reason = format!("it took longer than {limit:?}, and its process was ended");
                return Err(Failure::Failed { reason });
            }
            Err(_) => format!("a run took longer than {limit:?}"),
        };
        self.give_up(&problem);
        Err(Failure::Lost)
    }

    fn unexpected(&self, reply: Reply) -> Failure {
        match reply {
            Reply::Failed { reason } => Failure::Failed { reason: shortened(&reason) },
            Reply::Absent { reason } => Failure::Absent { reason: shortened(&reason) },
            _ => {
                self.give_up("it answered something else than it was asked");
                Failure::Lost
            }
        }
    }

    /// Ends the worker.
    fn give_up(&self, problem: &str) {
        tracing::warn!(process = self.process.id, problem, "ending the device worker");
        self.process.kill();
    }

    /// What became of the only request of a worker that ended: if it was a crash, the request is
    /// to blame, and would crash the next worker too.
    async fn blamed(&self) -> Failure {
        if self.outstanding.load(Ordering::Relaxed) > 1 {
            return Failure::Lost;
        }
        let mut ended = self.ended.clone();
        let ending = tokio::time::timeout(ENDING, ended.wait_for(Option::is_some)).await;
        let status = ending.ok().and_then(Result::ok).and_then(|status| *status);
        match status {
            Some(status) if is_crash(status) => {
                Failure::Failed { reason: format!("its process crashed: {status}") }
            }
            _ => Failure::Lost,
        }
    }
}

/// Whether a process ended by its own doing, and not because somebody ended it.
fn is_crash(status: ExitStatus) -> bool {
    let crashes = [Signal::ILL, Signal::ABORT, Signal::BUS, Signal::FPE, Signal::SEGV];
    status.signal().is_some_and(|signal| crashes.iter().any(|crash| crash.as_raw() == signal))
}

/// Copies outputs out of shared memory, if the worker says things that can be.
fn read_outputs(
    region: &Region,
    placed: Vec<Placed>,
    expected: usize,
) -> Result<Vec<Output>, String> {
    if placed.len() != expected {
        return Err(format!("it gave {} outputs for {expected}", placed.len()));
    }
    let lengths = placed.iter().map(|output| output.part.length);
    let total = lengths.fold(0u64, u64::saturating_add);
    if total > region.bytes() {
        return Err(format!("it gave outputs of {total} bytes in {}", region.bytes()));
    }
    let read = |output: Placed| {
        let data = region.read(output.part).map_err(|error| error.to_string())?;
        Ok(Output { dtype: output.dtype, shape: output.shape, data })
    };
    placed.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests;
