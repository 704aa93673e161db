//! The upload of a batch as `multipart/form-data`: what is asked for, which is short, and the file,
//! which streams to the disk. Either may come first.

use std::sync::atomic::Ordering;

use futures::TryStreamExt;
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body::Body as _;
use multer::Field;
use quern_scoring::{BatchRequest, Format, Scoring, Upload};
use quern_types::{ByteSize, Caller};

use crate::{
    body::{ReadError, RequestBody},
    errors::Failure,
    json_body::Form,
    multipart::{self, MAX_FRAMING, MultipartError},
};

/// Bytes of what is asked for.
const MAX_REQUEST: ByteSize = ByteSize(64 << 10);
const FORM: Form = Form { limit: MAX_REQUEST, example: r#"{"model": "digits", "format": "csv"}"# };
const REQUEST: &str = "request";
const INPUT: &str = "input";

/// What has arrived.
pub(super) struct Arrived {
    pub(super) asked: BatchRequest,
    /// The format that the media type of the file stands for.
    pub(super) media_format: Option<Format>,
    pub(super) upload: Upload,
}

/// Takes an upload apart.
pub(super) async fn receive(
    scoring: &Scoring,
    caller: &Caller,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<Arrived, Failure> {
    scoring.check_declared(body.size_hint().lower())?;
    let Some(boundary) = multipart::boundary(headers).transpose()? else {
        let reason = "the Content-Type is not multipart/form-data".into();
        return Err(MultipartError::Malformed { reason }.into());
    };
    let (mut parts, framing) = multipart::open(body.parts(), boundary);
    let (mut asked, mut input) = (None, None);
    loop {
        framing.store(MAX_FRAMING, Ordering::Relaxed);
        let Some(field) = parts.next_field().await.map_err(multipart::malformed)? else { break };
        framing.store(u64::MAX, Ordering::Relaxed);
        match field.name() {
            Some(REQUEST) if asked.is_some() => {
                return Err(MultipartError::Duplicate { name: REQUEST }.into());
            }
            Some(INPUT) if input.is_some() => {
                return Err(MultipartError::Duplicate { name: INPUT }.into());
            }
            Some(REQUEST) => asked = Some(read_request(field).await?),
            Some(INPUT) => {
                let said = field.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
                let format = said.and_then(Format::of_media_type);
                input = Some((format, stage(scoring, caller, field).await?));
            }
            other => {
                let name = other.unwrap_or_default().chars().take(80).collect();
                return Err(MultipartError::Unknown { name, text: REQUEST, payload: INPUT }.into());
            }
        }
    }
    let asked = asked.ok_or(MultipartError::Missing { name: REQUEST })?;
    let (media_format, upload) = input.ok_or(MultipartError::Missing { name: INPUT })?;
    Ok(Arrived { asked, media_format, upload })
}

async fn read_request(mut field: Field<'static>) -> Result<BatchRequest, Failure> {
    let mut text = Vec::new();
    while let Some(part) = field.try_next().await.map_err(multipart::malformed)? {
        if (text.len() + part.len()) as u64 > MAX_REQUEST.0 {
            return Err(ReadError::TooLarge { limit: MAX_REQUEST }.into());
        }
        text.extend_from_slice(&part);
    }
    FORM.parse(&text)
}

async fn stage(
    scoring: &Scoring,
    caller: &Caller,
    mut field: Field<'static>,
) -> Result<Upload, Failure> {
    let mut upload = scoring.upload(&caller.tenant).await?;
    while let Some(part) = field.try_next().await.map_err(multipart::malformed)? {
        upload.write(part).await?;
    }
    upload.finish().await?;
    Ok(upload)
}
