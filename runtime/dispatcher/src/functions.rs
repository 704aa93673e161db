//! Functions as everybody calls them: resolves the version, keeps its code ready, admits the
//! request within the function's limits, and runs it.

mod loader;
mod places;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use quern_sandbox::{Function, Report, Sandbox};
use quern_store::{Gone, Store};
use quern_types::{
    Body, ByteSize, Call, Deadline, Exceeded, FunctionKind, FunctionSpec, InvocationId,
    InvokeError, ModelError, Name, Priority, Settings, Span, SpanKind, TenantId, Tensor, Trace,
    Version, VersionNumber,
};
use tokio::sync::Semaphore;

use self::places::{Place, Places};
use crate::{
    aside::aside,
    drain::Work,
    found::function_version,
    logs::{self, Author},
    metrics::{FunctionMetrics, FunctionsMetrics},
    outcomes::{Aftermath, Ending, Outcomes},
    ready::{Ready, Room, VersionKey},
    redaction,
    shadow::{ShadowCollector, ShadowConfig, Shadows},
    statistics::{Answered, ModelStatistics, RunParts, Statistics},
    unloaded::Unloaded,
    warmth::Warmth,
};

/// What functions may take beside what their calls do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionsConfig {
    /// Memory for the code of loaded functions. Where it is short, those that were called least
    /// recently go, and are loaded again when they are called; one that is in use stays.
    pub code_memory: ByteSize,
    /// What copies of requests for shadows may take.
    pub shadow: ShadowConfig,
}

impl Default for FunctionsConfig {
    fn default() -> Self {
        Self { code_memory: ByteSize::mib(1024), shadow: ShadowConfig::default() }
    }
}

/// Reports at a time in which it takes long to look for secrets, each on a thread.
const REDACTIONS: usize = 2;

/// The functions of this node.
pub struct Functions {
    pub(crate) ready: Ready<Loaded, InvokeError>,
    pub(crate) loader: Arc<Loader>,
    pub(crate) warmth: Warmth,
    unloaded: Unloaded,
    /// Of inference functions.
    statistics: Statistics,
    /// Of versions that share traffic.
    pub(crate) outcomes: Outcomes,
    /// Copies of requests.
    pub(crate) shadows: Arc<Shadows>,
    /// Turns of all to look for secrets in much of what guests have printed.
    redactions: Arc<Semaphore>,
}

/// What makes functions ready.
pub(crate) struct Loader {
    pub(crate) store: Arc<Store>,
    pub(crate) sandbox: Arc<Sandbox>,
    metrics: FunctionsMetrics,
    /// Compiling takes a processor for a while: one at a time, beside what serves.
    compiling: Semaphore,
}

/// A version whose code is ready.
pub(crate) struct Loaded {
    function: Function,
    /// For the requests that run at the same time.
    places: Places,
    /// Its turn among those that look for secrets in much of what guests have printed.
    redaction: Arc<Semaphore>,
    metrics: Arc<FunctionMetrics>,
}

/// A request that has been admitted, to be dropped when its guest has ended.
struct Admitted {
    loaded: Arc<Loaded>,
    call: Call,
    author: Author,
    started: Instant,
    /// From its admission to its guest's end.
    span: Span,
    _place: Place,
    _work: Option<Work>,
}

/// What a version takes up.
pub(crate) struct InUse {
    /// Requests under way.
    pub(crate) running: u64,
    /// Requests that may be.
    pub(crate) concurrency: u32,
    /// Memory of the instances of all versions of the function.
    pub(crate) memory_bytes: u64,
}

/// Where a request may run, and for how long.
struct Admission {
    loaded: Arc<Loaded>,
    deadline: Deadline,
    started: Instant,
    place: Place,
    /// What is set for the function.
    settings: Option<Arc<Settings>>,
}

/// A request on its way to a function.
pub(crate) struct Invocation {
    pub(crate) id: InvocationId,
    pub(crate) tenant: TenantId,
    pub(crate) name: Name,
    /// How long the caller waits, if that is shorter than the function's own limit.
    pub(crate) patience: Option<Duration>,
    pub(crate) priority: Priority,
    pub(crate) trace: Trace,
    /// None where nobody waits for it, not even who stops the server.
    pub(crate) work: Option<Work>,
}

