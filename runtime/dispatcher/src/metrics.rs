//! What the dispatcher counts of functions and models; looked up once for each version, so that a
//! request looks nothing up.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, exponential_buckets,
};
use quern_types::{DeviceId, Engine, Name, TenantId};

/// The labels of a replica.
const REPLICA: [&str; 4] = ["tenant", "model", "engine", "device"];
/// The labels of a function.
const FUNCTION: [&str; 2] = ["tenant", "function"];

/// All metrics of models.
pub(crate) struct ModelsMetrics {
    batch_rows: HistogramVec,
    compute_seconds: HistogramVec,
    queue_seconds: HistogramVec,
    failures: IntCounterVec,
    waiting: IntGaugeVec,
    pub(crate) load_seconds: Histogram,
}

/// The metrics of one replica.
pub(crate) struct ModelMetrics {
    pub(crate) queue_seconds: Histogram,
    pub(crate) failures: IntCounter,
    pub(crate) waiting: IntGauge,
    batch_rows: Histogram,
    compute_seconds: Histogram,
}

impl ModelsMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let fine = exponential_buckets(1e-6, 2.0, 24)?;
        let rows = exponential_buckets(1.0, 2.0, 12)?;
        let seconds = |name: &str, help: &str| {
            registered(
                registry,
                HistogramVec::new(HistogramOpts::new(name, help).buckets(fine.clone()), &REPLICA)?,
            )
        };
        Ok(Self {
            batch_rows: registered(
                registry,
                HistogramVec::new(
                    HistogramOpts::new("quern_batch_rows", "Rows computed in one run of a model")
                        .buckets(rows),
                    &REPLICA,
                )?,
            )?,
            compute_seconds: seconds("quern_model_compute_seconds", "Time of one run of a model")?,
            queue_seconds: seconds(
                "quern_model_queue_seconds",
                "Time from a call's arrival to the start of its run",
            )?,
            failures: registered(
                registry,
                IntCounterVec::new(
                    Opts::new("quern_model_failures_total", "Runs of a model that failed"),
                    &REPLICA,
                )?,
            )?,
            waiting: registered(
                registry,
                IntGaugeVec::new(
                    Opts::new("quern_model_waiting_calls", "Calls that wait for a lane"),
                    &REPLICA,
                )?,
            )?,
            load_seconds: registered(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "quern_model_load_seconds",
                        "Time to load a model onto a device",
                    )
                    .buckets(exponential_buckets(1e-3, 2.0, 16)?),
                )?,
            )?,
        })
    }

    /// The metrics of one replica.
    pub(crate) fn model(
        &self,
        tenant: &TenantId,
        model: &Name,
        engine: Engine,
        device: DeviceId,
    ) -> ModelMetrics {
        let device = device.to_string();
        let labels = [tenant.as_str(), model.as_str(), engine.as_str(), &device];
        ModelMetrics {
            batch_rows: self.batch_rows.with_label_values(&labels),
            compute_seconds: self.compute_seconds.with_label_values(&labels),
            queue_seconds: self.queue_seconds.with_label_values(&labels),
            failures: self.failures.with_label_values(&labels),
            waiting: self.waiting.with_label_values(&labels),
        }
    }
}

impl ModelMetrics {
    /// Takes down a run.
    pub(crate) fn ran(&self, rows: u32, compute: Duration) {
        self.batch_rows.observe(f64::from(rows));
        self.compute_seconds.observe(compute.as_secs_f64());
    }
}

/// All metrics of functions.
pub(crate) struct FunctionsMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    cold_starts: IntCounterVec,
    pub(crate) cold_start_seconds: Histogram,
}

/// The metrics of one function.
pub(crate) struct FunctionMetrics {
    pub(crate) ok: IntCounter,
    pub(crate) failed: IntCounter,
    /// The client left before the guest had ended.
    pub(crate) cancelled: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) cold_starts: IntCounter,
    pub(crate) seconds: Histogram,
}

impl FunctionsMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: registered(
                registry,
                IntCounterVec::new(
                    Opts::new("quern_function_requests_total", "Requests to functions"),
                    &["tenant", "function", "outcome"],
                )?,
            )?,
            seconds: registered(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "quern_function_seconds",
                        "Time from a request's admission to the end of its guest",
                    )
                    .buckets(exponential_buckets(1e-5, 2.0, 22)?),
                    &FUNCTION,
                )?,
            )?,
            cold_starts: registered(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "quern_cold_starts_total",
                        "Requests that had to load their function first",
                    ),
                    &FUNCTION,
                )?,
            )?,
            cold_start_seconds: registered(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "quern_cold_start_seconds",
                        "Time that a request waited for its function to be loaded",
                    )
                    .buckets(exponential_buckets(1e-4, 2.0, 18)?),
                )?,
            )?,
        })
    }

    /// The metrics of one function.
    pub(crate) fn function(&self, tenant: &TenantId, function: &Name) -> FunctionMetrics {
        let labels = [tenant.as_str(), function.as_str()];
        let requests = |outcome| self.requests.with_label_values(&[labels[0], labels[1], outcome]);
        FunctionMetrics {
            ok: requests("ok"),
            failed: requests("failed"),
            cancelled: requests("cancelled"),
            refused: requests("refused"),
            cold_starts: self.cold_starts.with_label_values(&labels),
            seconds: self.seconds.with_label_values(&labels),
        }
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
