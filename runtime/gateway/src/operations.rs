//! Health and metrics of the server itself; nothing about what is deployed.

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use prometheus::TextEncoder;

use crate::{
    Gateway,
    body::{Reply, ReplyBody},
    errors::Failure,
};

/// An answer without a body: 200 or 503.
pub(crate) fn health(well: bool) -> Reply {
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply
}

/// All metrics as Prometheus text.
pub(crate) fn metrics(gateway: &Gateway) -> Result<Reply, Failure> {
    let text = TextEncoder::new().encode_to_string(&gateway.registry.gather());
    let mut reply = Response::new(ReplyBody::full(text.map_err(Failure::internal)?));
    let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(reply)
}
