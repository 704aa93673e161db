//! What outbound requests are counted by.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Handles to the metrics of outbound requests.
pub(crate) struct Metrics {
    requests: IntCounterVec,
    pub(crate) sent_bytes: IntCounter,
    pub(crate) received_bytes: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("quern_outbound_requests_total", "Requests that functions sent, by outcome"),
            &["outcome"],
        )?;
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        registry.register(Box::new(requests.clone()))?;
        Ok(Self {
            requests,
            sent_bytes: counter(
                "quern_outbound_sent_bytes_total",
                "Heads and bodies of the requests that functions sent",
            )?,
            received_bytes: counter(
                "quern_outbound_received_bytes_total",
                "Heads and bodies of the responses that functions received",
            )?,
        })
    }

    pub(crate) fn count(&self, outcome: &'static str) {
        self.requests.with_label_values(&[outcome]).inc();
    }
}
