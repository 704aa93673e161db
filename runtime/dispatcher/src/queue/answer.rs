//! What a call of a model gets back from its queue: outputs, or why there are none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quern_types::{ByteSize, DeviceError, SpanLink, Tensor};
use tokio::sync::oneshot;

use crate::split::Parts;

/// What one call got from its batch, or from all batches that its parts ran in.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) batch_rows: u32,
    pub(crate) queued: Duration,
    pub(crate) compute: Duration,
    /// When its last run was over.
    pub(crate) ended: Instant,
    /// The spans of its runs, where the call is recorded.
    pub(crate) runs: Vec<SpanLink>,
}

/// What is sent back to a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It ran in one piece.
    Whole(Computed),
    /// It ran in parts, which are still to be joined.
    Parts(Parts),
}

/// Why a call was not computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uncomputed {
    /// As many calls as are allowed wait already.
    QueueFull {
        /// How many that is.
        waiting: usize,
    },
    /// As many bytes of inputs as are allowed wait already.
    MemoryFull {
        /// How many that is.
        limit: ByteSize,
    },
    /// Its deadline passed.
    Expired,
    /// Its deadline would have passed before it was done.
    TooLate {
        /// What it would have taken at least.
        needed: Duration,
    },
    /// The device failed.
    Device(DeviceError),
    /// Its parts gave an output of different shapes.
    Uneven {
        /// The output.
        output: Arc<str>,
    },
    /// The run was lost.
    Lost,
}

pub(crate) type Reply = oneshot::Sender<Result<Answer, Uncomputed>>;
