//! What functions may import beside the standard and `quern:ml`: configuration, buckets, the log,
//! and `wasi:nn`. All of it is always linked; without a grant it is inert.

mod config;
mod keyvalue;
mod logging;
mod nn;

use std::{collections::BTreeMap, sync::Arc};

use quern_operators::KernelCalls;
use quern_types::{FunctionSpec, KeyValue, ModelCalls, Name};
use wasmtime::component::Linker;

pub(crate) use self::{config::ConfigView, keyvalue::BucketView, nn::NetworkView};
use crate::state::State;

/// What functions reach on the host through their imports.
#[derive(Clone)]
pub struct Services {
    /// Models of this node.
    pub models: Arc<dyn ModelCalls>,
    /// The pairs of keys and values that functions keep.
    pub key_value: Arc<dyn KeyValue>,
    /// Devices that compute what functions ask for, if there are any.
    pub kernels: Option<Arc<dyn KernelCalls>>,
}

/// What one version of a function may reach, made once and shared by its requests.
pub(crate) struct Granted {
    /// What the manifest configures, before anything is set for the function.
    config: BTreeMap<String, String>,
    buckets: Vec<Name>,
    key_value: Arc<dyn KeyValue>,
}

impl Granted {
    pub(crate) fn new(spec: &FunctionSpec, services: &Services) -> Arc<Self> {
        Arc::new(Self {
            config: spec.config.clone(),
            buckets: spec.grants.keyvalue.clone(),
            key_value: services.key_value.clone(),
        })
    }
}

/// The imports that this adds, with their exact versions: they are drafts, of which no other
/// version is compatible.
pub(crate) const NAMES: [&str; 12] = [
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft2",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:logging/logging@0.1.0-draft",
    "wasi:nn/errors@0.2.0-rc-2024-10-28",
    "wasi:nn/graph@0.2.0-rc-2024-10-28",
    "wasi:nn/inference@0.2.0-rc-2024-10-28",
    "wasi:nn/tensor@0.2.0-rc-2024-10-28",
];

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    config::add_to_linker(linker)?;
    keyvalue::add_to_linker(linker)?;
    logging::add_to_linker(linker)?;
    nn::add_to_linker(linker)
}
