//! Guests that export `wasi:http/incoming-handler` 0.2: one call, in which the guest sets the head,
//! writes the body, and may go on after that.

use std::sync::Arc;

use ::http::Request;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::{
        DEFAULT_OUTGOING_BODY_BUFFER_CHUNKS, DEFAULT_OUTGOING_BODY_CHUNK_SIZE,
        bindings::{Proxy, http::types::Scheme},
    },
};

use super::{Head, bodies::RequestBody, exchange::Exchange};
use crate::state::State;

/// The most bytes of a body that a guest can have written and finished before they are sent.
const UNSENT_BYTES: u64 =
    ((DEFAULT_OUTGOING_BODY_BUFFER_CHUNKS + 1) * DEFAULT_OUTGOING_BODY_CHUNK_SIZE) as u64;

/// Runs a guest to its end.
pub(super) async fn run(
    guest: &Proxy,
    store: &mut Store<State>,
    request: Request<RequestBody>,
    head: oneshot::Sender<Head>,
    exchange: &Arc<Exchange>,
) -> wasmtime::Result<()> {
    let answered = exchange.clone();
    let mut view = store.data_mut().http();
    let request = view.new_incoming_request(Scheme::Http, request)?;
    let response = view.new_response_outparam_from_callback(move |answer| {
        answered.answer();
        // Whoever asked may have left.
        let _ = head.send(answer.map_err(|code| format!("{code:?}")));
    })?;
    guest.wasi_http_incoming_handler().call_handle(&mut *store, request, response).await?;
    // What is unsent may still exceed the limit, and then it is this request that fails.
    if !exchange.fits(UNSENT_BYTES)
        && exchange.is_answered()
        && !store.data_mut().has_unfinished_body()
    {
        exchange.delivered().await;
    }
    Ok(())
}
