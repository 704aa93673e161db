//! From a component to a function that can be called: validated, compiled, kept, loaded. It knows
//! what a node has compiled, and nothing of who calls.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use quern_types::{ByteSize, Digest, FunctionSpec, GpuGrant, Limits};
use wasmtime::{
    Engine,
    component::{Component, Linker},
};

use crate::{
    ComponentError, Function, SandboxError, Services,
    artifact::Artifacts,
    busy::BusyThreads,
    component, engine,
    error::text,
    function::Setting,
    gpu::GpuGranted,
    idle::Shelves,
    imports::Granted,
    memory::{MemoryPool, MemoryShare, Owner},
    metrics::Metrics,
    outbound::{Courier, Network, OutboundConfig},
    state::{self, State},
    ticker::Ticker,
};

/// How sandboxes are made.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Folder of the compiled code; made if absent.
    pub artifacts: PathBuf,
    /// Whether instances come from a pool that is reserved once. Where the address space is too
    /// short for it, instances are made on demand.
    pub pooling: bool,
    /// Instances that can exist at the same time.
    pub instances: u32,
    /// Memory of all instances together: linear memories and tables. Each function can have half.
    pub memory: ByteSize,
    /// What no function can exceed, whatever limits it was deployed with. The pool's slots are
    /// made for it.
    pub ceilings: Limits,
    /// Most memory of a device that one function's request can have, whatever it was granted.
    pub gpu_memory: ByteSize,
    /// How functions reach other servers.
    pub outbound: OutboundConfig,
}

impl SandboxConfig {
    /// The defaults, with compiled code in `artifacts`, and as much memory as there is.
    pub fn new(artifacts: PathBuf) -> Self {
        Self {
            artifacts,
            pooling: true,
            instances: 1_000,
            memory: ByteSize(u64::MAX),
            ceilings: Limits::CEILING,
            gpu_memory: GpuGrant::CEILING,
            outbound: OutboundConfig::default(),
        }
    }
}

/// Compiles and runs functions.
pub struct Sandbox {
    engine: Engine,
    linker: Linker<State>,
    artifacts: Artifacts,
    services: Services,
    network: Arc<Network>,
    metrics: Arc<Metrics>,
    ticker: Ticker,
    busy: BusyThreads,
    instances: u32,
    pooled: bool,
    ceilings: Limits,
    gpu_memory: ByteSize,
    shelves: Arc<Shelves>,
    memory: Arc<MemoryPool>,
}

impl Sandbox {
    /// Sets up the engine. Functions reach what is beside them through `services`.
    pub fn new(
        config: SandboxConfig,
        services: Services,
        registry: &prometheus::Registry,
    ) -> Result<Self, SandboxError> {
        let (engine, pooled) = engine::build(&config)?;
        let SandboxConfig { instances, memory, ceilings, gpu_memory, .. } = config;
        let linker = state::linker(&engine).map_err(|error| SandboxError::Engine(text(&error)))?;
        let artifacts = Artifacts::open(config.artifacts.clone(), &engine)
            .map_err(|source| SandboxError::Artifacts { folder: config.artifacts, source })?;
        let network = Arc::new(Network::new(config.outbound, registry)?);
        let busy = BusyThreads::start().map_err(SandboxError::Threads)?;
        let ticker = Ticker::start(&engine).map_err(SandboxError::Threads)?;
        let metrics = Arc::new(Metrics::register(registry)?);
        let shelves = Arc::<Shelves>::default();
        let memory = MemoryPool::new(memory, metrics.memory.clone(), shelves.clone());
        Ok(Self {
            engine,
            linker,
            artifacts,
            services,
            network,
            metrics,
            ticker,
            busy,
            instances,
            pooled,
            ceilings,
            gpu_memory,
            shelves,
            memory,
        })
    }

    /// What sends the requests of the server itself, to where functions may send theirs.
    pub fn courier(&self) -> Arc<dyn quern_types::Courier> {
        Arc::new(Courier::new(self.network.clone()))
    }

    /// The limits that a function runs within: its own, each lowered to the operator's ceiling,
    /// which may be lower now than when it was deployed, and its memory to what one function can
    /// have. Nothing else lowers them.
    pub fn limits(&self, spec: &FunctionSpec) -> Limits {
        let mut limits = spec.limits.capped(&self.ceilings);
        limits.memory = limits.memory.min(ByteSize(self.memory.share_bytes()));
        limits
    }

    /// Checks that `component` is one, exports what its kind needs, and imports nothing that is
    /// unknown or not granted. Heavy: for a thread that may block.
    pub fn validate(&self, component: &[u8], spec: &FunctionSpec) -> Result<(), ComponentError> {
        component::validate(component, spec)
    }

