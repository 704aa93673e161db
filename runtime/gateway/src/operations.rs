//! That the server is alive, and its metrics; nothing about what is deployed.

use http::{HeaderValue, Response, header::CONTENT_TYPE};
use prometheus::TextEncoder;

use crate::{
    Gateway,
    body::{Reply, ReplyBody},
    errors::Failure,
};

/// `GET /healthz`: that it is answered says everything.
pub(crate) fn alive() -> Reply {
    Response::new(ReplyBody::empty())
}

/// All metrics as Prometheus text.
pub(crate) fn metrics(gateway: &Gateway) -> Result<Reply, Failure> {
    let text = TextEncoder::new().encode_to_string(&gateway.registry.gather());
    let mut reply = Response::new(ReplyBody::full(text.map_err(Failure::internal)?));
    let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(reply)
}
