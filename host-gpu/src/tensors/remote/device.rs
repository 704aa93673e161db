//! The device whose lanes are in another process, which is started anew whenever it has ended.
//! Computes nothing here.

use std::{io, num::NonZeroUsize, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use prometheus::IntCounter;
use quern_kernels::{Device, Lane, LaneError};
use quern_types::{DeviceId, WorkerDescription};
use tokio::sync::watch;

use super::{
    connection::{Connection, Tensors},
    lane::RemoteLane,
    protocol::Computing,
};
use crate::process::{self, Launch, State, Supervisor, WorkerProgram};

/// How to start a process that computes tensors, and what it may take.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// The device that it is.
    pub device: DeviceId,
    /// What to start.
    pub program: WorkerProgram,
    /// What computes there.
    pub computing: Computing,
    /// Lanes, each of which has a link of its own.
    pub lanes: NonZeroUsize,
    /// How long it may take without getting on, before it is ended.
    pub patience: Duration,
}

/// Why there is no process that computes tensors.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The first one did not start.
    #[error("{reason}")]
    Start {
        /// What went wrong, and what to do about it.
        reason: String,
    },
    /// No thread to supervise it.
    #[error("can't start the thread that supervises the device worker: {0}")]
    Thread(#[from] io::Error),
}

/// A device in a process of its own; a clone is the same. Dropping the last one ends the process.
#[derive(Clone)]
pub struct RemoteDevice {
    shared: Arc<Shared>,
}

struct Shared {
    state: watch::Receiver<State<Connection>>,
    supervisor: Supervisor,
}

impl RemoteDevice {
    /// Starts a process and waits until it can compute. From then on it is started again whenever
    /// it has ended, and each start is counted.
    pub async fn start(config: RemoteConfig, starts: IntCounter) -> Result<Self, RemoteError> {
        let RemoteConfig { device, program, computing, lanes, patience } = config;
        let role = Tensors { lanes: lanes.get(), computing, patience };
        let (supervisor, state) = Supervisor::start(Launch { device, program, starts }, role)?;
        let first = process::first(&state).await;
        first.map_err(|reason| RemoteError::Start { reason })?;
        Ok(Self { shared: Arc::new(Shared { state, supervisor }) })
    }

    /// Waits until a process that is just starting has started, or has not.
    pub fn settled(&self) -> BoxFuture<'static, ()> {
        let mut state = self.shared.state.clone();
        Box::pin(async move {
            // If nobody starts any more, there is nothing to wait for.
            _ = state.wait_for(|state| !matches!(state, State::Starting)).await;
        })
    }

    /// The process at the moment.
    pub fn describe(&self) -> WorkerDescription {
        let Shared { state, supervisor } = &*self.shared;
        supervisor.describe::<Tensors>(&state.borrow())
    }

    /// Ends the process for good, and waits until it has ended. What it had is lost.
    pub fn stop(&self) {
        self.shared.supervisor.stop();
    }
}

impl Device for RemoteDevice {
    fn open(&self, budget_bytes: u64) -> Result<Box<dyn Lane>, LaneError> {
        self.open_on(0, budget_bytes)
    }

    fn open_on(&self, number: usize, budget_bytes: u64) -> Result<Box<dyn Lane>, LaneError> {
        let lost = |reason: &str| Err(LaneError::Lost { reason: format!("{reason}: try again") });
        match &*self.shared.state.borrow() {
            State::Up(connection) => {
                connection.peer.check()?;
                Ok(Box::new(RemoteLane::new(connection.clone(), number, budget_bytes)))
            }
            State::Starting => lost("its process is being started"),
            State::Down { reason } => lost(reason),
        }
    }

    fn held_bytes(&self) -> u64 {
        match &*self.shared.state.borrow() {
            State::Up(connection) => connection.peer.held_bytes(),
            State::Starting | State::Down { .. } => 0,
        }
    }

    fn is_here(&self) -> bool {
        false
    }
}
