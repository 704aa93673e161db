//! What the limits and meters of a sandbox cost: the same component called in this process by
//! wasmtime alone, then with one mechanism after the other, at last as the server calls it. No
//! sockets, one thread. Never judges.

use std::{
    fs,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use quern_sandbox::{Function, HttpFunction, Owner, Sandbox, SandboxConfig, Services};
use quern_store::{Store as DataFolder, StoreConfig};
use quern_types::{
    ByteSize, Call, Deadline, Digest, FunctionKind, FunctionSpec, ModelCall, ModelCalls,
    ModelError, ModelReply, ModelSpec, QualifiedName, TenantId,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits,
    StoreLimitsBuilder,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
    p2::bindings::{ProxyPre, http::types::Scheme},
};

use support::{
    load::{progress, quantile},
    process::root,
    report::{Table, aim, publish},
};

mod support {
    #[expect(dead_code, reason = "nothing is loaded from outside")]
    pub(crate) mod load;
    #[expect(dead_code, reason = "everything runs in this process")]
    pub(crate) mod process;
    pub(crate) mod report;
}

const HELLO: &str = "target/functions/wasm32-wasip2/release/hello.wasm";
/// Calls in a round, and rounds, in each of which every variant has its turn.
const CALLS: usize = 2_000;
const ROUNDS: usize = 7;
/// Most µs that making and dropping an instance should take.
const INSTANCE_AIM_US: f64 = 10.0;

/// The mechanisms, each on top of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Alone,
    Epochs,
    Memory,
    Handles,
    Time,
}

const STEPS: [(Step, &str); 5] = [
    (Step::Alone, "wasmtime alone: instance, call, drop"),
    (Step::Epochs, "+ a busy guest yields (epochs)"),
    (Step::Memory, "+ memory, tables, core instances"),
    (Step::Handles, "+ handles, bytes of host calls"),
    (Step::Time, "+ processor and wall time"),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let component = fs::read(root().join(HELLO)).context("`make guests` builds it")?;
    let steps = STEPS.iter().map(|(step, _)| Raw::new(*step, &component).map_err(plain));
    let steps: Vec<_> = steps.collect::<Result<_>>()?;
    let folder = TempDir::new()?;
    let whole = whole(folder.path(), &component).await?;
    let mut us = vec![Vec::new(); STEPS.len() + 1];
    for _ in 0..ROUNDS {
        for (raw, us) in steps.iter().zip(&mut us) {
            us.push(round(|| raw.call()).await?);
        }
        us[STEPS.len()].push(round(|| call(&whole)).await?);
    }
    let names = STEPS.iter().map(|(_, name)| *name);
    let names = names.chain(["as the server calls it: + bodies, report, metrics, a task"]);
    let mut table = Table::new(["a call of the template's hello", "p50", "more than before"]);
    let mut before = None;
    for (name, us) in names.zip(&mut us) {
        let p50 = quantile(us, 0.5);
        let more = before.map_or("–".into(), |before: f64| format!("{:+.2} µs", p50 - before));
        progress(format!("{name}: {p50:.2} µs"));
        table.row([name.into(), format!("{p50:.2} µs"), more]);
        before = Some(p50);
    }
    let limited = steps.last().context("there are steps")?;
    let mut us = Vec::new();
    for _ in 0..ROUNDS {
        us.push(round(|| limited.instance()).await?);
    }
    let instance = quantile(&mut us, 0.5);
    progress(format!("instance and drop: {instance:.2} µs"));
    let text = format!(
        "In this process, without sockets, on one thread; medians over {ROUNDS} rounds of the p50 \
         of {CALLS} calls.\n\n{table}\nAn instance alone, made and dropped without a call, on \
         wasmtime with the limits: {instance:.2} µs; aim {}.",
        aim(&format!("≤ {INSTANCE_AIM_US} µs"), instance <= INSTANCE_AIM_US)
    );
    publish("limits", "What limits cost", &text)
}

/// The p50 of some calls in µs.
async fn round<F: Future<Output = Result<()>>>(mut call: impl FnMut() -> F) -> Result<f64> {
    let mut us = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let start = Instant::now();
        call().await?;
        us.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(quantile(&mut us, 0.5))
}

/// The component on wasmtime, with the mechanisms up to one of them.
struct Raw {
    step: Step,
    engine: Engine,
    entry: ProxyPre<State>,
}

