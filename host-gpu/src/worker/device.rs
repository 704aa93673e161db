//! The device whose engines are in a worker. Computes nothing in the server's process, and looks
//! into no model there.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use prometheus::{IntCounter, Registry};
use quern_types::{Device, DeviceDescription, DeviceError, DeviceId, Engine, ModelSource, Replica};
use tokio::{runtime::Handle, sync::watch};

use super::{
    connection::{Connection, Limits},
    protocol::ModelId,
    replica::{Model, WorkerReplica},
    role::Models,
    unbroken::Unbroken,
};
use crate::{
    cpu::{ID, processor},
    engine,
    metrics::Metrics,
    process::{self, Launch, State, Supervisor, WorkerProgram, region},
};

/// How to start a worker, and what it may take.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// What to start.
    pub program: WorkerProgram,
    /// Batches computed at the same time, each on one core.
    pub lanes: usize,
    /// ONNX Runtime's shared library; none: that engine is absent.
    pub ort_library: Option<PathBuf>,
    /// Bytes of memory that the worker may have for itself; none: as many as there are.
    pub memory_bytes: Option<u64>,
    /// How long one run may take; a worker that takes longer is ended.
    pub run_limit: Duration,
    /// The same for loading a model.
    pub load_limit: Duration,
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No lanes, or more than a worker has.
    #[error("a device worker needs 1 to {} lanes", Worker::MAX_LANES)]
    Lanes,
    /// The first worker did not start.
    #[error("the device worker did not start: {reason}")]
    Start {
        /// What went wrong.
        reason: String,
    },
    /// No thread to supervise it.
    #[error("can't start the thread that supervises the device worker: {0}")]
    Thread(#[from] io::Error),
    /// The registry has metrics of these names.
    #[error("can't register the device's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The host's processors, used by a process of their own. Dropping it ends the process; replicas
/// that remain are lost.
pub struct Worker {
    name: String,
    shared: Arc<Shared>,
    metrics: Metrics,
    /// Of the first worker; all others have the same.
    ort_version: Option<String>,
    ids: AtomicU64,
    supervisor: Supervisor,
}

/// What replicas need of their device.
pub(super) struct Shared {
    pub(super) lanes: usize,
    pub(super) runtime: Handle,
    state: watch::Receiver<State<Connection>>,
}

impl Shared {
    /// The present worker; one that is just starting is waited for.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, DeviceError> {
        if let Some(connection) = self.present() {
            return Ok(connection);
        }
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Starting)).await;
        match settled.as_deref() {
            Ok(State::Up(connection)) => Ok(connection.clone()),
            _ => Err(DeviceError::Lost { device: ID }),
        }
    }

    /// The present worker, if there is one.
    pub(super) fn present(&self) -> Option<Arc<Connection>> {
        match &*self.state.borrow() {
            State::Up(connection) => Some(connection.clone()),
            State::Starting | State::Down { .. } => None,
        }
    }
}

impl Worker {
    /// Most lanes of one worker.
    pub const MAX_LANES: usize = 1_024;

    /// Starts a worker and waits until it can compute. From then on it is started again whenever
    /// it has ended.
    pub async fn start(config: WorkerConfig, registry: &Registry) -> Result<Self, WorkerError> {
        let lanes = config.lanes;
        if !(1..=Self::MAX_LANES).contains(&lanes) {
            return Err(WorkerError::Lanes);
        }
        let metrics = Metrics::register(registry)?;
        let runtime = Handle::current();
        let limits = Limits { run: config.run_limit, load: config.load_limit };
        // The worker has a working directory of its own.
        let ort_library = config.ort_library.map(std::path::absolute).transpose();
        let ort_library = ort_library.map_err(|error| WorkerError::Start {
            reason: format!("the path of ONNX Runtime's library: {error}"),
        })?;
        let starts = IntCounter::new(
            "quern_device_worker_starts_total",
            "Starts of the process that computes models; all but the first follow an end of it",
        )?;
        registry.register(Box::new(starts.clone()))?;
        let launch = Launch { device: ID, program: config.program, starts };
        let memory_bytes = config.memory_bytes;
        let role = Models { lanes, ort_library, memory_bytes, limits, runtime: runtime.clone() };
        let (supervisor, state) = Supervisor::start(launch, role)?;
        let first = process::first(&state).await.map_err(|reason| WorkerError::Start { reason })?;
        let ort_version = first.ready.ort_version.clone();
        let shared = Arc::new(Shared { lanes, runtime, state });
        let (name, ids) = (processor(), AtomicU64::new(1));
        Ok(Self { name, shared, metrics, ort_version, ids, supervisor })
    }

    /// Ends the worker for good, and waits until it has ended. Runs that are under way are lost.
    pub fn stop(&self) {
        self.supervisor.stop();
    }
}

impl Device for Worker {
    fn id(&self) -> DeviceId {
        ID
    }

    fn describe(&self) -> DeviceDescription {
        let worker = self.supervisor.describe::<Models>(&self.shared.state.borrow());
        DeviceDescription {
            id: ID,
            name: self.name.clone(),
            lanes: self.shared.lanes,
            replicas: self.metrics.replicas(),
            engines: engine::statuses(self.ort_version.as_deref()),
            residents: Vec::new(),
            tensors: None,
            down: worker.down.clone(),
            worker: Some(worker),
        }
    }

    fn preferred_engine(&self) -> Engine {
        engine::preferred(self.ort_version.is_some())
    }

    fn load(
        &self,
        source: ModelSource,
    ) -> BoxFuture<'static, Result<Arc<dyn Replica>, DeviceError>> {
        let ModelSource { onnx, spec } = source;
        let engine = spec.engine;
        let (shared, metrics) = (self.shared.clone(), self.metrics.of(engine));
        let id = ModelId(self.ids.fetch_add(1, Ordering::Relaxed));
        let stopped = move |problem: String| DeviceError::Load {
            engine,
            reason: format!("loading was stopped: {problem}"),
        };
        Box::pin(async move {
            let copied = tokio::task::spawn_blocking(move || region::sealed(&onnx)).await;
            let onnx = copied
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(|error| stopped(error.to_string()))?;
            let model = Arc::new(Model::new(shared.clone(), id, spec, onnx, metrics));
            let loading = model.clone();
            let load = async move { loading.loaded().await.map(|_| ()) };
            // It ends at the limit of a load.
            Unbroken::new(shared.runtime.clone(), load).await?;
            Ok(Arc::new(WorkerReplica::new(model)) as Arc<dyn Replica>)
        })
    }
}
