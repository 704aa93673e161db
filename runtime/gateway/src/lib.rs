//! The HTTP and gRPC edge: decodes requests, hands them on, encodes answers. The only place where errors
//! become status codes. It keeps nothing between requests, and runs nothing itself.

mod access;
mod activity;
mod background;
mod backup;
mod batches;
mod body;
mod collect;
mod deployments;
mod errors;
mod expecting;
mod functions;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gateway;
mod grpc;
mod health;
mod held;
mod inspection;
mod invocation;
mod json_body;
mod limiter;
mod limits;
mod logs;
mod metrics;
mod multipart;
mod openapi;
mod operations;
mod query;
mod request;
mod route;
mod selection;
mod self_woken;
mod server;
mod settings;
mod shared_memory;
mod sharing;
mod stall;
mod stats;
mod tenants;
mod timestamp;
mod tls;
mod tokens;
mod traces;
mod traffic;
mod troubles;
mod v2;

pub use gateway::{Gateway, GatewayConfig, GatewayServices};
pub use grpc::protocol;
pub use limiter::CallerLimits;
pub use limits::EdgeLimits;
pub use openapi::document as openapi_document;
pub use server::Listeners;
pub use shared_memory::{KeyPrefix, SharedMemoryConfig};
pub use tls::{HandshakeLimits, Identity, Tls, TlsError};
pub use troubles::Trouble;
