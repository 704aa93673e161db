//! Uploads as `multipart/form-data`: a manifest, which is short and read into memory, and a
//! payload, which streams to the disk. Parts may come in any order; memory is bounded whatever
//! the client sends.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderMap, header::CONTENT_TYPE};
use multer::{Field, Multipart};
use quern_deploy::DeployError;
use quern_types::{ByteSize, FunctionManifest};

use crate::body::ReadError;

/// Most bytes that are read in search of a boundary or of the end of a part's headers. The parser
/// looks at what it has only after it has read more, up to three pieces of a connection's buffer
/// (64 KiB), so this is far above what boundaries and headers need.
pub(crate) const MAX_FRAMING: u64 = 512 << 10;

/// Why an upload can't be taken apart.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MultipartError {
    /// It is not multipart, or breaks off.
    #[error("upload is not whole multipart/form-data: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// A part that nobody asked for.
    #[error("part {name:?} is unknown: the upload has the parts {text:?} and {payload:?}")]
    Unknown {
        /// Its name.
        name: String,
        /// The name of the part that says what it is.
        text: &'static str,
        /// The name of the other part that belongs here.
        payload: &'static str,
    },
    /// A part came twice.
    #[error("part {name:?} is given more than once")]
    Duplicate {
        /// Its name.
        name: &'static str,
    },
    /// A part did not come.
    #[error("part {name:?} is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// The manifest is too long.
    #[error("part \"manifest\" is larger than the limit of {limit}")]
    ManifestTooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// The manifest is no text.
    #[error("part \"manifest\" is not UTF-8")]
    ManifestNotText,
    /// The payload could not be staged.
    #[error(transparent)]
    Stage(Box<DeployError>),
}

/// The parts of an upload.
#[derive(Debug, PartialEq)]
pub(crate) struct Upload<Payload> {
    pub(crate) manifest: Option<String>,
    pub(crate) payload: Payload,
}

/// The boundary between the parts, if the headers announce any.
pub(crate) fn boundary(headers: &HeaderMap) -> Option<Result<String, MultipartError>> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let boundary = || multer::parse_boundary(kind).map_err(malformed);
    essence.eq_ignore_ascii_case("multipart/form-data").then(boundary)
}

