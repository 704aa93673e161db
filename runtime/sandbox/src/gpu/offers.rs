//! `quern:ml/gpu-offers`: tensors handed from one session to another. It checks how long and for
//! whom; what waits is kept behind `KernelCalls`.

use std::{sync::Arc, time::Duration};

use quern_operators::{KernelCalls, OfferError, Ticket};
use wasmtime::{StoreContextMut, component::Resource};

use super::{
    Answer, GpuView, SessionHandle, TensorHandle, Waiting, contract::GuestError, convert::refusal,
    ended,
};
use crate::state::State;

/// Longest that a tensor waits.
const MOST_MILLISECONDS: u32 = 60_000;

/// What waits under no ticket.
const NOTHING: &str = "no tensor waits under this ticket: it was accepted, its time has passed, or \
                       there never was one";

/// Has a tensor wait for another session; the ticket to take it by.
pub(super) async fn offer(
    mut store: StoreContextMut<'_, State>,
    tensor: Resource<TensorHandle>,
    milliseconds: u32,
) -> Answer<String> {
    if !(1..=MOST_MILLISECONDS).contains(&milliseconds) {
        let problem = format!("an offer of {milliseconds} ms: from 1 to {MOST_MILLISECONDS}");
        return Ok(Err(GuestError::Invalid(problem)));
    }
    let TensorHandle { session, .. } = *store.data_mut().gpu().table.get(&tensor)?;
    while let Some(room) = store.data_mut().gpu_access().room(session, 0) {
        room.await;
    }
    let packing = store.data_mut().gpu().pack(&tensor)?;
    let parcel = match super::linker::waited(packing).await {
        Ok(parcel) => parcel,
        Err(error) => return Ok(Err(error)),
    };
    let lifetime = Duration::from_millis(milliseconds.into());
    let gpu = store.data_mut().gpu();
    Ok(gpu.calls().and_then(|calls| {
        let offered = calls.offer(&gpu.call.tenant, parcel, lifetime);
        offered.map(|ticket| ticket.to_string()).map_err(|error| unoffered(&error))
    }))
}

/// Hands the guest what waits under a ticket, as a tensor of a session.
pub(super) async fn accept(
    mut store: StoreContextMut<'_, State>,
    session: Resource<SessionHandle>,
    ticket: String,
) -> Answer<Resource<TensorHandle>> {
    let number = store.data_mut().gpu().number(&session)?;
    let Ok(ticket) = ticket.parse::<Ticket>() else { return Ok(Err(nothing())) };
    while let Some(room) = store.data_mut().gpu_access().room(number, 0) {
        room.await;
    }
    let mut gpu = store.data_mut().gpu();
    let made = gpu.unpack(number, ticket);
    gpu.hand_out_one(number, made)
}

fn nothing() -> GuestError {
    GuestError::Unknown(NOTHING.into())
}

/// Why a tensor is not offered, for the guest.
fn unoffered(error: &OfferError) -> GuestError {
    let text = error.to_string();
    match error {
        OfferError::Waiting { .. } | OfferError::Budget { .. } | OfferError::Busy { .. } => {
            GuestError::Overloaded(text)
        }
        OfferError::Ticket { .. } => GuestError::Unavailable(text),
    }
}

impl GpuView<'_> {
    fn calls(&self) -> Result<Arc<dyn KernelCalls>, GuestError> {
        let calls = self.access.granted.as_ref().and_then(|granted| granted.calls.clone());
        calls.ok_or_else(|| {
            GuestError::Unavailable("this server has no device for functions".into())
        })
    }

    /// What waits until a tensor can be handed on.
    fn pack(
        &mut self,
        tensor: &Resource<TensorHandle>,
    ) -> wasmtime::Result<Waiting<quern_operators::Parcel>> {
        let TensorHandle { session, id } = *self.table.get(tensor)?;
        let Some(open) = self.access.sessions.get_mut(&session) else { return Ok(Err(ended())) };
        let packed = open.session.pack(id);
        Ok(Ok(Box::pin(async move { packed.await.map_err(|error| refusal(&error)) })))
    }

    /// Takes a tensor into a session that has room for it.
    fn unpack(
        &mut self,
        session: u64,
        ticket: Ticket,
    ) -> Result<quern_operators::TensorId, GuestError> {
        let (calls, call) = (self.calls()?, self.call);
        let tenant = &call.tenant;
        let (tensors, most) = (self.access.tensors, self.access.most_tensors);
        let open = self.access.sessions.get_mut(&session).ok_or_else(ended)?;
        let description = calls.offered(tenant, ticket).ok_or_else(nothing)?;
        open.session.check_room(&description).map_err(|error| refusal(&error))?;
        if tensors >= most {
            return Err(super::too_many_handles(most));
        }
        let parcel = calls.accept(tenant, ticket).ok_or_else(nothing)?;
        open.session.unpack(parcel).map_err(|error| refusal(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nothing_is_offered_has_its_case() {
        let later = [
            OfferError::Waiting { limit: 1 },
            OfferError::Budget { needed: 2, left: 1, limit: 3 },
            OfferError::Busy { device: "cpu:0".into(), needed: 2, left: 1 },
        ];
        for error in later {
            assert!(matches!(unoffered(&error), GuestError::Overloaded(_)), "{error}");
        }
        let never = OfferError::Ticket { reason: "it is broken".into() };
        assert!(matches!(unoffered(&never), GuestError::Unavailable(_)));
    }
}
