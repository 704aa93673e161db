//! The task that sends spans: gathers them into batches, tries again where that may help, and counts
//! what is lost. It ends within a bound when the server stops.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry_proto::tonic::resource::v1::Resource;
use prometheus::Registry;
use quern_types::{Concern, HealthSource, SpanRecord, Spans};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    Endpoint, Headers, ResourceAttributes,
    collector::{Collector, SendError, TlsError},
    message,
    metrics::{Loss, Metrics},
    queue::{BATCH, Entrance},
};

/// Times that a batch is sent before it is lost.
const TRIES: u32 = 4;
/// Pause before the second try; it doubles with each one.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest pause, whatever the collector asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a loss is a concern.
const CONCERN: Duration = Duration::from_secs(60);

/// Where spans are sent, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportConfig {
    /// The collector.
    pub endpoint: Endpoint,
    /// Headers that go with every request to it.
    pub headers: Headers,
    /// The server's name in its spans; none: as `attributes` have it, or else "quern".
    pub service_name: Option<String>,
    /// What else is said of the server.
    pub attributes: ResourceAttributes,
    /// The program's version.
    pub version: &'static str,
    /// Spans that may wait; more are dropped.
    pub queue: usize,
    /// How long a span waits for others to be sent with it.
    pub delay: Duration,
    /// Longest time for one request to the collector.
    pub timeout: Duration,
}

/// Why spans can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// There are no certificates to check the collector's by.
    #[error("the system's certificates can't be read: {0}")]
    Tls(#[from] TlsError),
    /// A metric of this name is registered already.
    #[error("metrics can't be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Sends spans in the background.
pub struct Exporter {
    entrance: Arc<Entrance>,
    metrics: Metrics,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Exporter {
    /// Starts to send. Must be called within a runtime.
    pub fn start(config: ExportConfig, registry: &Registry) -> Result<Self, ExporterError> {
        let metrics = Metrics::register(registry)?;
        let resource = message::resource(&attributes(&config));
        let ExportConfig { endpoint, headers, version, queue, delay, timeout, .. } = config;
        let collector = Collector::new(endpoint, headers, timeout)?;
        let (sender, waiting) = mpsc::channel(queue.max(1));
        let entrance = Arc::new(Entrance::new(sender, metrics.clone()));
        let stop = CancellationToken::new();
        let sending = Sending {
            collector,
            resource,
            version,
            delay,
            waiting,
            entrance: entrance.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
            is_failing: false,
        };
        let task = Mutex::new(Some(tokio::spawn(sending.run())));
        Ok(Self { entrance, metrics, stop, task })
    }

    /// Where spans go in.
    pub fn spans(&self) -> Arc<dyn Spans> {
        self.entrance.clone()
    }

    /// Sends what waits, within so much time; what is left is lost.
    pub async fn stop(&self, limit: Duration) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(limit, &mut task).await.is_err() {
            task.abort();
            let left = usize::try_from(self.metrics.waiting.get()).unwrap_or(0);
            self.entrance.lose(Loss::Stopped, left);
            tracing::warn!(spans = left, "spans were not sent in time and are lost");
        }
    }
}

impl HealthSource for Exporter {
    fn codes(&self) -> &'static [&'static str] {
        &["traces-dropped"]
    }

    fn concerns(&self) -> Vec<Concern> {
        let lost = self.entrance.has_lost_within(CONCERN);
        let concern = || Concern {
            code: "traces-dropped",
            detail: "spans were dropped in the last minute: the collector of traces is gone, or \
                     too slow"
                .into(),
        };
        lost.then(concern).into_iter().collect()
    }
}

/// What is said of the server, its name first.
fn attributes(config: &ExportConfig) -> Vec<(String, String)> {
    const NAME: &str = "service.name";
    let given = config.attributes.0.iter();
    let given_name = given.clone().rev().find(|(key, _)| key == NAME).map(|(_, name)| name);
    let name = config.service_name.as_ref().or(given_name).map_or("quern", String::as_str);
    let own = [(NAME, name), ("service.version", config.version)];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let others = given.filter(|(key, _)| key != NAME && key != "service.version").cloned();
    own.into_iter().chain(others).collect()
}

