//! The inputs and outputs that a graph declares, and whether their first dimensions can count
//! rows. Knows nothing of any engine.

use std::sync::Arc;

use quern_types::{DataType, Side, TensorSpec};
use tract_onnx::pb::{
    self,
    tensor_proto::DataType as OnnxType,
    tensor_shape_proto::dimension::Value as OnnxDim,
    type_proto::{Tensor as OnnxTensor, Value as OnnxValue},
};

use crate::{BatchCandidate, InspectError};

/// An input or output as the file declares it.
pub(crate) struct Port {
    pub(crate) name: Arc<str>,
    pub(crate) dtype: DataType,
    /// None where the file gives no shape.
    pub(crate) dims: Option<Vec<Dim>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dim {
    Fixed(i64),
    Named(String),
    Open,
}

impl Port {
    pub(crate) fn new(side: Side, info: &pb::ValueInfoProto) -> Result<Self, InspectError> {
        let value = info.r#type.as_ref().and_then(|kind| kind.value.as_ref());
        let Some(OnnxValue::TensorType(tensor)) = value else {
            let found = "without a type";
            return Err(InspectError::NotATensor { side, name: info.name.clone(), found });
        };
        let dtype = data_type(tensor).map_err(|found| InspectError::ElementType {
            side,
            name: info.name.clone(),
            found,
        })?;
        let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(Dim::new).collect());
        Ok(Self { name: info.name.as_str().into(), dtype, dims })
    }

    pub(crate) fn dims(&self) -> &[Dim] {
        self.dims.as_deref().unwrap_or_default()
    }

    pub(crate) fn into_spec(self) -> TensorSpec {
        let shape = self.dims().iter().map(Dim::size).collect();
        TensorSpec { name: self.name, dtype: self.dtype, shape, range: None }
    }
}

impl Dim {
    fn new(dim: &pb::tensor_shape_proto::Dimension) -> Self {
        match &dim.value {
            Some(OnnxDim::DimValue(size)) if *size >= 0 => Self::Fixed(*size),
            Some(OnnxDim::DimParam(name)) if !name.is_empty() && name != "?" => {
                Self::Named(name.clone())
            }
            _ => Self::Open,
        }
    }

    fn size(&self) -> i64 {
        match self {
            Self::Fixed(size) => *size,
            Self::Named(_) | Self::Open => -1,
        }
    }
}

fn data_type(tensor: &OnnxTensor) -> Result<DataType, String> {
    let onnx =
        OnnxType::try_from(tensor.elem_type).map_err(|_| format!("number {}", tensor.elem_type))?;
    Ok(match onnx {
        OnnxType::Bool => DataType::Bool,
        OnnxType::Uint8 => DataType::Uint8,
        OnnxType::Uint16 => DataType::Uint16,
        OnnxType::Uint32 => DataType::Uint32,
        OnnxType::Uint64 => DataType::Uint64,
        OnnxType::Int8 => DataType::Int8,
        OnnxType::Int16 => DataType::Int16,
        OnnxType::Int32 => DataType::Int32,
        OnnxType::Int64 => DataType::Int64,
        OnnxType::Float16 => DataType::Fp16,
        OnnxType::Bfloat16 => DataType::Bf16,
        OnnxType::Float => DataType::Fp32,
        OnnxType::Double => DataType::Fp64,
        OnnxType::String => DataType::Bytes,
        other => return Err(other.as_str_name().to_owned()),
    })
}

/// Whether the first dimension of all tensors may count rows.
pub(crate) fn candidate(inputs: &[Port], outputs: &[Port]) -> BatchCandidate {
    let rows = common_rows(inputs).and_then(|()| open_first(Side::Output, outputs));
    match rows {
        Ok(()) => BatchCandidate::Rows,
        Err(reason) => BatchCandidate::None { reason },
    }
}

/// Whether the inputs have rows in common: an open first dimension, no two names for it, and none
/// that stands for another dimension as well.
pub(crate) fn common_rows(inputs: &[Port]) -> Result<(), String> {
    if inputs.is_empty() {
        return Err("it has no inputs".into());
    }
    open_first(Side::Input, inputs)?;
    let named = |port: &Port| match port.dims().first() {
        Some(Dim::Named(name)) => Some((port.name.clone(), name.clone())),
        _ => None,
    };
    let mut names = inputs.iter().filter_map(named);
    let Some((first, rows)) = names.next() else { return Ok(()) };
    if let Some((input, other)) = names.find(|(_, other)| *other != rows) {
        return Err(format!(
            "the first dimension of input {first:?} is {rows:?}, that of {input:?} is {other:?}"
        ));
    }
    let is_rows = |dim: &Dim| matches!(dim, Dim::Named(name) if *name == rows);
    for Port { name, dims, .. } in inputs {
        if let Some(axis) = dims.iter().flatten().skip(1).position(is_rows) {
            return Err(format!("dimension {} of input {name:?} is {rows:?} as well", axis + 1));
        }
    }
    Ok(())
}

/// Whether nothing but rows varies from call to call.
pub(crate) fn only_rows_vary(inputs: &[Port]) -> bool {
    let mut tails = inputs.iter().flat_map(|input| input.dims().iter().skip(1));
    tails.all(|dim| matches!(dim, Dim::Fixed(_)))
}

/// Whether all ports have a first dimension that varies. How an exporter names that of an output
/// says nothing, since many make a name up for each.
fn open_first(side: Side, ports: &[Port]) -> Result<(), String> {
    if let Some(port) = ports.iter().find(|port| port.dims().is_empty()) {
        return Err(format!("{side} {:?} has no dimensions", port.name));
    }
    for port in ports {
        let name = &port.name;
        if let [Dim::Fixed(size), ..] = port.dims() {
            return Err(format!("the first dimension of {side} {name:?} is always {size}"));
        }
    }
    Ok(())
}
