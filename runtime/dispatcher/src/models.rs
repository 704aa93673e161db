//! Models as everybody calls them: resolves the version, keeps its replica loaded, checks the
//! inputs, and queues the call. Endpoint and functions share one queue per version.

mod reached;
mod traffic;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quern_scheduler::BatcherConfig;
use quern_store::Store;
use quern_types::{
    BatchAxis, ByteSize, Call, Device, DeviceDescription, DeviceError, Engine, ModelCall,
    ModelError, ModelReply, ModelSource, ModelSpec, Name, OutcomeCounts, Picked, Replica, Resident,
    RunTimes, Served, Span, SpanKind, TenantId, Tensor, Version, VersionNumber,
};

use crate::{
    ModelActivity,
    drain::Drain,
    found::model_version,
    metrics::ModelsMetrics,
    offers::Offers,
    outcomes::Outcomes,
    queue::{BatchQueue, Computed, Place, QueuedCall, Uncomputed},
    ready::{Ready, Room, VersionKey},
    run_times::RunTimesCollector,
    shadow::{ShadowCollector, ShadowConfig, ShadowReport, Shadows},
    shapes::Shapes,
    statistics::{Answered, ModelStatistics, RunParts, Statistics},
    unloaded::Unloaded,
};

/// Limits on the calls of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelsConfig {
    /// Calls that wait for one model; more are refused.
    pub max_waiting: u32,
    /// Bytes that the inputs of the calls which wait for one model have together.
    pub waiting_memory: ByteSize,
    /// How long a call that names no time of its own may take.
    pub timeout: Duration,
    /// What copies of calls for shadows may take.
    pub shadow: ShadowConfig,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            max_waiting: 4_096,
            waiting_memory: ByteSize::mib(256),
            timeout: Duration::from_secs(30),
            shadow: ShadowConfig::default(),
        }
    }
}

/// The models of this node.
pub struct Models {
    shared: Arc<Shared>,
}

struct Shared {
    config: ModelsConfig,
    store: Arc<Store>,
    device: Arc<dyn Device>,
    replicas: Ready<BatchQueue, ModelError>,
    offers: Offers,
    unloaded: Unloaded,
    statistics: Statistics,
    /// Of versions that share traffic.
    outcomes: Outcomes,
    /// Copies of calls.
    shadows: Arc<Shadows>,
    metrics: ModelsMetrics,
}

impl Models {
    /// Models of `store`, computed on `device`.
    pub fn new(
        config: ModelsConfig,
        store: Arc<Store>,
        device: Arc<dyn Device>,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = ModelsMetrics::register(registry)?;
        let replicas = Ready::new(Room::unlimited()?);
        let (unloaded, statistics) = (Unloaded::default(), Statistics::default());
        let offers = Offers::default();
        let shadows = Arc::new(Shadows::new(config.shadow));
        registry.register(Box::new(ShadowCollector::new("model", shadows.clone())?))?;
        let shared = Arc::new(Shared {
            config,
            store,
            device,
            replicas,
            offers,
            unloaded,
            statistics,
            outcomes: Outcomes::default(),
            shadows,
            metrics,
        });
        let weak = Arc::downgrade(&shared);
        let loaded =
            move || weak.upgrade().map_or_else(Vec::new, |shared| shared.replicas.all_loaded());
        registry.register(Box::new(RunTimesCollector::new(loaded)?))?;
        Ok(Self { shared })
    }

    /// How long a call of a version may take that names no time of its own.
    pub(crate) fn timeout(&self, version: &Version<ModelSpec>) -> Duration {
        version.spec.timeout.map_or(self.shared.config.timeout, |timeout| timeout.0)
    }

    /// Computes a call of somebody for whom it is the last thing to do before an answer, by the
    /// version that was picked: the run may take place where this is polled.
    pub(crate) async fn infer_here(
        &self,
        call: ModelCall,
        version: Arc<Version<ModelSpec>>,
        picked: Picked,
    ) -> Result<ModelReply, ModelError> {
        self.shared.clone().infer_picked(call, version, picked, Place::Here).await
    }

    /// What came of the copies that a version got.
    pub(crate) fn shadowed(&self, key: &VersionKey) -> ShadowReport {
        self.shared.shadows.read(key)
    }

    /// What was counted of a version that shares traffic.
    pub(crate) fn outcomes(&self, key: &VersionKey) -> OutcomeCounts {
        self.shared.outcomes.read(key)
    }

