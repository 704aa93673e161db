//! How functions come to devices: two traits that invert the edge from the sandbox to whatever
//! computes. Nothing here computes or decides.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use quern_types::{DeviceKind, Name, TenantId};

use crate::{
    Description, LaneError, OfferError, Operator, Parcel, SessionError, TensorId, Ticket, Usage,
};

/// Opens sessions of devices for functions. Implemented by the dispatcher, called by the sandbox.
pub trait KernelCalls: Send + Sync + 'static {
    /// A session on a device that has what is asked for. Refuses at once where there is none: it
    /// waits for nobody's memory.
    fn open(
        &self,
        request: SessionRequest,
    ) -> BoxFuture<'static, Result<Box<dyn KernelSession>, OpenError>>;

    /// Keeps a tensor for another session of the tenant, charged to the tenant, until it is
    /// accepted or so much time has passed.
    fn offer(
        &self,
        tenant: &TenantId,
        parcel: Parcel,
        lifetime: Duration,
    ) -> Result<Ticket, OfferError>;

    /// What waits under a ticket of the tenant, if anything does. Nobody can tell another tenant's
    /// ticket from one that there never was.
    fn offered(&self, tenant: &TenantId, ticket: Ticket) -> Option<Description>;

    /// Takes it, which one can.
    fn accept(&self, tenant: &TenantId, ticket: Ticket) -> Option<Parcel>;
}

/// What a function asks of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// Whose budget it is charged to.
    pub tenant: TenantId,
    /// The function that asks.
    pub function: Name,
    /// Memory that all its tensors may take, as its manifest grants.
    pub memory_bytes: u64,
    /// How it counts where sessions take turns, in thousandths: 500 gets half the time of 1,000.
    /// 0 counts as 1.
    pub share_milli: u32,
    /// The kind of device; none: whichever has room, GPUs first.
    pub device: Option<DeviceKind>,
}

impl SessionRequest {
    /// The usual share.
    pub const WHOLE_MILLI: u32 = 1_000;
}

/// Tensors of one caller on a device, and what is computed of them: in the order in which it was
/// asked for, while others compute theirs. Nothing here blocks. Dropping it cancels what waits and
/// frees everything.
pub trait KernelSession: Send {
    /// The device that computes, such as `cpu:0`.
    fn device(&self) -> &str;

    /// What to wait for before the next operator, or before the next upload, of so many bytes;
    /// none: there is room for it. To upload or run nevertheless is to queue without bound.
    fn room(&mut self, upload_bytes: u64) -> Option<BoxFuture<'static, ()>>;

    /// A tensor of elements of the host, little-endian and row-major; they are copied once.
    fn upload(
        &mut self,
        description: Description,
        elements: &[u8],
    ) -> Result<TensorId, SessionError>;

    /// The results of an operator. Checks, counts and answers; it may be computed later. What goes
    /// wrong then is the answer to everything that is asked after that.
    fn run(
        &mut self,
        operator: &Operator,
        inputs: &[TensorId],
    ) -> Result<Vec<TensorId>, SessionError>;

    /// The elements of a tensor, little-endian and row-major, once they are computed. The tensor
    /// may be released meanwhile.
    fn read(&mut self, tensor: TensorId) -> BoxFuture<'static, Result<Vec<u8>, SessionError>>;

    /// The same for the host itself, without a copy where the device's memory is the host's. What
    /// is lent stays in use, and charged, until it is dropped, which may be after the session. A
    /// tensor whose elements lie otherwise is copied on the device first, within its budget.
    fn lend(&mut self, tensor: TensorId) -> BoxFuture<'static, Result<Bytes, SessionError>>;

    /// A tensor for another session, once it is computed: without a copy where it has its memory
    /// to itself and that is the host's. This session keeps its own.
    fn pack(&mut self, tensor: TensorId) -> BoxFuture<'static, Result<Parcel, SessionError>>;

    /// Whether there is room for another tensor.
    fn check_room(&mut self, description: &Description) -> Result<(), SessionError>;

    /// A tensor that another session has packed: without a copy where that was one of this device
    /// and its memory is the host's.
    fn unpack(&mut self, parcel: Parcel) -> Result<TensorId, SessionError>;

    /// Waits until everything that was asked for is computed.
    fn finish(&mut self) -> BoxFuture<'static, Result<(), SessionError>>;

    /// What a tensor is.
    fn describe(&self, tensor: TensorId) -> Result<Description, SessionError>;

    /// Gives up a tensor.
    fn release(&mut self, tensor: TensorId) -> Result<(), SessionError>;

    /// What it has at the moment.
    fn usage(&mut self) -> Usage;
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No device could ever give so much.
    #[error(
        "no device has {needed} bytes for one function, {most} at most: lower grants.gpu.memory in \
         the manifest"
    )]
    NoDevice {
        /// Bytes that were asked for.
        needed: u64,
        /// What the largest device has for all sessions; 0: there is none.
        most: u64,
    },
    /// There is no device of the kind that was asked for.
    #[error(
        "this server has no device of the kind {kind}: `quern devices` says why; otherwise change \
         grants.gpu.device in the manifest"
    )]
    NoneOfKind {
        /// The kind.
        kind: DeviceKind,
    },
    /// The tenant has not so much left.
    #[error(
        "{needed} bytes exceed the tenant's device memory, {left} of {limit} are left: end other \
         sessions, or lower grants.gpu.memory in the manifest"
    )]
    Budget {
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes that the tenant has left.
        left: u64,
        /// Bytes that its sessions may have together.
        limit: u64,
    },
    /// The tenant has as many sessions as it may.
    #[error(
        "the tenant has {limit} sessions on the devices, its limit: end other sessions, or try \
         again later"
    )]
    TenantSessions {
        /// How many it may have on a device.
        limit: usize,
    },
    /// The devices are full of the sessions of others.
    #[error("the devices have no {needed} bytes left, {left} at most: try again later")]
    Busy {
        /// Bytes that were asked for.
        needed: u64,
        /// The most that a device has left.
        left: u64,
    },
    /// There are as many sessions as there may be.
    #[error("the devices have {limit} sessions, their limit: try again later")]
    Sessions {
        /// How many there may be on a device.
        limit: usize,
    },
    /// The device that had room is gone.
    #[error("device {device}: {error}")]
    Lost {
        /// The device.
        device: String,
        /// What is known of it.
        error: LaneError,
    },
}
