//! What bounds asynchronous calls: how many wait and run, how often they are tried, and for how
//! long their answers are kept. It enforces nothing itself.

use std::time::Duration;

use quern_store::QueueLimits;
use quern_types::ByteSize;

/// The limits of asynchronous calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsConfig {
    /// Calls that run at a time.
    pub concurrency: u32,
    /// Calls of one tenant that run at a time.
    pub tenant_concurrency: u32,
    /// What may wait.
    pub waiting: QueueLimits,
    /// Bytes of a request's body.
    pub max_request: ByteSize,
    /// Bytes of an answer's body; a larger one is not kept.
    pub max_response: ByteSize,
    /// How often a call is tried that does not say.
    pub attempts: u32,
    /// How often a call may ask to be tried.
    pub max_attempts: u32,
    /// For how long a call is tried that does not say.
    pub age: Duration,
    /// For how long a call may ask to be tried.
    pub max_age: Duration,
    /// Longest pause after the first try; it doubles with each further one.
    pub first_pause: Duration,
    /// Longest pause between two tries.
    pub longest_pause: Duration,
    /// How long an answer is kept.
    pub keep_results: Duration,
    /// How long a dead letter is kept.
    pub keep_dead: Duration,
    /// Bytes of what is kept of one tenant, beyond which the oldest goes.
    pub keep_bytes: ByteSize,
}

const HOUR: Duration = Duration::from_secs(3_600);

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            concurrency: 64,
            tenant_concurrency: 32,
            waiting: QueueLimits {
                tenant_calls: 100_000,
                calls: 1_000_000,
                tenant_bytes: ByteSize::mib(1_024),
                bytes: ByteSize::mib(4_096),
            },
            max_request: ByteSize::mib(4),
            max_response: ByteSize::mib(4),
            attempts: 5,
            max_attempts: 100,
            age: 24 * HOUR,
            max_age: 7 * 24 * HOUR,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(300),
            keep_results: 24 * HOUR,
            keep_dead: 14 * 24 * HOUR,
            keep_bytes: ByteSize::mib(1_024),
        }
    }
}
