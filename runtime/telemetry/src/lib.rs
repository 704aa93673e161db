//! Sends spans to a collector over OTLP. Whether a request is recorded, and what its spans say, is
//! decided elsewhere; nothing here ever makes a request wait.

mod attributes;
mod collector;
mod export;
mod message;
mod metrics;
mod queue;

pub use attributes::{InvalidAttributes, ResourceAttributes};
pub use collector::{Endpoint, Headers, InvalidEndpoint, InvalidHeaders};
pub use export::{ExportConfig, Exporter, ExporterError};
