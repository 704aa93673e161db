//! Asynchronous calls: taken into a durable queue, carried out later, tried again where that may
//! help, and given up in the end; and messages that tell webhooks of their ends. It knows nothing of functions and models: whoever carries calls
//! out is handed in ([`quern_types::CarryOut`]), and so is whoever sends messages
//! ([`quern_types::Courier`]).
//!
//! A call is acknowledged once it is on the disk, and has come to its end once its answer is. What
//! happens in between may happen again: a server that is killed while a call runs runs it anew.

mod backoff;
mod config;
mod cron;
mod jobs;
mod metrics;
mod runner;
mod schedules;
mod sweeper;
mod timetable;
mod verdict;
mod webhooks;

pub use config::{JobsConfig, WebhooksConfig};
pub use cron::{SCHEDULE, request};
pub use jobs::{Jobs, NewJob};
pub use quern_store::{
    CallQuery, CallRecord, ChangeError, DeliveryQuery, DeliveryRecord, EnqueueError, Enqueued,
    Found, LastFire, QueueFailure, QueueFull, QueueLimits, RetryError, ScheduleError, Scope,
    WebhookError,
};
pub use schedules::{InvalidSchedule, PutError};
pub use timetable::{Timetable, TimetableError};
