//! Functions ready to be called: linked and type-checked once, instantiated for each request.

use std::sync::Arc;

use quern_types::{Call, FunctionKind, FunctionSpec, Limits, ModelCalls, Name, Signature};
use wasmtime::{
    Engine, Store,
    component::{Component, Linker},
};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::{
    contract::ContractPre,
    metrics::Metrics,
    models::ModelAccess,
    output::Capture,
    report::{Report, Reporter},
    state::{self, State},
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
    pub(crate) entry: ProxyPre<State>,
    pub(crate) setting: Setting,
}

/// A function that turns tensors into tensors.
pub struct InferenceFunction {
    pub(crate) entry: ContractPre<State>,
    pub(crate) signature: Signature,
    pub(crate) setting: Setting,
}

/// What every invocation of a function is given.
pub(crate) struct Setting {
    pub(crate) limits: Limits,
    /// Instances that the server can have at the same time.
    pub(crate) instances: u32,
    pub(crate) granted: Arc<[Name]>,
    pub(crate) models: Arc<dyn ModelCalls>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) activity: Activity,
}

impl Function {
    /// Bytes that it takes while it is loaded: the image of its code, which is a mapped file that
    /// the system may drop and read again, and what the engine keeps about it on the heap, which
    /// was measured to be a fifth of the image.
    pub fn memory_bytes(&self) -> u64 {
        let component = match self {
            Self::Http(function) => function.entry.instance_pre().component(),
            Self::Inference(function) => function.entry.instance_pre().component(),
        };
        let image = component.image_range();
        let bytes = (image.end.addr() - image.start.addr()) as u64;
        bytes + bytes / 5
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
            FunctionKind::Http => {
                Self::Http(Arc::new(HttpFunction { entry: ProxyPre::new(linked)?, setting }))
            }
            FunctionKind::Inference(signature) => Self::Inference(Arc::new(InferenceFunction {
                entry: ContractPre::new(linked)?,
                signature: signature.clone(),
                setting,
            })),
        })
    }
}

impl Setting {
    /// A store for one request, and what reports how the request went.
    pub(crate) fn begin(
        &self,
        engine: &Engine,
        call: Call,
        deliver: impl FnOnce(Report) + Send + 'static,
    ) -> (Store<State>, Reporter) {
        let capture = Capture::default();
        let models = ModelAccess {
            calls: self.models.clone(),
            granted: self.granted.clone(),
            call,
            pending: 0,
            input_bytes: self.limits.memory.0,
        };
        let store = state::store(engine, &self.limits, models, &capture);
        let reporter =
            Reporter::new(capture, self.metrics.clone(), self.activity.begin(), Box::new(deliver));
        (store, reporter)
    }
}
