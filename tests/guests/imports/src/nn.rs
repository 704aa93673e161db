//! `wasi:nn`: computes a model by its name, and does what the host must refuse.

use quern_sdk::Request;
use serde_json::{Value, json};

use crate::{
    Outcome, number, text,
    wasi::nn::{
        errors::Error,
        graph::{self, ExecutionTarget, GraphEncoding},
        tensor::{Tensor, TensorType},
    },
};

/// Computes `?model=` on `?rows=` images whose every pixel is `?value=`. `?name=`, `?bytes=` and
/// `?type=` break the input.
pub(crate) fn compute(request: &Request) -> Outcome {
    let graph = graph::load_by_name(&text(request, "model")).map_err(describe)?;
    let context = graph.init_execution_context().map_err(describe)?;
    let rows = number(request, "rows") as u32;
    let value = number(request, "value") as f32;
    let mut data: Vec<u8> = (0..rows * 64).flat_map(|_| value.to_le_bytes()).collect();
    if let Some(bytes) = request.query("bytes") {
        data.truncate(bytes.parse().expect("a number"));
    }
    let kind = match text(request, "type").as_str() {
        "I32" => TensorType::I32,
        _ => TensorType::Fp32,
    };
    let input = Tensor::new(&[rows, 64], kind, &data);
    let seen = (input.dimensions(), format!("{:?}", input.ty()), input.data().len());
    let name = request.query("name").unwrap_or_else(|| "image".into());
    let outputs = context.compute(vec![(name, input)]).map_err(describe)?;
    let output = |(name, tensor): (String, Tensor)| {
        let numbers: Vec<f32> = tensor
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("4 bytes")))
            .collect();
        let kind = format!("{:?}", tensor.ty());
        json!({ "name": name, "shape": tensor.dimensions(), "type": kind, "data": numbers })
    };
    Ok(json!({ "seen": seen, "outputs": outputs.into_iter().map(output).collect::<Vec<Value>>() }))
}

/// Brings a model of its own.
pub(crate) fn load() -> Outcome {
    let loaded = graph::load(&[vec![0; 16]], GraphEncoding::Onnx, ExecutionTarget::Cpu);
    loaded.map(|_| Value::Null).map_err(describe)
}

/// Keeps `?tensors=` tensors of 1 MiB at once.
pub(crate) fn hoard(request: &Request) -> Outcome {
    let data = vec![0; 1 << 20];
    let tensor = |_| Tensor::new(&[1 << 20], TensorType::U8, &data);
    let tensors: Vec<Tensor> = (0..number(request, "tensors")).map(tensor).collect();
    Ok(json!(tensors.len()))
}

fn describe(error: Error) -> String {
    format!("{:?}: {}", error.code(), error.data())
}
