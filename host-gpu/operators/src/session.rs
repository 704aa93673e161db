//! What a session of device tensors has, may use, and refuses. Never decides it: the words alone,
//! for whoever opens sessions and whoever keeps them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Description, OperatorError};

/// What a session may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    /// Memory of all its tensors. No tensor may be larger, not even a view that shows the same
    /// elements many times.
    pub bytes: u64,
    /// Tensors at a time, views included.
    pub tensors: usize,
    /// Elements that one operator may touch, or multiply and add: bounds its time.
    pub work: u64,
}

impl SessionLimits {
    /// A budget in bytes, with 65,536 tensors and 2⁴⁰ multiplications for an operator.
    pub fn of_bytes(bytes: u64) -> Self {
        Self { bytes, tensors: 1 << 16, work: 1 << 40 }
    }
}

/// A tensor of a session; no other tensor of this process ever has the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorId {
    session: u64,
    number: u64,
}

impl TensorId {
    /// The id of a session's tensor, for the session to give. To make one up leads nowhere: a
    /// session looks up every id among its own.
    pub fn new(session: u64, number: u64) -> Self {
        Self { session, number }
    }

    /// Whose tensor it is.
    pub fn session(self) -> u64 {
        self.session
    }

    /// Which of the session's tensors it is.
    pub fn number(self) -> u64 {
        self.number
    }
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.session, self.number)
    }
}

/// What a session has at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Memory of its tensors, in the multiples in which devices allocate it.
    pub bytes: u64,
    /// How many tensors it has.
    pub tensors: usize,
}

/// Why a session refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The operator does not take these inputs.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The session has not so much memory left.
    #[error("{needed} bytes exceed the budget: {used} of {limit} are in use; release tensors")]
    Budget {
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes in use.
        used: u64,
        /// The budget.
        limit: u64,
    },
    /// The session has as many tensors as it may.
    #[error("more than {limit} tensors: release some")]
    Tensors {
        /// How many it may have.
        limit: usize,
    },
    /// The operator would take too long.
    #[error("{operator}: {work} operations exceed the limit of {limit}: split the inputs")]
    Work {
        /// The operator.
        operator: &'static str,
        /// What it would do.
        work: u64,
        /// What it may do.
        limit: u64,
    },
    /// There is no such tensor, or no longer.
    #[error("there is no tensor {0}: it was released, or never was")]
    Unknown(TensorId),
    /// The tensor belongs to another session.
    #[error("tensor {0} belongs to another session")]
    Foreign(TensorId),
    /// Elements and description disagree.
    #[error("{description} needs {expected} bytes, got {actual}")]
    Length {
        /// What was to be uploaded.
        description: Description,
        /// Bytes that it needs.
        expected: u64,
        /// Bytes given.
        actual: u64,
    },
    /// An element of BOOL is neither 0 nor 1.
    #[error("element {index} of BOOL is {value}, not 0 or 1")]
    Bool {
        /// Row-major index of the element.
        index: usize,
        /// The byte found.
        value: u8,
    },
    /// The device did not compute. The session is at an end: from now on it answers everything
    /// but releases with this error.
    #[error(transparent)]
    Lane(#[from] LaneError),
}

/// Why a device did not compute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The memory is there by the budget, but not on the device.
    #[error("the device has no {bytes} bytes left: try again later")]
    Memory {
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// An index leads out of its dimension.
    #[error("{operator}: index {index} is out of a dimension of {size}")]
    Index {
        /// The operator.
        operator: &'static str,
        /// The index.
        index: i64,
        /// The size of the dimension.
        size: u64,
    },
    /// The device does not know the operator, though others do.
    #[error("{operator}: not on this device yet; use another one")]
    Unsupported {
        /// The operator.
        operator: &'static str,
    },
    /// The device is gone, or could not be had.
    #[error("the device is lost: {reason}")]
    Lost {
        /// What is known of it.
        reason: String,
    },
}
