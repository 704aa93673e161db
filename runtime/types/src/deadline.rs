//! The moment by which an answer is of use.

use std::time::{Duration, Instant};

/// A point on the monotonic clock, together with the wall time that was allowed to reach it, so
/// that an error can name the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// `allowed` after `start`.
    pub fn after(start: Instant, allowed: Duration) -> Self {
        Self { at: start + allowed, allowed }
    }

    /// The moment itself.
    pub fn at(self) -> Instant {
        self.at
    }

    /// The wall time that was allowed.
    pub fn allowed(self) -> Duration {
        self.allowed
    }
}
