//! What fuzzing drives of the edge, and the tests that replay its seeds. Never part of a program.

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt, stream};
use quern_deploy::{DeployError, StageError};

use crate::{body::ReadError, multipart, v2::InferenceRequest};

/// The boundary of every upload that is tried.
const BOUNDARY: &str = "b";

/// Decodes the body of an inference request. What is accepted is JSON to others too.
pub fn tensors(content: &[u8]) {
    if InferenceRequest::decode(&Bytes::copy_from_slice(content)).is_ok() {
        let other = serde_json::from_slice::<serde_json::Value>(content);
        assert!(other.is_ok(), "accepted, but {other:?}");
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
    fn the_seeds_of_uploads_are_handled() {
        replay("multipart", super::multipart);
    }
}
