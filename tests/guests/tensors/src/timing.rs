//! How long calls of the device take, as a function sees it, in ns.

use std::time::Instant;

use quern_sdk::gpu::{Binary, Error, Operator, Session};
use serde_json::json;

use crate::Outcome;

/// Calls that are timed together.
const BATCH: u64 = 10;

/// Adds a tensor of so many elements to itself, so many times.
pub(crate) fn add(elements: u64, times: u64) -> Outcome {
    let session = Session::open()?;
    let x = session.full([elements], 1.0f32)?;
    let add = Operator::Binary(Binary::Add);
    median(times, || session.run(&add, &[&x, &x]).map(drop))
}

/// Uploads so many bytes, so many times.
pub(crate) fn upload(bytes: u64, times: u64) -> Outcome {
    let session = Session::open()?;
    let elements = vec![7u8; bytes as usize];
    median(times, || session.tensor([bytes], &elements).map(drop))
}

fn median(times: u64, mut call: impl FnMut() -> Result<(), Error>) -> Outcome {
    let mut batches = Vec::new();
    for _ in 0..times.div_ceil(BATCH) {
        let begin = Instant::now();
        for _ in 0..BATCH {
            call()?;
        }
        batches.push(begin.elapsed().as_nanos() as u64 / BATCH);
    }
    batches.sort_unstable();
    Ok(json!(batches.get(batches.len() / 2)))
}
