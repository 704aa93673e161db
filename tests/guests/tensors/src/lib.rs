//! Computes on the host's device in the ways that the host must answer well, and reports what it
//! said: `{"ok": …}` or `{"error": {"kind": …, "message": …}}`. What is done is the path.

mod catalogue;
mod faults;
mod timing;
mod training;

use std::sync::atomic::{AtomicU64, Ordering};

use quern_sdk::{
    Error, Request, Response,
    gpu::{self, Dtype, Session, Tensor},
};
use serde_json::{Value, json};

quern_sdk::http!(drive);

type Outcome = Result<Value, gpu::Error>;

fn drive(mut request: Request) -> Result<Response, Error> {
    let number = |name: &str, default: u64| match request.query(name) {
        Some(text) => text.parse().map_err(|_| Error::invalid_input(format!("{name} = {text}"))),
        None => Ok(default),
    };
    let path = request.path().trim_start_matches('/').to_owned();
    let outcome = match &path[..] {
        "layer" => layer(),
        "device" => Session::open().map(|session| json!(session.device())),
        "upload" => upload(number("bytes", 4)?),
        "many" => many(number("count", 1_000)?),
        "work" => work(number("size", 256)?, number("times", 1)?),
        "time/add" => timing::add(number("size", 1)?, number("times", 1_000)?),
        "time/upload" => timing::upload(number("size", 4)?, number("times", 100)?),
        "requests" => Ok(json!(count_requests())),
        "keep" => keep(),
        "hold" => return hold(&mut request),
        "trap" => trap(number("bytes", 1 << 20)?),
        path => match path.split_once('/') {
            Some(("operator", name)) => operator(name),
            Some(("fault", name)) => faults::provoke(name, number("count", 1)?),
            _ => return Ok(Response::new(404)),
        },
    };
    Response::json(&match outcome {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": {
            "kind": format!("{:?}", error.kind()), "message": error.message(),
        } }),
    })
}

/// One layer of a network.
fn layer() -> Outcome {
    let session = Session::open()?;
    let x = session.tensor([2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    let w = session.tensor([3, 2], &[1.0f32, -1.0, 0.5, 0.25, -1.0, 1.0])?;
    let b = session.tensor([2], &[0.5f32, 0.0])?;
    let y = x.matmul(&w)?.add(&b)?.relu()?;
    Ok(json!({ "shape": y.shape()?, "values": y.to_vec::<f32>()? }))
}

fn operator(name: &str) -> Outcome {
    let session = Session::open()?;
    let result = catalogue::run(name, &session).or_else(|| training::run(name, &session));
    match result {
        Some(result) => describe(&result?),
        None => Ok(Value::Null),
    }
}

fn describe(tensor: &Tensor) -> Outcome {
    let dtype = tensor.dtype()?;
    let values = match dtype {
        Dtype::Bool => json!(tensor.to_vec::<bool>()?),
        Dtype::Int32 => json!(tensor.to_vec::<i32>()?),
        Dtype::Int64 => json!(tensor.to_vec::<i64>()?),
        Dtype::Fp32 => json!(tensor.to_vec::<f32>()?),
        _ => json!(tensor.to_bytes()?),
    };
    Ok(json!({ "dtype": dtype.to_string(), "shape": tensor.shape()?, "values": values }))
}

/// Sends bytes there and back; answers with what the session had in between, and after it.
fn upload(bytes: u64) -> Outcome {
    let session = Session::open()?;
    let sent: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
    let tensor = session.tensor([bytes], &sent)?;
    let usage = session.usage();
    let same = tensor.to_vec::<u8>()? == sent;
    drop(tensor);
    let after = session.usage();
    Ok(json!({ "same": same, "bytes": usage.bytes, "tensors": usage.tensors, "left": after.bytes }))
}

/// Adds 1 to 0 so many times, each time to what came out before.
fn many(count: u64) -> Outcome {
    let session = Session::open()?;
    let one = session.scalar(1.0f64)?;
    let mut sum = session.scalar(0.0f64)?;
    for _ in 0..count {
        sum = sum.add(&one)?;
    }
    Ok(json!(sum.item::<f64>()?))
}

/// Multiplies square matrices of ones so many times, and waits for it.
fn work(size: u64, times: u64) -> Outcome {
    let session = Session::open()?;
    let ones = session.full([size, size], 1.0f32)?;
    for _ in 0..times {
        ones.matmul(&ones)?;
    }
    session.finish()?;
    Ok(json!(session.usage().tensors))
}

/// Requests that this instance has seen of this kind.
fn count_requests() -> u64 {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    SEEN.fetch_add(1, Ordering::Relaxed) + 1
}

/// Leaves a session and a tensor behind.
fn keep() -> Outcome {
    let session = Session::open()?;
    std::mem::forget(session.full([1_024], 1u8)?);
    Ok(json!(count_requests()))
}

/// Has a session and a tensor until the end of the request's body, which it answers with.
fn hold(request: &mut Request) -> Result<Response, Error> {
    let session = Session::open()?;
    let held = session.full([1_024], 1u8)?;
    let body = request.body().read_whole(1_024)?;
    let sum = held.sum_all()?.item::<i64>()?;
    Response::json(&json!({ "ok": sum, "body": String::from_utf8_lossy(&body) }))
}

/// Ends in the middle of it.
fn trap(bytes: u64) -> Outcome {
    let session = Session::open()?;
    let kept = session.full([bytes], 1u8)?;
    let sum = kept.cast(Dtype::Fp32)?.sum_all()?.item::<f32>()?;
    panic!("the device has {} bytes that sum up to {sum}", session.usage().bytes);
}
