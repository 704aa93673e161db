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
mod backup;
mod canary;
mod deployer;
mod digest;
mod error;
mod function;
mod metrics;
mod model;
mod settings;
mod sharing;
mod traffic;

pub use access::{NewToken, create_token};
pub use backup::BackupStream;
pub use canary::{CanaryStatus, Observed, Waiting};
pub use deployer::{
    Activation, DeployConfig, DeployServices, DeployedKind, Deployer, Deployment, FunctionUpload,
    ModelForm, ModelUpload, Staged,
};
pub use error::{AccessChangeError, DeployError};
pub use quern_sandbox::ComponentError;
pub use quern_store::{
    AuditQuery, AuditRecord, BackupError, ConfigChange, DeleteVersionError, LogFilter, LogPage,
    LogPosition, LogQuery, LogRecord, LogStream, SettingError, SharingError, StageError,
    StoredRecord, TenantLimitsError, TokenError, TrafficError, VersionUse,
};
pub use settings::FunctionSettings;
pub use traffic::{CanaryEnd, NewCanary, TrafficChangeError};