    /// Loads the live versions whose manifests ask for a warm-up, one at a time, while `drain`
    /// admits work: after a start, their first calls shall find them as they left them.
    pub(crate) async fn warm(&self, drain: &Drain) {
        let routes = self.shared.store.catalog().routes();
        for (tenant, own) in routes.tenants() {
            for (name, model) in &own.models {
                let live = model.live();
                if live.spec.warm_up.is_none() {
                    continue;
                }
                let Some(_work) = drain.admit() else { return };
                self.shared.clone().make_ready(tenant, name, live.number).await;
            }
        }
    }

    /// What the models of a tenant have done, in no order.
    pub(crate) fn activity(&self, tenant: &TenantId) -> Vec<ModelActivity> {
        let of_tenant = self.shared.metrics.of_tenant(tenant).into_iter();
        of_tenant.map(|(replica, metrics)| ModelActivity::new(replica, &metrics)).collect()
    }

    /// Whether there are models that [`Models::warm`] loads.
    pub(crate) fn wait_to_be_warm(&self) -> bool {
        let routes = self.shared.store.catalog().routes();
        let mut models = routes.tenants().flat_map(|(_, own)| own.models.values());
        models.any(|model| model.live().spec.warm_up.is_some())
    }

    /// The devices that compute.
    pub(crate) fn devices(&self) -> Vec<DeviceDescription> {
        let mut device = self.shared.device.describe();
        let loaded = self.shared.replicas.by_recency().into_iter();
        let resident = |key: VersionKey| Resident {
            tenant: key.tenant,
            model: key.name,
            version: key.version,
        };
        device.residents = loaded.map(resident).take(DeviceDescription::MOST_RESIDENTS).collect();
        vec![device]
    }

    /// How long runs of a model's live version have taken; none while it is not loaded.
    pub(crate) fn run_times(&self, tenant: &TenantId, model: &Name) -> Vec<RunTimes> {
        let Ok(version) = self.shared.resolve(tenant, model, None) else { return Vec::new() };
        let key = VersionKey::new(tenant, model, version.number);
        let loaded = self.shared.replicas.loaded(&key);
        let measured = loaded.map(|queue| queue.profile());
        let run_times = |of: quern_scheduler::Measured| RunTimes {
            rows: of.rows,
            runs: of.runs,
            mean_us: of.mean_us,
            deviation_us: of.deviation_us,
        };
        measured.unwrap_or_default().into_iter().map(run_times).collect()
    }

    /// Unloads what is deleted or was unloaded on request, and what was replaced and is no longer
    /// called.
    pub(crate) fn sweep(&self) {
        // Read for each, so that what was deployed a moment ago is not taken for deleted.
        let routes = || self.shared.store.catalog().routes();
        let Shared { replicas, unloaded, statistics, outcomes, shadows, metrics, .. } =
            &*self.shared;
        replicas.retain(|key, unused| {
            key.is_of_use(routes().model(&key.tenant, &key.name), unused) && !unloaded.contains(key)
        });
        let is_kept = |key: &VersionKey| key.is_kept(routes().model(&key.tenant, &key.name));
        unloaded.retain(is_kept);
        statistics.retain(is_kept);
        outcomes.retain(is_kept);
        shadows.retain(is_kept);
        metrics.retain(|tenant, name| routes().model(tenant, name).is_some());
    }

    /// Takes calls of all versions of a model again, and loads one of them.
    pub(crate) async fn load(
        &self,
        tenant: &TenantId,
        name: &Name,
        version: &Arc<Version<ModelSpec>>,
    ) -> Result<(), ModelError> {
        let allowed = self.shared.config.timeout;
        // First, so that the sweep leaves what is loaded, however long that takes and whoever waits.
        self.shared.unloaded.forget(tenant, name);
        let key = VersionKey::new(tenant, name, version.number);
        let loaded = tokio::time::timeout(allowed, self.shared.queue(&key, version)).await;
        loaded.map_err(|_| ModelError::DeadlineExceeded { name: name.clone(), allowed })??;
        Ok(())
    }

    /// Refuses calls of these versions, and drops their replicas once nobody uses them.
    pub(crate) fn unload(&self, keys: impl IntoIterator<Item = VersionKey>) {
        let Shared { replicas, unloaded, .. } = &*self.shared;
        unloaded.note(keys);
        // What is in use at this moment is left to the sweep.
        replicas.retain(|key, _| !unloaded.contains(key));
    }

    /// Whether a version takes calls, and why not.
    pub(crate) fn readiness(&self, key: &VersionKey, engine: Engine) -> Result<(), ModelError> {
        let name = || key.name.clone();
        if self.shared.unloaded.contains(key) {
            return Err(ModelError::Unloaded { name: name() });
        }
        let engines = self.shared.device.describe().engines;
        let absent = engines.into_iter().find(|status| status.engine == engine);
        match absent.and_then(|status| status.absent) {
            Some(reason) => {
                let error = DeviceError::EngineAbsent { engine, reason };
                Err(ModelError::Device { name: name(), error })
            }
            None => Ok(()),
        }
    }

