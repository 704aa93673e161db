//! The live loop: admits requests, keeps functions and models ready, and carries out what the
//! scheduler decides. It never decodes or encodes a protocol, and never decides what to batch.

mod dispatcher;
mod drain;
mod functions;
mod logs;
mod metrics;
mod models;
mod offers;
mod queue;
mod ready;
mod warmth;

pub use dispatcher::{Dispatcher, HttpReply, InferReply, InferRequest};
pub use functions::{Functions, FunctionsConfig};
pub use models::{Models, ModelsConfig};
