//! Deployments with the real store, sandbox and processor. Never calls what it deploys.

mod canaries;
mod changes;
mod common;
mod functions;
mod models;
