//! Finds out by running a model whether its rows are independent, so that calls may share a run.
//! Never takes that from the file: a graph can mix its rows anywhere.

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use half::{bf16, f16};
use quern_types::{
    Batch, BatchAxis, DataType, Device, DeviceError, Engine, ModelSource, ModelSpec, Replica,
    Tensor,
};

use crate::{
    BatchCandidate, ModelOutline,
    sample::{self, INTEGERS, Random},
};

/// Rows of the two calls that are compared alone and together.
const ROWS: [usize; 2] = [2, 3];
/// How far floats may differ, of the larger of them and of 1: other kernels compute larger
/// batches, and they add up in another order.
const TOLERANCE: f64 = 1e-4;
/// Half-precision floats have three decimals.
const HALF_TOLERANCE: f64 = 2e-2;
/// A graph may claim inputs of any size; a row of more elements than this is not tried.
const MOST_ELEMENTS: u64 = 1 << 22;

/// Loads a model on an engine, which validates it, and finds out whether the rows of its tensors
/// are independent: the rows of two calls must come out of a run with both as out of a run of
/// each. Where they don't, or the model can't be run on random inputs, calls run one by one.
pub async fn trial(
    device: &dyn Device,
    onnx: Bytes,
    outline: &ModelOutline,
    engine: Engine,
    max_rows: u32,
) -> Result<BatchAxis, DeviceError> {
    let batch = BatchAxis::None { reason: "it is on trial".into() };
    let spec = ModelSpec::new(outline.signature.clone(), engine, batch);
    // It runs on one lane only, and some engines have weights for each.
    let spec = Arc::new(ModelSpec { lanes: Some(NonZeroU32::MIN), ..spec });
    let replica = device.load(ModelSource { onnx, spec: spec.clone() }).await?;
    let reason = match &outline.batch {
        BatchCandidate::None { reason } => reason.clone(),
        BatchCandidate::Rows if max_rows < 2 => "it may run one row at a time only".into(),
        BatchCandidate::Rows if !is_small(&spec) => "its rows are too large to be tried".into(),
        BatchCandidate::Rows => match rows_mix(&*replica, &spec).await? {
            None => return Ok(BatchAxis::Rows { max: max_rows }),
            Some(reason) => reason,
        },
    };
    Ok(BatchAxis::None { reason })
}

fn is_small(spec: &ModelSpec) -> bool {
    spec.signature.inputs().iter().all(|input| {
        let mut row = input.shape[1..].iter().map(|dim| dim.unsigned_abs());
        row.try_fold(1u64, u64::checked_mul).is_some_and(|elements| elements <= MOST_ELEMENTS)
    })
}

/// Why the model's rows are not independent, as far as random rows show; none if they are.
async fn rows_mix(replica: &dyn Replica, spec: &ModelSpec) -> Result<Option<String>, DeviceError> {
    let mut random = Random::new();
    let mut failure = None;
    for integers in INTEGERS {
        let mut call =
            |rows: usize| sample::call(&spec.signature, rows as u64, integers, &mut random);
        let (a, b) = match (call(ROWS[0]), call(ROWS[1])) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Some(reason)),
        };
        match compare(replica, &a, &b).await {
            Err(DeviceError::Run { reason, .. }) => failure = Some(reason),
            compared => return compared,
        }
    }
    Ok(failure.map(|reason| format!("it does not run on random inputs: {reason}")))
}

/// Runs two calls alone, and together in either order.
async fn compare(
    replica: &dyn Replica,
    a: &[Tensor],
    b: &[Tensor],
) -> Result<Option<String>, DeviceError> {
    let alone = [run(replica, a.to_vec()).await?, run(replica, b.to_vec()).await?];
    for (first, second) in [(0, 1), (1, 0)] {
        let calls = [a, b];
        let together = run(replica, joined(calls[first], calls[second])).await?;
        let expected = alone[first].iter().zip(&alone[second]);
        for (output, (first_alone, second_alone)) in together.iter().zip(expected) {
            let rows = [first_alone, second_alone].map(|tensor| tensor.shape()[0]);
            let expected_rows = [first, second].map(|call| ROWS[call] as u64);
            let name = output.name();
            if rows != expected_rows || output.shape()[0] != rows[0] + rows[1] {
                return Ok(Some(format!(
                    "output {name:?} has not one row for each row of the inputs"
                )));
            }
            if !agree(&joined_tensor(first_alone, second_alone), output) {
                return Ok(Some(format!(
                    "rows of output {name:?} depend on other rows of the inputs"
                )));
            }
        }
    }
    Ok(None)
}

async fn run(replica: &dyn Replica, call: Vec<Tensor>) -> Result<Vec<Tensor>, DeviceError> {
    let mut result = replica.run(0, Batch { calls: vec![call] }).await?;
    Ok(result.calls.pop().unwrap_or_default())
}

fn joined(first: &[Tensor], second: &[Tensor]) -> Vec<Tensor> {
    first.iter().zip(second).map(|(first, second)| joined_tensor(first, second)).collect()
}

fn joined_tensor(first: &Tensor, second: &Tensor) -> Tensor {
    let mut shape = first.shape().to_vec();
    shape[0] += second.shape()[0];
    let data = [&first.data()[..], &second.data()[..]].concat();
    Tensor::new(first.name().clone(), first.dtype(), shape, data)
        .expect("rows of equal size make a tensor")
}

fn agree(expected: &Tensor, actual: &Tensor) -> bool {
    macro_rules! close {
        ($type:ty, $tolerance:expr) => {
            expected.to_elements::<$type>().iter().zip(&*actual.to_elements::<$type>()).all(
                |(&expected, &actual)| close(f64::from(expected), f64::from(actual), $tolerance),
            )
        };
    }
    match expected.dtype() {
        DataType::Fp16 => close!(f16, HALF_TOLERANCE),
        DataType::Bf16 => close!(bf16, HALF_TOLERANCE),
        DataType::Fp32 => close!(f32, TOLERANCE),
        DataType::Fp64 => close!(f64, TOLERANCE),
        _ => expected.data() == actual.data(),
    }
}

fn close(expected: f64, actual: f64, tolerance: f64) -> bool {
    let scale = expected.abs().max(actual.abs()).max(1.0);
    expected == actual
        || (expected.is_nan() && actual.is_nan())
        || (expected - actual).abs() <= tolerance * scale
}
