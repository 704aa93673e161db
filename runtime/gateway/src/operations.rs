//! That the server is alive, and its metrics; nothing about what is deployed. Whether it is ready is
//! in `health`.

use http::{HeaderValue, Response, header::CONTENT_TYPE};
use prometheus::TextEncoder;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody},
    errors::Failure,
    troubles::Trouble,
};

/// How a server that answers fares.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Health {
    /// Whether there are troubles.
    status: HealthStatus,
    /// What an operator has to see to, while the server goes on with what it had before.
    troubles: Vec<Trouble>,
}

/// Whether an operator has to see to something.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum HealthStatus {
    Ok,
    Degraded,
}

/// That the server is there, and what is wrong with it.
pub(crate) fn health(gateway: &Gateway) -> Reply {
    let troubles = gateway.troubles.list();
    let status = if troubles.is_empty() { HealthStatus::Ok } else { HealthStatus::Degraded };
    body::json(&Health { status, troubles })
}

/// All metrics as Prometheus text.
pub(crate) fn metrics(gateway: &Gateway) -> Result<Reply, Failure> {
    let text = TextEncoder::new().encode_to_string(&gateway.registry.gather());
    let mut reply = Response::new(ReplyBody::full(text.map_err(Failure::internal)?));
    let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(reply)
}