/// The task's own.
struct Sending {
    collector: Collector,
    resource: Resource,
    version: &'static str,
    delay: Duration,
    waiting: mpsc::Receiver<SpanRecord>,
    entrance: Arc<Entrance>,
    metrics: Metrics,
    stop: CancellationToken,
    /// Whether the last batch was lost, so that the log tells of a change alone.
    is_failing: bool,
}

impl Sending {
    async fn run(mut self) {
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            let mut batch = Vec::new();
            let gather = async {
                self.waiting.recv_many(&mut batch, BATCH).await;
                let more = async {
                    while batch.len() < BATCH {
                        let room = BATCH - batch.len();
                        self.waiting.recv_many(&mut batch, room).await;
                    }
                };
                // Whichever comes first.
                let _ = tokio::time::timeout(self.delay, more).await;
            };
            tokio::select! {
                () = gather => {}
                () = stop.cancelled() => {}
            }
            self.send(batch).await;
        }
        self.waiting.close();
        loop {
            let mut batch = Vec::new();
            while batch.len() < BATCH
                && let Ok(span) = self.waiting.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.send(batch).await;
        }
    }

    /// Sends a batch, or loses it.
    async fn send(&mut self, batch: Vec<SpanRecord>) {
        let spans = batch.len();
        if spans == 0 {
            return;
        }
        let sent = self.try_to_send(batch).await;
        self.metrics.waiting.sub(i64::try_from(spans).unwrap_or(i64::MAX));
        match sent {
            Ok(rejected) => {
                let rejected = rejected.min(spans);
                self.metrics.exported.inc_by((spans - rejected) as u64);
                if rejected > 0 {
                    self.entrance.lose(Loss::Rejected, rejected);
                }
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(collector = %self.collector.endpoint(), "spans are sent again");
                }
            }
            Err(error) => {
                self.entrance.lose(Loss::Export, spans);
                if !std::mem::replace(&mut self.is_failing, true) {
                    let collector = self.collector.endpoint();
                    tracing::warn!(%collector, %error, spans, "spans can't be sent and are lost");
                }
            }
        }
    }

    async fn try_to_send(&self, batch: Vec<SpanRecord>) -> Result<usize, SendError> {
        let request = message::request(self.resource.clone(), self.version, batch);
        let mut pause = PAUSE;
        for tried in 1.. {
            let error = match self.collector.send(&request).await {
                Ok(rejected) => return Ok(rejected),
                Err(error) => error,
            };
            let Some(wanted) = error.retry().filter(|_| tried < TRIES) else { return Err(error) };
            // Not all servers at the same moment.
            let jitter = pause.mul_f64(fastrand::f64());
            let pausing = tokio::time::sleep((pause / 2 + jitter).max(wanted).min(LONGEST_PAUSE));
            tokio::select! {
                () = pausing => {}
                // One more try, at once: there is no time for others.
                () = self.stop.cancelled() => return self.collector.send(&request).await,
            }
            pause *= 2;
        }
        unreachable!("the last try returns")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(service_name: Option<&str>, attributes: &str) -> ExportConfig {
        ExportConfig {
            endpoint: "http://localhost:1".parse().expect("an endpoint"),
            headers: Headers::default(),
            service_name: service_name.map(str::to_owned),
            attributes: attributes.parse().expect("pairs"),
            version: "1",
            queue: 1,
            delay: Duration::ZERO,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_server_has_one_name() {
        for (name, given, expected) in [
            (None, "", "service.name=quern service.version=1"),
            (None, "a=b,service.name=x", "service.name=x service.version=1 a=b"),
            (Some("y"), "service.name=x,service.version=2", "service.name=y service.version=1"),
        ] {
            let all = attributes(&config(name, given)).into_iter();
            let all: Vec<_> = all.map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(all.join(" "), expected);
        }
    }
}
