//! Deployments: an upload is checked, made ready, stored and made live, in this order; never does
//! a failed one change anything.
//!
//! | what | by whom |
//! |---|---|
//! | receive, digest, sync | store |
//! | validate, compile | sandbox, on a blocking thread, few at a time |
//! | merge, inspect, try, warm up | device |
//! | keep the blob, commit the row, switch the routes | store |
//! | forget what no version needs | sandbox |

mod access;
mod archive;
mod artifacts;
mod deployer;
mod digest;
mod error;
mod function;
mod metrics;
mod model;
mod settings;

pub use access::{NewToken, create_token};
pub use deployer::{
    DeployConfig, DeployServices, DeployedKind, Deployer, Deployment, ModelForm, ModelUpload,
    Staged,
};
pub use error::{AccessChangeError, DeployError};
pub use quern_sandbox::ComponentError;
pub use quern_store::{
    AuditQuery, AuditRecord, ConfigChange, LogRecord, LogStream, SettingError, StageError,
    StoredRecord, TokenError,
};
pub use settings::FunctionSettings;
