//! Guests that export `wasi:http/handler` 0.3: an asynchronous call that returns the response, and
//! tasks of the guest that write its body and may go on after that.
//!
//! All of it runs in the event loop of the store, which stands still while a guest computes or
//! waits in a host function. So nothing in here may rely on being polled: the limits on time are
//! those of whoever polls the loop.

use std::{future::poll_fn, sync::Arc};

use ::http::{
    Request,
    header::HOST,
    uri::{Authority, Scheme},
};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::{
    FieldMap, WasiHttpView,
    p3::{self, bindings::Service},
};

use super::{Head, bodies::RequestBody, exchange::Exchange};
use crate::state::State;

/// Runs a guest until its tasks have ended and its response is delivered. The instance has to stay
/// that long: it is the loop that passes on what the guest has written.
pub(super) async fn run(
    guest: &Service,
    store: &mut Store<State>,
    request: Request<RequestBody>,
    head: oneshot::Sender<Head>,
    exchange: &Arc<Exchange>,
) -> wasmtime::Result<()> {
    let view = store.data_mut().http();
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().cloned();
    let host = || Authority::try_from(parts.headers.get(HOST)?.as_bytes()).ok();
    let (request, processed) = p3::Request::new(
        parts.method,
        Some(Scheme::HTTP),
        authority.or_else(host),
        parts.uri.path_and_query().cloned(),
        FieldMap::new_immutable(view.hooks, parts.headers),
        None,
        body,
    );
    let request = view.table.push(request)?;
    let guest = async |accessor: &wasmtime::component::Accessor<State>| {
        let answer = guest.wasi_http_handler().call_handle(accessor, request).await?;
        let answer = match answer {
            Ok(response) => Ok(accessor.with(|mut store| {
                let response = store.data_mut().http().table.delete(response)?;
                response.into_http(store, processed)
            })?),
            Err(code) => Err(format!("{code:?}")),
        };
        let has_body = answer.is_ok();
        exchange.answer();
        if head.send(answer).is_ok() && has_body {
            exchange.delivered().await;
        }
        poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
        Ok(())
    };
    store.run_concurrent(guest).await?
}
