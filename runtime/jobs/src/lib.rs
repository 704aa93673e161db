//! Asynchronous calls: taken into a durable queue, carried out later, tried again where that may
//! help, and given up in the end. It knows nothing of functions and models: whoever carries calls
//! out is handed in ([`quern_types::CarryOut`]).
//!
//! A call is acknowledged once it is on the disk, and has come to its end once its answer is. What
//! happens in between may happen again: a server that is killed while a call runs runs it anew.

mod backoff;
mod config;
mod jobs;
mod metrics;
mod runner;
mod sweeper;
mod verdict;

pub use config::JobsConfig;
pub use jobs::{Jobs, NewJob};
pub use quern_store::{
    CallQuery, CallRecord, ChangeError, EnqueueError, Enqueued, Found, QueueFailure, QueueLimits,
    Scope,
};
