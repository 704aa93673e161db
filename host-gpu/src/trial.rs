//! Finds out by running a model whether its rows are independent, so that calls may share a run.
//! Never takes that from the file: a graph can mix its rows anywhere.

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use half::{bf16, f16};
use quern_types::{
    Batch, BatchAxis, DataType, Device, DeviceError, Engine, ModelSource, ModelSpec, Replica,
    Tensor, TensorSpec,
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

/// Lengths that dimensions beside the rows are given where they may differ from call to call, in
/// the order in which they are tried: short ones as of sequences, then longer ones, as of pictures
/// that a network makes smaller and smaller.
const LENGTHS: [u64; 4] = [6, 9, 32, 224];
/// Lengths with which rows must be independent, if the model runs with so many of them.
const COMPARED: usize = 2;
/// How often calls are made up for a model with outputs that are not floats: of few different
/// values, those of other rows may well be the same.
const DRAWS: usize = 4;

/// Loads a model on an engine, which validates it, and finds out whether the rows of its tensors
/// are independent: the rows of two calls must come out of a run with both as out of a run of
/// each. Other dimensions that may differ from call to call are the same in both, as in every run.
/// Where they don't, or the model can't be run on random inputs, calls run one by one. A model that
/// the engine is not to be given is not loaded.
pub async fn trial(
    device: &dyn Device,
    onnx: Bytes,
    outline: &ModelOutline,
    engine: Engine,
    max_rows: u32,
) -> Result<BatchAxis, DeviceError> {
    if let Some(refusal) = outline.refusals.iter().find(|refusal| refusal.engine == engine) {
        return Err(DeviceError::Load { engine, reason: refusal.reason.clone() });
    }
    let batch = BatchAxis::None { reason: "it is on trial".into() };
    let spec = ModelSpec::new(outline.signature.clone(), engine, batch);
    // It runs on one lane only, and some engines have weights for each.
    let spec = Arc::new(ModelSpec { lanes: Some(NonZeroU32::MIN), ..spec });
    let replica = device.load(ModelSource { onnx, spec: spec.clone() }).await?;
    let reason = match &outline.batch {
        BatchCandidate::None { reason } => reason.clone(),
        BatchCandidate::Rows if max_rows < 2 => "it may run one row at a time only".into(),
        BatchCandidate::Rows if !is_small(&spec, LENGTHS[0]) => {
            "its rows are too large to be tried".into()
        }
        BatchCandidate::Rows => match rows_mix(&*replica, &spec).await? {
            None => return Ok(BatchAxis::Rows { max: max_rows }),
            Some(reason) => reason,
        },
    };
    Ok(BatchAxis::None { reason })
}

fn is_small(spec: &ModelSpec, length: u64) -> bool {
    spec.signature.inputs().iter().all(|input| {
        let mut row = tail(input, length);
        row.try_fold(1u64, u64::checked_mul).is_some_and(|elements| elements <= MOST_ELEMENTS)
    })
}

/// The dimensions of an input but the first, those that may differ with this length.
fn tail(input: &TensorSpec, length: u64) -> impl Iterator<Item = u64> {
    input.shape[1..].iter().map(move |&dim| u64::try_from(dim).unwrap_or(length))
}

/// What random rows showed.
enum Shown {
    Independent,
    /// They are not, and why.
    Mixed(String),
    /// Nothing, since the model does not run on them, and why.
    Nothing(String),
}

/// Why the model's rows are not independent, as far as random rows show; none if they are.
async fn rows_mix(replica: &dyn Replica, spec: &ModelSpec) -> Result<Option<String>, DeviceError> {
    let inputs = spec.signature.inputs();
    let vary = inputs.iter().any(|input| input.shape[1..].iter().any(|&dim| dim < 0));
    let lengths = if vary { &LENGTHS[..] } else { &LENGTHS[..1] };
    let mut random = Random::new();
    let (mut compared, mut failure) = (0, None);
    for &length in lengths.iter().filter(|&&length| is_small(spec, length)) {
        match try_length(replica, spec, length, &mut random).await? {
            Shown::Independent => compared += 1,
            Shown::Mixed(reason) => return Ok(Some(reason)),
            Shown::Nothing(reason) => failure = Some(reason),
        }
        if compared == COMPARED {
            break;
        }
    }
    let failure = failure.filter(|_| compared == 0);
    Ok(failure.map(|reason| format!("it does not run on random inputs: {reason}")))
}

async fn try_length(
    replica: &dyn Replica,
    spec: &ModelSpec,
    length: u64,
    random: &mut Random,
) -> Result<Shown, DeviceError> {
    let mut shown = Shown::Independent;
    for integers in INTEGERS {
        shown = try_integers(replica, spec, (length, integers), random).await?;
        if !matches!(shown, Shown::Nothing(_)) {
            break;
        }
    }
    Ok(shown)
}

/// The same with integers of one range.
async fn try_integers(
    replica: &dyn Replica,
    spec: &ModelSpec,
    (length, integers): (u64, (u8, u8)),
    random: &mut Random,
) -> Result<Shown, DeviceError> {
    let is_float = |output: &TensorSpec| {
        matches!(output.dtype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
    };
    let draws = if spec.signature.outputs().iter().all(is_float) { 1 } else { DRAWS };
    for _ in 0..draws {
        let mut call = |rows| sample::call(&spec.signature, rows as u64, length, integers, random);
        let shown = match (call(ROWS[0]), call(ROWS[1])) {
            (Ok(a), Ok(b)) => compare(replica, &a, &b).await?,
            (Err(reason), _) | (_, Err(reason)) => return Ok(Shown::Mixed(reason)),
        };
        if !matches!(shown, Shown::Independent) {
            return Ok(shown);
        }
    }
    Ok(Shown::Independent)
}

/// Runs two calls alone, and together in either order.
async fn compare(replica: &dyn Replica, a: &[Tensor], b: &[Tensor]) -> Result<Shown, DeviceError> {
    let calls = [a, b];
    let mut alone = Vec::new();
    for call in calls {
        match run(replica, call.to_vec()).await? {
            Ok(outputs) => alone.push(outputs),
            Err(reason) => return Ok(Shown::Nothing(reason)),
        }
    }
    for (first, second) in [(0, 1), (1, 0)] {
        let together = match run(replica, joined(calls[first], calls[second])).await? {
            Ok(outputs) => outputs,
            Err(reason) => return Ok(Shown::Mixed(format!("calls don't run together: {reason}"))),
        };
        let rows = [ROWS[first] as u64, ROWS[second] as u64];
        let expected = alone[first].iter().zip(&alone[second]);
        for (output, (first_alone, second_alone)) in together.iter().zip(expected) {
            if let Some(reason) = differs(rows, [first_alone, second_alone], output) {
                return Ok(Shown::Mixed(reason));
            }
        }
    }
    Ok(Shown::Independent)
}

/// What is wrong with an output of two calls together, given that of each alone and their rows.
fn differs(rows: [u64; 2], alone: [&Tensor; 2], together: &Tensor) -> Option<String> {
    let name = together.name();
    if alone.map(|tensor| tensor.shape()[0]) != rows || together.shape()[0] != rows[0] + rows[1] {
        return Some(format!("output {name:?} has not one row for each row of the inputs"));
    }
    if alone.iter().any(|tensor| tensor.shape()[1..] != together.shape()[1..]) {
        return Some(format!("the shape of output {name:?} depends on other rows of the inputs"));
    }
    let agrees = agree(&joined_tensor(alone[0], alone[1]), together);
    (!agrees).then(|| format!("rows of output {name:?} depend on other rows of the inputs"))
}

/// The outputs of a call, or why the engine failed on it.
async fn run(
    replica: &dyn Replica,
    call: Vec<Tensor>,
) -> Result<Result<Vec<Tensor>, String>, DeviceError> {
    match replica.run(0, Batch { calls: vec![call] }).await {
        Ok(mut result) => Ok(Ok(result.calls.pop().unwrap_or_default())),
        Err(DeviceError::Run { reason, .. }) => Ok(Err(reason)),
        Err(error) => Err(error),
    }
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
