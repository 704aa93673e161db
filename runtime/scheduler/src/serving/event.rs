//! What happens to models, devices and calls, and what is to be done about it. Knows nothing of
//! how that is decided.

use quern_types::Priority;

use crate::{CallId, Refusal, serving::times::BatchProfile};

/// Names a model version that is served, as the caller counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelIndex(pub u32);

/// Names a device, as the caller counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceIndex(pub u32);

/// Names a tenant, as the caller counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantIndex(pub u32);

/// A lane of a device, which computes one batch at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The device.
    pub device: DeviceIndex,
    /// The lane, from 0.
    pub lane: u16,
}

/// A device that models can be loaded on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingDevice {
    /// Its name.
    pub device: DeviceIndex,
    /// Memory for weights, in bytes.
    pub memory_bytes: u64,
    /// Batches that it computes at the same time.
    pub lanes: u16,
    /// Models that are on it already.
    pub resident: Vec<ModelIndex>,
}

/// A model that may be called from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedModel {
    /// Its name.
    pub model: ModelIndex,
    /// Memory that it takes on a device, in bytes.
    pub bytes: u64,
    /// What it takes to load it there, in µs, as far as that is known.
    pub load_us: u64,
    /// Most rows in one batch; 1 if it has no batch axis.
    pub max_rows: u32,
    /// How long its batches take.
    pub profile: BatchProfile,
}

/// A call of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServingCall {
    /// Its id, above all earlier ones.
    pub call: CallId,
    /// The model.
    pub model: ModelIndex,
    /// Who is charged.
    pub tenant: TenantIndex,
    /// Its rows: no more than a batch takes, or it is refused.
    pub rows: u32,
    /// How urgent it is.
    pub priority: Priority,
    /// From this moment on nobody wants its answer.
    pub deadline_us: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServingEvent {
    /// A device can be used. Its models were deployed before.
    DeviceUp(ServingDevice),
    /// A device is lost, with all that was on it. Calls that ran there wait again; of what was
    /// under way there, nobody tells any more.
    DeviceDown(DeviceIndex),
    /// A model may be called.
    Deploy(ServedModel),
    /// What a tenant's share weighs beside the others', in thousandths.
    Weigh {
        /// The tenant.
        tenant: TenantIndex,
        /// Its weight; 1,000 is usual.
        weight_milli: u32,
    },
    /// A call came in.
    Arrival(ServingCall),
    /// Nobody wants the answer any more. Without effect on a call that does not wait.
    Cancel(CallId),
    /// A batch is done, and its lane is free.
    Completion {
        /// Where it ran.
        slot: Slot,
        /// Time that it took there.
        compute_us: u64,
    },
    /// A model is on a device.
    Loaded {
        /// The model.
        model: ModelIndex,
        /// The device.
        device: DeviceIndex,
        /// Time that it took.
        load_us: u64,
    },
    /// A model could not be loaded: its memory is free again.
    LoadFailed {
        /// The model.
        model: ModelIndex,
        /// The device.
        device: DeviceIndex,
    },
    /// Time passed, up to what was asked for.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServingAction {
    /// Run these together on a lane that is free, of a device that has the model.
    Dispatch {
        /// The lane, which is busy from now on.
        slot: Slot,
        /// The model of all of the calls.
        model: ModelIndex,
        /// The calls, never none.
        calls: Vec<CallId>,
    },
    /// Load a model. Its memory is taken from now on.
    Load {
        /// The model.
        model: ModelIndex,
        /// The device.
        device: DeviceIndex,
    },
    /// Remove a model that no batch uses. Its memory is free from now on.
    Evict {
        /// The model.
        model: ModelIndex,
        /// The device.
        device: DeviceIndex,
    },
    /// Answer that a call won't run.
    Reject {
        /// The call.
        call: CallId,
        /// Why.
        reason: Refusal,
    },
}
