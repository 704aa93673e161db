//! Spans that wait to be sent: taken without waiting, up to a limit, and handed on in batches.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use quern_types::{SpanId, SpanRecord, Spans, TraceId};
use tokio::sync::mpsc;

use crate::metrics::{Loss, Metrics};

/// Spans of one request to the collector.
pub(crate) const BATCH: usize = 512;

/// Where spans go in.
pub(crate) struct Entrance {
    queue: mpsc::Sender<SpanRecord>,
    metrics: Metrics,
    start: Instant,
    /// When a span was lost last, in milliseconds since the start, plus one; 0: never.
    lost_ms: AtomicU64,
}

impl Entrance {
    pub(crate) fn new(queue: mpsc::Sender<SpanRecord>, metrics: Metrics) -> Self {
        Self { queue, metrics, start: Instant::now(), lost_ms: AtomicU64::new(0) }
    }

    /// Counts spans that never arrive.
    pub(crate) fn lose(&self, loss: Loss, spans: usize) {
        self.metrics.lost(loss, spans);
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.lost_ms.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// Whether a span was lost within so much time.
    pub(crate) fn has_lost_within(&self, time: Duration) -> bool {
        let lost_ms = self.lost_ms.load(Ordering::Relaxed);
        let lost = Duration::from_millis(lost_ms.saturating_sub(1));
        lost_ms > 0 && self.start.elapsed().saturating_sub(lost) < time
    }
}

impl Spans for Entrance {
    fn trace_id(&self) -> TraceId {
        TraceId::new(fastrand::u128(1..)).expect("not zero")
    }

    fn span_id(&self) -> SpanId {
        SpanId::new(fastrand::u64(1..)).expect("not zero")
    }

    fn record(&self, span: SpanRecord) {
        // Counted first, so that it can't be counted as gone before it came.
        self.metrics.waiting.inc();
        if let Err(error) = self.queue.try_send(span) {
            self.metrics.waiting.dec();
            let loss = match error {
                mpsc::error::TrySendError::Full(_) => Loss::QueueFull,
                mpsc::error::TrySendError::Closed(_) => Loss::Stopped,
            };
            self.lose(loss, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus::Registry;
    use quern_types::{Sampler, Tracer};

    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_never_waited_for() {
        let metrics = Metrics::register(&Registry::new()).expect("registers once");
        let (queue, mut taken) = mpsc::channel(2);
        let entrance = Arc::new(Entrance::new(queue, metrics.clone()));
        let sampler = Sampler::new("always_on", 1.0).expect("a sampler");
        let tracer = Tracer::new(sampler, entrance.clone());
        assert!(!entrance.has_lost_within(Duration::MAX));
        for _ in 0..5 {
            drop(tracer.server(None, || "GET /".into()));
        }
        assert_eq!((metrics.all_lost(), metrics.waiting.get()), (3, 2));
        assert!(entrance.has_lost_within(Duration::MAX));
        assert!(taken.try_recv().is_ok());
        drop(taken);
        drop(tracer.server(None, || "GET /".into()));
        assert_eq!(metrics.all_lost(), 4, "nobody takes it any more");
    }
}
