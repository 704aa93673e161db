//! `quern:ml/gpu`: a guest's sessions on devices of the host, and their tensors. It checks the
//! grant and keeps the handles; what fits and what is computed is behind `KernelCalls`.
//!
//! A session belongs to one request: an instance that still has one serves no other. Whatever ends
//! the guest drops its sessions, which frees what they have.

mod contract;
mod convert;
mod linker;
mod model_calls;
mod offers;
mod operators;

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use quern_operators::{
    Description, KernelCalls, KernelSession, Operator, SessionRequest, TensorId,
};
use quern_types::{ByteSize, Call, GpuGrant, Limits, Name};
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};

pub(crate) use self::linker::add_to_linker;
use self::{
    contract::{GuestDescription, GuestError, GuestOperator, GuestUsage},
    convert::{description_to_guest, description_to_host, open_error, refusal},
    operators::operator_to_host,
};

/// Sessions that one request has at a time.
const MAX_SESSIONS: usize = 8;

/// Inputs of one operator: as many as any takes.
const MAX_INPUTS: usize = 1_024;

/// What one version of a function may have of devices.
pub(crate) struct GpuGranted {
    /// None on a node that computes nothing for functions.
    pub(crate) calls: Option<Arc<dyn KernelCalls>>,
    /// The function, for those who look at the device.
    pub(crate) function: Name,
    /// What its manifest asks for, lowered to what the operator allows.
    pub(crate) grant: GpuGrant,
}

/// What one instance has on devices.
pub(crate) struct GpuAccess {
    granted: Option<Arc<GpuGranted>>,
    left_bytes: u64,
    /// By their numbers, which are never used again: a handle of a session that has ended leads
    /// nowhere.
    sessions: BTreeMap<u64, Open>,
    next: u64,
    /// Tensors that the guest holds.
    tensors: usize,
    /// How many it may hold.
    most_tensors: usize,
    /// No tensor that is larger is read: the guest could not hold it.
    largest_read: ByteSize,
}

/// A session, and what it has of the grant.
struct Open {
    session: Box<dyn KernelSession>,
    bytes: u64,
}

/// What a guest holds of a session.
pub(crate) struct SessionHandle {
    number: u64,
}

/// What a guest holds of a tensor.
#[derive(Clone, Copy)]
pub(crate) struct TensorHandle {
    session: u64,
    id: TensorId,
}

/// The outer result is a trap, the inner one the guest's.
type Answer<T> = wasmtime::Result<Result<T, GuestError>>;

impl GpuAccess {
    /// Access by this grant, for a guest with these limits.
    pub(crate) fn new(granted: Option<Arc<GpuGranted>>, limits: &Limits) -> Self {
        let left_bytes = granted.as_ref().map_or(0, |granted| granted.grant.memory.0);
        // An eighth of the handles stays for everything else, so that this is the limit that the
        // guest runs into, which it can mend, and not that on handles, which ends it.
        let most_tensors = limits.handles - limits.handles / 8;
        Self {
            granted,
            left_bytes,
            sessions: BTreeMap::new(),
            next: 0,
            tensors: 0,
            most_tensors: usize::try_from(most_tensors).unwrap_or(usize::MAX),
            largest_read: limits.memory,
        }
    }

    /// Whether it has no session.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What the guest has to wait for before it asks this session for more; none if there is room,
    /// or if there is no such session, which it will be told.
    fn room(&mut self, session: u64, upload_bytes: u64) -> Option<BoxFuture<'static, ()>> {
        self.sessions.get_mut(&session)?.session.room(upload_bytes)
    }

    fn end(&mut self, session: u64) {
        if let Some(open) = self.sessions.remove(&session) {
            self.left_bytes += open.bytes;
        }
    }
}

/// Devices for one invocation, together with the table that its handles live in.
pub(crate) struct GpuView<'a> {
    pub(crate) access: &'a mut GpuAccess,
    pub(crate) call: &'a Call,
    pub(crate) table: &'a mut ResourceTable,
}

