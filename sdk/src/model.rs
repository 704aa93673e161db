//! Calls of models on the host. The host batches the calls of all functions; a function sees its
//! own only.

use std::fmt;

use wasip2::io::poll;

use crate::{
    Error, Tensors,
    bindings::quern::ml::{models, tensors},
    error::from_contract,
};

pub use models::TensorSpec;

/// A model that this function may call.
#[derive(Debug)]
pub struct Model(models::Model);

impl Model {
    /// Opens a model by the name it is deployed under; the manifest must grant it:
    /// `[grants] models = ["…"]`.
    pub fn open(name: &str) -> Result<Self, Error> {
        models::Model::open(name).map(Self).map_err(from_contract)
    }

    pub(crate) fn handle(&self) -> &models::Model {
        &self.0
    }

    /// The tensors it takes, in order.
    pub fn inputs(&self) -> Vec<TensorSpec> {
        self.0.inputs()
    }

    /// The tensors it gives, in order.
    pub fn outputs(&self) -> Vec<TensorSpec> {
        self.0.outputs()
    }

    /// Calls the model and waits for its outputs. Inputs may come in any order.
    pub fn infer(&self, inputs: impl Into<Tensors>) -> Result<Tensors, Error> {
        outcome(self.0.infer(&inputs.into().into_contract()))
    }

    /// Starts a call and returns at once, so that several can be under way.
    pub fn start(&self, inputs: impl Into<Tensors>) -> Pending {
        Pending(self.0.start(&inputs.into().into_contract()))
    }
}

/// A call under way. Dropping it cancels the call.
#[must_use = "dropping a call cancels it"]
pub struct Pending(models::Pending);

impl Pending {
    /// Whether it has ended, so that [`wait`](Self::wait) returns at once.
    pub fn is_ready(&self) -> bool {
        self.0.subscribe().ready()
    }

    /// Waits for the outputs.
    pub fn wait(self) -> Result<Tensors, Error> {
        outcome(self.0.get())
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

/// Waits until one of the calls has ended; its index. None if there are no calls.
pub fn wait_any(calls: &[Pending]) -> Option<usize> {
    if calls.is_empty() {
        return None;
    }
    let pollables: Vec<_> = calls.iter().map(|call| call.0.subscribe()).collect();
    let ready = poll::poll(&pollables.iter().collect::<Vec<_>>());
    ready.first().map(|index| *index as usize)
}

/// Waits for all calls, in their order. The first error cancels those after it.
pub fn wait_all(calls: impl IntoIterator<Item = Pending>) -> Result<Vec<Tensors>, Error> {
    calls.into_iter().map(Pending::wait).collect()
}

fn outcome(result: Result<Vec<tensors::Tensor>, tensors::Error>) -> Result<Tensors, Error> {
    result.map(Tensors::from_contract).map_err(from_contract)
}
