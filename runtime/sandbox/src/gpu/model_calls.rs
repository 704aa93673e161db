//! `quern:ml/gpu-models`: models of the host, called with tensors of a session. It lends them to
//! the call and takes in what comes out; the call itself is a guest's like any other.

use bytes::Bytes;
use futures::future::BoxFuture;
use quern_operators::{Description, Dtype, SessionError, Shape, TensorId};
use quern_types::{Signature, Tensor};
use wasmtime::{StoreContextMut, component::Resource};

use super::{
    GpuView, SessionHandle, TensorHandle,
    contract::{GuestCallError, GuestError},
    convert::refusal,
    ended,
};
use crate::{
    contract::GuestError as GuestModelError,
    models::{OpenModel, Reached},
    state::State,
};

/// The outer result is a trap, the inner one the guest's.
type Answer<T> = wasmtime::Result<Result<T, GuestCallError>>;

/// An input on its way to the call.
struct Lent {
    name: String,
    description: Description,
    elements: BoxFuture<'static, Result<Bytes, SessionError>>,
}

/// Calls a model and hands the guest its outputs as tensors of the session.
pub(super) async fn infer(
    mut store: StoreContextMut<'_, State>,
    model: Resource<OpenModel>,
    session: Resource<SessionHandle>,
    inputs: Vec<(String, Resource<TensorHandle>)>,
) -> Answer<Vec<(String, Resource<TensorHandle>)>> {
    let reached = store.data_mut().models().reached(&model)?;
    let number = store.data_mut().gpu().number(&session)?;
    if let Err(refused) = check(reached.signature(), inputs.len()) {
        return Ok(Err(refused));
    }
    while let Some(room) = store.data_mut().gpu_access().room(number, 0) {
        room.await;
    }
    let inputs = store.data_mut().gpu().named(inputs)?;
    let lent = match store.data_mut().gpu().lend(number, inputs) {
        Ok(lent) => lent,
        Err(refused) => return Ok(Err(GuestCallError::Device(refused))),
    };
    match call(reached, lent).await {
        Ok(outputs) => take_in(store, number, outputs).await,
        Err(refused) => Ok(Err(refused)),
    }
}

/// What can be said of a call before anything is lent to it.
fn check(signature: &Signature, inputs: usize) -> Result<(), GuestCallError> {
    let most = signature.inputs().len();
    if inputs > most {
        let problem = format!("{inputs} inputs: the model takes {most}");
        return Err(GuestCallError::Model(GuestModelError::InvalidInput(problem)));
    }
    let elsewhere = |spec: &&quern_types::TensorSpec| Dtype::try_from(spec.dtype).is_err();
    match signature.outputs().iter().find(elsewhere) {
        None => Ok(()),
        Some(spec) => Err(GuestCallError::Device(GuestError::Invalid(format!(
            "output {:?} is {}, which devices have not: call the model by models.infer",
            spec.name, spec.dtype
        )))),
    }
}

/// The outputs of a call, once its inputs are computed.
async fn call(reached: Reached, lent: Vec<Lent>) -> Result<Vec<Tensor>, GuestCallError> {
    let mut inputs = Vec::with_capacity(lent.len());
    for Lent { name, description, elements } in lent {
        let elements = elements.await.map_err(|error| GuestCallError::Device(refusal(&error)))?;
        let Description { dtype, shape } = description;
        let input = Tensor::new(name, dtype.into(), shape.dims().to_vec(), elements);
        inputs.push(input.map_err(|error| {
            GuestCallError::Model(GuestModelError::InvalidInput(error.to_string()))
        })?);
    }
    reached.infer(inputs).await.map_err(GuestCallError::Model)
}

/// Makes tensors of outputs: of all of them, or of none.
async fn take_in(
    mut store: StoreContextMut<'_, State>,
    session: u64,
    outputs: Vec<Tensor>,
) -> Answer<Vec<(String, Resource<TensorHandle>)>> {
    let mut made = Vec::with_capacity(outputs.len());
    for output in &outputs {
        let bytes = output.data().len() as u64;
        while let Some(room) = store.data_mut().gpu_access().room(session, bytes) {
            room.await;
        }
        let mut gpu = store.data_mut().gpu();
        match gpu.take_in(session, output) {
            Ok(id) => made.push(id),
            Err(error) => {
                made.into_iter().for_each(|id| gpu.release(session, id));
                return Ok(Err(GuestCallError::Device(of_output(output, error))));
            }
        }
    }
    let handles = match store.data_mut().gpu().hand_out(session, made)? {
        Ok(handles) => handles,
        Err(error) => return Ok(Err(GuestCallError::Device(error))),
    };
    let names = outputs.iter().map(|output| output.name().to_string());
    Ok(Ok(names.zip(handles).collect()))
}

/// Says of an error which output it is about.
fn of_output(output: &Tensor, mut error: GuestError) -> GuestError {
    let (GuestError::Invalid(text)
    | GuestError::Unknown(text)
    | GuestError::Exhausted(text)
    | GuestError::Overloaded(text)
    | GuestError::Index(text)
    | GuestError::Unavailable(text)) = &mut error;
    *text = format!("output {:?}: {text}", output.name());
    error
}

impl GpuView<'_> {
    /// The tensors behind handles.
    fn named(
        &self,
        inputs: Vec<(String, Resource<TensorHandle>)>,
    ) -> wasmtime::Result<Vec<(String, TensorId)>> {
        inputs.into_iter().map(|(name, tensor)| Ok((name, self.table.get(&tensor)?.id))).collect()
    }

    /// Lends tensors to a call: no more of them together than the session may have memory, however
    /// often the same one is named.
    fn lend(
        &mut self,
        session: u64,
        inputs: Vec<(String, TensorId)>,
    ) -> Result<Vec<Lent>, GuestError> {
        let open = self.access.sessions.get_mut(&session).ok_or_else(ended)?;
        let most = open.bytes;
        let mut left = most;
        let mut lent = Vec::with_capacity(inputs.len());
        for (name, id) in inputs {
            let description = open.session.describe(id).map_err(|error| refusal(&error))?;
            left = left.checked_sub(description.bytes()).ok_or_else(|| {
                let problem = "the inputs together are larger than the session's memory of";
                GuestError::Exhausted(format!("{problem} {most} bytes: give fewer rows"))
            })?;
            let elements = open.session.lend(id);
            lent.push(Lent { name, description, elements });
        }
        Ok(lent)
    }

    fn take_in(&mut self, session: u64, output: &Tensor) -> Result<TensorId, GuestError> {
        let open = self.access.sessions.get_mut(&session).ok_or_else(ended)?;
        let invalid = |problem: String| GuestError::Invalid(problem);
        let dtype = Dtype::try_from(output.dtype()).map_err(|error| invalid(error.to_string()))?;
        let shape = Shape::new(output.shape()).map_err(|error| invalid(error.to_string()))?;
        let made = open.session.upload(Description::new(dtype, shape), output.data());
        made.map_err(|error| refusal(&error))
    }
}
