//! What a batcher is told, and what it answers. Knows nothing of how it decides.

use quern_types::Priority;

/// What one replica can do, and how much may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatcherConfig {
    /// Batches that it computes at the same time.
    pub lanes: u16,
    /// Most rows in one batch; 1 when the model has no batch axis.
    pub max_rows: u32,
    /// Most calls that wait; one more is refused.
    pub max_waiting: u32,
    /// Most bytes of inputs that wait.
    pub max_waiting_bytes: u64,
    /// Longest that a call may wait for others while a lane is idle; 0: not at all.
    pub max_delay_us: u64,
    /// Whether all calls can share a batch, so that nobody asks for their buckets.
    pub one_bucket: bool,
}

/// Names a call. The caller hands them out in increasing order: the order of ids is the order of
/// arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names a lane of the replica, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

/// Names the calls that can share a batch: those whose shapes differ in nothing but the number of
/// rows. What it stands for is the caller's to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BucketId(pub u64);

/// A call that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its id, above all earlier ones.
    pub call: CallId,
    /// Its rows.
    pub rows: u32,
    /// Bytes of its inputs.
    pub bytes: u64,
    /// The calls that it can share a batch with.
    pub bucket: BucketId,
    /// How urgent it is.
    pub priority: Priority,
    /// From this moment on nobody wants its answer.
    pub deadline_us: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Calls came in, at the same time as far as anybody can tell.
    Arrivals {
        /// The calls, in the order of their ids.
        calls: Vec<Arrival>,
    },
    /// A lane can take a batch: after the model was loaded, or after a run that failed and so
    /// measured nothing.
    LaneFree {
        /// The lane.
        lane: LaneId,
    },
    /// A batch is done, and its lane is free.
    Completion {
        /// The lane.
        lane: LaneId,
        /// Rows of the batch.
        rows: u32,
        /// Time that it took on the device.
        compute_us: u64,
    },
    /// Nobody wants the answer any more. Without effect on a call that does not wait; of one that
    /// has run in part, the rest does not run.
    Cancel {
        /// The call.
        call: CallId,
    },
    /// Time passed; see [`Batcher::next_tick_us`](crate::Batcher::next_tick_us).
    Tick,
}

/// Rows of one call, next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The call.
    pub call: CallId,
    /// The first of the rows, from 0.
    pub first: u32,
    /// How many there are: all of the call's, unless it has more than a batch holds.
    pub rows: u32,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run these together.
    Dispatch {
        /// On this lane, which is busy from now on.
        lane: LaneId,
        /// Parts of different calls of one bucket; never none.
        parts: Vec<Part>,
    },
    /// Answer that it won't run, or not to its end.
    Reject {
        /// The call.
        call: CallId,
        /// Why.
        reason: Refusal,
    },
}

/// Why a call won't run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// As many calls as are allowed wait already.
    QueueFull,
    /// As many bytes as are allowed wait already.
    MemoryFull,
    /// Its deadline has passed.
    Expired,
    /// Its deadline would pass before it is done.
    TooLate {
        /// What it would take from now on, if the batches are quick.
        needed_us: u64,
    },
}
