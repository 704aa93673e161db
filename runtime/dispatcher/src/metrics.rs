//! What the dispatcher counts of functions and models; looked up once for each version, so that a
//! request looks nothing up.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, exponential_buckets,
};
use quern_scheduler::Refusal;
use quern_types::{DeviceId, Engine, Name, TenantId};

use crate::Distribution;

/// The labels of a replica.
pub(crate) const REPLICA: [&str; 4] = ["tenant", "model", "engine", "device"];
/// The labels of a replica, and why it refused a call.
const REFUSED: [&str; 5] = ["tenant", "model", "engine", "device", "reason"];
/// Why a queue can refuse a call.
const REFUSALS: [&str; 4] = ["queue-full", "queue-memory", "expired", "too-late"];
/// The labels of a function.
const FUNCTION: [&str; 2] = ["tenant", "function"];
/// How a request to a function can end.
const OUTCOMES: [&str; 4] = ["ok", "failed", "cancelled", "refused"];

/// Functions that have series of their own, and replicas of models; further ones share one.
pub(crate) const MOST_LABELLED: usize = 20_000;
/// The tenant and the name of the shared one. No name begins like this.
pub(crate) const OTHER: &str = "_other";

/// What has series of its own, so that they go when it is deleted.
struct Labelled<K> {
    known: Mutex<HashSet<K>>,
    most: usize,
}

/// All metrics of models.
pub(crate) struct ModelsMetrics {
    labelled: Labelled<(TenantId, Name, Engine, DeviceId)>,
    seconds: HistogramVec,
    batch_rows: HistogramVec,
    compute_seconds: HistogramVec,
    queue_seconds: HistogramVec,
    failures: IntCounterVec,
    waiting: IntGaugeVec,
    waiting_bytes: IntGaugeVec,
    refused: IntCounterVec,
    pub(crate) load_seconds: Histogram,
}

/// The metrics of one replica.
pub(crate) struct ModelMetrics {
    pub(crate) queue_seconds: Histogram,
    pub(crate) failures: IntCounter,
    pub(crate) waiting: IntGauge,
    pub(crate) waiting_bytes: IntGauge,
    /// Of calls that succeeded, from their arrival to their answer.
    pub(crate) seconds: Histogram,
    batch_rows: Histogram,
    compute_seconds: Histogram,
    /// In the order of [`REFUSALS`].
    refused: [IntCounter; REFUSALS.len()],
    /// In the order of [`REPLICA`].
    labels: [String; REPLICA.len()],
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
            labelled: Labelled::new(),
            seconds: seconds(
                "quern_model_seconds",
                "Time from a call's arrival to its answer, of calls that succeeded",
            )?,
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
            waiting_bytes: registered(
                registry,
                IntGaugeVec::new(
                    Opts::new("quern_model_waiting_bytes", "Inputs of calls that wait for a lane"),
                    &REPLICA,
                )?,
            )?,
            refused: registered(
                registry,
                IntCounterVec::new(
                    Opts::new("quern_model_refused_total", "Calls that the queue refused"),
                    &REFUSED,
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
        let labels = (tenant.clone(), model.clone(), engine, device);
        let (_labelled, is_own) = self.labelled.enter(labels);
        match is_own {
            true => self.labelled_already(tenant.as_str(), model.as_str(), engine, device),
            false => self.labelled_already(OTHER, OTHER, engine, device),
        }
    }

    /// What was counted of the replicas of a tenant.
    pub(crate) fn of_tenant(&self, of: &TenantId) -> Vec<((Name, Engine, DeviceId), ModelMetrics)> {
        let known = self.labelled.all();
        let own = known.iter().filter(|(tenant, ..)| tenant == of);
        own.map(|(tenant, model, engine, device)| {
            let (tenant, name) = (tenant.as_str(), model.as_str());
            let metrics = self.labelled_already(tenant, name, *engine, *device);
            ((model.clone(), *engine, *device), metrics)
        })
        .collect()
    }

    /// For whoever holds the lock of the labels.
    fn labelled_already(
        &self,
        tenant: &str,
        model: &str,
        engine: Engine,
        device: DeviceId,
    ) -> ModelMetrics {
        let device = device.to_string();
        let labels = [tenant, model, engine.as_str(), &device];
        let [tenant, model, engine, device] = labels;
        let refused = |reason| [tenant, model, engine, device, reason];
        ModelMetrics {
            seconds: self.seconds.with_label_values(&labels),
            batch_rows: self.batch_rows.with_label_values(&labels),
            compute_seconds: self.compute_seconds.with_label_values(&labels),
            queue_seconds: self.queue_seconds.with_label_values(&labels),
            failures: self.failures.with_label_values(&labels),
            waiting: self.waiting.with_label_values(&labels),
            waiting_bytes: self.waiting_bytes.with_label_values(&labels),
            refused: REFUSALS.map(|reason| self.refused.with_label_values(&refused(reason))),
            labels: labels.map(str::to_owned),
        }
    }

    /// Removes the series of models that `keep` says no to.
    pub(crate) fn retain(&self, keep: impl Fn(&TenantId, &Name) -> bool) {
        self.labelled.retain(|(tenant, model, engine, device)| {
            let stays = keep(tenant, model);
            if !stays {
                let device = device.to_string();
                let labels = [tenant.as_str(), model.as_str(), engine.as_str(), &device];
                removed(self.seconds.remove_label_values(&labels));
                removed(self.batch_rows.remove_label_values(&labels));
                removed(self.compute_seconds.remove_label_values(&labels));
                removed(self.queue_seconds.remove_label_values(&labels));
                removed(self.failures.remove_label_values(&labels));
                removed(self.waiting.remove_label_values(&labels));
                removed(self.waiting_bytes.remove_label_values(&labels));
                let [tenant, model, engine, device] = labels;
                for reason in REFUSALS {
                    let labels = [tenant, model, engine, device, reason];
                    removed(self.refused.remove_label_values(&labels));
                }
            }
            stays
        });
    }
}

impl ModelMetrics {
    /// Takes down a run.
    pub(crate) fn ran(&self, rows: u32, compute: Duration) {
        self.batch_rows.observe(f64::from(rows));
        self.compute_seconds.observe(compute.as_secs_f64());
    }

