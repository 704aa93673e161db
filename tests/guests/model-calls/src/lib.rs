//! Calls models in the ways that the host must answer well, and reports what it said:
//! every path takes `?model=`, `/infer` also `&rows=` and `&width=`, `/several` also `&calls=`.

use quern_sdk::{Error, Model, Request, Response, Tensor, wait_all};
use serde_json::{Value, json};

quern_sdk::http!(call);

fn call(request: Request) -> Result<Response, Error> {
    let name = request.query("model").unwrap_or_else(|| "digits-mlp".into());
    let number = |name: &str, default: usize| match request.query(name) {
        Some(text) => text.parse().map_err(|_| Error::invalid_input(format!("{name} = {text}"))),
        None => Ok(default),
    };
    let outcome = match request.path() {
        "/infer" => infer(&name, number("rows", 1)?, number("width", 64)?),
        "/describe" => describe(&name),
        "/several" => several(&name, number("calls", 2)?),
        "/cancel" => cancel(&name),
        _ => return Ok(Response::new(404)),
    };
    Response::json(&outcome.unwrap_or_else(|error| {
        json!({ "error": { "kind": format!("{:?}", error.kind()), "message": error.message() } })
    }))
}

fn infer(name: &str, rows: usize, width: usize) -> Result<Value, Error> {
    let image = Tensor::f32("image", [rows as u64, width as u64], &vec![0.0; rows * width])?;
    let answer = Model::open(name)?.infer(image)?;
    Ok(json!({ "shape": answer.get("probabilities")?.shape() }))
}

fn describe(name: &str) -> Result<Value, Error> {
    let model = Model::open(name)?;
    let describe = |specs: Vec<quern_sdk::TensorSpec>| -> Vec<Value> {
        specs
            .into_iter()
            .map(|spec| {
                let data_type = format!("{:?}", spec.data_type);
                json!({ "name": spec.name, "data-type": data_type, "shape": spec.shape })
            })
            .collect()
    };
    Ok(json!({ "inputs": describe(model.inputs()), "outputs": describe(model.outputs()) }))
}

/// Has several calls under way.
fn several(name: &str, calls: usize) -> Result<Value, Error> {
    let model = Model::open(name)?;
    let image = Tensor::f32("image", [1, 64], &[0.0; 64])?;
    let pending: Vec<_> = (0..calls).map(|_| model.start(image.clone())).collect();
    let answers = wait_all(pending)?;
    Ok(json!({ "answers": answers.len() }))
}

/// Cancels calls that have just begun, and makes another one.
fn cancel(name: &str) -> Result<Value, Error> {
    let model = Model::open(name)?;
    for _ in 0..8 {
        drop(model.start(Tensor::f32("image", [1, 64], &[0.0; 64])?));
    }
    infer(name, 1, 64)
}