impl Functions {
    /// Functions of `store`, run in `sandbox`.
    pub fn new(
        config: FunctionsConfig,
        store: Arc<Store>,
        sandbox: Arc<Sandbox>,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = FunctionsMetrics::register(registry)?;
        let room = Room {
            most_bytes: config.code_memory.0,
            most: files() / 2,
            weigh: |loaded: &Loaded| loaded.function.memory_bytes(),
            loaded: metrics.loaded.clone(),
            loaded_bytes: metrics.loaded_bytes.clone(),
            evictions: metrics.evictions.clone(),
        };
        let shadows = Arc::new(Shadows::new(config.shadow));
        registry.register(Box::new(ShadowCollector::new("function", shadows.clone())?))?;
        let loader = Loader { store, sandbox, metrics, compiling: Semaphore::new(1) };
        Ok(Self {
            ready: Ready::new(room),
            loader: Arc::new(loader),
            warmth: Warmth::default(),
            unloaded: Unloaded::default(),
            statistics: Statistics::default(),
            outcomes: Outcomes::default(),
            shadows,
            redactions: Arc::new(Semaphore::new(REDACTIONS)),
        })
    }

    /// Calls a version of a function that serves HTTP. How its guest ends is told to `aftermath`.
    pub(crate) async fn call_http(
        &self,
        invocation: Invocation,
        version: &Arc<Version<FunctionSpec>>,
        mut request: Request<Body>,
        aftermath: Option<Arc<Aftermath>>,
    ) -> Result<Response<Body>, InvokeError> {
        let admitted = self.admit(invocation, version).await?;
        let loaded = admitted.loaded.clone();
        let Function::Http(function) = &loaded.function else {
            return Err(wrong_kind(&admitted.author.function, &version.spec, "http"));
        };
        let call = admitted.call.clone();
        if let Some(context) = call.trace.context() {
            context.write(request.headers_mut());
        }
        let settings = call.settings.clone();
        let answer = function.call(call, request, self.reporter(admitted, aftermath)).await;
        match answer {
            Ok(response) => Ok(redaction::response(settings, response)),
            Err(error) => Err(redaction::error(settings.as_deref(), error)),
        }
    }

