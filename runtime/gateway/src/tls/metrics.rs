//! What is counted of handshakes.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::HandshakeError;

/// Handshakes by how they ended.
pub(super) struct Metrics {
    completed: IntCounter,
    failed: IntCounter,
    stalled: IntCounter,
    displaced: IntCounter,
    plain: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let handshakes = IntCounterVec::new(
            Opts::new("quern_tls_handshakes_total", "TLS handshakes, by how they ended"),
            &["outcome"],
        )?;
        registry.register(Box::new(handshakes.clone()))?;
        let of = |outcome| handshakes.with_label_values(&[outcome]);
        Ok(Self {
            completed: of("completed"),
            failed: of("failed"),
            stalled: of("stalled"),
            displaced: of("displaced"),
            plain: of("plain-http"),
        })
    }

    pub(super) fn ended(&self, error: Option<&HandshakeError>) {
        let counter = match error {
            None => &self.completed,
            Some(HandshakeError::Failed(_)) => &self.failed,
            Some(HandshakeError::Stalled(_)) => &self.stalled,
            Some(HandshakeError::Displaced) => &self.displaced,
            Some(HandshakeError::Plain) => &self.plain,
        };
        counter.inc();
    }
}
