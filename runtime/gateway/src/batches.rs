//! Batch scoring over HTTP: takes files of rows, tells how far they are, and gives results. It reads
//! no row itself.

mod events;
mod upload;

use std::time::SystemTime;

use bytes::BytesMut;
use futures::stream;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use quern_scoring::{BatchId, BatchSpec, BatchState, BatchStatus, Results, RowError};
use quern_types::{BodyError, Caller};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::io::AsyncReadExt;

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::Failure,
    route::BatchRoute,
    timestamp::Timestamp,
};

/// Bytes of results that are read at once.
const PART: usize = 256 << 10;
/// How many rows the results have, and how many of them say what was wrong.
const ROWS: HeaderName = HeaderName::from_static("quern-rows");
const FAILED_ROWS: HeaderName = HeaderName::from_static("quern-failed-rows");

/// A batch.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BatchReply {
    /// Its name.
    id: BatchId,
    /// Where it is on its way.
    state: BatchState,
    /// What it is.
    #[serde(flatten)]
    spec: BatchSpec,
    /// When it was made.
    created: Timestamp,
    /// When it ended; null: it has not.
    finished: Option<Timestamp>,
    /// When it goes, with its results; null before it has ended.
    expires: Option<Timestamp>,
    /// Its rows so far.
    rows: RowCounts,
    /// Its file.
    input: InputBytes,
    /// Bytes of its results so far.
    result_bytes: u64,
    /// Rows in a second, of late; null while none are scored.
    rows_per_second: Option<f64>,
    /// How long the rest will take at this speed, in seconds; null where that can't be told.
    remaining_s: Option<f64>,
    /// Why it failed; null: it did not.
    error: Option<BatchFailure>,
}

/// Rows of a batch that have their result.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RowCounts {
    /// All of them.
    done: u64,
    /// Those that could not be scored.
    failed: u64,
}

/// The file of a batch.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InputBytes {
    /// Its length.
    bytes: u64,
    /// The bytes of the rows that have their result.
    done: u64,
}

/// Why a batch failed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BatchFailure {
    /// What is wrong, and where.
    detail: String,
    /// The row that is to blame, if one is.
    row: Option<RowError>,
}

/// The batches of a tenant.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BatchList {
    /// The newest first.
    batches: Vec<BatchReply>,
}

impl From<BatchStatus> for BatchReply {
    fn from(status: BatchStatus) -> Self {
        let left = status.input_bytes.saturating_sub(status.read_bytes) as f64;
        let bytes_per_row = status.read_bytes as f64 / status.rows.max(1) as f64;
        let remaining = status
            .rows_per_second
            .filter(|speed| *speed > 0.0 && status.rows > 0)
            .map(|speed| round(left / bytes_per_row.max(1.0) / speed));
        let written = |time: Option<SystemTime>| time.map(Timestamp::from);
        let row = status.failed_row;
        Self {
            id: status.id,
            state: status.state,
            spec: status.spec,
            created: status.created.into(),
            finished: written(status.finished),
            expires: written(status.expires),
            rows: RowCounts { done: status.rows, failed: status.failed },
            input: InputBytes { bytes: status.input_bytes, done: status.read_bytes },
            result_bytes: status.result_bytes,
            rows_per_second: status.rows_per_second.map(round),
            remaining_s: remaining,
            error: status.error.map(|detail| BatchFailure { detail, row }),
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Carries out an operation on batches.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    route: BatchRoute,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let (scoring, tenant) = (&gateway.scoring, &caller.tenant);
    match route {
        BatchRoute::Create => create(gateway, caller, request).await,
        BatchRoute::List => {
            let batches = scoring.list(tenant).into_iter().map(BatchReply::from).collect();
            Ok(body::json(&BatchList { batches }))
        }
        BatchRoute::Show(id) => Ok(body::json(&BatchReply::from(scoring.status(tenant, id)?))),
        BatchRoute::Events(id) => events::follow(gateway, caller, id),
        BatchRoute::Results(id) => results(scoring.results(tenant, id).await?),
        BatchRoute::Remove(id) => {
            scoring.remove(tenant, id).await?;
            let mut reply = Response::new(ReplyBody::empty());
            *reply.status_mut() = StatusCode::NO_CONTENT;
            Ok(reply)
        }
    }
}

async fn create(
    gateway: &Gateway,
    caller: &Caller,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let (head, body) = request.into_parts();
    let arrived = upload::receive(&gateway.scoring, caller, &head.headers, body).await?;
    let upload::Arrived { asked, media_format, upload } = arrived;
    let created = gateway.scoring.create(&caller.tenant, asked, media_format, upload).await?;
    let mut reply = body::json(&BatchReply::from(created));
    *reply.status_mut() = StatusCode::CREATED;
    Ok(reply)
}

fn results(results: Results) -> Result<Reply, Failure> {
    let Results { file, bytes, format, rows, failed } = results;
    let file = tokio::fs::File::from_std(file).take(bytes);
    let parts = stream::try_unfold(file, async |mut file| {
        let mut part = BytesMut::with_capacity(PART);
        let read = file.read_buf(&mut part).await;
        let read = read.map_err(|error| BodyError::Broken(error.to_string()))?;
        Ok((read > 0).then(|| (Frame::data(part.freeze()), file)))
    });
    let mut reply = Response::new(ReplyBody::Stream(StreamBody::new(parts).boxed_unsync()));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(CONTENT_LENGTH, bytes.into());
    headers.insert(ROWS, rows.into());
    headers.insert(FAILED_ROWS, failed.into());
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_remains_follows_from_the_speed_and_the_bytes_left() {
        let spec = json!({
            "model": "m", "version": 1, "format": "csv", "output_format": "csv", "on_error": "stop"
        });
        let status = BatchStatus {
            id: "01936a5e-0000-7000-8000-0123456789ab".parse().expect("an id"),
            spec: serde_json::from_value(spec).expect("a spec"),
            state: BatchState::Running,
            created: SystemTime::UNIX_EPOCH,
            finished: None,
            expires: None,
            rows: 10,
            failed: 1,
            input_bytes: 1_000,
            read_bytes: 100,
            result_bytes: 7,
            rows_per_second: Some(2.04),
            error: None,
            failed_row: None,
        };
        let reply = json!(BatchReply::from(status.clone()));
        assert_eq!(reply["remaining_s"], 44.1);
        assert_eq!((&reply["rows_per_second"], &reply["model"]), (&json!(2.0), &json!("m")));
        assert_eq!(reply["created"], "1970-01-01T00:00:00.000Z");
        let waiting = BatchStatus { rows_per_second: None, ..status };
        assert_eq!(json!(BatchReply::from(waiting))["remaining_s"], json!(null));
    }
}
