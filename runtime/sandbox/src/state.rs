//! What belongs to one instance, and the interfaces that are linked to it.

use quern_types::Limits;
use wasmtime::{
    Engine, Store,
    component::{Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::{
    Error as HttpError, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::{
    allowance::Allowance,
    contract::models_import,
    models::{ModelAccess, ModelView, Models},
    output::{Capture, OutputStream},
};

/// Bytes of one set of headers. Together with the handles this bounds what a guest can make the
/// host keep beside its own memory.
const MAX_FIELDS: usize = 32 << 10;

/// Random bytes that a guest can ask for in one call. The host makes them without yielding: this
/// many take it less than a millisecond.
const MAX_RANDOM: u64 = 256 << 10;

/// Everything that the host keeps for one instance; gone with it.
pub(crate) struct State {
    pub(crate) allowance: Allowance,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    models: ModelAccess,
}

/// Outbound HTTP, of which nothing is granted: every request is denied at the call.
struct Outbound;

/// All that functions may import. The standard interfaces are inert: an empty environment, no
/// arguments, no directories, no sockets.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    models_import::add_to_linker::<State, Models>(&mut linker, State::models)?;
    Ok(linker)
}

/// A store for one invocation. Its guest yields at every tick of the epoch.
pub(crate) fn store(
    engine: &Engine,
    limits: &Limits,
    models: ModelAccess,
    capture: &Capture,
) -> Store<State> {
    let wasi = WasiCtx::builder()
        .max_random_size(MAX_RANDOM)
        .stdout(capture.stream(OutputStream::Stdout))
        .stderr(capture.stream(OutputStream::Stderr))
        .build();
    let mut table = ResourceTable::new();
    table.set_max_capacity(usize::try_from(limits.handles).unwrap_or(usize::MAX));
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(MAX_FIELDS);
    let state =
        State { allowance: Allowance::new(*limits), table, wasi, http, outbound: Outbound, models };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.allowance);
    store.set_hostcall_fuel(usize::try_from(limits.host_call.0).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store
}

impl State {
    /// Whether a body that the guest was writing was neither finished nor given up.
    pub(crate) fn has_unfinished_body(&mut self) -> bool {
        self.table.iter_mut().any(|entry| entry.is::<HostOutgoingBody>())
    }

    fn models(&mut self) -> ModelView<'_> {
        ModelView { access: &mut self.models, table: &mut self.table }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

type Sent = Result<(::http::Response<WasiBody>, Finished), HttpError>;
type WasiBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, HttpError>;
type Finished = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        _request: ::http::Request<WasiBody>,
        _options: Option<wasmtime_wasi_http::RequestOptions>,
        _finished: Finished,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }
}
