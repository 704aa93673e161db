//! `quern:ml/models`: a guest's calls to models of the host. It checks grants and counts calls;
//! what a model does with a call is behind `ModelCalls`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quern_types::{
    Call, ModelCall, ModelCalls, ModelError, ModelReply, ModelSpec, QualifiedName, Signature,
    Tensor,
};
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
    pub(crate) granted: Arc<[QualifiedName]>,
    pub(crate) call: Call,
    pub(crate) pending: usize,
    room: Arc<Room>,
}

/// Bytes that the host may keep for calls that were started.
struct Room {
    most: u64,
    left: AtomicU64,
}

impl ModelAccess {
    /// Access to these models, whose started calls may keep so many bytes.
    pub(crate) fn new(
        calls: Arc<dyn ModelCalls>,
        granted: Arc<[QualifiedName]>,
        call: Call,
        room_bytes: u64,
    ) -> Self {
        let room = Room { most: room_bytes, left: AtomicU64::new(room_bytes) };
        Self { calls, granted, call, pending: 0, room: Arc::new(room) }
    }

    /// Whether no call is under way and nothing is kept of one: what was cancelled may end a little
    /// later.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pending == 0 && self.room.left.load(Ordering::Relaxed) == self.room.most
    }
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
    name: QualifiedName,
    spec: Arc<ModelSpec>,
}

/// A model that is about to be called.
pub(crate) struct Reached {
    calls: Arc<dyn ModelCalls>,
    /// The call, without its inputs.
    call: ModelCall,
    spec: Arc<ModelSpec>,
}

impl Reached {
    /// What it takes and gives, when it was opened.
    pub(crate) fn signature(&self) -> &Signature {
        &self.spec.signature
    }

    /// Calls it, as if the guest had given the inputs.
    pub(crate) async fn infer(self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, GuestError> {
        let reply = self.calls.infer(ModelCall { inputs, ..self.call }).await;
        Ok(reply.map_err(|error| model_error_to_guest(&error))?.outputs)
    }
}

/// A call that a guest has started.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct PendingCall {
    state: CallState,
}

enum CallState {
    Running(JoinHandle<CallOutcome>),
    Ended(CallOutcome),
    Taken,
}

type CallOutcome = Result<(Vec<GuestTensor>, Kept), GuestError>;

/// Bytes that the host keeps for a call that was started: of its inputs until it ends, of its
/// outputs until they are taken.
struct Kept {
    room: Arc<Room>,
    bytes: u64,
}

impl Kept {
    /// None where there is no room.
    fn new(room: &Arc<Room>, bytes: u64) -> Option<Self> {
        room.take(bytes).then(|| Self { room: room.clone(), bytes })
    }

    /// What is kept instead of this; none where there is no room for more. There always is for less.
    fn replaced(mut self, bytes: u64) -> Option<Self> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.room.take(more).then_some(())?,
            None => self.room.give_back(self.bytes - bytes),
        }
        self.bytes = bytes;
        Some(self)
    }
}

impl Room {
    fn take(&self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
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
            self.state = CallState::Ended(outcome);
        }
    }
}

impl ModelView<'_> {
    fn model_call(&self, model: &OpenModel, inputs: Vec<Tensor>) -> ModelCall {
        let call = self.access.call.clone();
        ModelCall { call, model: model.name.clone(), version: None, inputs }
    }

    /// What it takes to call a model that the guest has opened, which may be done while its other
    /// handles are used.
    pub(crate) fn reached(&self, model: &Resource<OpenModel>) -> wasmtime::Result<Reached> {
        let opened = self.table.get(model)?;
        let calls = self.access.calls.clone();
        Ok(Reached { calls, call: self.model_call(opened, Vec::new()), spec: opened.spec.clone() })
    }

    fn find(&self, name: &str) -> Result<OpenModel, GuestError> {
        let granted = self.access.granted.iter().find(|granted| granted.is(name));
        let Some(name) = granted.cloned() else {
            return Err(GuestError::NotFound(format!(
                "model {name:?} is not granted to this function: add it to grants.models in its \
                 manifest"
            )));
        };
        let spec = self.access.calls.spec(&self.access.call, &name);
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
            ended(reply.outputs, kept)
        })))
    }
}

/// What is kept of a call that has ended: a copy, for the outputs may be a part of what a whole batch
/// was answered with.
fn ended(outputs: Vec<Tensor>, kept: Kept) -> CallOutcome {
    let bytes = outputs.iter().map(|tensor| tensor.data().len() as u64).sum();
    let kept = kept.replaced(bytes).ok_or_else(|| no_room("outputs"))?;
    Ok((all_to_guest(&outputs), kept))
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
    use bytes::Bytes;
    use quern_types::DataType;

    use super::*;

    #[tokio::test]
    async fn the_outputs_of_an_ended_call_hold_no_batch() {
        /// What a whole batch was answered with.
        struct Batch(#[expect(dead_code, reason = "what counts is that it is held")] Arc<()>);

        impl AsRef<[u8]> for Batch {
            fn as_ref(&self) -> &[u8] {
                &[7; 4]
            }
        }

        let held = Arc::new(());
        let batch = Bytes::from_owner(Batch(held.clone()));
        let output = Tensor::new("y", DataType::Uint8, vec![1], batch.slice(1..2));
        drop(batch);
        let room = Arc::new(Room { most: 10, left: AtomicU64::new(10) });
        let kept = Kept::new(&room, 3).expect("there is room for its inputs");
        let outputs = vec![output.expect("a tensor")];
        let (outputs, _kept) = ended(outputs, kept).expect("there is room");
        assert_eq!(outputs[0].data, [7]);
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(room.left.load(Ordering::Relaxed), 9);
    }

    #[test]
    fn what_is_kept_of_started_calls_is_bounded() {
        let room = Arc::new(Room { most: 100, left: AtomicU64::new(100) });
        let one = Kept::new(&room, 60).expect("there is room for its inputs");
        assert!(Kept::new(&room, 41).is_none());
        let other = Kept::new(&room, 40).expect("there is room for its inputs");
        let one = one.replaced(10).expect("there is room for its outputs");
        assert!(other.replaced(91).is_none());
        assert_eq!(room.left.load(Ordering::Relaxed), 90);
        let one = one.replaced(100).expect("there is room for more");
        assert!(Kept::new(&room, 1).is_none());
        drop(one);
        assert_eq!(room.left.load(Ordering::Relaxed), 100);
    }
}
