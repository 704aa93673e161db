//! What the device counts.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, exponential_buckets,
};
use quern_types::Engine;

/// Counters of one device; a clone counts into the same.
#[derive(Clone)]
pub(crate) struct Metrics {
    run_seconds: HistogramVec,
    run_failures: IntCounterVec,
    replicas: IntGaugeVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let buckets = exponential_buckets(5e-6, 2.0, 20)?;
        let metrics = Self {
            run_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "quern_device_run_seconds",
                    "Time of a model's run on the device, by engine; its count is the runs",
                )
                .buckets(buckets),
                &["engine"],
            )?,
            run_failures: IntCounterVec::new(
                Opts::new("quern_device_run_failures_total", "Runs that failed, by engine"),
                &["engine"],
            )?,
            replicas: IntGaugeVec::new(
                Opts::new("quern_device_replicas", "Models resident on the device, by engine"),
                &["engine"],
            )?,
        };
        registry.register(Box::new(metrics.run_seconds.clone()))?;
        registry.register(Box::new(metrics.run_failures.clone()))?;
        registry.register(Box::new(metrics.replicas.clone()))?;
        Ok(metrics)
    }

    /// Models resident on the device.
    pub(crate) fn replicas(&self) -> usize {
        let engines = [Engine::OnnxRuntime, Engine::Tract];
        let resident = engines.iter().map(|engine| self.of(*engine).replicas.get()).sum::<i64>();
        usize::try_from(resident).unwrap_or(0)
    }

    pub(crate) fn of(&self, engine: Engine) -> EngineMetrics {
        let label = &[engine.as_str()];
        EngineMetrics {
            run_seconds: self.run_seconds.with_label_values(label),
            run_failures: self.run_failures.with_label_values(label),
            replicas: self.replicas.with_label_values(label),
        }
    }
}

/// The counters of one engine, looked up once so that a run does not.
pub(crate) struct EngineMetrics {
    pub(crate) run_seconds: prometheus::Histogram,
    pub(crate) run_failures: prometheus::IntCounter,
    pub(crate) replicas: prometheus::IntGauge,
}
