//! How long runs of the loaded models take, for `/metrics`. Reads the profiles when it is asked, and
//! keeps nothing: what is no longer loaded has no series.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    GaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::queue::BatchQueue;

/// The labels of a replica, and the most rows of a class of its runs.
const LABELS: [&str; 5] = ["tenant", "model", "engine", "device", "rows"];

/// Reads the profiles of the queues that `Loaded` gives.
pub(crate) struct RunTimesCollector<Loaded> {
    loaded: Loaded,
    mean: GaugeVec,
    deviation: GaugeVec,
    /// Held while the series are filled and read.
    collecting: Mutex<()>,
}

impl<Loaded> RunTimesCollector<Loaded> {
    pub(crate) fn new(loaded: Loaded) -> Result<Self, prometheus::Error> {
        let gauges = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &LABELS);
        let mean = gauges(
            "quern_model_run_mean_seconds",
            "Moving average of the time of a model's runs of up to so many rows",
        )?;
        let deviation = gauges(
            "quern_model_run_deviation_seconds",
            "Moving average of how far the time of a model's runs is from its mean",
        )?;
        Ok(Self { loaded, mean, deviation, collecting: Mutex::default() })
    }
}

impl<Loaded> Collector for RunTimesCollector<Loaded>
where
    Loaded: Fn() -> Vec<Arc<BatchQueue>> + Send + Sync,
{
    fn desc(&self) -> Vec<&Desc> {
        [self.mean.desc(), self.deviation.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _collecting = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        self.mean.reset();
        self.deviation.reset();
        let seconds = |us: u64| us as f64 / 1e6;
        // Of two versions of a model, the one that was called last is shown.
        for queue in (self.loaded)() {
            let [tenant, model, engine, device] = queue.labels();
            for measured in queue.profile() {
                let rows = measured.rows.to_string();
                let labels = [tenant, model, engine, device, &rows];
                self.mean.with_label_values(&labels).set(seconds(measured.mean_us));
                self.deviation.with_label_values(&labels).set(seconds(measured.deviation_us));
            }
        }
        [self.mean.collect(), self.deviation.collect()].concat()
    }
}