    /// The labels of the replica.
    pub(crate) fn labels(&self) -> [&str; REPLICA.len()] {
        self.labels.each_ref().map(String::as_str)
    }

    /// How many rows runs had.
    pub(crate) fn batch_rows(&self) -> Distribution {
        (&self.batch_rows).into()
    }

    /// Calls that the queue refused, for whatever reason.
    pub(crate) fn all_refused(&self) -> u64 {
        self.refused.iter().map(IntCounter::get).sum()
    }

    /// Takes down a call that the queue refused.
    pub(crate) fn refused(&self, reason: Refusal) {
        let reason = match reason {
            Refusal::QueueFull => 0,
            Refusal::MemoryFull => 1,
            Refusal::Expired => 2,
            Refusal::TooLate { .. } => 3,
        };
        self.refused[reason].inc();
    }
}

/// All metrics of functions.
pub(crate) struct FunctionsMetrics {
    labelled: Labelled<(TenantId, Name)>,
    requests: IntCounterVec,
    seconds: HistogramVec,
    cold_starts: IntCounterVec,
    pub(crate) loaded: IntGauge,
    pub(crate) loaded_bytes: IntGauge,
    pub(crate) evictions: IntCounter,
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
        let gauge = |name: &str, help: &str| registered(registry, IntGauge::new(name, help)?);
        Ok(Self {
            labelled: Labelled::new(),
            loaded: gauge("quern_function_loaded", "Functions whose code is loaded")?,
            loaded_bytes: gauge(
                "quern_function_loaded_bytes",
                "Memory for the code of loaded functions",
            )?,
            evictions: registered(
                registry,
                IntCounter::new(
                    "quern_function_evictions_total",
                    "Functions whose code went because others needed the memory",
                )?,
            )?,
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
        let (_labelled, is_own) = self.labelled.enter((tenant.clone(), function.clone()));
        match is_own {
            true => self.labelled_already(tenant.as_str(), function.as_str()),
            false => self.labelled_already(OTHER, OTHER),
        }
    }

    /// What was counted of the functions of a tenant.
    pub(crate) fn of_tenant(&self, of: &TenantId) -> Vec<(Name, FunctionMetrics)> {
        let known = self.labelled.all();
        let own = known.iter().filter(|(tenant, _)| tenant == of);
        own.map(|(tenant, name)| {
            (name.clone(), self.labelled_already(tenant.as_str(), name.as_str()))
        })
        .collect()
    }

    /// For whoever holds the lock of the labels.
    fn labelled_already(&self, tenant: &str, function: &str) -> FunctionMetrics {
        let labels = [tenant, function];
        let [ok, failed, cancelled, refused] = OUTCOMES
            .map(|outcome| self.requests.with_label_values(&[labels[0], labels[1], outcome]));
        FunctionMetrics {
            ok,
            failed,
            cancelled,
            refused,
            cold_starts: self.cold_starts.with_label_values(&labels),
            seconds: self.seconds.with_label_values(&labels),
        }
    }

    /// Removes the series of functions that `keep` says no to.
    pub(crate) fn retain(&self, keep: impl Fn(&TenantId, &Name) -> bool) {
        self.labelled.retain(|(tenant, function)| {
            let stays = keep(tenant, function);
            if !stays {
                let labels = [tenant.as_str(), function.as_str()];
                for outcome in OUTCOMES {
                    removed(self.requests.remove_label_values(&[labels[0], labels[1], outcome]));
                }
                removed(self.cold_starts.remove_label_values(&labels));
                removed(self.seconds.remove_label_values(&labels));
            }
            stays
        });
    }
}

impl<K: Eq + Hash> Labelled<K> {
    fn new() -> Self {
        Self { known: Mutex::default(), most: MOST_LABELLED }
    }

