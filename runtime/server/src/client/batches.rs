//! Batches of a server: made of files, looked at, and their results taken.

use std::path::Path;

use indicatif::ProgressBar;
use quern_scoring::BatchId;
use reqwest::{Response, multipart};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answer, Client, ClientError, file_part, transport};

/// A batch, as the server tells of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) state: String,
    pub(crate) model: String,
    pub(crate) version: u32,
    pub(crate) created: String,
    pub(crate) rows: Rows,
    pub(crate) input: Input,
    pub(crate) rows_per_second: Option<f64>,
    pub(crate) remaining_s: Option<f64>,
    pub(crate) error: Option<Reason>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rows {
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Input {
    pub(crate) bytes: u64,
    pub(crate) done: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Reason {
    pub(crate) detail: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BatchList {
    pub(crate) batches: Vec<Batch>,
}

/// A file to be scored, and what is asked for.
pub(crate) struct BatchUpload<'a, Request> {
    pub(crate) request: &'a Request,
    pub(crate) file: &'a Path,
}

impl Client {
    /// Uploads a file of rows.
    pub(crate) async fn create_batch<Request: Serialize>(
        &self,
        upload: BatchUpload<'_, Request>,
        progress: &ProgressBar,
    ) -> Result<Answer<Batch>, ClientError> {
        let url = self.url.at(&["v1", "batches"]);
        let request = serde_json::to_string(upload.request).map_err(super::not_understood(&url))?;
        let form = multipart::Form::new()
            .text("request", request)
            .part("input", file_part(upload.file, progress).await?);
        self.answer(self.http.post(url).multipart(form)).await
    }

    pub(crate) async fn batch(&self, id: BatchId) -> Result<Answer<Batch>, ClientError> {
        self.answer(self.http.get(self.url.at(&["v1", "batches", &id.to_string()]))).await
    }

    pub(crate) async fn batches(&self) -> Result<Answer<BatchList>, ClientError> {
        self.answer(self.http.get(self.url.at(&["v1", "batches"]))).await
    }

    pub(crate) async fn remove_batch(&self, id: BatchId) -> Result<(), ClientError> {
        let url = self.url.at(&["v1", "batches", &id.to_string()]);
        self.send(self.http.delete(url)).await.map(drop)
    }

    /// The results of a batch that has ended, as they are.
    pub(crate) async fn batch_results(&self, id: BatchId) -> Result<BatchResults, ClientError> {
        let url = self.url.at(&["v1", "batches", &id.to_string(), "results"]);
        Ok(BatchResults(self.send(self.http.get(url)).await?))
    }
}

/// Results as they arrive.
pub(crate) struct BatchResults(Response);

impl BatchResults {
    /// The next part; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<bytes::Bytes>, ClientError> {
        let url = self.0.url().clone();
        self.0.chunk().await.map_err(|error| transport(&url, &error))
    }
}

impl Answer<Batch> {
    /// Whether nothing more will become of it.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(&*self.parsed.state, "queued" | "running")
    }

    /// The answer as it came.
    pub(crate) fn json(&self) -> &Value {
        &self.json
    }
}
