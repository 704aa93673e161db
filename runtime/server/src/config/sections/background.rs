//! How many calls, and messages about them, may wait for later, for how long, and how often they are
//! tried. Counts nothing.

use quern_jobs::{JobsConfig, QueueLimits, WebhooksConfig};
use quern_types::{ByteSize, Period};
use serde::Deserialize;

use super::{Count, DAY, OptionText, Section, Size, TIB, Time, Written};

section! {
    /// Asynchronous calls: those with `Prefer: respond-async`.
    Background in "async" {
        /// Calls that run at a time.
        concurrency: Count<1, 65_536> = Count(64);
        /// Calls of one tenant that run at a time.
        tenant_concurrency: Count<1, 65_536> = Count(32);
        /// Calls that wait or run; more are refused.
        max_waiting: Count<1, { u32::MAX }> = Count(1_000_000);
        /// Calls of one tenant that wait or run.
        tenant_waiting: Count<1, { u32::MAX }> = Count(100_000);
        /// Bytes of all calls that wait or run, on the disk.
        waiting_size: Size<65_536, TIB> = Size(ByteSize::mib(4_096));
        /// Bytes of the calls of one tenant that wait or run.
        tenant_waiting_size: Size<65_536, TIB> = Size(ByteSize::mib(1_024));
        /// Bytes of the body of a request.
        max_request: Size<1, 268_435_456> = Size(ByteSize::mib(4));
        /// Bytes of the body of an answer. A larger one is not kept: the call fails with
        /// response-too-large.
        max_response: Size<1, 268_435_456> = Size(ByteSize::mib(4));
        /// How often a call is tried that does not say.
        attempts: Count<1, 1_000> = Count(5);
        /// How often a call may ask to be tried.
        max_attempts: Count<1, 1_000> = Count(100);
        /// For how long a call is tried that does not say.
        age: Time<1, { 365 * DAY }> = Time(Period::from_millis(DAY));
        /// For how long a call may ask to be tried.
        max_age: Time<1, { 365 * DAY }> = Time(Period::from_millis(7 * DAY));
        /// Longest pause after the first try; it doubles with each further one, and a pause is
        /// anything between nothing and that.
        first_pause: Time<1, DAY> = Time(Period::from_millis(1_000));
        /// Longest pause between two tries.
        longest_pause: Time<1, DAY> = Time(Period::from_millis(300_000));
        /// How long an answer is kept, and its idempotency key remembered.
        keep_results: Time<1, { 365 * DAY }> = Time(Period::from_millis(DAY));
        /// How long a dead letter is kept.
        keep_dead: Time<1, { 365 * DAY }> = Time(Period::from_millis(14 * DAY));
        /// Bytes of the answers and dead letters of one tenant, beyond which the oldest go.
        keep_size: Size<65_536, TIB> = Size(ByteSize::mib(1_024));
    }
}

section! {
    /// Messages that tell webhooks how asynchronous calls end. They are sent to where functions may
    /// send requests: what the section on outbound requests says holds for them.
    Webhooks in "webhooks" {
        /// Messages that are under way at a time.
        concurrency: Count<1, 4_096> = Count(64);
        /// Messages of one tenant that are under way at a time.
        tenant_concurrency: Count<1, 4_096> = Count(8);
        /// Messages that wait; with more, no call is taken in that asks for another one.
        max_waiting: Count<1, { u32::MAX }> = Count(1_000_000);
        /// Messages of one tenant that wait.
        tenant_waiting: Count<1, { u32::MAX }> = Count(100_000);
        /// Longest time for a message to be sent and answered.
        timeout: Time<1, 600_000> = Time(Period::from_millis(15_000));
        /// For how long a message is sent again that is not taken.
        age: Time<1, { 365 * DAY }> = Time(Period::from_millis(DAY));
        /// Longest pause after the first time; it doubles with each further one, and a pause is
        /// anything between nothing and that.
        first_pause: Time<1, DAY> = Time(Period::from_millis(5_000));
        /// Longest pause between two times.
        longest_pause: Time<1, DAY> = Time(Period::from_millis(3_600_000));
        /// How long it can be seen what came of a message. Of each tenant, no more than 10,000 are
        /// kept.
        keep: Time<1, { 365 * DAY }> = Time(Period::from_millis(7 * DAY));
    }
}

impl Webhooks {
    fn config(&self) -> WebhooksConfig {
        WebhooksConfig {
            concurrency: self.concurrency.0,
            tenant_concurrency: self.tenant_concurrency.0,
            timeout: self.timeout.0.0,
            max_age: self.age.0.0,
            first_pause: self.first_pause.0.0,
            longest_pause: self.longest_pause.0.0,
            keep: self.keep.0.0,
        }
    }
}

impl Background {
    pub(crate) fn config(&self, webhooks: &Webhooks) -> JobsConfig {
        JobsConfig {
            concurrency: self.concurrency.0,
            tenant_concurrency: self.tenant_concurrency.0,
            waiting: QueueLimits {
                tenant_calls: self.tenant_waiting.0.into(),
                calls: self.max_waiting.0.into(),
                tenant_bytes: self.tenant_waiting_size.0,
                bytes: self.waiting_size.0,
                tenant_messages: webhooks.tenant_waiting.0.into(),
                messages: webhooks.max_waiting.0.into(),
            },
            max_request: self.max_request.0,
            max_response: self.max_response.0,
            attempts: self.attempts.0,
            max_attempts: self.max_attempts.0,
            age: self.age.0.0,
            max_age: self.max_age.0.0,
            first_pause: self.first_pause.0.0,
            longest_pause: self.longest_pause.0.0,
            keep_results: self.keep_results.0.0,
            keep_dead: self.keep_dead.0.0,
            keep_bytes: self.keep_size.0,
            webhooks: webhooks.config(),
        }
    }
}
