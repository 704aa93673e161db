//! Builds a server from its parts, in the one order that their dependencies allow. Never serves.

use std::{collections::HashSet, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use prometheus::{Registry, process_collector::ProcessCollector};
use quern_deploy::{DeployConfig, DeployServices, Deployer};
use quern_dispatcher::{Dispatcher, Functions, FunctionsConfig, Kernels, Models, ModelsConfig};
use quern_gateway::{Gateway, GatewayConfig, GatewayServices};
use quern_host_gpu::{
    Cpu, CpuConfig, RemoteDevice, TensorConfig, TensorDevice, Worker, WorkerConfig, WorkerProgram,
};
use quern_jobs::Jobs;
use quern_sandbox::{Sandbox, SandboxConfig, Services};
use quern_scoring::Scoring;
use quern_store::{Store, StoreConfig};
use quern_telemetry::Exporter;
use quern_types::{Courier, Device, Digest, HealthSource, Tracer};

use crate::{
    config::{Config, Devices, ModelProcess, Models as ModelOptions, Options, Tracing},
    gpus::{self, Gpus},
    secrets_key,
};

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What has to be served, drained, closed and stopped.
pub(crate) struct Parts {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) deployer: Arc<Deployer>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) jobs: Arc<Jobs>,
    /// What sends messages for the jobs.
    pub(crate) courier: Arc<dyn Courier>,
    pub(crate) scoring: Arc<Scoring>,
    pub(crate) store: Arc<Store>,
    /// The metrics of all.
    pub(crate) registry: Registry,
    /// The process that computes models, if it is not this one.
    pub(crate) worker: Option<Arc<Worker>>,
    /// The processes that compute on GPUs.
    pub(crate) gpus: Vec<RemoteDevice>,
    /// What sends traces, if anything does.
    pub(crate) exporter: Option<Arc<Exporter>>,
}

/// What a server needs that does not concern its data folder.
pub(crate) struct Prepared {
    config: Config,
    registry: Registry,
    device: Arc<dyn Device>,
    worker: Option<Arc<Worker>>,
    gpus: Gpus,
}

/// Makes what can be made while another server has the data folder.
pub(crate) async fn prepare(config: Config) -> Result<Prepared> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let Options { models, devices, .. } = &config.options;
    let gpus = gpus::start(devices, TENSORS, worker_program(), &registry);
    let ((device, worker), gpus) = tokio::try_join!(device(models, &registry), gpus)?;
    Ok(Prepared { config, registry, device, worker, gpus })
}

/// Builds a server. The model side of the dispatcher comes first: sandboxes call it.
pub(crate) async fn build(prepared: Prepared) -> Result<Parts> {
    let Prepared { config, registry, device, worker, gpus } = prepared;
    let Gpus { devices: gpus, processes, absent } = gpus;
    let Config { options, limits } = config;
    let mut store = store_config(&options.server.data, &options);
    store.secrets_key = secrets_key::find(options.secrets.key_file.as_deref())?.map(Arc::new);
    let (exporter, tracer) = traces(&options.tracing, &registry)?.unzip();
    let Options {
        server,
        http,
        tenants,
        shared_memory,
        sandbox,
        outbound,
        models,
        devices,
        traffic,
        deploy,
        ..
    } = options;
    let shadow = traffic.shadow();
    let background = options.background.config(&options.webhooks);
    let mut batches = options.batches.config(server.data.join("batches"));
    batches.reader.environment.push((LAZY_MEMORY.0.into(), LAZY_MEMORY.1.into()));

    let store = Store::open(store, &registry)
        .await
        .with_context(|| format!("can't open the data folder {}", server.data.display()))?;
    let store = Arc::new(store);

    let max_batch = models.max_batch.0;
    let limits_of_models = ModelsConfig { shadow, ..models.limits() };
    let models = Models::new(limits_of_models, Arc::clone(&store), device.clone(), &registry)?;
    let models = Arc::new(models);
    let kernels = Arc::new(kernels(&devices, gpus, &registry)?.without(absent));
    let functions = FunctionsConfig { shadow, ..sandbox.functions() };
    let sandbox = SandboxConfig {
        artifacts: server.data.join("artifacts"),
        pooling: sandbox.pooling,
        instances: sandbox.instances.0,
        memory: sandbox.memory(),
        ceilings: limits.ceilings,
        gpu_memory: limits.gpu_memory,
        outbound: outbound.config(),
    };
    let services = Services {
        models: models.clone(),
        key_value: store.key_value(),
        kernels: Some(kernels.clone()),
    };
    let sandbox = Arc::new(Sandbox::new(sandbox, services, &registry)?);
    sandbox.retain(&deployed_components(&store))?;
    let courier = sandbox.courier();
    let functions = Functions::new(functions, Arc::clone(&store), Arc::clone(&sandbox), &registry)?;
    let dispatcher = Dispatcher::new(Arc::clone(&store), Arc::clone(&models), functions, kernels);

    let deploy =
        DeployConfig { max_upload: deploy.max_upload.0, default_max_batch: max_batch, limits };
    let services = DeployServices {
        store: Arc::clone(&store),
        sandbox,
        device,
        offers: models,
        outcomes: dispatcher.clone(),
    };
    let deployer = Arc::new(Deployer::new(deploy, services, &registry)?);
    let scoring =
        Scoring::open(batches, Arc::clone(&dispatcher), tracer.clone(), &registry).await?;
    let gateway = GatewayConfig {
        limits: http.limits(),
        authenticate: server.authenticate,
        callers: tenants.limits(),
        shared_memory: shared_memory.config(),
        callers_are_owners: server.is_private(),
        tracer,
        version: VERSION,
    };
    let jobs = Jobs::new(Arc::clone(&store), background, &registry)?;
    let services = GatewayServices {
        deployer: Arc::clone(&deployer),
        dispatcher: Arc::clone(&dispatcher),
        scoring: Arc::clone(&scoring),
        jobs: Arc::clone(&jobs),
    };
    let mut health: Vec<Arc<dyn HealthSource>> = vec![store.clone(), dispatcher.clone()];
    health.extend(exporter.clone().map(|exporter| -> Arc<dyn HealthSource> { exporter }));
    let gateway = Gateway::new(gateway, services, registry.clone())?.with_health(health)?;
    let gateway = Arc::new(gateway);
    Ok(Parts {
        gateway,
        deployer,
        dispatcher,
        scoring,
        jobs,
        courier,
        store,
        registry,
        worker,
        gpus: processes,
        exporter,
    })
}

