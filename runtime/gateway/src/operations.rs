//! That the server is alive, and its metrics; nothing about what is deployed. Whether it is ready,
//! and what is wrong with it, is in `health`.

use http::{HeaderValue, Response, header::CONTENT_TYPE};
use prometheus::TextEncoder;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody},
    errors::Failure,
};

/// That the process answers, and nothing else: a probe that restarts what does not answer shall
/// not restart what has something wrong with it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Liveness {
    /// Always `ok`.
    status: LivenessStatus,
}

/// How a server that answers is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum LivenessStatus {
    Ok,
}

/// `GET /healthz`
pub(crate) fn healthz() -> Reply {
    body::json(&Liveness { status: LivenessStatus::Ok })
}

/// All metrics as Prometheus text.
pub(crate) fn metrics(gateway: &Gateway) -> Result<Reply, Failure> {
    let text = TextEncoder::new().encode_to_string(&gateway.registry.gather());
    let mut reply = Response::new(ReplyBody::full(text.map_err(Failure::internal)?));
    let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(reply)
}
