//! Bodies as they arrive: collected, and decompressed where they are compressed. Never decoded.

use http::{HeaderMap, Request};
use quern_types::ByteSize;

use super::compression::Coding;
use crate::{Gateway, body::RequestBody, collect::Collected, errors::Failure};

/// Most of a body that says what to load, unload, list or set.
const CONTROL: ByteSize = ByteSize(64 << 10);

/// The body of an inference request.
pub(super) async fn receive(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<Collected, Failure> {
    let coding = Coding::of_body(headers)?;
    let limit = gateway.limits().json_body;
    let body = body.collect(limit, &gateway.body_room).await?;
    let Some(coding) = coding else { return Ok(body) };
    let out = gateway.body_room.growing(limit);
    // A few bytes may become very many.
    Ok(off_thread(move || coding.decompress(body.as_ref(), out)).await??)
}

/// The body of a request for anything else.
pub(super) async fn receive_control(
    gateway: &Gateway,
    request: Request<RequestBody>,
) -> Result<Collected, Failure> {
    Coding::refuse(request.headers())?;
    let body = request.into_body();
    Ok(body.collect(CONTROL, &gateway.body_room).await?)
}

/// Runs work that would hold up an async thread.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::internal)
}
