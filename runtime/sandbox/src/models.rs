//! `quern:ml/models`: a guest's calls to models of the host. It checks grants and counts calls;
//! what a model does with a call is behind `ModelCalls`.

use std::sync::Arc;

use quern_types::{Call, ModelCall, ModelCalls, ModelError, ModelReply, ModelSpec, Name, Tensor};
use tokio::task::JoinHandle;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::contract::{
    GuestError, GuestTensor, GuestTensorSpec, all_to_guest, all_to_host, model_error_to_guest,
    models_import, specs_to_guest,
};

/// Calls that one invocation can have under way.
const MAX_PENDING: usize = 64;

/// What an invocation needs to reach models.
pub(crate) struct ModelAccess {
    pub(crate) calls: Arc<dyn ModelCalls>,
    pub(crate) granted: Arc<[Name]>,
    pub(crate) call: Call,
    pub(crate) pending: usize,
    /// Bytes that the inputs of calls under way may still take up.
    pub(crate) input_bytes: u64,
}

/// Models for one invocation, together with the table that its handles live in.
pub(crate) struct ModelView<'a> {
    pub(crate) access: &'a mut ModelAccess,
    pub(crate) table: &'a mut ResourceTable,
}

/// Names [`ModelView`] for the linker.
pub(crate) struct Models;

impl HasData for Models {
    type Data<'a> = ModelView<'a>;
}

/// A model that a guest has opened.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct OpenModel {
    name: Name,
    spec: Arc<ModelSpec>,
}

/// A call that a guest has started.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct PendingCall {
    state: CallState,
    /// What its inputs count against the budget of its invocation.
    bytes: u64,
}

enum CallState {
    Running(JoinHandle<Result<ModelReply, ModelError>>),
    Ended(Result<Vec<GuestTensor>, GuestError>),
    Taken,
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if let CallState::Running(task) = &self.state {
            task.abort();
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for PendingCall {
    async fn ready(&mut self) {
        if let CallState::Running(task) = &mut self.state {
            let outcome = match task.await {
                Ok(outcome) => outcome_to_guest(outcome),
                Err(_) => Err(GuestError::Internal("the call was lost".into())),
            };
            self.state = CallState::Ended(outcome);
        }
    }
}

impl ModelView<'_> {
    fn model_call(&self, model: &OpenModel, inputs: Vec<Tensor>) -> ModelCall {
        let call = self.access.call.clone();
        ModelCall { call, model: model.name.clone(), version: None, inputs }
    }

    fn find(&self, name: &str) -> Result<OpenModel, GuestError> {
        let granted = self.access.granted.iter().find(|granted| granted.as_str() == name);
        let Some(name) = granted.cloned() else {
            return Err(GuestError::NotFound(format!(
                "model {name:?} is not granted to this function: add it to grants.models in its \
                 manifest"
            )));
        };
        let spec = self.access.calls.spec(&self.access.call.tenant, &name);
        let spec = spec.map_err(|error| model_error_to_guest(&error))?;
        Ok(OpenModel { name, spec })
    }

    fn start_call(&mut self, model: &OpenModel, inputs: Vec<GuestTensor>, bytes: u64) -> CallState {
        let Some(left) = self.access.input_bytes.checked_sub(bytes) else {
            return CallState::Ended(Err(GuestError::Overloaded(
                "the inputs of the calls under way are as large as limits.memory: wait for one \
                 first"
                    .into(),
            )));
        };
        if self.access.pending >= MAX_PENDING {
            return CallState::Ended(Err(GuestError::Overloaded(format!(
                "{MAX_PENDING} model calls are under way already: wait for one first"
            ))));
        }
        match all_to_host(inputs) {
            Ok(inputs) => {
                self.access.input_bytes = left;
                let call = self.model_call(model, inputs);
                CallState::Running(tokio::spawn(self.access.calls.infer(call)))
            }
            Err(reason) => CallState::Ended(Err(GuestError::InvalidInput(reason))),
        }
    }
}

impl models_import::Host for ModelView<'_> {}

impl models_import::HostModel for ModelView<'_> {
    fn open(&mut self, name: String) -> wasmtime::Result<Result<Resource<OpenModel>, GuestError>> {
        Ok(match self.find(&name) {
            Ok(model) => Ok(self.table.push(model)?),
            Err(error) => Err(error),
        })
    }

    fn inputs(&mut self, model: Resource<OpenModel>) -> wasmtime::Result<Vec<GuestTensorSpec>> {
        Ok(specs_to_guest(self.table.get(&model)?.spec.signature.inputs()))
    }

    fn outputs(&mut self, model: Resource<OpenModel>) -> wasmtime::Result<Vec<GuestTensorSpec>> {
        Ok(specs_to_guest(self.table.get(&model)?.spec.signature.outputs()))
    }

    async fn infer(
        &mut self,
        model: Resource<OpenModel>,
        inputs: Vec<GuestTensor>,
    ) -> wasmtime::Result<Result<Vec<GuestTensor>, GuestError>> {
        let inputs = match all_to_host(inputs) {
            Ok(inputs) => inputs,
            Err(reason) => return Ok(Err(GuestError::InvalidInput(reason))),
        };
        let call = self.model_call(self.table.get(&model)?, inputs);
        Ok(outcome_to_guest(self.access.calls.infer(call).await))
    }

    fn start(
        &mut self,
        model: Resource<OpenModel>,
        inputs: Vec<GuestTensor>,
    ) -> wasmtime::Result<Resource<PendingCall>> {
        let opened = self.table.get(&model)?;
        let opened = OpenModel { name: opened.name.clone(), spec: opened.spec.clone() };
        let bytes = inputs.iter().map(|tensor| tensor.data.len() as u64).sum();
        let state = self.start_call(&opened, inputs, bytes);
        let bytes = if matches!(state, CallState::Running(_)) { bytes } else { 0 };
        self.access.pending += 1;
        Ok(self.table.push(PendingCall { state, bytes })?)
    }

    fn drop(&mut self, model: Resource<OpenModel>) -> wasmtime::Result<()> {
        self.table.delete(model)?;
        Ok(())
    }
}

impl models_import::HostPending for ModelView<'_> {
    fn subscribe(
        &mut self,
        pending: Resource<PendingCall>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, pending)
    }

    async fn get(
        &mut self,
        pending: Resource<PendingCall>,
    ) -> wasmtime::Result<Result<Vec<GuestTensor>, GuestError>> {
        let call = self.table.get_mut(&pending)?;
        call.ready().await;
        Ok(match std::mem::replace(&mut call.state, CallState::Taken) {
            CallState::Ended(outcome) => outcome,
            CallState::Taken | CallState::Running(_) => {
                Err(GuestError::InvalidInput("the outputs of this call were taken before".into()))
            }
        })
    }

    fn drop(&mut self, pending: Resource<PendingCall>) -> wasmtime::Result<()> {
        let call = self.table.delete(pending)?;
        self.access.pending -= 1;
        self.access.input_bytes += call.bytes;
        Ok(())
    }
}

fn outcome_to_guest(
    outcome: Result<ModelReply, ModelError>,
) -> Result<Vec<GuestTensor>, GuestError> {
    match outcome {
        Ok(reply) => Ok(all_to_guest(&reply.outputs)),
        Err(error) => Err(model_error_to_guest(&error)),
    }
}
