//! `quern:ml/models`: a guest's calls to models of the host. It checks grants and counts calls;
//! what a model does with a call is behind `ModelCalls`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

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
    /// Bytes that the host may still keep for calls that were started.
    pub(crate) room: Arc<AtomicU64>,
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
}

enum CallState {
    Running(JoinHandle<Result<(ModelReply, Kept), GuestError>>),
    Ended(Result<(Vec<GuestTensor>, Kept), GuestError>),
    Taken,
}

/// Bytes that the host keeps for a call that was started: of its inputs until it ends, of its
/// outputs until they are taken.
struct Kept {
    room: Arc<AtomicU64>,
    bytes: u64,
}

impl Kept {
    /// None where there is no room.
    fn new(room: &Arc<AtomicU64>, bytes: u64) -> Option<Self> {
        let less = |room: u64| room.checked_sub(bytes);
        room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        Some(Self { room: room.clone(), bytes })
    }

    /// What is kept instead of this.
    fn replaced(self, bytes: u64) -> Option<Self> {
        let room = self.room.clone();
        drop(self);
        Self::new(&room, bytes)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room.fetch_add(self.bytes, Ordering::Relaxed);
    }
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
            let outcome = task.await;
            let outcome =
                outcome.unwrap_or_else(|_| Err(GuestError::Internal("the call was lost".into())));
            let to_guest = |(reply, kept): (ModelReply, _)| (all_to_guest(&reply.outputs), kept);
            self.state = CallState::Ended(outcome.map(to_guest));
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

    fn start_call(
        &self,
        model: &OpenModel,
        inputs: Vec<GuestTensor>,
    ) -> Result<CallState, GuestError> {
        if self.access.pending >= MAX_PENDING {
            return Err(GuestError::Overloaded(format!(
                "{MAX_PENDING} model calls are under way already: wait for one first"
            )));
        }
        let bytes = inputs.iter().map(|tensor| tensor.data.len() as u64).sum();
        let kept = Kept::new(&self.access.room, bytes).ok_or_else(|| no_room("inputs"))?;
        let inputs = all_to_host(inputs).map_err(GuestError::InvalidInput)?;
        let reply = self.access.calls.infer(self.model_call(model, inputs));
        Ok(CallState::Running(tokio::spawn(async move {
            let reply = reply.await.map_err(|error| model_error_to_guest(&error))?;
            let bytes = reply.outputs.iter().map(|tensor| tensor.data().len() as u64).sum();
            let kept = kept.replaced(bytes).ok_or_else(|| no_room("outputs"))?;
            Ok((reply, kept))
        })))
    }
}

fn no_room(what: &str) -> GuestError {
    GuestError::Overloaded(format!(
        "the {what} of the calls that were started are larger than limits.memory: start fewer, \
         and take their outputs first"
    ))
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
        let state = self.start_call(opened, inputs);
        let state = state.unwrap_or_else(|refused| CallState::Ended(Err(refused)));
        let pending = self.table.push(PendingCall { state })?;
        self.access.pending += 1;
        Ok(pending)
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
            CallState::Ended(outcome) => outcome.map(|(outputs, _)| outputs),
            CallState::Taken | CallState::Running(_) => {
                Err(GuestError::InvalidInput("the outputs of this call were taken before".into()))
            }
        })
    }

    fn drop(&mut self, pending: Resource<PendingCall>) -> wasmtime::Result<()> {
        self.table.delete(pending)?;
        self.access.pending -= 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_started_calls_is_bounded() {
        let room = Arc::new(AtomicU64::new(100));
        let one = Kept::new(&room, 60).expect("there is room for its inputs");
        assert!(Kept::new(&room, 41).is_none());
        let other = Kept::new(&room, 40).expect("there is room for its inputs");
        let one = one.replaced(10).expect("there is room for its outputs");
        assert!(other.replaced(91).is_none());
        assert_eq!(room.load(Ordering::Relaxed), 90);
        drop(one);
        assert_eq!(room.load(Ordering::Relaxed), 100);
    }
}
