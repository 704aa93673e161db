//! The live loop: admits requests, keeps functions and models ready, and carries out what the
//! scheduler decides. It never decodes or encodes a protocol, and never decides what to batch.

mod activity;
mod aside;
mod dispatcher;
mod drain;
mod found;
mod functions;
#[cfg(test)]
mod house;
mod kernels;
mod logs;
mod metrics;
mod models;
mod offers;
mod outcomes;
mod queue;
mod ready;
mod redaction;
mod repository;
mod run_times;
mod shadow;
mod shapes;
mod split;
mod statistics;
mod traffic;
mod unloaded;
mod warmth;

pub use activity::{Distribution, FunctionActivity, ModelActivity};
pub use dispatcher::{Dispatcher, HttpCall, HttpReply, InferReply, InferRequest};
pub use found::Found;
pub use functions::{Functions, FunctionsConfig};
pub use kernels::{Kernels, KernelsConfig};
pub use models::{Models, ModelsConfig};
pub use repository::IndexEntry;
pub use shadow::{ShadowConfig, ShadowExample, ShadowReport};
pub use statistics::{BatchStatistics, ModelStatistics, RunTally, Tally};
