//! What survives: the catalog of versions, their blobs, the pairs that functions keep, and what they
//! printed. Never knows what a component or a model is, and never answers before the disk has it.
//!
//! One data folder belongs to one process:
//!
//! | path | content |
//! |---|---|
//! | `lock` | held as long as a server has the folder |
//! | `catalog.sqlite` | tenants' names and versions, whom they are shared with, what is set for functions, tokens, schedules, webhooks, and who changed what; every commit is synced |
//! | `blobs/sha256/ab/<hex>` | components and ONNX files, named by their content |
//! | `blobs/uploads/` | what is still arriving; emptied at every start |
//! | `keyvalue.sqlite` | the buckets of functions; every commit is synced |
//! | `queue.sqlite` | asynchronous calls, their answers, and messages to webhooks; every commit is synced |
//! | `logs.sqlite` | what functions printed; power loss may cost the newest records |
//! | `backups/` | copies of the databases while a backup is made; emptied at every start |
//! | `restoring/` | a backup that is being restored: no server opens the folder |
//! | `recent.json` | functions that were in use, to be loaded at the next start; it may be lost |
//!
//! Invariants:
//! - every row of the catalog refers to a blob that is there: a blob is synced before its row is
//!   committed, and goes only after the commit that removed its last row;
//! - requests read the routing snapshot, which shows committed rows only;
//! - a version number is given once, whatever is deleted.

mod audit;
mod backup;
mod blobs;
mod catalog;
mod database;
mod fault;
mod folder;
mod group;
mod health;
mod integrity;
mod keyvalue;
mod last_commit;
mod ledger;
mod log_reader;
mod log_writer;
mod logs;
mod metrics;
mod operation;
mod queue;
mod recent;
mod removal;
mod rows;
mod schedules;
mod schema;
mod secrets_key;
mod settings;
mod sharing;
mod snapshot;
mod store;
mod tenants;
mod tokens;
mod traffic;
mod webhooks;
mod writer;

pub use audit::{AuditError, AuditQuery, AuditRecord};
pub use backup::{
    Backup, BackupDescription, BackupError, BackupFile, RestoreError, Restored, StoppedFolder,
    restore as restore_backup, verify as verify_backup,
};
pub use blobs::{BlobError, Blobs, StageError, StagedBlob};
pub use catalog::{
    Catalog, CommitError, Committed, DeleteError, NewVersion, Removed, RollbackError,
};
pub use log_reader::{LogFilter, LogPage, LogPosition, LogQuery};
pub use logs::{FunctionLogs, LogError, LogRecord, LogStream, StoredRecord};
pub use metrics::BackupEnd;
pub use queue::{
    Announcement, CallQuery, CallQueue, CallRecord, Cancellation, ChangeError, ClaimLimits,
    Claimed, ClaimedCall, Delivery, DeliveryCounts, DeliveryQuery, DeliveryRecord, Due, DueQuery,
    Ending, EnqueueError, Enqueued, Fire, Fired, Found, GivingUp, HeldWebhook, Keep, LastFire,
    NewCall, Next, Pause, Progress, QueueFailure, QueueFull, QueueLimits, Retry, RetryError, Scope,
    Sending, Usage,
};
pub use recent::{RecentFunction, RecentFunctions};
pub use removal::{DeleteVersionError, VersionUse};
pub use schedules::ScheduleError;
pub use secrets_key::{InvalidSecretsKey, SecretsKey, SecretsKeyId};
pub use settings::{ConfigChange, Gone, RotateError, Rotated, SettingError, rotate_secrets};
pub use sharing::SharingError;
pub use store::{OpenError, Store, StoreConfig};
pub use tenants::TenantLimitsError;
pub use tokens::TokenError;
pub use traffic::{TrafficChange, TrafficError};
pub use webhooks::WebhookError;