    /// Compiles `component`, whose digest is `content`, and keeps the machine code. Nothing is
    /// done if it is there already. Returns how long it took. Heavy: for a thread that may block.
    pub fn compile(
        &self,
        content: &Digest,
        component: &[u8],
        spec: &FunctionSpec,
    ) -> Result<Duration, ComponentError> {
        let start = Instant::now();
        // For nobody's calls: only whether it can be linked is of interest.
        let setting = || self.setting(spec, Arc::new(MemoryShare::new(self.memory.clone())), None);
        if self.link(content, spec, setting()).is_ok_and(|function| function.is_some()) {
            return Ok(start.elapsed());
        }
        let compile = |error| ComponentError::Compile { reason: text(&error) };
        let code = self.engine.precompile_component(component).map_err(compile)?;
        // The linker has the last word on imports and exports, types included; nothing is kept of
        // a component that could not be instantiated.
        // SAFETY: the engine itself has just made these bytes.
        let compiled = unsafe { Component::deserialize(&self.engine, &code) }.map_err(compile)?;
        Function::link(&self.linker, &compiled, spec, setting())
            .map_err(|error| ComponentError::Invalid { reason: text(&error) })?;
        self.artifacts
            .write(content, &code)
            .map_err(|error| ComponentError::Artifact { reason: error.into() })?;
        let took = start.elapsed();
        self.metrics.compile_seconds.observe(took.as_secs_f64());
        Ok(took)
    }

    /// Makes a version of a function ready from its kept machine code; none if this engine has not
    /// compiled it. It shares its memory with all other versions that are loaded.
    pub fn load(
        &self,
        owner: &Owner,
        content: &Digest,
        spec: &FunctionSpec,
    ) -> Result<Option<Function>, SandboxError> {
        let gpu = spec.grants.gpu.map(|grant| self.gpu(owner, grant));
        self.link(content, spec, self.setting(spec, self.memory.share(owner), gpu))
    }

    fn link(
        &self,
        content: &Digest,
        spec: &FunctionSpec,
        setting: Setting,
    ) -> Result<Option<Function>, SandboxError> {
        let start = Instant::now();
        let read = self.artifacts.read(content).map_err(|source| SandboxError::Artifacts {
            folder: self.artifacts.folder().to_owned(),
            source,
        })?;
        let Some(code) = read else { return Ok(None) };
        let link = |error| SandboxError::Link(text(&error));
        // SAFETY: `read` returns only a file with this node's seal, made by this very engine, and
        // nobody but the server's own user, who could seal anything, can change it.
        let component = unsafe { Component::deserialize_file(&self.engine, code.path()) };
        let component = component.map_err(link)?;
        let function = Function::link(&self.linker, &component, spec, setting);
        self.metrics.load_seconds.observe(start.elapsed().as_secs_f64());
        function.map(Some).map_err(link)
    }

    /// Removes the kept machine code of all components but these: what a crash left behind. Only
    /// for a time at which nothing is compiled.
    pub fn retain(&self, contents: &HashSet<Digest>) -> Result<(), SandboxError> {
        let names: HashSet<String> = contents.iter().map(Digest::hex).collect();
        self.artifacts.retain(|name| names.contains(name)).map_err(|source| {
            SandboxError::Artifacts { folder: self.artifacts.folder().to_owned(), source }
        })
    }

    /// Removes the kept machine code of a component, if there is any.
    pub fn forget(&self, content: &Digest) {
        self.artifacts.remove(content);
    }

    /// What a function may have of devices: what it was granted, lowered as its limits are.
    fn gpu(&self, owner: &Owner, grant: GpuGrant) -> Arc<GpuGranted> {
        Arc::new(GpuGranted {
            calls: self.services.kernels.clone(),
            function: owner.function.clone(),
            grant: GpuGrant { memory: grant.memory.min(self.gpu_memory), ..grant },
        })
    }

    fn setting(
        &self,
        spec: &FunctionSpec,
        memory: Arc<MemoryShare>,
        gpu: Option<Arc<GpuGranted>>,
    ) -> Setting {
        let limits = self.limits(spec);
        Setting {
            limits,
            instances: self.instances,
            pooled: self.pooled,
            reuse: spec.reuse,
            shelves: self.shelves.clone(),
            memory,
            granted: spec.grants.models.clone().into(),
            models: self.services.models.clone(),
            gpu,
            imports: Granted::new(spec, &self.services),
            outbound: self.network.client(&spec.grants.http, &limits),
            metrics: self.metrics.clone(),
            activity: self.ticker.activity(),
            sorter: self.busy.sorter(),
        }
    }
}