    /// Calls an inference function.
    pub(crate) async fn infer(
        &self,
        invocation: Invocation,
        version: &Arc<Version<FunctionSpec>>,
        inputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, InvokeError> {
        let begun = Instant::now();
        let (tenant, name) = (invocation.tenant.clone(), invocation.name.clone());
        let key = VersionKey { tenant, name, version: version.number };
        let patience = invocation.patience;
        let outcome = match self.readiness(&key) {
            Ok(()) => self.run(invocation, version, inputs).await,
            Err(unloaded) => Err(unloaded.into()),
        };
        let (took, counters) = (begun.elapsed(), self.statistics.of(&key));
        match &outcome {
            Ok(_) => {
                let parts = RunParts { compute: took, ..RunParts::default() };
                counters.succeeded(Answered { rows: 1, took, queued: Duration::ZERO, parts });
                counters.ran(1, parts);
            }
            Err(_) => counters.failed(took),
        }
        outcome.map_err(|error| match (error, patience) {
            // The caller's own time, not the function's limit, if it was the shorter one.
            (InvokeError::Limit(Exceeded::Timeout(limit)), Some(allowed)) if allowed < limit.0 => {
                ModelError::DeadlineExceeded { name: key.name, allowed }.into()
            }
            (error, _) => error,
        })
    }

    async fn run(
        &self,
        invocation: Invocation,
        version: &Arc<Version<FunctionSpec>>,
        inputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, InvokeError> {
        let FunctionKind::Inference(signature) = &version.spec.kind else {
            return Err(wrong_kind(&invocation.name, &version.spec, "inference"));
        };
        let inputs = signature.check_inputs(inputs)?;
        let admitted = self.admit(invocation, version).await?;
        let loaded = admitted.loaded.clone();
        let Function::Inference(function) = &loaded.function else {
            return Err(wrong_kind(&admitted.author.function, &version.spec, "inference"));
        };
        let call = admitted.call.clone();
        let settings = call.settings.clone();
        let answer = function.infer(call, inputs, self.reporter(admitted, None)).await;
        answer.map_err(|error| redaction::error(settings.as_deref(), error))
    }

    /// Finds a version of a function.
    pub(crate) fn resolve(
        &self,
        tenant: &TenantId,
        name: &Name,
        number: Option<VersionNumber>,
    ) -> Result<Arc<Version<FunctionSpec>>, InvokeError> {
        let routes = self.loader.store.catalog().routes();
        let function = routes
            .function(tenant, name)
            .ok_or_else(|| InvokeError::NotFound { name: name.clone() })?;
        function_version(function, name, number)
    }

    /// Forgets what is deleted or was unloaded on request, and what was replaced and is no longer
    /// called.
    pub(crate) fn sweep(&self) {
        // Read for each, so that what was deployed a moment ago is not taken for deleted.
        let routes = || self.loader.store.catalog().routes();
        self.ready.retain(|key, unused| {
            key.is_of_use(routes().function(&key.tenant, &key.name), unused)
                && !self.unloaded.contains(key)
        });
        let is_kept = |key: &VersionKey| key.is_kept(routes().function(&key.tenant, &key.name));
        self.unloaded.retain(is_kept);
        self.statistics.retain(is_kept);
        self.outcomes.retain(is_kept);
        self.shadows.retain(is_kept);
        self.loader.metrics.retain(|tenant, name| routes().function(tenant, name).is_some());
    }

    /// Takes calls of all versions of a function again, and makes the code of one of them ready.
    pub(crate) async fn load(
        &self,
        tenant: &TenantId,
        name: &Name,
        version: &Arc<Version<FunctionSpec>>,
    ) -> Result<(), InvokeError> {
        // First, so that the sweep leaves what is made ready, however long that takes and whoever
        // waits.
        self.unloaded.forget(tenant, name);
        let key = VersionKey::new(tenant, name, version.number);
        let load = || self.loader.clone().load(key.clone(), version.clone());
        self.ready.get(&key, load, || lost(name)).await?;
        Ok(())
    }

    /// Refuses calls of these versions, and drops their code once nobody uses it.
    pub(crate) fn unload(&self, keys: impl IntoIterator<Item = VersionKey>) {
        self.unloaded.note(keys);
        // What is in use at this moment is left to the sweep.
        self.ready.retain(|key, _| !self.unloaded.contains(key));
    }

    /// Whether a version takes calls, and why not.
    pub(crate) fn readiness(&self, key: &VersionKey) -> Result<(), ModelError> {
        match self.unloaded.contains(key) {
            true => Err(ModelError::Unloaded { name: key.name.clone() }),
            false => Ok(()),
        }
    }

    /// Requests that the live version runs at the same time; none while it is not loaded.
    pub(crate) fn concurrency(&self, tenant: &TenantId, name: &Name) -> Option<u32> {
        let version = self.resolve(tenant, name, None).ok()?;
        let loaded = self.ready.loaded(&VersionKey::new(tenant, name, version.number))?;
        Some(loaded.places.most())
    }

    /// What is counted of all functions.
    pub(crate) fn metrics(&self) -> &FunctionsMetrics {
        &self.loader.metrics
    }

    /// What a version takes up at this moment; none while it is not loaded.
    pub(crate) fn in_use(&self, key: &VersionKey) -> Option<InUse> {
        let loaded = self.ready.loaded(key)?;
        Some(InUse {
            running: loaded.places.taken(),
            concurrency: loaded.places.most(),
            memory_bytes: loaded.function.instances_memory_bytes(),
        })
    }

    /// What was counted of a version.
    pub(crate) fn statistics(&self, key: &VersionKey) -> ModelStatistics {
        self.statistics.read(key)
    }

    /// Admits a request at once or refuses it: there is no queue.
    async fn admit(
        &self,
        invocation: Invocation,
        version: &Arc<Version<FunctionSpec>>,
    ) -> Result<Admitted, InvokeError> {
        let mut span = invocation.trace.begin(SpanKind::Internal, "invoke");
        span.note(|| {
            [
                ("quern.tenant", invocation.tenant.as_str().into()),
                ("quern.function", invocation.name.as_str().into()),
                ("quern.version", version.number.get().into()),
                ("quern.invocation", invocation.id.to_string().into()),
            ]
        });
        let admission = self.place(&invocation, version, &span).await;
        span.outcome(&admission);
        let Admission { loaded, deadline, started, place, settings } = admission?;
        let Invocation { id, tenant, name, priority, work, .. } = invocation;
        let trace = span.trace().clone();
        let call = Call { id, tenant: tenant.clone(), deadline, priority, trace, settings };
        let version = version.number;
        let author = Author::new(tenant, name, version, &call);
        Ok(Admitted { loaded, call, author, started, span, _place: place, _work: work })
    }

    /// A place among the requests that the function runs; its code is loaded first, if need be.
    async fn place(
        &self,
        invocation: &Invocation,
        version: &Arc<Version<FunctionSpec>>,
        span: &Span,
    ) -> Result<Admission, InvokeError> {
        let Invocation { tenant, name, patience, priority, .. } = invocation;
        let started = Instant::now();
        let limits = self.loader.sandbox.limits(&version.spec);
        let most = limits.timeout.0;
        let allowed = patience.map_or(most, |patience| patience.min(most));
        let deadline = Deadline::after(started, allowed);
        let key = VersionKey::new(tenant, name, version.number);
        let settings = self.settings(&key)?;
        let waits = span.is_recorded() && self.ready.loaded(&key).is_none();
        let cold = waits.then(|| span.trace().begin(SpanKind::Internal, "load"));
        let load = || self.loader.clone().start_cold(key.clone(), version.clone());
        let load = self.ready.get(&key, load, || lost(&key.name));
        let loaded = tokio::time::timeout_at(deadline.at().into(), load)
            .await
            .map_err(|_| InvokeError::Limit(Exceeded::Timeout(limits.timeout)))??;
        drop(cold);
        let place = loaded.places.take(*priority).inspect_err(|_| loaded.metrics.refused.inc())?;
        Ok(Admission { loaded, deadline, started, place, settings })
    }

    /// What is set for the function of a version, now that it is called.
    fn settings(&self, key: &VersionKey) -> Result<Option<Arc<Settings>>, InvokeError> {
        let VersionKey { tenant, name, version } = key;
        let settings = self.loader.store.catalog().settings_for(tenant, name, *version);
        let settings = settings.map_err(|Gone(version)| InvokeError::VersionNotFound {
            name: name.clone(),
            version,
        })?;
        match settings.as_deref().and_then(Settings::locked) {
            Some(_) => Err(InvokeError::SecretsLocked { name: name.clone() }),
            None => Ok(settings),
        }
    }

    /// What to do when the guest has ended: count, write its log, make room for another.
    fn reporter(
        &self,
        admitted: Admitted,
        aftermath: Option<Arc<Aftermath>>,
    ) -> impl FnOnce(Report) + Send + use<> {
        let (store, turns) = (self.loader.store.clone(), self.redactions.clone());
        let own = admitted.loaded.redaction.clone();
        move |report: Report| {
            if let (Some(aftermath), Some(failure)) = (aftermath, &report.failure) {
                aftermath.ended(Ending::of(&failure.error));
            }
            let took = admitted.started.elapsed();
            let is_long = redaction::is_long(admitted.call.settings.as_deref(), &report);
            let settle = move || {
                // Whole, its place included: a closure takes no more than the fields it names.
                let mut admitted = admitted;
                let report = redaction::report(admitted.call.settings.as_deref(), report);
                describe(&mut admitted.span, &report);
                let metrics = &admitted.loaded.metrics;
                let outcome = match (&report.failure, report.cancelled) {
                    (Some(_), _) => &metrics.failed,
                    (None, true) => &metrics.cancelled,
                    (None, false) => &metrics.ok,
                };
                outcome.inc();
                metrics.seconds.observe(took.as_secs_f64());
                logs::write(store.logs(), admitted.author, report);
            };
            if is_long { aside([own, turns], settle) } else { settle() }
        }
    }
}

/// Takes down in its span how an invocation went.
fn describe(span: &mut Span, report: &Report) {
    span.note(|| {
        [
            ("quern.cpu_us", report.cpu.into()),
            ("quern.memory_bytes", report.memory_bytes.into()),
            ("quern.instance.reused", report.reused.into()),
            ("quern.cancelled", report.cancelled.into()),
        ]
    });
    if let Some(failure) = &report.failure {
        span.fail(&failure.error);
    }
}

/// Files that this process may have open: the code of each loaded function is one.
fn files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn lost(name: &Name) -> InvokeError {
    let reason = "loading it failed in the host".into();
    InvokeError::Unavailable { name: name.clone(), reason }
}

fn wrong_kind(name: &Name, spec: &FunctionSpec, expected: &'static str) -> InvokeError {
    InvokeError::WrongKind { name: name.clone(), actual: spec.kind.as_str(), expected }
}
