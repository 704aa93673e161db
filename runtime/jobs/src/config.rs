//! What bounds asynchronous calls and messages to webhooks: how many wait and run, how often they are
//! tried, and for how long what came of them is kept. It enforces nothing itself.

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
    /// Messages to webhooks; how many may wait is in `waiting`.
    pub webhooks: WebhooksConfig,
}

/// The limits of messages to webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhooksConfig {
    /// Messages that are under way at a time.
    pub concurrency: u32,
    /// Messages of one tenant that are under way at a time.
    pub tenant_concurrency: u32,
    /// Longest time from the beginning of a connection to the head of the answer.
    pub timeout: Duration,
    /// For how long a message is sent again that is not taken.
    pub max_age: Duration,
    /// Longest pause after the first time; it doubles with each further one.
    pub first_pause: Duration,
    /// Longest pause between two times.
    pub longest_pause: Duration,
    /// How long it can be seen what came of a message.
    pub keep: Duration,
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
                tenant_messages: 100_000,
                messages: 1_000_000,
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
            webhooks: WebhooksConfig::default(),
        }
    }
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            concurrency: 64,
            tenant_concurrency: 8,
            timeout: Duration::from_secs(15),
            max_age: 24 * HOUR,
            first_pause: Duration::from_secs(5),
            longest_pause: HOUR,
            keep: 7 * 24 * HOUR,
        }
    }
}
