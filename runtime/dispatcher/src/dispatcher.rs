//! The one door for requests of every kind.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use http::{Request, Response};
use quern_store::Store;
use quern_types::{
    Body, Call, Deadline, DeviceDescription, FunctionSpec, InvocationId, InvokeError, Limits,
    ModelCall, ModelError, Name, Priority, Routes, RunTimes, Served, TenantId, Tensor,
    VersionNumber,
};

use crate::{
    Functions, Models,
    drain::{Drain, Work},
    functions::Invocation,
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
    drain: Drain,
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
    /// Who asks.
    pub tenant: TenantId,
    /// A model or an inference function.
    pub target: Name,
    /// Its version; none: the live one.
    pub version: Option<VersionNumber>,
    /// How long the caller waits, if that is shorter than what the server allows.
    pub timeout: Option<Duration>,
    /// How urgent it is.
    pub priority: Priority,
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
    pub fn new(store: Arc<Store>, models: Arc<Models>, functions: Functions) -> Arc<Self> {
        let dispatcher = Arc::new(Self { store, models, functions, drain: Drain::default() });
        tokio::spawn(sweep(Arc::downgrade(&dispatcher)));
        dispatcher
    }

    /// Calls a function that serves HTTP, at the priority among the request's extensions, if one
    /// is there.
    pub async fn call_http(
        self: &Arc<Self>,
        id: InvocationId,
        tenant: &TenantId,
        name: &Name,
        request: Request<Body>,
    ) -> Result<HttpReply, InvokeError> {
        let work = self.admit()?;
        let priority: Priority = request.extensions().get().copied().unwrap_or_default();
        let (tenant, name) = (tenant.clone(), name.clone());
        let invocation = Invocation { id, tenant, name, patience: None, priority, work };
        let (response, version) = self.functions.call_http(invocation, request).await?;
        Ok(HttpReply { response, version })
    }

    /// Calls a model or an inference function, whichever has the name.
    pub async fn infer(self: &Arc<Self>, request: InferRequest) -> Result<InferReply, InvokeError> {
        let InferRequest { id, tenant, target, version, timeout, priority, inputs } = request;
        let work = self.admit()?;
        let routes = self.routes();
        let allowed =
            routes.model(&tenant, &target).map(|model| self.models.timeout(model, version));
        drop(routes);
        if let Some(allowed) = allowed {
            let allowed = timeout.map_or(allowed, |timeout| timeout.min(allowed));
            let deadline = Deadline::after(Instant::now(), allowed);
            let call = Call { id, tenant, deadline, priority, settings: None };
            let call = ModelCall { call, model: target, version, inputs };
            let reply = self.models.infer_here(call).await?;
            let version = reply.served.version;
            return Ok(InferReply { outputs: reply.outputs, version, served: Some(reply.served) });
        }
        let found = self.functions.resolve(&tenant, &target, version).map_err(|error| {
            match error {
                // Neither a model nor a function: on this way a model is what was asked for.
                InvokeError::NotFound { name } => ModelError::NotFound { name }.into(),
                other => other,
            }
        })?;
        let invocation = Invocation { id, tenant, name: target, patience: timeout, priority, work };
        let outputs = self.functions.infer(invocation, &found, inputs).await?;
        Ok(InferReply { outputs, version: found.number, served: None })
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

    /// The devices that compute models.
    pub fn devices(&self) -> Vec<DeviceDescription> {
        self.models.devices()
    }

    /// Loads the models that are to be warm, and the functions that were in use before the last
    /// stop, in a task that ends when that is done or the server drains. To be called once requests
    /// are taken.
    pub fn warm(self: &Arc<Self>) {
        let dispatcher = self.clone();
        tokio::spawn(async move {
            dispatcher.models.warm(&dispatcher.drain).await;
            dispatcher.functions.warm(&dispatcher.drain).await;
        });
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

async fn sweep(dispatcher: Weak<Dispatcher>) {
    for sweep in 1.. {
        tokio::time::sleep(SWEEP).await;
        let Some(dispatcher) = dispatcher.upgrade() else { return };
        dispatcher.models.sweep();
        dispatcher.functions.sweep();
        if sweep % SWEEPS_PER_NOTE == 0 {
            dispatcher.functions.remember().await;
        }
    }
}
