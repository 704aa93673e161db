//! What the server says of itself: whether it is starting, ready, degraded or draining, and why; and
//! the same as a metric. What is wrong is found out by the parts that it is wrong with.

use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use quern_types::{Concern, HealthSource};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Gateway,
    body::{self, Reply},
    errors::Failure,
};

/// What a server is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum HealthState {
    /// It answers, but is better not asked yet.
    Starting,
    /// All is well.
    Ready,
    /// It answers, and somebody should look after it.
    Degraded,
    /// It finishes what it has, and takes nothing more.
    Draining,
}

/// How the server is.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct HealthReport {
    /// In a word.
    state: HealthState,
    /// Why, where it is not ready.
    reasons: Vec<Concern>,
}

impl HealthReport {
    fn new(draining: bool, warming: bool, concerns: Vec<Concern>) -> Self {
        let because = |code, detail: &str| vec![Concern { code, detail: detail.into() }];
        if draining {
            let reasons = because("stopping", "the server was told to stop");
            return Self { state: HealthState::Draining, reasons };
        }
        if warming {
            let detail = "models whose manifests ask for a warm-up are being loaded";
            return Self { state: HealthState::Starting, reasons: because("warming-up", detail) };
        }
        let state = if concerns.is_empty() { HealthState::Ready } else { HealthState::Degraded };
        Self { state, reasons: concerns }
    }

    /// Whether requests should be sent to it.
    fn status(&self) -> StatusCode {
        match self.state {
            HealthState::Ready | HealthState::Degraded => StatusCode::OK,
            HealthState::Starting | HealthState::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// `GET /readyz`
pub(crate) async fn readyz(gateway: &Gateway) -> Result<Reply, Failure> {
    let sources = gateway.health.clone();
    let draining = gateway.closing.is_cancelled();
    let warming = gateway.dispatcher.is_warming();
    // It may look at the disk.
    let concerns = tokio::task::spawn_blocking(move || concerns(&sources)).await;
    let health = HealthReport::new(draining, warming, concerns.map_err(Failure::internal)?);
    let mut reply = body::json(&health);
    *reply.status_mut() = health.status();
    Ok(reply)
}

fn concerns(sources: &[Arc<dyn HealthSource>]) -> Vec<Concern> {
    sources.iter().flat_map(|source| source.concerns()).collect()
}

/// The concerns at the time of a scrape, as a metric.
pub(crate) struct Concerns {
    sources: Arc<[Arc<dyn HealthSource>]>,
    gauge: IntGaugeVec,
    /// Held while the series are filled and read.
    collecting: Mutex<()>,
}

impl Concerns {
    pub(crate) fn new(sources: Arc<[Arc<dyn HealthSource>]>) -> Result<Self, prometheus::Error> {
        let about = "Whether something is wrong with the server, by what it is";
        let gauge = IntGaugeVec::new(Opts::new("quern_server_concern", about), &["code"])?;
        Ok(Self { sources, gauge, collecting: Mutex::default() })
    }
}

impl Collector for Concerns {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _collecting = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        for code in self.sources.iter().flat_map(|source| source.codes()) {
            self.gauge.with_label_values(&[code]).set(0);
        }
        for Concern { code, .. } in concerns(&self.sources) {
            self.gauge.with_label_values(&[code]).set(1);
        }
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_what_matters_most() {
        let concern = || vec![Concern { code: "a", detail: "b".into() }];
        for (draining, warming, concerns, state, status, code) in [
            (false, false, vec![], "ready", 200, None),
            (false, false, concern(), "degraded", 200, Some("a")),
            (false, true, concern(), "starting", 503, Some("warming-up")),
            (true, true, concern(), "draining", 503, Some("stopping")),
        ] {
            let health = HealthReport::new(draining, warming, concerns);
            let told = json!(health);
            assert_eq!((told["state"].as_str(), health.status().as_u16()), (Some(state), status));
            assert_eq!(told["reasons"][0]["code"].as_str(), code);
        }
    }

    struct Ill;

    impl HealthSource for Ill {
        fn codes(&self) -> &'static [&'static str] {
            &["cold", "cough"]
        }

        fn concerns(&self) -> Vec<Concern> {
            vec![Concern { code: "cough", detail: "it coughs".into() }]
        }
    }

    #[test]
    fn concerns_are_a_metric() {
        let registry = Registry::new();
        let sources: Vec<Arc<dyn HealthSource>> = vec![Arc::new(Ill)];
        let concerns = Concerns::new(sources.into()).expect("a metric");
        registry.register(Box::new(concerns)).expect("registers once");
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.expect("encodes");
        for line in
            ["quern_server_concern{code=\"cold\"} 0", "quern_server_concern{code=\"cough\"} 1"]
        {
            assert!(text.contains(line), "{line} should be in {text}");
        }
    }
}
