//! What the server says of itself: its health and what it is doing.

use reqwest::StatusCode;
use serde::Deserialize;

use super::{Answer, Client, ClientError, read_json, refused};

/// The server's health.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Health {
    pub(crate) state: String,
    pub(crate) reasons: Vec<Reason>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Reason {
    pub(crate) code: String,
    pub(crate) detail: String,
}

/// What functions and models have done since the server started, and do now.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Stats {
    pub(crate) functions: Vec<FunctionStats>,
    pub(crate) models: Vec<ModelStats>,
    pub(crate) truncated: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FunctionStats {
    pub(crate) name: String,
    pub(crate) requests: Requests,
    pub(crate) seconds: Histogram,
    pub(crate) running: u64,
    pub(crate) concurrency: Option<u32>,
    pub(crate) memory_bytes: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Requests {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) refused: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ModelStats {
    pub(crate) name: String,
    pub(crate) device: String,
    pub(crate) calls: Calls,
    pub(crate) seconds: Histogram,
    pub(crate) batch_rows: Histogram,
    pub(crate) waiting: u64,
    pub(crate) waiting_bytes: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Calls {
    pub(crate) ok: u64,
    pub(crate) failed_runs: u64,
    pub(crate) refused: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct Histogram {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) buckets: Vec<Bucket>,
}

/// How often a value was at most its bound.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) le: f64,
    pub(crate) count: u64,
}

impl Client {
    /// How the server is; one that takes no requests says so as well.
    pub(crate) async fn health(&self) -> Result<Answer<Health>, ClientError> {
        let request = self.http.get(self.url.at(&["readyz"]));
        let response = self.dispatch(request).await?;
        match response.status() {
            StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE => read_json(response).await,
            _ => refused(response).await,
        }
    }

    pub(crate) async fn stats(&self) -> Result<Answer<Stats>, ClientError> {
        self.answer(self.http.get(self.url.at(&["v1", "stats"]))).await
    }
}
