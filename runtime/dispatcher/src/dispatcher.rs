//! The one door for requests of every kind.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
use quern_store::Store;
use quern_types::{
    AbsentDevice, Body, Call, Choice, Concern, Deadline, DeviceDescription, FunctionSpec,
    HealthSource, InvocationId, InvokeError, Limits, ModelCall, ModelReply, Name, Picked, Priority,
    Routes, RunTimes, Selector, Served, TenantId, Tensor, Trace, VersionNumber,
};

use crate::{
    Functions, Kernels, Models,
    drain::{Drain, Work},
    found::{Found, choose_function},
    functions::Invocation,
    traffic::still_kept,
};

/// How often what is no longer deployed is unloaded.
const SWEEP: Duration = Duration::from_secs(5);
/// Sweeps between two notes of which functions are in use.
const SWEEPS_PER_NOTE: u32 = 12;

/// Takes every request, and knows what is under way.
pub struct Dispatcher {
    store: Arc<Store>,
    pub(crate) models: Arc<Models>,
    pub(crate) functions: Functions,
    kernels: Arc<Kernels>,
    drain: Drain,
    /// Whether models that are to be warm are still being loaded.
    warming: AtomicBool,
}

/// A request to a function that serves HTTP.
pub struct HttpCall {
    /// Names the request.
    pub id: InvocationId,
    /// What is deployed, as it was when the caller was found to be allowed to call this: what was
    /// let in is what is called, whatever is deployed or shared meanwhile.
    pub routes: Arc<Routes>,
    /// Whose function it is.
    pub tenant: TenantId,
    /// The function.
    pub target: Name,
    /// The version that is asked for; none: what the function's traffic gives it.
    pub selector: Option<Selector>,
    /// Where the request stands in a trace; the guest's headers say where it stands itself.
    pub trace: Trace,
    /// The request.
    pub request: Request<Body>,
}

/// The answer of a function that serves HTTP.
pub struct HttpReply {
    /// The response; its body streams while the guest runs.
    pub response: Response<Body>,
    /// The version that answered.
    pub version: VersionNumber,
}

/// A request for inference.
#[derive(Debug)]
pub struct InferRequest {
    /// Names the request.
    pub id: InvocationId,
    /// What is deployed, as of an HTTP call.
    pub routes: Arc<Routes>,
    /// Whose model or function it is.
    pub tenant: TenantId,
    /// A model or an inference function.
    pub target: Name,
    /// The version that was chosen for it.
    pub picked: Picked,
    /// How long the caller waits, if that is shorter than what the server allows.
    pub timeout: Option<Duration>,
    /// How urgent it is.
    pub priority: Priority,
    /// Where it stands in a trace.
    pub trace: Trace,
    /// The inputs, not yet checked.
    pub inputs: Vec<Tensor>,
}

/// The answer to a request for inference.
#[derive(Debug)]
pub struct InferReply {
    /// The outputs in the signature's order.
    pub outputs: Vec<Tensor>,
    /// The version that answered.
    pub version: VersionNumber,
    /// What served it; none for functions.
    pub served: Option<Served>,
}

impl Dispatcher {
    /// A dispatcher, and the task that keeps its house clean for as long as it lives.
    pub fn new(
        store: Arc<Store>,
        models: Arc<Models>,
        functions: Functions,
        kernels: Arc<Kernels>,
    ) -> Arc<Self> {
        let dispatcher = Arc::new(Self {
            store,
            models,
            functions,
            kernels,
            drain: Drain::default(),
            warming: AtomicBool::new(false),
        });
        tokio::spawn(sweep(Arc::downgrade(&dispatcher)));
        dispatcher
    }

    /// Calls a function that serves HTTP, at the priority among the request's extensions, if one
    /// is there.
    pub async fn call_http(self: &Arc<Self>, call: HttpCall) -> Result<HttpReply, InvokeError> {
        let HttpCall { id, routes, tenant, target: name, selector, trace, request } = call;
        let work = self.admit()?;
        let choice = Choice { selector: selector.as_ref(), headers: request.headers(), id };
        let (version, picked) = choose_function(&routes, &tenant, &name, &choice)?;
        drop(routes);
        let priority: Priority = request.extensions().get().copied().unwrap_or_default();
        let work = Some(work);
        let invocation = Invocation { id, tenant, name, patience: None, priority, trace, work };
        let response = match picked.counted || picked.shadow.is_some() {
            false => self.functions.call_http(invocation, &version, request, None).await?,
            // Boxed, so that the future of every other request stays small.
            true => Box::pin(self.call_shared(invocation, &version, request, picked)).await?,
        };
        Ok(HttpReply { response, version: version.number })
    }

