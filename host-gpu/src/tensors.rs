//! Device tensors for functions: devices whose lanes are threads, each of which computes for the
//! sessions given to it, in turns. Which session is given to which lane, and what it may use, is
//! decided elsewhere.

mod account;
mod command;
mod lane;
pub(crate) mod remote;
mod session;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    any::Any,
    io,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
};

use futures::future::BoxFuture;
use quern_kernels::{CpuDevice, CpuDeviceError, Device, Ledger};
use quern_operators::{KernelSession, LaneError, SessionLimits};
use quern_types::{DeviceId, TenantId, WorkerDescription};

pub use account::Account;
use command::{Held, Lease};
pub use lane::LaneStatus;
use lane::{Entry, Failure, Lane};
pub use remote::{Computing, Gpu, RemoteConfig, RemoteDevice, RemoteError, find_gpus};
use session::LaneSession;

/// How a device computes tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorConfig {
    /// Lanes: operators of different sessions that are computed at the same time.
    pub lanes: NonZeroUsize,
    /// Operations of one operator, as its plan counts them; more are refused.
    pub work: u64,
    /// Tensors that a session has at a time.
    pub tensors: usize,
    /// Whether a short operator may be computed on the thread that asks for it, if the lane is
    /// idle; never where the device is in another process.
    pub on_the_spot: bool,
}

/// A device for tensors. Dropping it ends all its sessions, and waits for what is computed.
pub struct TensorDevice {
    id: DeviceId,
    name: Arc<str>,
    config: TensorConfig,
    device: Box<dyn Device>,
    /// The same device, if it is in a process of its own.
    remote: Option<RemoteDevice>,
    /// What it is, if it is a GPU.
    gpu: Option<Gpu>,
    lanes: Vec<Arc<Lane>>,
    threads: Vec<JoinHandle<()>>,
}

/// What a session is opened with.
pub struct Opening {
    /// The lane, from 0.
    pub lane: usize,
    /// Whose session it is.
    pub tenant: TenantId,
    /// How it counts where sessions take turns, in thousandths.
    pub share_milli: u32,
    /// Memory of all its tensors.
    pub bytes: u64,
    /// What its tenant has used.
    pub account: Arc<Account>,
    /// Dropped once all that the session had is given back, what it has lent included.
    pub lease: Arc<dyn Any + Send + Sync>,
}

/// Why tensors can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum TensorDeviceError {
    /// The device does not start.
    #[error(transparent)]
    Cpu(#[from] CpuDeviceError),
    /// The system gives no threads.
    #[error("can't start the threads of {lanes} lanes for tensors: {error}")]
    Threads {
        /// How many were asked for.
        lanes: NonZeroUsize,
        /// What the system said.
        error: io::Error,
    },
}

impl TensorDevice {
    /// The host's processors, of which an operator uses up to so many at a time.
    pub fn cpu(threads: NonZeroUsize, config: TensorConfig) -> Result<Self, TensorDeviceError> {
        Self::start(crate::cpu::ID, Box::new(CpuDevice::new(threads)?), config)
    }

    /// A device in a process of its own, with a link for each lane.
    pub fn remote(
        id: DeviceId,
        device: RemoteDevice,
        config: TensorConfig,
    ) -> Result<Self, TensorDeviceError> {
        let mut started = Self::start(id, Box::new(device.clone()), config)?;
        started.remote = Some(device);
        Ok(started)
    }

    /// A GPU in a process of its own, with the memory that its tensors may take.
    pub fn gpu(
        gpu: Gpu,
        device: RemoteDevice,
        config: TensorConfig,
    ) -> Result<Self, TensorDeviceError> {
        let mut started = Self::remote(DeviceId::Cuda(gpu.ordinal), device, config)?;
        started.gpu = Some(gpu);
        Ok(started)
    }

    /// A device, with a thread for each lane.
    pub fn start(
        id: DeviceId,
        device: Box<dyn Device>,
        config: TensorConfig,
    ) -> Result<Self, TensorDeviceError> {
        let (lanes, threads) = (Vec::new(), Vec::new());
        let name = id.to_string().into();
        let (remote, gpu) = (None, None);
        let mut started = Self { id, name, config, device, remote, gpu, lanes, threads };
        for number in 0..config.lanes.get() {
            let lane = Arc::new(Lane::new(started.device.is_here()));
            let works = Arc::clone(&lane);
            let thread = thread::Builder::new().name(format!("tensors-{number}"));
            let thread = thread.spawn(move || works.work());
            let no_thread = |error| TensorDeviceError::Threads { lanes: config.lanes, error };
            started.threads.push(thread.map_err(no_thread)?);
            started.lanes.push(lane);
        }
        Ok(started)
    }

    /// Its id.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// How many lanes it has.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Memory that its sessions hold, in use or kept for their next tensors.
    pub fn held_bytes(&self) -> u64 {
        self.device.held_bytes()
    }

    /// What its lanes are doing.
    pub fn status(&self) -> Vec<LaneStatus> {
        self.lanes.iter().map(|lane| lane.status()).collect()
    }

    /// What its maker calls it, if it is a GPU.
    pub fn model(&self) -> Option<&str> {
        self.gpu.as_ref().map(|gpu| gpu.name.as_str())
    }

    /// Memory for tensors, if it has some of its own.
    pub fn own_memory(&self) -> Option<u64> {
        self.gpu.as_ref().map(|gpu| gpu.memory_bytes)
    }

    /// Its process, if it has one of its own.
    pub fn process(&self) -> Option<WorkerDescription> {
        self.remote.as_ref().map(RemoteDevice::describe)
    }

    /// Waits until the device's process has started, if it is just being started.
    pub fn settled(&self) -> BoxFuture<'static, ()> {
        match &self.remote {
            Some(remote) => remote.settled(),
            None => Box::pin(std::future::ready(())),
        }
    }

    /// A session on a lane. Never waits.
    pub fn open(&self, opening: Opening) -> Result<Box<dyn KernelSession>, LaneError> {
        let Opening { lane: number, tenant, share_milli, bytes, account, lease } = opening;
        let no_lane = || LaneError::Lost { reason: format!("it has no lane {number}") };
        let lane = Arc::clone(self.lanes.get(number).ok_or_else(no_lane)?);
        let failure: Failure = Arc::new(OnceLock::new());
        let computer = self.device.open_on(number, bytes)?;
        let lent = Lease::clone(&lease);
        let held = Held { tenant, account: Arc::clone(&account), computer, lease: lent };
        let key = lane.enter(Entry { share_milli, held, failure: Arc::clone(&failure) })?;
        let TensorConfig { work, tensors, on_the_spot, .. } = self.config;
        let on_the_spot = on_the_spot && self.device.is_here();
        Ok(Box::new(LaneSession {
            device: Arc::clone(&self.name),
            ledger: Ledger::new(SessionLimits { bytes, tensors, work }),
            lane,
            key,
            failure,
            lease,
            account,
            noted_bytes: 0,
            most_bytes: 0,
            on_the_spot,
        }))
    }
}

impl Drop for TensorDevice {
    fn drop(&mut self) {
        // Nobody waits for a process that is at its end.
        if let Some(remote) = &self.remote {
            remote.stop();
        }
        self.lanes.iter().for_each(|lane| lane.close());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a lane's thread panicked");
            }
        }
    }
}