impl Raw {
    fn new(step: Step, component: &[u8]) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config.epoch_interruption(step >= Step::Epochs);
        let mut pool = PoolingAllocationConfig::new();
        // As the sandbox has it, so that only the mechanisms differ.
        pool.total_component_instances(16)
            .total_stacks(16)
            .total_memories(16)
            .total_tables(32)
            .total_core_instances(64)
            .linear_memory_keep_resident(2 << 20)
            .table_keep_resident(512 << 10)
            .async_stack_keep_resident(64 << 10)
            .max_memory_size(1 << 30)
            .table_elements(100_000);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let component = Component::new(&engine, component)?;
        let entry = ProxyPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { step, engine, entry })
    }

    fn store(&self) -> Store<State> {
        let mut state = State {
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            limits: StoreLimitsBuilder::new().memory_size(64 << 20).table_elements(100_000).build(),
            hooks: Nowhere,
        };
        if self.step >= Step::Handles {
            state.table.set_max_capacity(2_048);
        }
        let mut store = Store::new(&self.engine, state);
        if self.step >= Step::Epochs {
            store.set_epoch_deadline(1);
            store.epoch_deadline_async_yield_and_update(1);
        }
        if self.step >= Step::Memory {
            store.limiter(|state| &mut state.limits);
        }
        if self.step >= Step::Handles {
            store.set_hostcall_fuel(64 << 20);
        }
        store
    }

    /// Makes an instance and drops it.
    async fn instance(&self) -> Result<()> {
        let mut store = self.store();
        self.entry.instantiate_async(&mut store).await.map(drop).map_err(plain)
    }

    async fn call(&self) -> Result<()> {
        let mut store = self.store();
        let (sender, receiver) = oneshot::channel();
        let run = async {
            let guest = self.entry.instantiate_async(&mut store).await?;
            let mut view = store.data_mut().http();
            let body = Empty::<Bytes>::new().map_err(|never| -> HttpError { match never {} });
            let request = Request::get("http://host/").body(body)?;
            let request = view.new_incoming_request(Scheme::Http, request)?;
            let response = view.new_response_outparam(sender)?;
            let handler = guest.wasi_http_incoming_handler();
            handler.call_handle(&mut store, request, response).await
        };
        let read = async {
            let response = receiver.await?.map_err(|code| anyhow::anyhow!("{code:?}"))?;
            let body = response.into_body().collect().await;
            anyhow::Ok(body.map_err(|code| anyhow::anyhow!("{code:?}"))?.to_bytes())
        };
        let (ran, body) = if self.step >= Step::Time {
            tokio::join!(timed(run), read)
        } else {
            tokio::join!(run, read)
        };
        ran.map_err(plain)?;
        ensure!(body? == "hello\n", "another answer");
        Ok(())
    }
}

/// Meters the processor time of a guest by the clock around each poll, and its wall time by a timer.
async fn timed(guest: impl Future<Output = wasmtime::Result<()>>) -> wasmtime::Result<()> {
    let (mut guest, mut used) = (pin!(guest), Duration::ZERO);
    let mut deadline = pin!(tokio::time::sleep(Duration::from_secs(30)));
    poll_fn(|context| {
        let start = Instant::now();
        let polled = guest.as_mut().poll(context);
        used += start.elapsed();
        if polled.is_ready() || used > Duration::from_secs(1) {
            return polled;
        }
        deadline.as_mut().poll(context).map(|()| Err(wasmtime::Error::msg("too late")))
    })
    .await
}

fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    limits: StoreLimits,
    hooks: Nowhere,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// No way out: the component sends nothing.
struct Nowhere;

type Finished = Box<dyn Future<Output = Result<(), HttpError>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Finished), HttpError>;

impl WasiHttpHooks for Nowhere {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Finished,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }
}

/// The same component in the program's own sandbox.
async fn whole(folder: &std::path::Path, component: &[u8]) -> Result<Arc<HttpFunction>> {
    let registry = prometheus::Registry::new();
    let store = StoreConfig {
        directory: folder.join("data"),
        keep_versions: 1,
        log_records: 1,
        log_bytes: ByteSize::mib(1),
        bucket_bytes: ByteSize::mib(1),
        secrets_key: None,
    };
    let store = DataFolder::open(store, &registry).await?;
    let services =
        Services { models: Arc::new(NoModels), key_value: store.key_value(), kernels: None };
    let config = SandboxConfig { instances: 16, ..SandboxConfig::new(folder.join("artifacts")) };
    // For the rest of the process, which is the bench.
    let sandbox = Box::leak(Box::new(Sandbox::new(config, services, &registry)?));
    let (content, spec) = (Digest::of(component), FunctionSpec::new(FunctionKind::Http));
    sandbox.compile(&content, component, &spec)?;
    let owner = Owner { tenant: TenantId::default(), function: "guest".parse()? };
    match sandbox.load(&owner, &content, &spec)?.context("it was compiled")? {
        Function::Http(function) => Ok(function),
        Function::Inference(_) => anyhow::bail!("it serves HTTP"),
    }
}

async fn call(function: &Arc<HttpFunction>) -> Result<()> {
    let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().map_err(anyhow::Error::msg)?;
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(30));
    let (tenant, priority, trace) = Default::default();
    let call = Call { id, tenant, deadline, priority, trace, settings: None };
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get("http://host/").body(body)?;
    let response = function.call(call, request, drop).await?;
    ensure!(response.into_body().collect().await?.to_bytes() == "hello\n", "another answer");
    Ok(())
}

/// A node on which no model is deployed.
struct NoModels;

impl ModelCalls for NoModels {
    fn spec(&self, _: &Call, model: &QualifiedName) -> Result<Arc<ModelSpec>, ModelError> {
        Err(ModelError::NotFound { name: model.name.clone() })
    }

    fn infer(&self, call: ModelCall) -> BoxFuture<'static, Result<ModelReply, ModelError>> {
        Box::pin(std::future::ready(Err(ModelError::NotFound { name: call.model.name })))
    }
}
