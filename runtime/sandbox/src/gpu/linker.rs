//! Links the functions of `quern:ml/gpu`. Decides nothing: each finds what it is about in the store
//! and hands it on.

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType, WasmList},
};

use super::{
    Answer, SessionHandle, TensorHandle, Waiting,
    contract::{GuestDescription, GuestError, GuestOperator},
    convert::refusal,
    described, ended,
    model_calls::infer,
    offers::{accept, offer},
};
use crate::{models::OpenModel, state::State};

type Session = Resource<SessionHandle>;
type Tensor = Resource<TensorHandle>;

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut gpu = linker.instance("quern:ml/gpu@0.1.0")?;
    gpu.resource("session", ResourceType::host::<SessionHandle>(), |mut store, rep| {
        store.data_mut().gpu().drop_session(Session::new_own(rep))
    })?;
    gpu.resource("tensor", ResourceType::host::<TensorHandle>(), |mut store, rep| {
        store.data_mut().gpu().drop_tensor(Tensor::new_own(rep))
    })?;
    gpu.func_wrap_async("[static]session.open", |store, (memory,): (Option<u64>,)| {
        Box::new(async move { Ok((open(store, memory).await?,)) })
    })?;
    gpu.func_wrap("[method]session.device", |mut store, (session,): (Session,)| {
        Ok((store.data_mut().gpu().device(&session)?,))
    })?;
    gpu.func_wrap_async(
        "[method]session.upload",
        |store, (session, description, elements): (Session, GuestDescription, WasmList<u8>)| {
            Box::new(async move { Ok((upload(store, session, description, elements).await?,)) })
        },
    )?;
    gpu.func_wrap_async(
        "[method]session.run",
        |store, (session, operator, inputs): (Session, GuestOperator, Vec<Tensor>)| {
            Box::new(async move { Ok((run(store, session, operator, inputs).await?,)) })
        },
    )?;
    gpu.func_wrap_async("[method]session.finish", |mut store, (session,): (Session,)| {
        Box::new(async move {
            let waiting = store.data_mut().gpu().finish(&session)?;
            Ok((waited(waiting).await,))
        })
    })?;
    gpu.func_wrap("[method]session.usage", |mut store, (session,): (Session,)| {
        Ok((store.data_mut().gpu().usage(&session)?,))
    })?;
    gpu.func_wrap("[method]tensor.describe", |mut store, (tensor,): (Tensor,)| {
        Ok((store.data_mut().gpu().describe(&tensor)?,))
    })?;
    gpu.func_wrap_async("[method]tensor.read", |mut store, (tensor,): (Tensor,)| {
        Box::new(async move {
            let waiting = store.data_mut().gpu().read(&tensor)?;
            Ok((waited(waiting).await,))
        })
    })?;
    let mut models = linker.instance("quern:ml/gpu-models@0.1.0")?;
    models.func_wrap_async(
        "infer",
        |store, (model, session, inputs): (Resource<OpenModel>, Session, Vec<(String, Tensor)>)| {
            Box::new(async move { Ok((infer(store, model, session, inputs).await?,)) })
        },
    )?;
    let mut offers = linker.instance("quern:ml/gpu-offers@0.1.0")?;
    offers.func_wrap_async("offer", |store, (tensor, milliseconds): (Tensor, u32)| {
        Box::new(async move { Ok((offer(store, tensor, milliseconds).await?,)) })
    })?;
    offers.func_wrap_async("accept", |store, (session, ticket): (Session, String)| {
        Box::new(async move { Ok((accept(store, session, ticket).await?,)) })
    })
}

pub(super) async fn waited<T>(waiting: Waiting<T>) -> Result<T, GuestError> {
    waiting?.await
}

async fn open(mut store: StoreContextMut<'_, State>, memory: Option<u64>) -> Answer<Session> {
    let (calls, request) = match store.data_mut().gpu().begin_open(memory) {
        Ok(begun) => begun,
        Err(refused) => return Ok(Err(refused)),
    };
    let bytes = request.memory_bytes;
    let opened = calls.open(request).await;
    store.data_mut().gpu().end_open(opened, bytes)
}

/// Hands the session the guest's memory itself: what it copies is the only copy.
async fn upload(
    mut store: StoreContextMut<'_, State>,
    session: Session,
    description: GuestDescription,
    elements: WasmList<u8>,
) -> Answer<Tensor> {
    let number = store.data_mut().gpu().number(&session)?;
    let description = match described(description) {
        Ok(description) => description,
        Err(problem) => return Ok(Err(problem)),
    };
    while let Some(room) = store.data_mut().gpu_access().room(number, elements.len() as u64) {
        room.await;
    }
    // The session leaves the store for the moment in which the store's memory is looked at.
    let made = match store.data_mut().gpu_access().sessions.remove(&number) {
        Some(mut open) => {
            let made = open.session.upload(description, elements.as_le_slice(&store));
            store.data_mut().gpu_access().sessions.insert(number, open);
            made.map_err(|error| refusal(&error))
        }
        None => Err(ended()),
    };
    store.data_mut().gpu().hand_out_one(number, made)
}

async fn run(
    mut store: StoreContextMut<'_, State>,
    session: Session,
    operator: GuestOperator,
    inputs: Vec<Tensor>,
) -> Answer<Vec<Tensor>> {
    let number = store.data_mut().gpu().number(&session)?;
    while let Some(room) = store.data_mut().gpu_access().room(number, 0) {
        room.await;
    }
    store.data_mut().gpu().run(number, operator, &inputs)
}
