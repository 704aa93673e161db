//! What server and process say to each other. Both are the same program: steps are read there as
//! the ledger here has planned them. What comes back is believed by nobody.

use std::{num::NonZeroUsize, time::Duration};

use quern_kernels::{BufferId, LaneError, Operand};
use quern_types::Confinement;
use serde::{Deserialize, Serialize};

use crate::process::region::Part;

/// Messages on a link that may be without an answer.
pub(super) const MOST_AHEAD: usize = 8;

/// Steps that are sent together at most.
pub(super) const MOST_STEPS: usize = 64;

/// The most work that is sent together or answered together, unless a single step has more: far
/// less than a device does while there is patience.
pub(super) const MOST_WORK: u64 = 1 << 32;

/// What computes in the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Computing {
    /// The host's processors.
    Cpu {
        /// Threads that one operator may use.
        threads: NonZeroUsize,
    },
    /// A GPU of NVIDIA's.
    Cuda {
        /// Its number.
        ordinal: u16,
        /// Memory that its tensors may take together.
        memory_bytes: u64,
        /// How long it may take without getting on, before it counts as lost.
        patience: Duration,
    },
}

/// What the server tells a process that has just started.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Channels, each of which is the link of one lane.
    pub(crate) lanes: u32,
    pub(crate) computing: Computing,
}

/// What a process says once it can compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) confinement: Vec<Confinement>,
}

/// What the server sends on a link. All but the first two are answered, in their order.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The memory that comes along is where elements are put from now on.
    Region,
    /// The request is in the memory that comes along, as it is too long for a message.
    Elsewhere,
    /// A session begins.
    Open { session: u64, budget_bytes: u64 },
    /// What follows in the message is for the session: one [`Command`] after another.
    Do { session: u64 },
    /// A buffer of the elements that come along in memory of their own.
    Write { session: u64, buffer: BufferId },
    /// Puts the elements of a tensor there, or into the memory that comes along.
    Read { session: u64, operand: Operand, part: Part },
    /// Is answered once everything is done.
    Finish { session: u64 },
    /// A session ends, and is answered once everything is given back.
    Close { session: u64 },
}

/// Something to be done for a session, with its steps (`S`) by reference where they are written.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Command<S> {
    Execute(S),
    /// The elements lie there.
    Write(BufferId, Part),
    Free(BufferId),
}

/// What a process answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Reply {
    /// How long it has computed since its last answer.
    pub(super) computed_ns: u64,
    pub(super) held: Held,
    /// What went wrong with the session, first of all.
    pub(super) fault: Option<Fault>,
}

/// What the device holds, all lanes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Held {
    /// Counts reports: links are answered side by side, and a later report is the newer one.
    pub(super) report: u64,
    pub(super) bytes: u64,
}

/// A [`LaneError`] on its way. Operators are named by text there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fault {
    Memory { bytes: u64 },
    Index { operator: String, index: i64, size: u64 },
    Unsupported { operator: String },
    Lost { reason: String },
}

impl From<LaneError> for Fault {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Memory { bytes } => Self::Memory { bytes },
            LaneError::Index { operator, index, size } => {
                Self::Index { operator: operator.to_owned(), index, size }
            }
            LaneError::Unsupported { operator } => {
                Self::Unsupported { operator: operator.to_owned() }
            }
            LaneError::Lost { reason } => Self::Lost { reason },
        }
    }
}

impl Fault {
    /// The error that it was; none if it names an operator that is not among those asked for.
    pub(super) fn error(&self, asked: impl Fn(&str) -> Option<&'static str>) -> Option<LaneError> {
        Some(match self {
            Self::Memory { bytes } => LaneError::Memory { bytes: *bytes },
            Self::Index { operator, index, size } => {
                LaneError::Index { operator: asked(operator)?, index: *index, size: *size }
            }
            Self::Unsupported { operator } => LaneError::Unsupported { operator: asked(operator)? },
            Self::Lost { reason } => LaneError::Lost { reason: reason.clone() },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_are_what_they_were_if_their_operator_was_asked_for() {
        let asked = |name: &str| ["gather", "sort"].into_iter().find(|asked| *asked == name);
        let errors = [
            LaneError::Memory { bytes: 7 },
            LaneError::Index { operator: "gather", index: -1, size: 3 },
            LaneError::Unsupported { operator: "sort" },
            LaneError::Lost { reason: "unplugged".to_owned() },
        ];
        for error in errors {
            let fault = Fault::from(error.clone());
            let bytes = postcard::to_stdvec(&fault).expect("encodes");
            let read: Fault = postcard::from_bytes(&bytes).expect("decodes");
            assert_eq!(read.error(asked), Some(error));
        }
        let made_up = Fault::Index { operator: "scatter-add".to_owned(), index: 0, size: 0 };
        assert_eq!(made_up.error(asked), None);
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = postcard::from_bytes::<Reply>(&bytes);
            let _ = postcard::from_bytes::<Ready>(&bytes);
            let _ = postcard::from_bytes::<Request>(&bytes);
        }
    }
}
