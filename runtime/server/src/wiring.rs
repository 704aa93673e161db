//! Builds a server from its parts, in the one order that their dependencies allow. Never serves.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use prometheus::{Registry, process_collector::ProcessCollector};
use quern_deploy::{DeployConfig, Deployer};
use quern_dispatcher::{Dispatcher, Functions, FunctionsConfig, Models, ModelsConfig};
use quern_gateway::{Gateway, GatewayConfig};
use quern_host_gpu::{Cpu, CpuConfig};
use quern_sandbox::{Sandbox, SandboxConfig};
use quern_store::{Store, StoreConfig};
use quern_types::{ByteSize, Digest};

/// Most rows in one run of a model whose manifest does not say.
const DEFAULT_MAX_BATCH: u32 = 64;
/// Largest JSON body of an inference request.
const MAX_JSON_BODY: ByteSize = ByteSize::mib(64);

/// What a server is configured by, all of it checked.
#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    pub(crate) data: PathBuf,
    pub(crate) keep_versions: u32,
    pub(crate) keep_logs: u32,
    pub(crate) max_upload: ByteSize,
    pub(crate) lanes: usize,
    pub(crate) ort_library: Option<PathBuf>,
    pub(crate) functions: FunctionsConfig,
    /// Whether only the owner of what is deployed can reach the server.
    pub(crate) callers_are_owners: bool,
}

/// What has to be served, drained and closed.
pub(crate) struct Server {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) deployer: Arc<Deployer>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) store: Arc<Store>,
}

/// Builds a server. The model side of the dispatcher comes first: sandboxes call it.
pub(crate) async fn build(config: ServerConfig) -> Result<Server> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let ServerConfig {
        data,
        keep_versions,
        keep_logs,
        max_upload,
        lanes,
        ort_library,
        functions,
        callers_are_owners,
    } = config;

    let store = StoreConfig { directory: data.clone(), keep_versions, log_records: keep_logs };
    let store = Store::open(store, &registry)
        .await
        .with_context(|| format!("can't open the data folder {}", data.display()))?;
    let store = Arc::new(store);
    let device = Arc::new(Cpu::new(CpuConfig { lanes, ort_library }, &registry)?);

    let limits = ModelsConfig::default();
    let models = Models::new(limits, Arc::clone(&store), device.clone(), &registry)?;
    let models = Arc::new(models);
    let sandbox = SandboxConfig::new(data.join("artifacts"));
    let sandbox = Arc::new(Sandbox::new(sandbox, models.clone(), &registry)?);
    sandbox.retain(&deployed_components(&store))?;
    let functions = Functions::new(functions, Arc::clone(&store), Arc::clone(&sandbox), &registry)?;
    let dispatcher = Dispatcher::new(Arc::clone(&store), models, functions);

    let deploy = DeployConfig { max_upload, default_max_batch: DEFAULT_MAX_BATCH };
    let deployer = Deployer::new(deploy, Arc::clone(&store), sandbox, device, &registry)?;
    let deployer = Arc::new(deployer);
    let gateway = GatewayConfig {
        max_json_body: MAX_JSON_BODY,
        callers_are_owners,
        version: env!("CARGO_PKG_VERSION"),
    };
    let gateway = Gateway::new(gateway, Arc::clone(&deployer), Arc::clone(&dispatcher), registry)?;
    Ok(Server { gateway: Arc::new(gateway), deployer, dispatcher, store })
}

/// The components of all kept versions of all functions.
fn deployed_components(store: &Store) -> HashSet<Digest> {
    let routes = store.catalog().routes();
    let functions = routes.tenants().flat_map(|(_, tenant)| tenant.functions.values());
    functions.flat_map(|function| function.versions()).map(|version| version.content).collect()
}
