//! What sandboxes count of themselves; registered by whoever sets them up.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Handles to the metrics of sandboxes.
pub(crate) struct Metrics {
    pub(crate) compile_seconds: Histogram,
    pub(crate) load_seconds: Histogram,
    pub(crate) instantiate_seconds: Histogram,
    pub(crate) cpu_seconds: Histogram,
    pub(crate) memory_bytes: Histogram,
    pub(crate) instances: IntGauge,
    pub(crate) memory: IntGauge,
    pub(crate) reused: IntCounter,
    pub(crate) response_bytes: IntCounter,
    pub(crate) failures: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let fine = prometheus::exponential_buckets(1e-6, 2.0, 18)?;
        let coarse = prometheus::exponential_buckets(1e-3, 2.0, 16)?;
        let bytes = prometheus::exponential_buckets(65_536.0, 4.0, 8)?;
        let instances =
            IntGauge::new("quern_sandbox_instances", "Instances that exist at this moment")?;
        registry.register(Box::new(instances.clone()))?;
        let memory = IntGauge::new(
            "quern_sandbox_instances_memory_bytes",
            "Linear memory that all instances have together at this moment",
        )?;
        registry.register(Box::new(memory.clone()))?;
        let reused = IntCounter::new(
            "quern_sandbox_reused_requests_total",
            "Requests that were served by an instance which had served before",
        )?;
        registry.register(Box::new(reused.clone()))?;
        let response_bytes = IntCounter::new(
            "quern_sandbox_response_bytes_total",
            "Bytes of responses' bodies that were passed on to clients while guests wrote them",
        )?;
        registry.register(Box::new(response_bytes.clone()))?;
        let failures = IntCounterVec::new(
            Opts::new("quern_sandbox_failures_total", "Invocations that a guest failed, by reason"),
            &["reason"],
        )?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Self {
            compile_seconds: histogram(
                "quern_sandbox_compile_seconds",
                "Time to compile a component",
                coarse,
            )?,
            load_seconds: histogram(
                "quern_sandbox_load_seconds",
                "Time to make a compiled function ready: the cold start",
                fine.clone(),
            )?,
            instantiate_seconds: histogram(
                "quern_sandbox_instantiate_seconds",
                "Time to make an instance",
                fine.clone(),
            )?,
            cpu_seconds: histogram(
                "quern_sandbox_cpu_seconds",
                "Processor time of one invocation",
                fine,
            )?,
            memory_bytes: histogram(
                "quern_sandbox_memory_bytes",
                "Linear memory of one invocation at its end",
                bytes,
            )?,
            instances,
            memory,
            reused,
            response_bytes,
            failures,
        })
    }
}