    /// Calls a model or an inference function, whichever has the name.
    pub async fn infer(self: &Arc<Self>, request: InferRequest) -> Result<InferReply, InvokeError> {
        let InferRequest { id, routes, tenant, target, picked, timeout, priority, trace, inputs } =
            request;
        let work = self.admit()?;
        let picked = still_kept(picked, &routes, &tenant, &target);
        let found = Found::find(&routes, &tenant, &target, Some(picked.version))?;
        drop(routes);
        let found = match found {
            Found::Function(_, version) => version,
            Found::Model(_, found) => {
                let allowed = self.models.timeout(&found);
                let allowed = timeout.map_or(allowed, |timeout| timeout.min(allowed));
                let deadline = Deadline::after(Instant::now(), allowed);
                let call = Call { id, tenant, deadline, priority, trace, settings: None };
                let version = Some(found.number);
                let call = ModelCall { call, model: target.into(), version, inputs };
                let ModelReply { outputs, served } =
                    self.models.infer_here(call, found, picked).await?;
                return Ok(InferReply { outputs, version: served.version, served: Some(served) });
            }
        };
        let version = found.number;
        let work = Some(work);
        let (name, patience) = (target, timeout);
        let invocation = Invocation { id, tenant, name, patience, priority, trace, work };
        let outputs = match picked.counted || picked.shadow.is_some() {
            false => self.functions.infer(invocation, &found, inputs).await?,
            true => Box::pin(self.infer_shared(invocation, &found, inputs, picked)).await?,
        };
        Ok(InferReply { outputs, version, served: None })
    }

    /// Everything that is deployed at this moment.
    pub fn routes(&self) -> Arc<Routes> {
        self.store.catalog().routes()
    }

    /// The limits that a function runs within at this moment.
    pub fn limits(&self, spec: &FunctionSpec) -> Limits {
        self.functions.loader.sandbox.limits(spec)
    }

    /// Requests that the live version of a function runs at the same time: its limit, or fewer
    /// where its instances are large parts of the pool. None while it is not loaded.
    pub fn concurrency(&self, tenant: &TenantId, function: &Name) -> Option<u32> {
        self.functions.concurrency(tenant, function)
    }

    /// How long runs of a model's live version have taken; none while it is not loaded.
    pub fn run_times(&self, tenant: &TenantId, model: &Name) -> Vec<RunTimes> {
        self.models.run_times(tenant, model)
    }

    /// The devices that compute models, and tensors of functions.
    pub fn devices(&self) -> Vec<DeviceDescription> {
        let mut devices = self.models.devices();
        for device in &mut devices {
            device.tensors = self.kernels.describe(device.id);
        }
        let known: Vec<_> = devices.iter().map(|device| device.id).collect();
        devices.extend(self.kernels.devices().filter(|device| !known.contains(&device.id)));
        devices
    }

    /// The devices that compute models.
    pub fn model_devices(&self) -> Vec<DeviceDescription> {
        self.models.devices()
    }

    /// Devices that are not there, and why.
    pub fn absent_devices(&self) -> Vec<AbsentDevice> {
        self.kernels.absent().to_vec()
    }

    /// Loads the models that are to be warm, and the functions that were in use before the last
    /// stop, in a task that ends when that is done or the server drains. To be called once requests
    /// are taken.
    pub fn warm(self: &Arc<Self>) {
        let dispatcher = self.clone();
        self.warming.store(self.models.wait_to_be_warm(), Ordering::Relaxed);
        tokio::spawn(async move {
            dispatcher.models.warm(&dispatcher.drain).await;
            dispatcher.warming.store(false, Ordering::Relaxed);
            dispatcher.functions.warm(&dispatcher.drain).await;
        });
    }

    /// Whether models whose manifests ask for it are still being warmed up after the start.
    pub fn is_warming(&self) -> bool {
        self.warming.load(Ordering::Relaxed)
    }

    /// Refuses new work, notes which functions were in use, and waits for what is under way.
    pub async fn drain(&self) {
        let idle = self.drain.wait();
        tokio::join!(idle, self.functions.remember());
    }

    pub(crate) fn admit(&self) -> Result<Work, InvokeError> {
        self.drain.admit().ok_or(InvokeError::ShuttingDown)
    }
}

impl HealthSource for Dispatcher {
    fn codes(&self) -> &'static [&'static str] {
        &["worker-down"]
    }

    fn concerns(&self) -> Vec<Concern> {
        let is_down = |device: &DeviceDescription| {
            device.worker.as_ref().is_some_and(|worker| worker.down.is_some())
        };
        let concern = |device: &DeviceDescription, what: &str| Concern {
            code: "worker-down",
            detail: format!(
                "the process that computes on {} is down and being started again: {what}",
                device.id
            ),
        };
        let models = self.models.devices().into_iter().filter(is_down);
        let models = models.map(|device| concern(&device, "calls of models wait or are lost"));
        let tensors = self.kernels.devices().filter(is_down);
        let tensors = tensors.map(|device| concern(&device, "sessions of functions are lost"));
        models.chain(tensors).collect()
    }
}

async fn sweep(dispatcher: Weak<Dispatcher>) {
    for sweep in 1.. {
        tokio::time::sleep(SWEEP).await;
        let Some(dispatcher) = dispatcher.upgrade() else { return };
        dispatcher.models.sweep();
        dispatcher.functions.sweep();
        let routes = dispatcher.routes();
        let own = |tenant: &TenantId| routes.tenant(tenant);
        dispatcher.kernels.sweep(|tenant| own(tenant).is_some_and(|own| !own.functions.is_empty()));
        if sweep % SWEEPS_PER_NOTE == 0 {
            dispatcher.functions.remember().await;
        }
    }
}

#[cfg(test)]
mod tests;
