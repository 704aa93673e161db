//! What deployments measure of themselves; registered by whoever makes the deployer.

use std::time::Duration;

use prometheus::{Error, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};
use quern_types::Class;

use crate::{DeployError, Deployment};

/// Handles to the metrics of deployments.
#[derive(Debug, Clone)]
pub(crate) struct DeployMetrics {
    deploys: IntCounterVec,
    seconds: HistogramVec,
}

/// How canaries have ended.
#[derive(Debug, Clone)]
pub(crate) struct EndedCanaries {
    pub(crate) promoted: IntCounter,
    pub(crate) rolled_back: IntCounter,
    pub(crate) aborted: IntCounter,
}

impl EndedCanaries {
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let ended = IntCounterVec::new(
            Opts::new("quern_deploy_canaries_total", "Canaries that have ended, by how"),
            &["outcome"],
        )?;
        registry.register(Box::new(ended.clone()))?;
        let [promoted, rolled_back, aborted] = ["promoted", "rolled_back", "aborted"]
            .map(|outcome| ended.with_label_values(&[outcome]));
        Ok(Self { promoted, rolled_back, aborted })
    }
}

impl DeployMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let deploys = IntCounterVec::new(
            Opts::new(
                "quern_deploys_total",
                "Deployments by class and outcome: created, unchanged, refused (the upload's \
                 fault) or failed (the server's)",
            ),
            &["class", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "quern_deploy_seconds",
                "Time from a complete upload to a live version, waiting and compiling included",
            )
            .buckets(prometheus::exponential_buckets(0.01, 2.0, 14)?),
            &["class"],
        )?;
        registry.register(Box::new(deploys.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { deploys, seconds })
    }

    pub(crate) fn record(
        &self,
        class: Class,
        outcome: &Result<Deployment, DeployError>,
        took: Duration,
    ) {
        let word = match outcome {
            Ok(deployment) if deployment.created => "created",
            Ok(_) => "unchanged",
            Err(error) if error.is_fault() => "failed",
            Err(_) => "refused",
        };
        let class = class.as_str();
        self.deploys.with_label_values(&[class, word]).inc();
        if outcome.is_ok() {
            self.seconds.with_label_values(&[class]).observe(took.as_secs_f64());
        }
    }
}
