//! One batch: what it is, how far it has come, and how it ended. What is written down of it is all
//! that there is after a crash.

use std::{fmt, str::FromStr, time::SystemTime};

use quern_types::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    request::BatchSpec,
    rows::{Position, RowError},
};

/// Names a batch: a UUID of version 7, so that ids sort by time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
#[schemars(inline)]
pub struct BatchId(#[schemars(with = "String", extend("format" = "uuid"))] uuid::Uuid);

/// Why a text is no [`BatchId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("batch {0:?} is not valid: it is named as the answer to making it did")]
pub struct InvalidBatchId(String);

impl BatchId {
    /// A new one.
    pub(crate) fn new() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for BatchId {
    type Err = InvalidBatchId;

    fn from_str(text: &str) -> Result<Self, InvalidBatchId> {
        // One way to write each, so that a folder has one name.
        let id = text.parse().ok().map(Self).filter(|id| id.to_string() == text);
        id.ok_or_else(|| InvalidBatchId(text.chars().take(80).collect()))
    }
}

/// Where a batch is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BatchState {
    /// It waits for its turn.
    Queued,
    /// Its rows are being scored.
    Running,
    /// Every row has its result.
    Completed,
    /// It ended before its last row.
    Failed,
}

impl BatchState {
    /// Every state.
    pub(crate) const ALL: [Self; 4] = [Self::Queued, Self::Running, Self::Completed, Self::Failed];

    /// The word of the API and of the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "ended")]
pub(crate) enum Ending {
    /// Every row has its result.
    Completed,
    /// It could not go on.
    Failed {
        reason: String,
        /// The row that it failed on, if one is to blame.
        row: Option<RowError>,
    },
}

/// How far a batch has come. What lies before it in the results is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Where to read on.
    pub(crate) position: Position,
    /// Rows that could not be scored.
    pub(crate) failed: u64,
    /// Bytes of results.
    pub(crate) results: u64,
}

/// What is kept of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BatchRecord {
    pub(crate) id: BatchId,
    pub(crate) tenant: TenantId,
    pub(crate) spec: BatchSpec,
    pub(crate) created: SystemTime,
    pub(crate) input_bytes: u64,
    pub(crate) checkpoint: Checkpoint,
    /// None: it goes on.
    pub(crate) ending: Option<Ending>,
    pub(crate) finished: Option<SystemTime>,
}

/// A batch at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatus {
    /// Its name.
    pub id: BatchId,
    /// What it is.
    pub spec: BatchSpec,
    /// Where it is on its way.
    pub state: BatchState,
    /// When it was made.
    pub created: SystemTime,
    /// When it ended.
    pub finished: Option<SystemTime>,
    /// When it goes.
    pub expires: Option<SystemTime>,
    /// Rows that have their result.
    pub rows: u64,
    /// Those of them that could not be scored.
    pub failed: u64,
    /// Bytes of the file.
    pub input_bytes: u64,
    /// Those of them whose rows have their result.
    pub read_bytes: u64,
    /// Bytes of results.
    pub result_bytes: u64,
    /// Rows in a second, of late; none while none are scored.
    pub rows_per_second: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
    /// The row that it failed on.
    pub failed_row: Option<RowError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_text() {
        let id = BatchId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        let upper = id.to_string().to_uppercase();
        for bad in ["", ".", "..", "x", &upper, &id.to_string().replace('-', "")] {
            assert!(bad.parse::<BatchId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_kept_of_a_batch_comes_back() {
        let spec = serde_json::from_str(
            r#"{"model": "m", "version": 1, "format": "csv", "output_format": "ndjson", "on_error": "stop"}"#,
        );
        let row =
            RowError { row: 3, line: Some(4), column: Some("x".into()), reason: "is bad".into() };
        for ending in [
            None,
            Some(Ending::Completed),
            Some(Ending::Failed { reason: "no".into(), row: Some(row) }),
        ] {
            let record = BatchRecord {
                id: BatchId::new(),
                tenant: TenantId::default(),
                spec: BatchSpec::clone(spec.as_ref().expect("a spec")),
                created: SystemTime::UNIX_EPOCH,
                input_bytes: 7,
                checkpoint: Checkpoint { failed: 1, ..Checkpoint::default() },
                ending,
                finished: None,
            };
            let text = serde_json::to_string(&record).expect("JSON");
            assert_eq!(serde_json::from_str::<BatchRecord>(&text).expect(&text), record);
        }
    }
}
