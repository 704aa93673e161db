//! Builds small ONNX files.

use prost::Message as _;
pub(crate) use tract_onnx::pb::tensor_proto::DataType as Onnx;
use tract_onnx::pb::{self, tensor_shape_proto::dimension::Value};

/// A dimension of an input or output.
#[derive(Clone, Copy)]
pub(crate) enum Dim {
    Fixed(i64),
    Named(&'static str),
    Open,
}

pub(crate) use Dim::{Fixed, Named, Open};

/// A graph that is filled in step by step.
#[derive(Clone, Default)]
pub(crate) struct Graph(pub(crate) pb::GraphProto);

impl Graph {
    pub(crate) fn input(mut self, name: &str, dtype: Onnx, dims: &[Dim]) -> Self {
        self.0.input.push(port(name, dtype, Some(dims)));
        self
    }

    pub(crate) fn output(mut self, name: &str, dtype: Onnx, dims: &[Dim]) -> Self {
        self.0.output.push(port(name, dtype, Some(dims)));
        self
    }

    pub(crate) fn output_without_shape(mut self, name: &str, dtype: Onnx) -> Self {
        self.0.output.push(port(name, dtype, None));
        self
    }

    pub(crate) fn node(mut self, operator: &str, inputs: &[&str], output: &str) -> Self {
        self.0.node.push(pb::NodeProto {
            op_type: operator.into(),
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: vec![output.into()],
            ..Default::default()
        });
        self
    }

    /// An integer attribute of the last node.
    pub(crate) fn with(mut self, name: &str, value: i64) -> Self {
        let node = self.0.node.last_mut().expect("a node comes first");
        node.attribute.push(pb::AttributeProto {
            name: name.into(),
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            i: value,
            ..Default::default()
        });
        self
    }

    /// Changes the last node.
    pub(crate) fn altered(mut self, alter: impl FnOnce(&mut pb::NodeProto)) -> Self {
        alter(self.0.node.last_mut().expect("a node comes first"));
        self
    }

    pub(crate) fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.initializer.push(tensor(name, Onnx::Float, dims, raw_data));
        self
    }

    pub(crate) fn integers(mut self, name: &str, dims: &[i64], values: &[i64]) -> Self {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.initializer.push(tensor(name, Onnx::Int64, dims, raw_data));
        self
    }

    pub(crate) fn model(self) -> pb::ModelProto {
        pb::ModelProto {
            ir_version: 8,
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(self.0),
            ..Default::default()
        }
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        self.model().encode_to_vec()
    }
}

pub(crate) fn tensor(name: &str, dtype: Onnx, dims: &[i64], raw_data: Vec<u8>) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        data_type: dtype as i32,
        dims: dims.into(),
        raw_data,
        ..Default::default()
    }
}

pub(crate) fn port(name: &str, dtype: Onnx, dims: Option<&[Dim]>) -> pb::ValueInfoProto {
    let dim = |dim: &Dim| pb::tensor_shape_proto::Dimension {
        value: match dim {
            Fixed(size) => Some(Value::DimValue(*size)),
            Named(name) => Some(Value::DimParam((*name).into())),
            Open => None,
        },
        ..Default::default()
    };
    let shape = dims.map(|dims| pb::TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let value = pb::type_proto::Value::TensorType(pb::type_proto::Tensor {
        elem_type: dtype as i32,
        shape,
    });
    pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto { value: Some(value), ..Default::default() }),
        ..Default::default()
    }
}

/// `y = x + x`, in rows of three.
pub(crate) fn doubling(dtype: Onnx) -> Graph {
    Graph::default()
        .input("x", dtype, &[Named("batch"), Fixed(3)])
        .output("y", dtype, &[Named("batch"), Fixed(3)])
        .node("Add", &["x", "x"], "y")
}

/// Two inputs and two outputs, each a function of its own row: `sum = a + b·w`, `top = relu(a)`.
pub(crate) fn two_by_two() -> Graph {
    Graph::default()
        .input("a", Onnx::Float, &[Named("batch"), Fixed(2)])
        .input("b", Onnx::Float, &[Open, Fixed(3)])
        .floats("w", &[3, 2], &[1., -2., 0.5, 3., -1., 0.25])
        .node("MatMul", &["b", "w"], "bw")
        .node("Add", &["a", "bw"], "sum")
        .node("Relu", &["a"], "top")
        .output("sum", Onnx::Float, &[Named("batch"), Fixed(2)])
        .output("top", Onnx::Float, &[Open, Fixed(2)])
}
