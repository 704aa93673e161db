//! A backup of a server, as it arrives.

use reqwest::Response;
use serde_json::json;

use super::{Client, ClientError, transport};

/// An archive on its way.
pub(crate) struct BackupArchive(Response);

impl Client {
    /// Asks for a backup, with what functions printed if `logs` says so.
    pub(crate) async fn backup(&self, logs: bool) -> Result<BackupArchive, ClientError> {
        let request = self.http.post(self.url.at(&["v1", "backup"])).json(&json!({ "logs": logs }));
        Ok(BackupArchive(self.send(request).await?))
    }
}

impl BackupArchive {
    /// How long it will be.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.0.headers().get("quern-backup-bytes")?.to_str().ok()?.parse().ok()
    }

    /// The next part; none once all is there.
    pub(crate) async fn next(&mut self) -> Result<Option<bytes::Bytes>, ClientError> {
        let url = self.0.url().clone();
        self.0.chunk().await.map_err(|error| transport(&url, &error))
    }
}
