//! What is counted of spans on their way.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Why spans never arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// As many as are allowed wait already.
    QueueFull,
    /// The collector could not be reached, or did not take them.
    Export,
    /// The collector took the batch, but not these.
    Rejected,
    /// The server has stopped.
    Stopped,
}

const LOSSES: [&str; 4] = ["queue-full", "export", "rejected", "stopped"];

/// Handles to the metrics of spans.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) exported: IntCounter,
    pub(crate) waiting: IntGauge,
    /// In the order of [`LOSSES`].
    dropped: [IntCounter; LOSSES.len()],
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let exported =
            IntCounter::new("quern_trace_exported_spans_total", "Spans that the collector took")?;
        let waiting = IntGauge::new("quern_trace_waiting_spans", "Spans that wait to be sent")?;
        let dropped = IntCounterVec::new(
            Opts::new("quern_trace_dropped_spans_total", "Spans that were dropped, by reason"),
            &["reason"],
        )?;
        registry.register(Box::new(exported.clone()))?;
        registry.register(Box::new(waiting.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        let dropped = LOSSES.map(|reason| dropped.with_label_values(&[reason]));
        Ok(Self { exported, waiting, dropped })
    }

    pub(crate) fn lost(&self, loss: Loss, spans: usize) {
        self.dropped[loss as usize].inc_by(spans as u64);
    }

    /// Spans that never arrived.
    #[cfg(test)]
    pub(crate) fn all_lost(&self) -> u64 {
        self.dropped.iter().map(IntCounter::get).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted_by_reason() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).expect("registers once");
        let losses = [Loss::QueueFull, Loss::Export, Loss::Rejected, Loss::Stopped];
        for (spans, loss) in losses.into_iter().enumerate() {
            metrics.lost(loss, spans + 1);
        }
        assert_eq!(metrics.all_lost(), 10);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.expect("encodes");
        for (reason, spans) in LOSSES.into_iter().zip(1..) {
            let line = format!("quern_trace_dropped_spans_total{{reason=\"{reason}\"}} {spans}");
            assert!(text.contains(&line), "{line} should be in {text}");
        }
    }
}
