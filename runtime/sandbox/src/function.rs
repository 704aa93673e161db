//! Functions ready to be called: linked and type-checked once, instantiated for each request.

use std::sync::Arc;

use quern_types::{
    Call, FunctionKind, FunctionSpec, Limits, ModelCalls, QualifiedName, Reuse, Signature,
};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi_http::{handler::ProxyPre, p2, p3};

use crate::{
    busy::Sorter,
    component::{HANDLER, INCOMING_HANDLER},
    contract::ContractPre,
    engine,
    gpu::GpuGranted,
    idle::Shelves,
    imports::Granted,
    instances::Instances,
    memory::MemoryShare,
    metrics::Metrics,
    models::ModelAccess,
    outbound::Client,
    output::Capture,
    report::{Report, Reporter},
    state::State,
    ticker::Activity,
};

/// One version of a function, ready to be called.
pub enum Function {
    /// It serves HTTP.
    Http(Arc<HttpFunction>),
    /// It turns tensors into tensors.
    Inference(Arc<InferenceFunction>),
}

/// A function that serves HTTP.
pub struct HttpFunction {
    pub(crate) instances: Instances<ProxyPre<State>>,
}

/// A function that turns tensors into tensors.
pub struct InferenceFunction {
    pub(crate) instances: Instances<ContractPre<State>>,
    pub(crate) signature: Signature,
}

/// What every invocation of a function is given.
pub(crate) struct Setting {
    pub(crate) limits: Limits,
    /// Instances that the server can have at the same time.
    pub(crate) instances: u32,
    /// Whether they come from a pool.
    pub(crate) pooled: bool,
    pub(crate) reuse: Option<Reuse>,
    pub(crate) shelves: Arc<Shelves>,
    pub(crate) memory: Arc<MemoryShare>,
    pub(crate) granted: Arc<[QualifiedName]>,
    pub(crate) models: Arc<dyn ModelCalls>,
    /// None where nothing is granted.
    pub(crate) gpu: Option<Arc<GpuGranted>>,
    pub(crate) imports: Arc<Granted>,
    pub(crate) outbound: Arc<Client>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) activity: Activity,
    pub(crate) sorter: Arc<Sorter>,
}

impl Function {
    /// Bytes that it takes while it is loaded: the image of its code, which is a mapped file that
    /// the system may drop and read again, and what the engine keeps about it on the heap, which
    /// was measured to be a fifth of the image.
    pub fn memory_bytes(&self) -> u64 {
        let component = match self {
            Self::Http(function) => function.instances.component(),
            Self::Inference(function) => function.instances.component(),
        };
        let image = component.image_range();
        let bytes = (image.end.addr() - image.start.addr()) as u64;
        bytes + bytes / 5
    }

    /// Memory that the instances of all versions of the function have.
    pub fn instances_memory_bytes(&self) -> u64 {
        let setting = match self {
            Self::Http(function) => &function.instances.setting,
            Self::Inference(function) => &function.instances.setting,
        };
        setting.memory.taken_bytes()
    }

    /// Requests that it may run at the same time: its limit, or fewer where their memories and
    /// tables would be more than half of what the pool has, if there is one.
    pub fn concurrency(&self) -> u32 {
        let (component, setting) = match self {
            Self::Http(function) => (function.instances.component(), &function.instances.setting),
            Self::Inference(function) => {
                (function.instances.component(), &function.instances.setting)
            }
        };
        if !setting.pooled {
            return setting.limits.concurrency;
        }
        let needs = component.resources_required();
        setting.limits.concurrency.min(engine::instances_of_one(setting.instances, needs))
    }

    /// Links a component; fails if an import or the export of its kind is missing or of another
    /// type.
    pub(crate) fn link(
        linker: &Linker<State>,
        component: &Component,
        spec: &FunctionSpec,
        setting: Setting,
    ) -> wasmtime::Result<Self> {
        let linked = linker.instantiate_pre(component)?;
        Ok(match &spec.kind {
            FunctionKind::Http => Self::Http(Arc::new(HttpFunction {
                instances: Instances::new(http_entry(linked)?, setting),
            })),
            FunctionKind::Inference(signature) => Self::Inference(Arc::new(InferenceFunction {
                instances: Instances::new(ContractPre::new(linked)?, setting),
                signature: signature.clone(),
            })),
        })
    }
}

/// The export that a component serves HTTP by; of 0.2 if it has both.
fn http_entry(linked: InstancePre<State>) -> wasmtime::Result<ProxyPre<State>> {
    let component = linked.component().component_type();
    let exports =
        |entry: &str| component.exports(linked.engine()).any(|(name, _)| name.starts_with(entry));
    let handler = exports(HANDLER) && !exports(INCOMING_HANDLER);
    Ok(if handler {
        ProxyPre::P3(p3::bindings::ServicePre::new(linked)?)
    } else {
        ProxyPre::P2(p2::bindings::ProxyPre::new(linked)?)
    })
}

impl Setting {
    /// What a call needs to reach models.
    pub(crate) fn models(&self, call: Call) -> ModelAccess {
        let (calls, granted) = (self.models.clone(), self.granted.clone());
        ModelAccess::new(calls, granted, call, self.limits.memory.0)
    }

    /// What reports how a request went, of which `capture` has the output.
    pub(crate) fn reporter(
        &self,
        capture: Capture,
        deliver: impl FnOnce(Report) + Send + 'static,
    ) -> Reporter {
        Reporter::new(capture, self.metrics.clone(), self.activity.begin(), Box::new(deliver))
    }
}