    /// What was counted of a version.
    pub(crate) fn statistics(&self, key: &VersionKey) -> ModelStatistics {
        self.shared.statistics.read(key)
    }
}

impl Shared {
    /// Has a version loaded that nobody has called yet. What fails is left to the first call, which
    /// answers with it.
    async fn make_ready(self: Arc<Self>, tenant: &TenantId, name: &Name, number: VersionNumber) {
        // What has been deleted meanwhile is no loss.
        let Ok(version) = self.resolve(tenant, name, Some(number)) else { return };
        let key = VersionKey { tenant: tenant.clone(), name: name.clone(), version: number };
        let load = || self.clone().load(key.clone(), version);
        match self.replicas.warm(&key, 0, load).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(%tenant, model = %name, %error, "not loaded ahead of calls");
            }
            None => tracing::error!(%tenant, model = %name, "loading failed in the host"),
        }
    }

    fn resolve(
        &self,
        tenant: &TenantId,
        name: &Name,
        number: Option<VersionNumber>,
    ) -> Result<Arc<Version<ModelSpec>>, ModelError> {
        let routes = self.store.catalog().routes();
        let model = routes
            .model(tenant, name)
            .ok_or_else(|| ModelError::NotFound { name: name.clone() })?;
        model_version(model, name, number)
    }

    async fn infer(
        self: Arc<Self>,
        call: ModelCall,
        version: Arc<Version<ModelSpec>>,
        place: Place,
    ) -> Result<ModelReply, ModelError> {
        let (tenant, name) = (call.call.tenant.clone(), call.model.name.clone());
        let key = VersionKey { tenant, name, version: version.number };
        let begun = Instant::now();
        let mut span = call.call.trace.begin(SpanKind::Internal, "infer");
        span.note(|| {
            [
                ("quern.tenant", key.tenant.as_str().into()),
                ("quern.model", key.name.as_str().into()),
                ("quern.version", key.version.get().into()),
            ]
        });
        let answer = self.answer(&key, &version, call, place, &mut span).await;
        span.outcome(&answer);
        drop(span);
        if answer.is_err() {
            self.statistics.of(&key).failed(begun.elapsed());
        }
        answer
    }

    async fn answer(
        self: &Arc<Self>,
        key: &VersionKey,
        version: &Arc<Version<ModelSpec>>,
        call: ModelCall,
        place: Place,
        span: &mut Span,
    ) -> Result<ModelReply, ModelError> {
        let begun = Instant::now();
        let ModelCall { call: Call { priority, deadline, .. }, inputs, .. } = call;
        let (name, spec) = (&key.name, &version.spec);
        if self.unloaded.contains(key) {
            return Err(ModelError::Unloaded { name: name.clone() });
        }
        let inputs = spec
            .signature
            .check_inputs(inputs)
            .map_err(|mismatch| ModelError::Signature { name: name.clone(), mismatch })?;
        let rows = rows(spec, &inputs)
            .map_err(|reason| ModelError::Rows { name: name.clone(), reason })?;
        let waits = span.is_recorded() && self.replicas.loaded(key).is_none();
        let cold = waits.then(|| span.trace().begin(SpanKind::Internal, "load"));
        let loaded = tokio::time::timeout_at(deadline.at().into(), self.queue(key, version));
        let expired =
            || ModelError::DeadlineExceeded { name: name.clone(), allowed: deadline.allowed() };
        let queue = loaded.await.map_err(|_| expired())??;
        drop(cold);
        let queueing = Instant::now();
        let trace = span.trace().clone();
        let call = QueuedCall { inputs, rows, priority, deadline, place, trace };
        let computed = queue.compute(call).await;
        let Computed { outputs, batch_rows, queued, compute, ended, runs } = computed
            .map_err(|uncomputed| self.describe(uncomputed, name, spec, deadline.allowed()))?;
        let input = ended.saturating_duration_since(queueing).saturating_sub(queued + compute);
        let parts = RunParts { input, compute, output: ended.elapsed() };
        let took = begun.elapsed();
        queue.answered(Answered { rows, took, queued, parts });
        runs.into_iter().for_each(|run| span.link(run));
        let served = Served {
            version: version.number,
            engine: spec.engine,
            device: self.device.id(),
            batch_rows,
            queued,
            compute,
        };
        span.note(|| {
            [
                ("quern.engine", served.engine.as_str().into()),
                ("quern.device", served.device.to_string().into()),
                ("quern.rows", rows.into()),
                ("quern.batch_rows", batch_rows.into()),
                ("quern.queue_us", queued.into()),
                ("quern.compute_us", compute.into()),
            ]
        });
        Ok(ModelReply { outputs, served })
    }

    /// The queue of the version; loads it first if need be.
    async fn queue(
        self: &Arc<Self>,
        key: &VersionKey,
        version: &Arc<Version<ModelSpec>>,
    ) -> Result<Arc<BatchQueue>, ModelError> {
        let load = || self.clone().load(key.clone(), version.clone());
        let lost = || ModelError::Unavailable {
            name: key.name.clone(),
            reason: "loading it failed in the host".into(),
        };
        self.replicas.get(key, load, lost).await
    }

    /// Says of which model it is that a call was not computed.
    fn describe(
        &self,
        uncomputed: Uncomputed,
        name: &Name,
        spec: &ModelSpec,
        allowed: Duration,
    ) -> ModelError {
        let name = name.clone();
        let error = match uncomputed {
            Uncomputed::QueueFull { waiting } => return ModelError::QueueFull { name, waiting },
            Uncomputed::MemoryFull { limit } => return ModelError::QueueMemory { name, limit },
            Uncomputed::Expired => return ModelError::DeadlineExceeded { name, allowed },
            Uncomputed::TooLate { needed } => return ModelError::TooLate { name, allowed, needed },
            Uncomputed::Device(error) => error,
            Uncomputed::Uneven { output } => DeviceError::Run {
                engine: spec.engine,
                reason: format!("it gave output {output:?} of different shapes for rows of a call"),
            },
            Uncomputed::Lost => DeviceError::Lost { device: self.device.id() },
        };
        ModelError::Device { name, error }
    }

    /// Loads a version onto the device.
    async fn load(
        self: Arc<Self>,
        key: VersionKey,
        version: Arc<Version<ModelSpec>>,
    ) -> Result<Arc<BatchQueue>, ModelError> {
        let counters = self.statistics.of(&key);
        let VersionKey { tenant, name, .. } = key;
        let start = Instant::now();
        let replica = match self.offers.take(&tenant, version.digest) {
            Some(replica) => replica,
            None => self.load_stored(&name, &version).await?,
        };
        let spec = &version.spec;
        let (max_rows, shapes) = match spec.batch {
            BatchAxis::Rows { max } => (max, Shapes::of(&spec.signature)),
            BatchAxis::None { .. } => (1, Shapes::one()),
        };
        let delay = spec.max_delay.map_or(Duration::ZERO, |delay| delay.0);
        let config = BatcherConfig {
            lanes: u16::try_from(replica.lanes()).unwrap_or(u16::MAX),
            max_rows,
            max_waiting: self.config.max_waiting,
            max_waiting_bytes: self.config.waiting_memory.0,
            max_delay_us: u64::try_from(delay.as_micros()).unwrap_or(u64::MAX),
            one_bucket: shapes.are_one(),
        };
        let metrics = self.metrics.model(&tenant, &name, version.spec.engine, self.device.id());
        let took = start.elapsed();
        self.metrics.load_seconds.observe(took.as_secs_f64());
        tracing::info!(model = %name, version = %version.number, ?took, "model loaded");
        Ok(Arc::new(BatchQueue::new(replica, config, shapes, metrics, counters)))
    }

    /// Loads a version from the store, and warms it up.
    async fn load_stored(
        &self,
        name: &Name,
        version: &Version<ModelSpec>,
    ) -> Result<Arc<dyn Replica>, ModelError> {
        let read = self.store.blobs().read(&version.content).await;
        let onnx = read.map_err(|error| ModelError::Unavailable {
            name: name.clone(),
            reason: error.to_string(),
        })?;
        let failed = |error| ModelError::Device { name: name.clone(), error };
        let source = ModelSource { onnx, spec: version.spec.clone() };
        let replica = self.device.load(source).await.map_err(failed)?;
        quern_host_gpu::warm_up(&*replica, &version.spec).await.map_err(failed)?;
        Ok(replica)
    }
}

/// The rows of a call: 1 for a model without a batch axis; otherwise all inputs agree on them.
fn rows(spec: &ModelSpec, inputs: &[Tensor]) -> Result<u32, String> {
    let BatchAxis::Rows { .. } = spec.batch else { return Ok(1) };
    let mut rows = None;
    for input in inputs {
        let (name, own) = (input.name(), input.shape().first().copied().unwrap_or(1));
        match rows {
            None if own == 0 => return Err(format!("input {name:?} has no rows")),
            Some(other) if other != own => {
                return Err(format!("input {name:?} has {own} rows, the inputs before it {other}"));
            }
            _ => rows = Some(own),
        }
    }
    u32::try_from(rows.unwrap_or(1)).map_err(|_| "the inputs have too many rows".to_owned())
}
