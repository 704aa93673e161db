//! What the host must refuse with an error of its own, by name.

use quern_sdk::{
    bindings::quern::ml::gpu as contract,
    gpu::{Dtype, Operator, Range, Session, Tensor},
};
use serde_json::json;

use crate::Outcome;

/// Does something wrong; answers with what came of it if it was not refused. Null if there is
/// nothing wrong of this name.
pub(crate) fn provoke(name: &str, count: u64) -> Outcome {
    match name {
        "sessions" => return sessions(count),
        "tensors" => return tensors(count),
        "large" => return large(),
        "ended" => return Ok(ended()),
        _ => {}
    }
    let session = Session::with_memory(1 << 20)?;
    let x = session.tensor([2, 3], &[1.0f32; 6])?;
    let made = match name {
        "shapes" => x.matmul(&x)?,
        "mixed" => x.add(&session.full([3], 1i64)?)?,
        "dtype" => x.not()?,
        "inputs" => only(session.run(&Operator::Matmul, &[&x])?),
        "rank" => x.reshape([1, 1, 1, 1, 1, 1, 1, 2, 3])?,
        "overflow" => x.broadcast([1 << 40, 1 << 40, 2, 3])?,
        "fill-rank" => session.full([1u64; 9], 1.0f32)?,
        "wide" => x.broadcast([1 << 30, 2, 3])?,
        "length" => session.upload(Dtype::Fp32, [2, 3], &[0; 23])?,
        "bool" => session.upload(Dtype::Bool, [3], &[0, 1, 2])?,
        "scalar" => session.fill(Dtype::Uint8, [2], 256i64)?,
        "axis" => x.sum(&[2])?,
        "negative-axis" => x.sum(&[-3])?,
        "range" => x.slice(&[Range { start: 0, end: 3, step: 1 }; 2])?,
        "part" => x.narrow(0, 1..3)?,
        "empty" => Tensor::concat(&[], 0)?,
        "elements" => return Ok(json!(x.to_vec::<i32>()?)),
        "foreign" => {
            let other = Session::with_memory(1 << 20)?;
            only(other.run(&Operator::Copy, &[&x])?)
        }
        "memory" => session.full([1 << 40], 1u8)?,
        "granted" => return Session::with_memory(1 << 40).map(|_| json!("opened")),
        "index" => x.gather(0, &session.full([1], 2i64)?)?,
        "after-index" => {
            // That it failed is told by the first that waits for it, and by everything after.
            let gathered = x.gather(0, &session.full([1], 2i64)?);
            let _ = gathered.and_then(|gathered| gathered.to_bytes());
            x.neg()?
        }
        "released" => {
            let view = x.transpose()?;
            drop(x);
            view
        }
        _ => return Ok(json!(null)),
    };
    session.finish()?;
    Ok(json!(made.to_bytes()?.len()))
}

fn only(mut made: Vec<Tensor>) -> Tensor {
    made.pop().expect("an operator has a result")
}

/// Opens so many sessions.
fn sessions(count: u64) -> Outcome {
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(Session::with_memory(4_096)?);
    }
    Ok(json!(sessions.len()))
}

/// Keeps so many tensors.
fn tensors(count: u64) -> Outcome {
    let session = Session::open()?;
    let one = session.scalar(1.0f32)?;
    let mut tensors = Vec::new();
    for _ in 0..count {
        tensors.push(one.reshape([1])?);
    }
    Ok(json!(tensors.len()))
}

/// Reads 8 MiB that were made on the device.
fn large() -> Outcome {
    let session = Session::open()?;
    Ok(json!(session.full([8 << 20], 1u8)?.to_bytes()?.len()))
}

/// Uses tensors of a session that has ended, which the library doesn't let happen: what each way to
/// use them is answered.
fn ended() -> serde_json::Value {
    let session = contract::Session::open(None).expect("a session");
    let description = contract::Description { dtype: Dtype::Uint8, shape: vec![1] };
    let tensor = session.upload(&description, &[1]).expect("there is room");
    drop(session);
    let other = contract::Session::open(None).expect("its memory is free");
    let answers = [
        tensor.describe().err(),
        tensor.read().err(),
        other.run(&Operator::Copy, &[&tensor]).err(),
    ];
    json!(answers.map(|error| error.map(|error| format!("{error:?}"))))
}