/// What sends traces, and what begins them; nothing where no collector is given.
fn traces(options: &Tracing, registry: &Registry) -> Result<Option<(Arc<Exporter>, Arc<Tracer>)>> {
    let variable = |name: &str| std::env::var(name).ok();
    let Some(export) = options.export(VERSION, variable)? else { return Ok(None) };
    let sampler = options.sampler()?;
    tracing::info!(collector = %export.endpoint, %sampler, "recording traces");
    let exporter = Arc::new(Exporter::start(export, registry)?);
    let tracer = Arc::new(Tracer::new(sampler, exporter.spans()));
    Ok(Some((exporter, tracer)))
}

/// What a data folder is opened with, but for the key of its secrets.
pub(crate) fn store_config(directory: &Path, options: &Options) -> StoreConfig {
    let Options { deploy, logs, keyvalue, .. } = options;
    StoreConfig {
        directory: directory.to_owned(),
        keep_versions: deploy.keep_versions.0,
        log_records: logs.keep_records.0,
        log_bytes: logs.keep_bytes.0,
        bucket_bytes: keyvalue.bucket_size.0,
        secrets_key: None,
    }
}

/// Tells this program's allocator not to claim a gigabyte at its start, which counts against a
/// limit from then on.
const LAZY_MEMORY: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");

/// The device that computes models, in this process or in one of its own.
async fn device(
    models: &ModelOptions,
    registry: &Registry,
) -> Result<(Arc<dyn Device>, Option<Arc<Worker>>)> {
    let (lanes, ort_library) = (models.lanes()?, models.ort_library.clone());
    if models.process == ModelProcess::InProcess {
        return Ok((Arc::new(Cpu::new(CpuConfig { lanes, ort_library }, registry)?), None));
    }
    let worker = WorkerConfig {
        program: WorkerProgram {
            environment: match models.worker_memory {
                Some(_) => vec![(LAZY_MEMORY.0.into(), LAZY_MEMORY.1.into())],
                None => vec![],
            },
            ..worker_program()
        },
        lanes,
        ort_library,
        memory_bytes: models.worker_memory.map(|memory| memory.0.0),
        run_limit: models.worker_run_timeout.0.0,
        load_limit: models.worker_load_timeout.0.0,
    };
    let worker = Arc::new(Worker::start(worker, registry).await?);
    Ok((worker.clone(), Some(worker)))
}

/// What computes in a process of its own.
fn worker_program() -> WorkerProgram {
    WorkerProgram {
        // This very program, also if there is another one by now where it was started from.
        path: "/proc/self/exe".into(),
        arguments: vec!["device-worker".into()],
        environment: vec![],
    }
}

/// Operations of one operator on the CPU: about half a second of one core.
const CPU_WORK: u64 = 1 << 36;

/// Tensors that a function has at a time.
const TENSORS: usize = 1 << 16;

/// The devices that compute tensors of functions.
fn kernels(devices: &Devices, gpus: Vec<TensorDevice>, registry: &Registry) -> Result<Kernels> {
    let (lanes, threads) = devices.cpu()?;
    let config = TensorConfig { lanes, work: CPU_WORK, tensors: TENSORS, on_the_spot: true };
    let cpu = TensorDevice::cpu(threads, config)?;
    let all = gpus.into_iter().chain([cpu]).collect();
    Ok(Kernels::new(devices.limits(), all, registry)?)
}

/// The components of all kept versions of all functions.
fn deployed_components(store: &Store) -> HashSet<Digest> {
    let routes = store.catalog().routes();
    let functions = routes.tenants().flat_map(|(_, tenant)| tenant.functions.values());
    functions.flat_map(|function| function.versions()).map(|version| version.content).collect()
}
