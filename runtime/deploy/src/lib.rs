//! Deployments: an upload is checked, made ready, stored and made live, in this order; never does
//! a failed one change anything.
//!
//! | what | by whom |
//! |---|---|
//! | receive, digest, sync | store |
//! | validate, compile | sandbox, on a blocking thread, few at a time |
//! | inspect, try | device |
//! | keep the blob, commit the row, switch the routes | store |
//! | forget what no version needs | sandbox |

mod artifacts;
mod deployer;
mod digest;
mod error;
mod function;
mod metrics;
mod model;

pub use deployer::{DeployConfig, DeployedKind, Deployer, Deployment, Staged};
pub use error::DeployError;
pub use quern_sandbox::ComponentError;
pub use quern_store::{LogRecord, LogStream, StageError, StoredRecord};
