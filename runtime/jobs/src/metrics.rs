//! What is counted of asynchronous calls and of messages to webhooks.

use std::time::SystemTime;

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector};
use quern_store::{DeliveryCounts, Usage};

/// Handles to the metrics.
pub(crate) struct Metrics {
    calls: IntGaugeVec,
    bytes: IntGaugeVec,
    oldest_seconds: Gauge,
    pub(crate) enqueued: IntCounter,
    pub(crate) repeated: IntCounter,
    pub(crate) removed: IntCounter,
    pub(crate) fired: IntCounter,
    pub(crate) unfired: IntCounter,
    attempts: IntCounterVec,
    deliveries: IntGaugeVec,
    sendings: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name, help| registered(registry, IntCounter::new(name, help)?);
        Ok(Self {
            calls: registered(
                registry,
                IntGaugeVec::new(
                    Opts::new("quern_async_calls", "Asynchronous calls in the queue, by state"),
                    &["state"],
                )?,
            )?,
            bytes: registered(
                registry,
                IntGaugeVec::new(
                    Opts::new("quern_async_bytes", "What asynchronous calls take up, by state"),
                    &["state"],
                )?,
            )?,
            oldest_seconds: registered(
                registry,
                Gauge::new(
                    "quern_async_oldest_seconds",
                    "How long the asynchronous call has been due that waits longest",
                )?,
            )?,
            enqueued: counter("quern_async_enqueued_total", "Asynchronous calls taken in")?,
            repeated: counter(
                "quern_async_repeated_total",
                "Asynchronous calls whose idempotency key was known already",
            )?,
            removed: counter(
                "quern_async_removed_total",
                "Asynchronous calls that were kept no longer",
            )?,
            fired: counter("quern_schedule_calls_total", "Calls that schedules have made")?,
            unfired: counter(
                "quern_schedule_failures_total",
                "Times at which the queue took no call of a schedule",
            )?,
            attempts: registered(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "quern_async_attempts_total",
                        "Tries of asynchronous calls, by what came of them",
                    ),
                    &["outcome"],
                )?,
            )?,
            deliveries: registered(
                registry,
                IntGaugeVec::new(
                    Opts::new("quern_webhook_deliveries", "Messages to webhooks, by state"),
                    &["state"],
                )?,
            )?,
            sendings: sendings(registry)?,
        })
    }

    /// Counts a try.
    pub(crate) fn tried(&self, outcome: &str) {
        self.attempts.with_label_values(&[outcome]).inc();
    }

    /// Counts a message that was sent.
    pub(crate) fn sent(&self, outcome: &str) {
        self.sendings.with_label_values(&[outcome]).inc();
    }

    /// Shows how many messages there are.
    pub(crate) fn show_deliveries(&self, counts: &DeliveryCounts) {
        for (state, count) in counts {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.deliveries.with_label_values(&[state.as_str()]).set(count);
        }
    }

    /// Shows how much there is in the queue.
    pub(crate) fn show(&self, usage: &Usage, now: SystemTime) {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (state, calls, bytes) in &usage.states {
            self.calls.with_label_values(&[state.as_str()]).set(whole(*calls));
            self.bytes.with_label_values(&[state.as_str()]).set(whole(*bytes));
        }
        let waited = usage.oldest_due.and_then(|due| now.duration_since(due).ok());
        self.oldest_seconds.set(waited.unwrap_or_default().as_secs_f64());
    }
}

/// Counts what came of sending messages, of each outcome from the start on.
fn sendings(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let about = "Times that messages to webhooks were sent, by what came of it";
    let options = Opts::new("quern_webhook_attempts_total", about);
    let sendings = IntCounterVec::new(options, &["outcome"])?;
    for outcome in ["delivered", "retried", "failed"] {
        sendings.with_label_values(&[outcome]);
    }
    registered(registry, sendings)
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
