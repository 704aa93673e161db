//! What fuzzing drives of the edge, and the tests that replay its seeds. Never part of a program.

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt, stream};
use quern_deploy::{DeployError, StageError};
use quern_types::ByteSize;

use crate::{
    EdgeLimits,
    body::ReadError,
    collect::BodyRoom,
    grpc::{Names, Outline},
    multipart,
    v2::{Coding, InferenceRequest},
};

/// The boundary of every upload that is tried.
const BOUNDARY: &str = "b";

/// Decodes the body of an inference request: as JSON, as JSON with binary data behind it, whose
/// length is in the first two bytes, and as what is compressed. What is accepted is JSON to others
/// too, and all of the binary data are in some input.
pub fn tensors(content: &[u8]) {
    if InferenceRequest::decode(content, Bytes::new()).is_ok() {
        assert_json(content);
    }
    if let Some((length, body)) = content.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(body.len());
        let (json, binary) = body.split_at(length);
        if let Ok(request) = InferenceRequest::decode(json, Bytes::copy_from_slice(binary)) {
            assert_json(json);
            let taken = request.inputs.iter().map(|input| input.data().len()).sum::<usize>();
            assert!(taken >= binary.len(), "{} bytes are in no input", binary.len() - taken);
        }
    }
    for coding in [Coding::Gzip, Coding::Deflate] {
        let limit = ByteSize(1 << 20);
        let out = BodyRoom::new(&EdgeLimits::default()).growing(limit);
        if let Ok(body) = coding.decompress(content, out) {
            assert!(body.len() as u64 <= limit.0);
        }
    }
}

fn assert_json(text: &[u8]) {
    let other = serde_json::from_slice::<serde_json::Value>(text);
    assert!(other.is_ok(), "accepted, but {other:?}");
}

/// Reads a message of gRPC that asks for inference. What its tensors take was foretold.
pub fn message(content: &[u8]) {
    let message = Bytes::copy_from_slice(content);
    drop(Names::of(message.clone()));
    let Ok(outline) = Outline::read(message) else { return };
    let most = content.len() + outline.cost();
    if let Ok(request) = outline.fill() {
        let taken = request.inputs.iter().map(|input| input.data().len()).sum::<usize>();
        assert!(taken <= most, "{taken} bytes of {most}");
    }
}

/// Takes an upload apart that arrives in pieces, as long as its first byte says.
pub fn multipart(content: &[u8]) {
    let Some((size, content)) = content.split_first() else { return };
    let pieces: Vec<Result<Bytes, ReadError>> = content
        .chunks(usize::from(*size).max(1))
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let body = stream::iter(pieces);
    let upload = multipart::receive(body, BOUNDARY.into(), "component", async |part| {
        let bytes = part
            .try_collect::<Vec<_>>()
            .await
            .map_err(|error| DeployError::Upload(StageError::Body { reason: error.to_string() }))?;
        Ok(bytes.len())
    });
    let mut upload = Box::pin(upload);
    // Nothing here waits for anything but its own next turn, of which each piece takes a few.
    for _ in 0..8 * content.len() + 64 {
        if upload.as_mut().now_or_never().is_some() {
            return;
        }
    }
    panic!("the upload is never taken apart");
}

#[cfg(test)]
mod tests {
    fn replay(target: &str, run: fn(&[u8])) {
        let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
        let seeds: Vec<_> = std::fs::read_dir(folder).expect("seeds").collect();
        assert!(!seeds.is_empty());
        for seed in seeds {
            run(&std::fs::read(seed.expect("a seed").path()).expect("a file"));
        }
    }

    #[test]
    fn the_seeds_of_tensors_are_handled() {
        replay("tensors", super::tensors);
    }

    #[test]
    fn the_seeds_of_messages_are_handled() {
        replay("message", super::message);
    }

    #[test]
    fn the_seeds_of_uploads_are_handled() {
        replay("multipart", super::multipart);
    }
}
