//! Models that an engine is never given: those that it would compute otherwise than ONNX says, and
//! those with tensors that it has no type for. What it can't compute it refuses by itself. All of
//! them were found by the standard's own tests, as docs/conformance.md has it.

use std::borrow::Cow;

use quern_types::{DataType, Engine, Side, Signature, TensorSpec};
use tract_onnx::pb::{
    self, tensor_proto::DataType as OnnxType, tensor_shape_proto::dimension::Value as OnnxDim,
    type_proto::Value as OnnxValue,
};

/// A model that an engine is not to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The engine.
    pub engine: Engine,
    /// Why, and what to do about it.
    pub reason: String,
}

/// What speaks against each engine.
pub(crate) fn refusals(model: &pb::ModelProto, signature: &Signature) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    if let Some(graph) = &model.graph {
        search(graph, signature, &mut reasons);
    }
    let functions = model.functions.iter().flat_map(|function| &function.node);
    reasons.extend(functions.filter_map(deviation));
    let refusal = |engine| move |reason: String| Refusal { engine, reason };
    let untyped = without_type(signature).map(refusal(Engine::Tract));
    reasons.into_iter().map(refusal(Engine::OnnxRuntime)).chain(untyped).collect()
}

/// A tensor of the signature that tract has no type for.
fn without_type(signature: &Signature) -> Option<String> {
    let side = |side: Side, specs: &[TensorSpec]| {
        let found =
            specs.iter().find(|spec| matches!(spec.dtype, DataType::Bf16 | DataType::Bytes))?;
        let (name, dtype) = (&found.name, found.dtype);
        Some(format!("{side} {name:?} is {dtype}, which it has not: use engine \"onnxruntime\""))
    };
    side(Side::Input, signature.inputs()).or_else(|| side(Side::Output, signature.outputs()))
}

/// Goes through a graph and those inside its nodes.
fn search(graph: &pb::GraphProto, signature: &Signature, reasons: &mut Vec<String>) {
    for node in &graph.node {
        reasons.extend(deviation(node).or_else(|| resize(node, graph, signature)));
        for attribute in &node.attribute {
            let inner = attribute.g.iter().chain(&attribute.graphs);
            inner.for_each(|graph| search(graph, signature, reasons));
        }
    }
}

/// What ONNX Runtime (1.30) computes otherwise, as far as the node alone shows it.
fn deviation(node: &pb::NodeProto) -> Option<String> {
    let reason = match operator(node)? {
        "Attention" if deviates(node) => {
            "an Attention gives its scores (qk_matmul_output) with a softcap or a causal mask, at \
             another stage than ONNX says: leave that output out"
        }
        "MaxUnpool" if is_given(node.input.get(2)) => {
            "a MaxUnpool has an output_shape, with which it puts elements elsewhere than ONNX says"
        }
        _ => return None,
    };
    Some(reason.into())
}

/// Whether an Attention gives its scores at a stage where ONNX Runtime means another: before the
/// softcap it gives what comes behind it, and behind the mask what comes before.
fn deviates(node: &pb::NodeProto) -> bool {
    let stage = attribute(node, "qk_matmul_output_mode").map_or(0, |stage| stage.i);
    let is_capped = attribute(node, "softcap").is_some_and(|cap| cap.f != 0.0);
    let is_causal = attribute(node, "is_causal").is_some_and(|causal| causal.i != 0);
    is_given(node.output.get(3)) && ((stage == 0 && is_capped) || (stage == 2 && is_causal))
}

/// ONNX aligns corners by the length that a scale leads to, ONNX Runtime by that length without its
/// fraction. Where the lengths are known to have none, or nothing is known, they don't differ or
/// can't be told to.
fn resize(node: &pb::NodeProto, graph: &pb::GraphProto, signature: &Signature) -> Option<String> {
    const REASON: &str = "a Resize aligns corners by scales that don't make whole lengths, which \
                          it rounds before, and ONNX after that: give it sizes instead";
    if operator(node)? != "Resize"
        || attribute(node, "coordinate_transformation_mode")?.s != b"align_corners"
    {
        return None;
    }
    let scales = node.input.get(2).filter(|name| !name.is_empty())?;
    if signature.inputs().iter().any(|input| *input.name == **scales) {
        return Some(REASON.into());
    }
    let scales = constant(graph, scales)?;
    let lengths = lengths(graph, node.input.first()?)?;
    let has_fraction = |(length, scale): (Option<i64>, &f32)| {
        let exact = length.map_or(0.0, |length| length as f64 * f64::from(*scale));
        (exact - exact.round()).abs() > 1e-3
    };
    lengths.into_iter().zip(&*scales).any(has_fraction).then(|| REASON.into())
}

/// An operator of ONNX itself.
fn operator(node: &pb::NodeProto) -> Option<&str> {
    matches!(&*node.domain, "" | "ai.onnx").then_some(&node.op_type)
}

fn attribute<'a>(node: &'a pb::NodeProto, name: &str) -> Option<&'a pb::AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn is_given(name: Option<&String>) -> bool {
    name.is_some_and(|name| !name.is_empty())
}

/// The numbers of a tensor that is part of the graph.
fn constant<'a>(graph: &'a pb::GraphProto, name: &str) -> Option<Cow<'a, [f32]>> {
    if let Some(tensor) = graph.initializer.iter().find(|tensor| tensor.name == name) {
        return floats(tensor);
    }
    let made = |node: &&pb::NodeProto| node.output.iter().any(|output| output == name);
    let node = graph.node.iter().find(made).filter(|node| operator(node) == Some("Constant"))?;
    match attribute(node, "value_floats") {
        Some(attribute) => Some(attribute.floats.as_slice().into()),
        None => floats(attribute(node, "value")?.t.as_ref()?),
    }
}

fn floats(tensor: &pb::TensorProto) -> Option<Cow<'_, [f32]>> {
    if tensor.data_type != OnnxType::Float as i32 {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return Some(tensor.float_data.as_slice().into());
    }
    let (numbers, _) = tensor.raw_data.as_chunks();
    Some(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// The dimensions of a tensor as the file states them; none for one that varies.
fn lengths(graph: &pb::GraphProto, name: &str) -> Option<Vec<Option<i64>>> {
    let info = graph.input.iter().chain(&graph.value_info).find(|info| info.name == name)?;
    let Some(OnnxValue::TensorType(tensor)) = &info.r#type.as_ref()?.value else { return None };
    let length = |dim: &pb::tensor_shape_proto::Dimension| match dim.value {
        Some(OnnxDim::DimValue(length)) => Some(length),
        _ => None,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(length).collect())
}
