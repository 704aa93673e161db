//! `POST /v1/backup`: what a server has, as an archive that streams while it serves. Never holds more
//! of it than a few parts.

use futures::stream;
use http::{HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use quern_deploy::BackupStream;
use quern_types::{BodyError, ByteSize, Caller};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Gateway,
    body::{Reply, ReplyBody, RequestBody},
    errors::Failure,
    json_body::Form,
};

/// How long the archive will be, for whoever shows its progress. It is no content-length: an archive
/// that breaks off must not look whole.
const BYTES: HeaderName = HeaderName::from_static("quern-backup-bytes");

/// What is to be in a backup.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupRequest {
    /// Whether what functions printed is to be in it.
    #[serde(default)]
    logs: bool,
}

impl BackupRequest {
    const FORM: Form = Form { limit: ByteSize(4096), example: r#"{"logs": false}"# };
}

/// `POST /v1/backup`
pub(crate) async fn make(
    gateway: &Gateway,
    caller: &Caller,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let asked = BackupRequest::FORM.read_if_any(gateway, request.into_body()).await?;
    let BackupRequest { logs } = asked;
    let backup = gateway.deployer.backup(caller, logs, gateway.config.version).await?;
    let BackupStream { bytes, parts } = backup;
    // Counted, so that one whose maker is gone without a word is no whole one either.
    let parts = stream::unfold((parts, bytes), async |(mut parts, left)| {
        let broken = |reason: &str| Err(BodyError::Broken(reason.to_owned()));
        match parts.recv().await {
            Some(Ok(part)) => {
                let left = left.saturating_sub(part.len() as u64);
                Some((Ok(Frame::data(part)), (parts, left)))
            }
            Some(Err(error)) => Some((broken(&error.to_string()), (parts, 0))),
            None if left > 0 => Some((broken("the backup broke off"), (parts, 0))),
            None => None,
        }
    });
    let mut reply = Response::new(ReplyBody::Stream(StreamBody::new(parts).boxed_unsync()));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.insert(BYTES, bytes.into());
    Ok(reply)
}