    /// Notes that these labels have series, and says whether they have some of their own. None is
    /// removed while the lock is held.
    fn enter(&self, labels: K) -> (MutexGuard<'_, HashSet<K>>, bool) {
        let mut known = self.all();
        let is_own = known.contains(&labels) || known.len() < self.most;
        if is_own {
            known.insert(labels);
        }
        (known, is_own)
    }

    /// All labels that have series; none is removed while the lock is held.
    fn all(&self) -> MutexGuard<'_, HashSet<K>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the labels that `keep` says no to, and has removed the series of. Under the lock, so
    /// that what is deployed and loaded meanwhile keeps its new series.
    fn retain(&self, keep: impl FnMut(&K) -> bool) {
        self.all().retain(keep);
    }
}

/// Takes down that series are gone.
fn removed(outcome: prometheus::Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "series of what was deleted were not there");
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("encodes")
    }

    #[test]
    fn functions_beyond_so_many_share_their_series() {
        let registry = Registry::new();
        let mut metrics = FunctionsMetrics::register(&registry).expect("registers once");
        metrics.labelled.most = 2;
        let tenant = TenantId::default();
        let name = |name: &str| -> Name { name.parse().expect("a name") };
        for function in ["a", "b", "c", "d", "a"] {
            metrics.function(&tenant, &name(function)).ok.inc();
        }
        let requests = |tenant: &str, function: &str, count| {
            format!(
                "quern_function_requests_total{{function=\"{function}\",outcome=\"ok\",\
                 tenant=\"{tenant}\"}} {count}"
            )
        };
        let found = text(&registry);
        for line in [requests("default", "a", 2), requests("default", "b", 1)] {
            assert!(found.contains(&line), "{line} should be in {found}");
        }
        assert!(found.contains(&requests(OTHER, OTHER, 2)), "{found}");
        let own: HashSet<_> =
            metrics.of_tenant(&tenant).into_iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(own, HashSet::from(["a".into(), "b".into()]));
        metrics.retain(|_, function| function.as_str() != "a");
        assert!(!text(&registry).contains("function=\"a\""), "what is deleted has none");
        metrics.function(&tenant, &name("c")).ok.inc();
        assert!(text(&registry).contains(&requests("default", "c", 1)), "there is room again");
    }

    #[test]
    fn replicas_beyond_so_many_share_their_series() {
        let registry = Registry::new();
        let mut metrics = ModelsMetrics::register(&registry).expect("registers once");
        metrics.labelled.most = 1;
        let tenant = TenantId::default();
        let of = |name: &str| {
            let name = name.parse().expect("a name");
            metrics.model(&tenant, &name, Engine::Tract, DeviceId::Cpu(0))
        };
        assert_eq!(of("a").labels(), ["default", "a", "tract", "cpu:0"]);
        for other in ["b", "c"] {
            assert_eq!(of(other).labels(), [OTHER, OTHER, "tract", "cpu:0"]);
        }
        let [((name, ..), _)] = &metrics.of_tenant(&tenant)[..] else { panic!("there is one") };
        assert_eq!(name.as_str(), "a");
    }
}
