//! What belongs to one instance, and the interfaces that are linked to it.

use std::sync::Arc;

use quern_types::{Call, Settings};
use wasmtime::{
    Engine, Store,
    component::{Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    allowance::Allowance,
    contract::models_import,
    function::Setting,
    gpu::{self, GpuAccess, GpuView},
    held::Held,
    imports::{self, BucketView, ConfigView, Granted, NetworkView},
    models::{ModelAccess, ModelView, Models},
    outbound::Outbound,
    output::{Capture, OutputStream},
};

/// Bytes of one set of headers. Together with the handles this bounds what a guest can make the
/// host keep beside its own memory.
pub(crate) const MAX_FIELDS: usize = 32 << 10;

/// Random bytes that a guest can ask for in one call: the host makes all of them without yielding.
const MAX_RANDOM: u64 = 256 << 10;

/// Entries of the engine's own table that one handle takes at most on average: a stream is itself
/// and its two ends, a task also its thread and what that waits for.
const ENTRIES_PER_HANDLE: usize = 3;

/// Everything that the host keeps for one instance; gone with it.
pub(crate) struct State {
    pub(crate) allowance: Allowance,
    /// Dropped before the table: that the bodies in there go must not look like their end.
    outbound: Outbound,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    models: ModelAccess,
    gpu: GpuAccess,
    granted: Arc<Granted>,
    /// What is set for the function; the same for every request that the instance serves.
    settings: Option<Arc<Settings>>,
    held: Held,
    capture: Capture,
}

/// All that functions may import. The standard interfaces are inert: an empty environment, no
/// arguments, no directories, no sockets.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    models_import::add_to_linker::<State, Models>(&mut linker, State::models)?;
    gpu::add_to_linker(&mut linker)?;
    imports::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// A store for one invocation. Its guest yields at every tick of the epoch.
pub(crate) fn store(
    engine: &Engine,
    setting: &Setting,
    mut call: Call,
    capture: &Capture,
) -> Store<State> {
    // They go no further than the guest: its calls of models have none.
    let settings = call.settings.take();
    let limits = &setting.limits;
    let wasi = WasiCtx::builder()
        .max_random_size(MAX_RANDOM)
        .stdout(capture.stream(OutputStream::Stdout))
        .stderr(capture.stream(OutputStream::Stderr))
        .build();
    let handles = usize::try_from(limits.handles).unwrap_or(usize::MAX);
    let mut table = ResourceTable::new();
    table.set_max_capacity(handles);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(MAX_FIELDS);
    let state = State {
        outbound: Outbound::new(setting.outbound.clone(), capture.clone(), call.trace.clone()),
        allowance: Allowance::new(*limits, setting.memory.clone()),
        table,
        wasi,
        http,
        models: setting.models(call),
        gpu: GpuAccess::new(setting.gpu.clone(), limits),
        granted: setting.imports.clone(),
        settings,
        held: Held::new(limits.memory.0),
        capture: capture.clone(),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.allowance);
    store.set_max_component_handles(handles);
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(handles.saturating_mul(ENTRIES_PER_HANDLE));
    }
    store.set_hostcall_fuel(usize::try_from(limits.host_call.0).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store
}

impl State {
    /// What the guest prints.
    pub(crate) fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Makes what belongs to one request anew, for the next one that the instance serves.
    pub(crate) fn renew(&mut self, call: Call) {
        self.outbound.renew(call.trace.clone());
        self.models.call = Call { settings: None, ..call };
    }

    /// Whether nothing of the last request goes on, and no limit was hit in it. All that `renew`
    /// leaves alone must be as it was before.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.models.is_at_rest()
            && self.gpu.is_at_rest()
            && self.outbound.is_at_rest()
            && self.allowance.refused().is_none()
    }

    /// Handles that the guest holds.
    pub(crate) fn handles(&mut self) -> usize {
        self.table.iter_mut().count()
    }

    /// Whether a body that the guest was writing was neither finished nor given up.
    pub(crate) fn has_unfinished_body(&mut self) -> bool {
        self.table.iter_mut().any(|entry| entry.is::<HostOutgoingBody>())
    }

    pub(crate) fn models(&mut self) -> ModelView<'_> {
        ModelView { access: &mut self.models, table: &mut self.table }
    }

    pub(crate) fn gpu(&mut self) -> GpuView<'_> {
        GpuView { access: &mut self.gpu, call: &self.models.call, table: &mut self.table }
    }

    pub(crate) fn gpu_access(&mut self) -> &mut GpuAccess {
        &mut self.gpu
    }

    /// Whether it was made with these settings, and not with what they were before or after.
    pub(crate) fn has_settings(&self, settings: Option<&Arc<Settings>>) -> bool {
        self.settings.as_ref().map(Arc::as_ptr) == settings.map(Arc::as_ptr)
    }

    pub(crate) fn config(&mut self) -> ConfigView<'_> {
        ConfigView { granted: &self.granted, settings: self.settings.as_deref() }
    }

    pub(crate) fn log(&mut self) -> &mut Capture {
        &mut self.capture
    }

    pub(crate) fn buckets(&mut self) -> BucketView<'_> {
        BucketView {
            granted: &self.granted,
            tenant: &self.models.call.tenant,
            table: &mut self.table,
            held: &mut self.held,
        }
    }

    pub(crate) fn networks(&mut self) -> NetworkView<'_> {
        NetworkView {
            calls: &*self.models.calls,
            granted: &self.models.granted,
            call: &self.models.call,
            table: &mut self.table,
            held: &mut self.held,
        }
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