impl GpuView<'_> {
    /// Takes what a session is going to have of the grant; what to ask whom.
    fn begin_open(
        &mut self,
        memory: Option<u64>,
    ) -> Result<(Arc<dyn KernelCalls>, SessionRequest), GuestError> {
        let access = &mut *self.access;
        let granted = access.granted.as_ref().ok_or_else(|| {
            let problem = "no device is granted to this function: add gpu = { memory = \"…\" } to \
                           [grants] in its manifest";
            GuestError::Unavailable(problem.into())
        })?;
        let calls = granted.calls.clone().ok_or_else(|| {
            GuestError::Unavailable("this server has no device for functions".into())
        })?;
        if access.sessions.len() >= MAX_SESSIONS {
            let problem = format!("there are {MAX_SESSIONS} sessions already: end one first");
            return Err(GuestError::Exhausted(problem));
        }
        let memory_bytes = memory.unwrap_or(access.left_bytes);
        if memory_bytes > access.left_bytes || memory_bytes == 0 {
            return Err(GuestError::Exhausted(format!(
                "a session of {memory_bytes} bytes: {} of grants.gpu.memory are left, {}; end \
                 another session, or raise the grant",
                access.left_bytes, granted.grant.memory
            )));
        }
        access.left_bytes -= memory_bytes;
        let request = SessionRequest {
            tenant: self.call.tenant.clone(),
            function: granted.function.clone(),
            memory_bytes,
            share_milli: granted.grant.share.milli(),
            device: granted.grant.device,
        };
        Ok((calls, request))
    }

    /// Hands the guest a session that was opened, or gives back what was taken for it.
    fn end_open(
        &mut self,
        opened: Result<Box<dyn KernelSession>, quern_operators::OpenError>,
        bytes: u64,
    ) -> Answer<Resource<SessionHandle>> {
        let session = match opened {
            Ok(session) => session,
            Err(error) => {
                self.access.left_bytes += bytes;
                return Ok(Err(open_error(&error)));
            }
        };
        let number = self.access.next;
        self.access.next += 1;
        self.access.sessions.insert(number, Open { session, bytes });
        Ok(Ok(self.table.push(SessionHandle { number })?))
    }

    fn number(&self, session: &Resource<SessionHandle>) -> wasmtime::Result<u64> {
        Ok(self.table.get(session)?.number)
    }

    fn device(&mut self, session: &Resource<SessionHandle>) -> wasmtime::Result<String> {
        let number = self.number(session)?;
        let open = self.access.sessions.get(&number);
        Ok(open.map(|open| open.session.device().to_owned()).unwrap_or_default())
    }

    fn usage(&mut self, session: &Resource<SessionHandle>) -> wasmtime::Result<GuestUsage> {
        let number = self.number(session)?;
        let usage = self.access.sessions.get_mut(&number).map(|open| open.session.usage());
        let usage = usage.unwrap_or_default();
        Ok(GuestUsage { bytes: usage.bytes, tensors: usage.tensors as u64 })
    }

    fn run(
        &mut self,
        number: u64,
        operator: GuestOperator,
        inputs: &[Resource<TensorHandle>],
    ) -> Answer<Vec<Resource<TensorHandle>>> {
        if inputs.len() > MAX_INPUTS {
            let problem = format!("{} inputs are more than {MAX_INPUTS}", inputs.len());
            return Ok(Err(GuestError::Invalid(problem)));
        }
        let operator = match operator_to_host(operator) {
            Ok(operator) => operator,
            Err(problem) => return Ok(Err(problem)),
        };
        let ids = inputs.iter().map(|input| Ok(self.table.get(input)?.id));
        let ids = ids.collect::<Result<Vec<_>, ResourceTableError>>()?;
        match self.compute(number, &operator, &ids) {
            Ok(made) => self.hand_out(number, made),
            Err(error) => Ok(Err(error)),
        }
    }

    fn compute(
        &mut self,
        number: u64,
        operator: &Operator,
        inputs: &[TensorId],
    ) -> Result<Vec<TensorId>, GuestError> {
        let open = self.access.sessions.get_mut(&number).ok_or_else(ended)?;
        open.session.run(operator, inputs).map_err(|error| refusal(&error))
    }

    /// Hands the guest tensors that were made; none of them if there are too many handles.
    fn hand_out(
        &mut self,
        session: u64,
        made: Vec<TensorId>,
    ) -> Answer<Vec<Resource<TensorHandle>>> {
        let most = self.access.most_tensors;
        if made.len() > most - self.access.tensors {
            made.into_iter().for_each(|id| self.release(session, id));
            return Ok(Err(too_many_handles(most)));
        }
        self.access.tensors += made.len();
        let hand_out = |id| self.table.push(TensorHandle { session, id });
        Ok(Ok(made.into_iter().map(hand_out).collect::<Result<_, _>>()?))
    }

    /// Hands the guest a tensor, if one was made.
    fn hand_out_one(
        &mut self,
        session: u64,
        made: Result<TensorId, GuestError>,
    ) -> Answer<Resource<TensorHandle>> {
        let id = match made {
            Ok(id) => id,
            Err(error) => return Ok(Err(error)),
        };
        let mut handles = match self.hand_out(session, vec![id])? {
            Ok(handles) => handles,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(handles.pop().expect("one tensor, one handle")))
    }

    /// What waits until everything that was asked for is computed.
    fn finish(&mut self, session: &Resource<SessionHandle>) -> wasmtime::Result<Waiting<()>> {
        let number = self.number(session)?;
        let Some(open) = self.access.sessions.get_mut(&number) else {
            return Ok(Err(ended()));
        };
        let finished = open.session.finish();
        Ok(Ok(Box::pin(async move { finished.await.map_err(|error| refusal(&error)) })))
    }

    /// What waits for the elements of a tensor.
    fn read(&mut self, tensor: &Resource<TensorHandle>) -> wasmtime::Result<Waiting<Vec<u8>>> {
        let TensorHandle { session, id } = *self.table.get(tensor)?;
        Ok(self.begin_read(session, id))
    }

    fn begin_read(&mut self, session: u64, id: TensorId) -> Waiting<Vec<u8>> {
        let largest = self.access.largest_read;
        let open = self.access.sessions.get_mut(&session).ok_or_else(ended)?;
        let description = open.session.describe(id).map_err(|error| refusal(&error))?;
        if description.bytes() > largest.0 {
            return Err(GuestError::Exhausted(format!(
                "{description} is larger than limits.memory of {largest}: read parts of it"
            )));
        }
        let elements = open.session.read(id);
        Ok(Box::pin(async move { elements.await.map_err(|error| refusal(&error)) }))
    }

    fn describe(&mut self, tensor: &Resource<TensorHandle>) -> Answer<GuestDescription> {
        let TensorHandle { session, id } = *self.table.get(tensor)?;
        let Some(open) = self.access.sessions.get(&session) else { return Ok(Err(ended())) };
        let described = open.session.describe(id);
        Ok(described.map(|it| description_to_guest(&it)).map_err(|error| refusal(&error)))
    }

    fn release(&mut self, session: u64, id: TensorId) {
        if let Some(open) = self.access.sessions.get_mut(&session) {
            // It can only refuse what it does not have, and then there is nothing to release.
            let _ = open.session.release(id);
        }
    }

    fn drop_session(&mut self, session: Resource<SessionHandle>) -> wasmtime::Result<()> {
        let SessionHandle { number } = self.table.delete(session)?;
        self.access.end(number);
        Ok(())
    }

    fn drop_tensor(&mut self, tensor: Resource<TensorHandle>) -> wasmtime::Result<()> {
        let TensorHandle { session, id } = self.table.delete(tensor)?;
        self.access.tensors -= 1;
        self.release(session, id);
        Ok(())
    }
}

/// Something that the guest waits for, unless it is refused at once.
type Waiting<T> = Result<BoxFuture<'static, Result<T, GuestError>>, GuestError>;

fn ended() -> GuestError {
    GuestError::Unknown("the session of this tensor has ended".into())
}

fn too_many_handles(most: usize) -> GuestError {
    let problem = format!("more than {most} tensors: drop some, or raise limits.handles");
    GuestError::Exhausted(problem)
}

/// A description of guest memory, checked.
fn described(description: GuestDescription) -> Result<Description, GuestError> {
    description_to_host(&description).map_err(GuestError::Invalid)
}
