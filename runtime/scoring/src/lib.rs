//! Batch scoring: a file of rows through a model or an inference function, at the lowest priority,
//! with a file of results. Never serves a request and never computes anything itself: each row goes
//! through the dispatcher, like any call.
//!
//! Invariants:
//! - each row of the file has one row in the results, in the same order: its outputs, or what was
//!   wrong with it;
//! - what is shown as done is on the disk; after a crash a batch goes on there, and no row is lost
//!   or doubled;
//! - memory is bounded, whatever the size of the file and whatever is in it.

mod batch;
mod calls;
mod config;
mod error;
mod folder;
mod live;
mod look;
mod metrics;
mod plan;
mod quota;
mod request;
mod results;
mod rows;
mod run;
mod scoring;
mod source;
mod turns;
mod upload;
mod value;
mod writer;

pub use batch::{BatchId, BatchState, BatchStatus, InvalidBatchId};
pub use config::ScoringConfig;
pub use error::{BatchError, CreateError, OpenError, UploadError};
pub use folder::FolderError;
pub use plan::PlanError;
pub use quota::QuotaExceeded;
pub use request::{BatchRequest, BatchSpec, ColumnNames, Format, OnError, ResultFormat};
pub use rows::RowError;
pub use scoring::{Results, Scoring};
pub use source::SourceError;
pub use upload::Upload;
