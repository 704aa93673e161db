//! Writes the benchmark MLP as an ONNX file: 256 → 512 → 512 → 10 with ReLU between, seeded
//! weights, input `x`, output `y`. It is 1.6 MB, so it is made when needed and never committed.
//!
//!     cargo run --release -p quern-host-gpu --example mlp -- target/mlp.onnx

use std::{env, fs, path::PathBuf, process::ExitCode};

use prost::Message as _;
use tract_onnx::pb;

const LAYERS: [usize; 4] = [256, 512, 512, 10];
const OPSET: i64 = 17;

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: mlp FILE.onnx");
        return ExitCode::FAILURE;
    };
    match fs::write(&path, mlp().encode_to_vec()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("can't write {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn mlp() -> pb::ModelProto {
    let mut random = 1;
    let mut graph = pb::GraphProto {
        name: "mlp".into(),
        input: vec![port("x", LAYERS[0])],
        output: vec![port("y", LAYERS[LAYERS.len() - 1])],
        ..Default::default()
    };
    let mut current = "x".to_owned();
    for (layer, sizes) in LAYERS.windows(2).enumerate() {
        let (weights, bias) = (format!("weights{layer}"), format!("bias{layer}"));
        let last = layer + 2 == LAYERS.len();
        let sum = if last { "y".to_owned() } else { format!("sum{layer}") };
        graph.initializer.push(tensor(&weights, &[sizes[0], sizes[1]], &mut random));
        graph.initializer.push(tensor(&bias, &[sizes[1]], &mut random));
        graph.node.push(node("Gemm", &[&current, &weights, &bias], &sum));
        current = format!("hidden{layer}");
        if !last {
            graph.node.push(node("Relu", &[&sum], &current));
        }
    }
    pb::ModelProto {
        ir_version: 8,
        producer_name: "quern".into(),
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: OPSET }],
        graph: Some(graph),
        ..Default::default()
    }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        name: format!("{operator}-{output}"),
        op_type: operator.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

/// Weights around zero, scaled by the fan-in so that activations neither vanish nor explode.
fn tensor(name: &str, shape: &[usize], random: &mut u64) -> pb::TensorProto {
    let scale = (6.0 / shape[0] as f32).sqrt();
    let mut next = || {
        *random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((*random >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
    };
    let elements = shape.iter().product();
    pb::TensorProto {
        name: name.into(),
        data_type: pb::tensor_proto::DataType::Float as i32,
        dims: shape.iter().map(|&dim| dim as i64).collect(),
        raw_data: (0..elements).flat_map(|_| next().to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn port(name: &str, width: usize) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |value| Dimension { value: Some(value), ..Default::default() };
    let shape = pb::TensorShapeProto {
        dim: vec![dim(Value::DimParam("batch".into())), dim(Value::DimValue(width as i64))],
    };
    let tensor = pb::type_proto::Tensor {
        elem_type: pb::tensor_proto::DataType::Float as i32,
        shape: Some(shape),
    };
    pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}
