//! What a tenant's functions and models are doing: the same counters that the metrics show, read for
//! one tenant. Nothing is counted here.

use prometheus::{Histogram, core::Metric as _};
use quern_types::{DeviceId, Engine, Name, TenantId};

use crate::{
    Dispatcher,
    metrics::{FunctionMetrics, ModelMetrics},
    ready::VersionKey,
};

/// What one function has done since the start, and does now.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionActivity {
    /// The function.
    pub name: Name,
    /// Requests that ended well.
    pub ok: u64,
    /// Requests that it failed.
    pub failed: u64,
    /// Requests whose clients left.
    pub cancelled: u64,
    /// Requests that found no place.
    pub refused: u64,
    /// Requests that had to load it first.
    pub cold_starts: u64,
    /// How long its requests took, in seconds.
    pub seconds: Distribution,
    /// Requests under way.
    pub running: u64,
    /// Requests that may be under way at a time; none while the live version is not loaded.
    pub concurrency: Option<u32>,
    /// Memory of its instances.
    pub memory_bytes: u64,
}

/// What one model has done on one device since the start, and does now.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelActivity {
    /// The model.
    pub name: Name,
    /// The engine that computes it.
    pub engine: Engine,
    /// Where.
    pub device: DeviceId,
    /// Runs that failed.
    pub failed_runs: u64,
    /// Calls that the queue refused.
    pub refused: u64,
    /// How long calls took that succeeded, in seconds.
    pub seconds: Distribution,
    /// How many rows its runs had.
    pub batch_rows: Distribution,
    /// Calls that wait.
    pub waiting: u64,
    /// Bytes of their inputs.
    pub waiting_bytes: u64,
}

/// How often something had which value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// How often there was one.
    pub count: u64,
    /// All values together.
    pub sum: f64,
    /// Upper bounds in ascending order, each with how often the value was at most that.
    pub buckets: Vec<(f64, u64)>,
}

impl From<&Histogram> for Distribution {
    fn from(histogram: &Histogram) -> Self {
        let metric = histogram.metric();
        let counted = metric.get_histogram();
        let bucket =
            |bucket: &prometheus::proto::Bucket| (bucket.upper_bound(), bucket.cumulative_count());
        Self {
            count: counted.get_sample_count(),
            sum: counted.get_sample_sum(),
            buckets: counted.get_bucket().iter().map(bucket).collect(),
        }
    }
}

impl Dispatcher {
    /// The functions of a tenant that have been loaded since the start, by name.
    pub fn function_activity(&self, tenant: &TenantId) -> Vec<FunctionActivity> {
        let routes = self.routes();
        let mut all: Vec<_> = self
            .functions
            .metrics()
            .of_tenant(tenant)
            .into_iter()
            .map(|(name, metrics)| {
                let mut activity = FunctionActivity::new(name, &metrics);
                let Some(function) = routes.function(tenant, &activity.name) else {
                    return activity;
                };
                for version in function.versions() {
                    let key = VersionKey::new(tenant, &activity.name, version.number);
                    let Some(in_use) = self.functions.in_use(&key) else { continue };
                    activity.running += in_use.running;
                    // Of all versions together.
                    activity.memory_bytes = in_use.memory_bytes;
                    if version.number == function.live().number {
                        activity.concurrency = Some(in_use.concurrency);
                    }
                }
                activity
            })
            .collect();
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// The models of a tenant that have been loaded since the start, by name.
    pub fn model_activity(&self, tenant: &TenantId) -> Vec<ModelActivity> {
        let mut all = self.models.activity(tenant);
        all.sort_unstable_by(|one, other| {
            (&one.name, one.device).cmp(&(&other.name, other.device))
        });
        all
    }
}

impl FunctionActivity {
    fn new(name: Name, metrics: &FunctionMetrics) -> Self {
        Self {
            name,
            ok: metrics.ok.get(),
            failed: metrics.failed.get(),
            cancelled: metrics.cancelled.get(),
            refused: metrics.refused.get(),
            cold_starts: metrics.cold_starts.get(),
            seconds: (&metrics.seconds).into(),
            running: 0,
            concurrency: None,
            memory_bytes: 0,
        }
    }
}

impl ModelActivity {
    pub(crate) fn new(
        (name, engine, device): (Name, Engine, DeviceId),
        metrics: &ModelMetrics,
    ) -> Self {
        Self {
            name,
            engine,
            device,
            failed_runs: metrics.failures.get(),
            refused: metrics.all_refused(),
            seconds: (&metrics.seconds).into(),
            batch_rows: metrics.batch_rows(),
            waiting: metrics.waiting.get().try_into().unwrap_or(0),
            waiting_bytes: metrics.waiting_bytes.get().try_into().unwrap_or(0),
        }
    }
}
