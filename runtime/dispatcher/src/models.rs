//! Models as everybody calls them: resolves the version, keeps its replica loaded, checks the
//! inputs, and queues the call. Endpoint and functions share one queue per version.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use quern_store::Store;
use quern_types::{
    BatchAxis, Deployed, Device, DeviceDescription, DeviceError, Digest, ModelCall, ModelCalls,
    ModelError, ModelReply, ModelSource, ModelSpec, Name, Replica, ReplicaOffers, Served, TenantId,
    Tensor, Version, VersionNumber,
};

use crate::{
    drain::Drain,
    metrics::ModelsMetrics,
    offers::Offers,
    queue::{BatchQueue, Computed, Uncomputed},
    ready::{Ready, Room, VersionKey},
};

/// Limits on the calls of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelsConfig {
    /// Calls that wait for one model; more are refused.
    pub max_waiting: u32,
    /// How long a call that names no time of its own may take.
    pub timeout: Duration,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self { max_waiting: 4_096, timeout: Duration::from_secs(30) }
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
        let offers = Offers::default();
        let shared = Shared { config, store, device, replicas, offers, metrics };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How long a call of this model may take that names no time of its own.
    pub(crate) fn timeout(
        &self,
        model: &Deployed<ModelSpec>,
        number: Option<VersionNumber>,
    ) -> Duration {
        // Of a version that is not kept it does not matter: its call is refused.
        let own = model.version(number).ok().and_then(|version| version.spec.timeout);
        own.map_or(self.shared.config.timeout, |timeout| timeout.0)
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

    /// The devices that compute.
    pub(crate) fn devices(&self) -> Vec<DeviceDescription> {
        vec![self.shared.device.describe()]
    }

    /// Unloads what is deleted, and what was replaced and is no longer called.
    pub(crate) fn sweep(&self) {
        // Read for each, so that what was deployed a moment ago is not taken for deleted.
        let routes = || self.shared.store.catalog().routes();
        self.shared
            .replicas
            .retain(|key, unused| key.is_of_use(routes().model(&key.tenant, &key.name), unused));
        self.shared.metrics.retain(|tenant, name| routes().model(tenant, name).is_some());
    }
}

impl ModelCalls for Models {
    fn spec(&self, tenant: &TenantId, model: &Name) -> Result<Arc<ModelSpec>, ModelError> {
        Ok(self.shared.resolve(tenant, model, None)?.spec.clone())
    }

    fn infer(&self, call: ModelCall) -> BoxFuture<'static, Result<ModelReply, ModelError>> {
        let shared = self.shared.clone();
        Box::pin(async move { shared.infer(call).await })
    }
}

impl ReplicaOffers for Models {
    fn offer(&self, tenant: &TenantId, version: Digest, replica: &Arc<dyn Replica>) {
        self.shared.offers.make(tenant, version, replica);
    }

    fn load(
        &self,
        tenant: &TenantId,
        model: &Name,
        version: VersionNumber,
    ) -> BoxFuture<'static, ()> {
        let (shared, tenant, model) = (self.shared.clone(), tenant.clone(), model.clone());
        Box::pin(async move { shared.make_ready(&tenant, &model, version).await })
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
        let version = model
            .version(number)
            .map_err(|version| ModelError::VersionNotFound { name: name.clone(), version })?;
        Ok(version.clone())
    }

    async fn infer(self: Arc<Self>, call: ModelCall) -> Result<ModelReply, ModelError> {
        let ModelCall { call, model: name, version, inputs } = call;
        let version = self.resolve(&call.tenant, &name, version)?;
        let spec = &version.spec;
        let inputs = spec
            .signature
            .check_inputs(inputs)
            .map_err(|mismatch| ModelError::Signature { name: name.clone(), mismatch })?;
        let rows = rows(spec, &inputs)
            .map_err(|reason| ModelError::Rows { name: name.clone(), reason })?;
        let key =
            VersionKey { tenant: call.tenant.clone(), name: name.clone(), version: version.number };
        let load = || self.clone().load(key.clone(), version.clone());
        let lost = || ModelError::Unavailable {
            name: name.clone(),
            reason: "loading it failed in the host".into(),
        };
        let ready = self.replicas.get(&key, load, lost);
        let loaded = tokio::time::timeout_at(call.deadline.at().into(), ready);
        let expired = || ModelError::DeadlineExceeded {
            name: name.clone(),
            allowed: call.deadline.allowed(),
        };
        let queue = loaded.await.map_err(|_| expired())??;
        let computed = queue.compute(inputs, rows, call.deadline).await;
        let Computed { outputs, batch_rows, queued, compute } =
            computed.map_err(|uncomputed| match uncomputed {
                Uncomputed::QueueFull { waiting } => {
                    ModelError::QueueFull { name: name.clone(), waiting }
                }
                Uncomputed::Expired => expired(),
                Uncomputed::Device(error) => ModelError::Device { name: name.clone(), error },
                Uncomputed::Lost => {
                    let error = DeviceError::Lost { device: self.device.id() };
                    ModelError::Device { name: name.clone(), error }
                }
            })?;
        let served = Served {
            version: version.number,
            engine: spec.engine,
            device: self.device.id(),
            batch_rows,
            queued,
            compute,
        };
        Ok(ModelReply { outputs, served })
    }

    /// Loads a version onto the device.
    async fn load(
        self: Arc<Self>,
        key: VersionKey,
        version: Arc<Version<ModelSpec>>,
    ) -> Result<Arc<BatchQueue>, ModelError> {
        let VersionKey { tenant, name, .. } = key;
        let start = Instant::now();
        let replica = match self.offers.take(&tenant, version.digest) {
            Some(replica) => replica,
            None => self.load_stored(&name, &version).await?,
        };
        let max_rows = match version.spec.batch {
            BatchAxis::Rows { max } => max,
            BatchAxis::None { .. } => 1,
        };
        let metrics = self.metrics.model(&tenant, &name, version.spec.engine, self.device.id());
        let took = start.elapsed();
        self.metrics.load_seconds.observe(took.as_secs_f64());
        tracing::info!(model = %name, version = %version.number, ?took, "model loaded");
        Ok(Arc::new(BatchQueue::new(replica, max_rows, self.config.max_waiting, metrics)))
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