/// Takes an upload apart. Its payload is the part called `name`, which goes to `stage`.
pub(crate) async fn receive<Payload, Staging>(
    body: impl Stream<Item = Result<Bytes, ReadError>> + Send + 'static,
    boundary: String,
    name: &'static str,
    stage: impl Fn(Field<'static>) -> Staging,
) -> Result<Upload<Payload>, MultipartError>
where
    Staging: Future<Output = Result<Payload, DeployError>>,
{
    let (mut parts, framing) = open(body, boundary);
    let (mut manifest, mut payload) = (None, None);
    loop {
        framing.store(MAX_FRAMING, Ordering::Relaxed);
        let Some(field) = parts.next_field().await.map_err(malformed)? else { break };
        framing.store(u64::MAX, Ordering::Relaxed);
        match field.name() {
            Some("manifest") if manifest.is_some() => {
                return Err(MultipartError::Duplicate { name: "manifest" });
            }
            Some("manifest") => manifest = Some(read_manifest(field).await?),
            Some(part) if part == name && payload.is_some() => {
                return Err(MultipartError::Duplicate { name });
            }
            Some(part) if part == name => {
                let staged = stage(field).await;
                payload = Some(staged.map_err(|error| MultipartError::Stage(Box::new(error)))?);
            }
            other => {
                let part = other.unwrap_or_default().chars().take(80).collect();
                return Err(MultipartError::Unknown {
                    name: part,
                    text: "manifest",
                    payload: name,
                });
            }
        }
    }
    let payload = payload.ok_or(MultipartError::Missing { name })?;
    Ok(Upload { manifest, payload })
}

/// The parts of a body, and the number of bytes that it may still give.
///
/// The parser reads whatever is ready and keeps it until it finds the end of a boundary or of a
/// part's headers: so the number is limited. It also takes the end of the body for the end of its
/// search, even if it came together with what it searches for: so each piece, and the end, comes
/// only after the stream has been pending once.
pub(crate) fn open(
    body: impl Stream<Item = Result<Bytes, ReadError>> + Send + 'static,
    boundary: String,
) -> (Multipart<'static>, Arc<AtomicU64>) {
    let allowed = Arc::new(AtomicU64::new(MAX_FRAMING));
    let left = allowed.clone();
    let bounded = body.map(move |piece| {
        let piece = piece.map_err(|error| error.to_string())?;
        let before = left.load(Ordering::Relaxed);
        if before == 0 {
            return Err(format!("its boundaries and headers exceed {MAX_FRAMING} bytes"));
        }
        left.store(before.saturating_sub(piece.len() as u64), Ordering::Relaxed);
        Ok(piece)
    });
    let paced = stream::unfold(Box::pin(bounded), async |mut bounded| {
        tokio::task::yield_now().await;
        Some((bounded.next().await?, bounded))
    });
    (Multipart::new(paced, boundary), allowed)
}

async fn read_manifest(mut field: Field<'static>) -> Result<String, MultipartError> {
    let limit = FunctionManifest::MAX_SIZE;
    let mut manifest = Vec::new();
    while let Some(part) = field.try_next().await.map_err(malformed)? {
        if (manifest.len() + part.len()) as u64 > limit.0 {
            return Err(MultipartError::ManifestTooLarge { limit });
        }
        manifest.extend_from_slice(&part);
    }
    String::from_utf8(manifest).map_err(|_| MultipartError::ManifestNotText)
}

pub(crate) fn malformed(error: multer::Error) -> MultipartError {
    let reason = match error {
        multer::Error::StreamReadFailed(cause) => cause.to_string(),
        other => other.to_string(),
    };
    MultipartError::Malformed { reason }
}

#[cfg(test)]
mod tests {
    use quern_deploy::StageError;

    use super::*;

    const MANIFEST: &str = "name = 'a'";

    fn part(name: &str, content: &str) -> String {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    /// Takes a body apart that arrives in pieces of `size` bytes.
    async fn receive_in(size: usize, body: &[u8]) -> Result<Upload<Vec<u8>>, MultipartError> {
        let pieces = body.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece)));
        let pieces = stream::iter(pieces.collect::<Vec<_>>());
        let stage = async |field: Field<'static>| {
            let bytes = field.bytes().await.map_err(|error| {
                DeployError::Upload(StageError::Body { reason: error.to_string() })
            })?;
            Ok(bytes.to_vec())
        };
        receive(pieces, "B".into(), "component", stage).await
    }

    #[tokio::test]
    async fn parts_come_in_any_order_and_in_any_pieces() {
        let manifest = part("manifest", MANIFEST);
        let component = part("component", "\0asm\r\n--b");
        for body in [
            format!("{manifest}{component}--B--\r\n"),
            format!("{component}{manifest}--B--"),
            format!("\r\n{component}{manifest}--B--epilogue"),
        ] {
            for size in [1, 7, 1000] {
                let upload = receive_in(size, body.as_bytes()).await.expect(&body);
                assert_eq!(upload.manifest.as_deref(), Some(MANIFEST));
                assert_eq!(upload.payload, b"\0asm\r\n--b");
            }
        }
        let body = format!("{component}--B--");
        assert_eq!(receive_in(1000, body.as_bytes()).await.expect("whole").manifest, None);
    }

    #[tokio::test]
    async fn an_upload_that_breaks_off_is_refused_wherever_it_does() {
        let body = format!("{}{}--B--", part("manifest", MANIFEST), part("component", "wasm"));
        for end in 0..body.len() {
            let error = receive_in(1000, &body.as_bytes()[..end]).await.expect_err("cut");
            let broken = match error {
                MultipartError::Malformed { .. } => true,
                MultipartError::Stage(error) => {
                    matches!(*error, DeployError::Upload(StageError::Body { .. }))
                }
                _ => false,
            };
            assert!(broken, "cut at {end}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_an_upload_is_named() {
        let manifest = part("manifest", MANIFEST);
        let component = part("component", "wasm");
        let long = "x".repeat((1 << 20) + 1);
        let cases = [
            (format!("{manifest}--B--"), "part \"component\" is missing"),
            (format!("{manifest}{manifest}--B--"), "part \"manifest\" is given more than once"),
            (format!("{component}{component}--B--"), "part \"component\" is given more than once"),
            (
                format!("{}--B--", part("extra", "")),
                "part \"extra\" is unknown: the upload has the parts \"manifest\" and \"component\"",
            ),
            (
                format!("{}--B--", part("manifest", &long)),
                "part \"manifest\" is larger than the limit of 1.0 MiB",
            ),
            (
                "no boundary at all".into(),
                "upload is not whole multipart/form-data: incomplete multipart stream",
            ),
        ];
        for (body, message) in cases {
            let error = receive_in(4096, body.as_bytes()).await.expect_err(message);
            assert_eq!(error.to_string(), message);
        }
        let mut body = format!("{}--B--", part("manifest", "?")).into_bytes();
        let at = body.iter().position(|byte| *byte == b'?').expect("there");
        body[at] = 0xff;
        let error = receive_in(4096, &body).await.expect_err("not text");
        assert!(matches!(error, MultipartError::ManifestNotText), "{error}");
    }

    #[tokio::test]
    async fn memory_for_boundaries_and_headers_is_bounded() {
        let endless = "x".repeat(1 << 20);
        for body in [
            endless.clone(),
            format!("--B\r\nContent-Disposition: {endless}"),
            format!("{}--B\r\nA: {endless}", part("manifest", MANIFEST)),
        ] {
            let error = receive_in(4096, body.as_bytes()).await.expect_err("endless");
            assert_eq!(
                error.to_string(),
                "upload is not whole multipart/form-data: its boundaries and headers exceed 524288 \
                 bytes"
            );
        }
    }

    #[test]
    fn the_content_type_says_whether_an_upload_is_multipart() {
        let boundary_of = |kind: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().expect("a value"))]);
            boundary(&headers).map(|boundary| boundary.map_err(|error| error.to_string()))
        };
        assert_eq!(boundary_of("multipart/form-data; boundary=B"), Some(Ok("B".into())));
        assert_eq!(boundary_of("Multipart/Form-Data; boundary=\"b c\""), Some(Ok("b c".into())));
        assert_eq!(boundary_of("application/octet-stream"), None);
        assert!(boundary(&HeaderMap::new()).is_none());
        let error =
            boundary_of("multipart/form-data").expect("multipart").expect_err("no boundary");
        assert!(error.contains("boundary"), "{error}");
    }
}
