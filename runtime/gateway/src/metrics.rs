//! What the edge counts. Every label is resolved once, so that a request looks none up.

use std::time::Duration;

use http::StatusCode;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::limiter::Charge;

/// The kinds of requests that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Calls of functions that serve HTTP.
    Call,
    /// Inference.
    Infer,
    /// The rest of the Open Inference Protocol.
    Protocol,
    /// Deploy, roll back, delete.
    Change,
    /// Lists and descriptions.
    Inspect,
    /// Logs of functions.
    Logs,
    /// Health and metrics.
    Operations,
    /// What has no route.
    Unknown,
}

impl Traffic {
    /// What it takes of its caller's limits.
    pub(crate) fn charge(self) -> Charge {
        match self {
            Self::Call | Self::Infer => Charge::Call,
            Self::Protocol | Self::Change | Self::Inspect | Self::Logs => Charge::Control,
            Self::Operations | Self::Unknown => Charge::Nothing,
        }
    }

    const ALL: [(Self, &str); 8] = [
        (Self::Call, "call"),
        (Self::Infer, "infer"),
        (Self::Protocol, "protocol"),
        (Self::Change, "change"),
        (Self::Inspect, "inspect"),
        (Self::Logs, "logs"),
        (Self::Operations, "operations"),
        (Self::Unknown, "unknown"),
    ];
}

/// Times from a cached answer to the longest wait that is usual.
const SECONDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
    2.0, 5.0, 10.0, 30.0,
];
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The metrics of the edge.
pub(crate) struct Metrics {
    routes: [RouteMetrics; Traffic::ALL.len()],
    connections: IntGauge,
}

struct RouteMetrics {
    by_status: [IntCounter; STATUS_CLASSES.len()],
    seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("quern_http_requests_total", "HTTP requests answered"),
            &["route", "status_class"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "quern_http_request_seconds",
                "Time from a request's head to its answer's head",
            )
            .buckets(SECONDS.to_vec()),
            &["route"],
        )?;
        let connections = IntGauge::new("quern_http_connections", "Open connections")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        let routes = Traffic::ALL.map(|(_, route)| RouteMetrics {
            by_status: STATUS_CLASSES.map(|status| requests.with_label_values(&[route, status])),
            seconds: seconds.with_label_values(&[route]),
        });
        Ok(Self { routes, connections })
    }

    pub(crate) fn answered(&self, traffic: Traffic, status: StatusCode, took: Duration) {
        let route = &self.routes[traffic as usize];
        let class = usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len());
        route.by_status[class - 1].inc();
        route.seconds.observe(took.as_secs_f64());
    }

    /// Whether there is one connection, and no more.
    pub(crate) fn is_only_connection(&self) -> bool {
        self.connections.get() == 1
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }
}

/// A connection that is counted as open.
pub(crate) struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).expect("registers once");
        for (position, (traffic, _)) in Traffic::ALL.into_iter().enumerate() {
            assert_eq!(traffic as usize, position, "the table is in the enum's order");
        }
        let open = metrics.connection();
        assert!(metrics.is_only_connection());
        metrics.answered(Traffic::Infer, StatusCode::BAD_REQUEST, Duration::from_micros(70));
        metrics.answered(Traffic::Unknown, StatusCode::NOT_FOUND, Duration::ZERO);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.expect("encodes");
        for line in [
            "quern_http_requests_total{route=\"infer\",status_class=\"4xx\"} 1",
            "quern_http_requests_total{route=\"infer\",status_class=\"2xx\"} 0",
            "quern_http_request_seconds_bucket{route=\"infer\",le=\"0.00005\"} 0",
            "quern_http_request_seconds_bucket{route=\"infer\",le=\"0.0001\"} 1",
            "quern_http_connections 1",
        ] {
            assert!(text.contains(line), "{line} should be in {text}");
        }
        drop(open);
        assert_eq!(metrics.connections.get(), 0);
    }
}
