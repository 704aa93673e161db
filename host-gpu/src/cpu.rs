//! The CPU as a device: finds its engines, loads models, and describes itself. Never answers with
//! another engine than the one that a model is pinned to.

use std::{fs, io, num::NonZeroU32, path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use prometheus::Registry;
use quern_types::{Device, DeviceDescription, DeviceError, DeviceId, Engine, ModelSource, Replica};
use tokio::runtime::Handle;

use crate::{
    engine::{
        self,
        onnxruntime::{OpenError, Runtime},
    },
    lanes::Lanes,
    metrics::Metrics,
    relief::Relief,
    replica::{CpuReplica, Resident},
};

pub(crate) const ID: DeviceId = DeviceId::Cpu(0);

/// How to set up the CPU.
#[derive(Debug, Clone)]
pub struct CpuConfig {
    /// Batches computed at the same time, each on one core.
    pub lanes: usize,
    /// ONNX Runtime's shared library; none: that engine is absent.
    pub ort_library: Option<PathBuf>,
}

/// Why the CPU can't be set up as asked.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// No lanes.
    #[error("a device needs at least one lane")]
    NoLanes,
    /// The library that was given does not load.
    #[error("ONNX Runtime can't be loaded from {}: {reason}: run `make ort`, or give another library", library.display())]
    Library {
        /// The library.
        library: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A process can have one library only.
    #[error("ONNX Runtime can't be loaded from {}: this process has loaded {} already", library.display(), loaded.display())]
    AnotherLibrary {
        /// The library asked for.
        library: PathBuf,
        /// The one that is loaded.
        loaded: PathBuf,
    },
    /// No threads for the lanes.
    #[error("can't start the threads of {lanes} lanes: {error}")]
    Threads {
        /// How many were asked for.
        lanes: usize,
        /// What the system said.
        error: io::Error,
    },
    /// The registry has metrics of these names.
    #[error("can't register the device's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The host's processors.
pub struct Cpu {
    name: String,
    lanes: Arc<Lanes>,
    /// For the runtime that it was set up in, if it was in one.
    relief: Option<Arc<Relief>>,
    runtime: Option<Runtime>,
    metrics: Metrics,
}

impl Cpu {
    /// Starts the lanes and loads ONNX Runtime where its library is given.
    pub fn new(config: CpuConfig, registry: &Registry) -> Result<Self, CpuError> {
        if config.lanes == 0 {
            return Err(CpuError::NoLanes);
        }
        let open = |library: PathBuf| {
            Runtime::open(&library).map_err(|error| match error {
                OpenError::Load(reason) => CpuError::Library { library, reason },
                OpenError::Another(loaded) => CpuError::AnotherLibrary { library, loaded },
            })
        };
        let runtime = config.ort_library.map(open).transpose()?;
        let no_threads = |error| CpuError::Threads { lanes: config.lanes, error };
        let lanes = Arc::new(Lanes::start(config.lanes).map_err(no_threads)?);
        let relief = Handle::try_current().ok().map(Relief::start).transpose();
        let relief = relief.map_err(no_threads)?.map(Arc::new);
        let metrics = Metrics::register(registry)?;
        Ok(Self { name: processor(), lanes, relief, runtime, metrics })
    }
}

impl Device for Cpu {
    fn id(&self) -> DeviceId {
        ID
    }

    fn describe(&self) -> DeviceDescription {
        let ort = self.runtime.as_ref().map(|runtime| &*runtime.version);
        DeviceDescription {
            id: ID,
            name: self.name.clone(),
            lanes: self.lanes.count(),
            replicas: self.metrics.replicas(),
            engines: engine::statuses(ort),
            residents: Vec::new(),
            tensors: None,
            down: None,
            worker: None,
        }
    }

    fn preferred_engine(&self) -> Engine {
        engine::preferred(self.runtime.is_some())
    }

    fn load(
        &self,
        source: ModelSource,
    ) -> BoxFuture<'static, Result<Arc<dyn Replica>, DeviceError>> {
        let engine = source.spec.engine;
        let (lanes, relief) = (self.lanes.clone(), self.relief.clone());
        let runtime = self.runtime.clone();
        let metrics = self.metrics.of(engine);
        Box::pin(async move {
            let load = move || -> Result<Arc<dyn Replica>, DeviceError> {
                let most = source.spec.lanes.map_or(u32::MAX, NonZeroU32::get);
                let count = lanes.count().min(usize::try_from(most).unwrap_or(usize::MAX));
                let programs = engine::load(engine, &source.onnx, runtime.as_ref(), count)?;
                let resident = Arc::new(Resident::new(ID, source.spec, programs, metrics));
                let first = lanes.next(count);
                Ok(Arc::new(CpuReplica { resident, lanes, relief, first }))
            };
            let loaded = tokio::task::spawn_blocking(load).await;
            loaded.unwrap_or_else(|error| {
                Err(DeviceError::Load { engine, reason: format!("loading was stopped: {error}") })
            })
        })
    }
}

/// The processor's name as Linux gives it.
pub(crate) fn processor() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpus.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}
