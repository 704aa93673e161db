//! What an ONNX file says about itself, read without any engine: its signature, and whether its
//! tensors have a dimension in common that may count rows. Never runs the model.

use quern_types::{Side, Signature};
use tract_onnx::pb;

use crate::{
    Refusal, engine,
    ports::{Dim, Port, candidate, common_rows, only_rows_vary},
    refusals::refusals,
    wire,
};

/// What is known of a model from its file.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelOutline {
    /// Its inputs and outputs, in the file's order.
    pub signature: Signature,
    /// Whether its calls might share a run.
    pub batch: BatchCandidate,
    /// The engines that it is not to be given to, and why.
    pub refusals: Vec<Refusal>,
}

/// Whether the first dimension of all tensors may count rows. Only a [`crate::trial`] shows
/// whether it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchCandidate {
    /// It may.
    Rows,
    /// It can't.
    None {
        /// Why.
        reason: String,
    },
}

/// Why a file is not a model that can be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Not the protobuf message of ONNX.
    #[error("this is not an ONNX file: {reason}")]
    NotOnnx {
        /// What is wrong.
        reason: String,
    },
    /// Decoding it would take far more memory than its size.
    #[error(
        "this ONNX file would take more than {limit_bytes} bytes of memory to decode: it holds too many empty parts"
    )]
    Expands {
        /// What may be taken.
        limit_bytes: u64,
    },
    /// Weights in another file.
    #[error(
        "tensor {tensor:?} has its data in another file: deploy the model's folder, or save the model as a single file"
    )]
    ExternalData {
        /// The tensor; may be nameless.
        tensor: String,
    },
    /// No graph in it.
    #[error("this ONNX file has no graph")]
    NoGraph,
    /// Nothing comes out of the graph.
    #[error("the graph has no outputs")]
    NoOutputs,
    /// A sequence, a map, ….
    #[error("{side} {name:?} is {found}: only dense tensors are supported")]
    NotATensor {
        /// Where it stands.
        side: Side,
        /// Its name.
        name: String,
        /// What it is.
        found: &'static str,
    },
    /// An element type that can't be served.
    #[error("{side} {name:?} has elements of ONNX type {found}, which is not supported")]
    ElementType {
        /// Where it stands.
        side: Side,
        /// Its name.
        name: String,
        /// The type.
        found: String,
    },
    /// An input without a shape.
    #[error(
        "input {name:?} has no shape: export the model with one, with named dimensions where they may vary"
    )]
    UnknownRank {
        /// Its name.
        name: String,
    },
    /// An output without a shape that can't be inferred either.
    #[error("output {name:?} has no shape in the file, and it can't be inferred: {reason}")]
    UnknownOutput {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The names or shapes don't make a signature.
    #[error("the graph can't be called: {reason}")]
    Signature {
        /// What is wrong.
        reason: String,
    },
}

/// Reads signature and candidate batch axis. Takes memory in proportion to the file, whatever it
/// holds, and time in proportion unless an output's shape has to be inferred.
pub fn inspect(onnx: &[u8]) -> Result<ModelOutline, InspectError> {
    outline(&wire::decode(onnx)?).map_err(|error| match error {
        // What is decoded knows of tensors alone.
        InspectError::NotATensor { side, name, found } => {
            let found = wire::other_type(onnx, &name).unwrap_or(found);
            InspectError::NotATensor { side, name, found }
        }
        other => other,
    })
}

/// The same for a file that is decoded already.
pub(crate) fn outline(model: &pb::ModelProto) -> Result<ModelOutline, InspectError> {
    let graph = model.graph.as_ref().ok_or(InspectError::NoGraph)?;
    if graph.output.is_empty() {
        return Err(InspectError::NoOutputs);
    }
    let inputs = given(graph)
        .map(|info| {
            let port = Port::new(Side::Input, info)?;
            port.dims
                .is_some()
                .then_some(port)
                .ok_or_else(|| InspectError::UnknownRank { name: info.name.clone() })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut outputs = graph
        .output
        .iter()
        .map(|info| Port::new(Side::Output, info))
        .collect::<Result<Vec<_>, _>>()?;
    infer_missing(model, &inputs, &mut outputs)?;
    let batch = candidate(&inputs, &outputs);
    let specs = |ports: Vec<Port>| ports.into_iter().map(Port::into_spec).collect();
    let signature = Signature::new(specs(inputs), specs(outputs))
        .map_err(|reason| InspectError::Signature { reason })?;
    let refusals = refusals(model, &signature);
    Ok(ModelOutline { signature, batch, refusals })
}

/// Whether the first dimension of all inputs is the same one; engines plan with that.
pub(crate) fn rows_agree(model: &pb::ModelProto) -> bool {
    let graph = model.graph.as_ref();
    let inputs = graph.into_iter().flat_map(given).map(|info| Port::new(Side::Input, info));
    inputs.collect::<Result<Vec<_>, _>>().is_ok_and(|inputs| must_agree(&inputs))
}

/// Whether the first dimensions can be taken for the same one. Where others vary as well, the first
/// may be as good as any other, unless it has a name, which engines read for themselves.
fn must_agree(inputs: &[Port]) -> bool {
    common_rows(inputs).is_ok() && only_rows_vary(inputs)
}

/// The inputs that a caller gives: old files list weights among the inputs, too.
fn given(graph: &pb::GraphProto) -> impl Iterator<Item = &pb::ValueInfoProto> {
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref());
    let constants: std::collections::HashSet<&str> =
        graph.initializer.iter().chain(sparse).map(|tensor| tensor.name.as_str()).collect();
    graph.input.iter().filter(move |info| !constants.contains(info.name.as_str()))
}

/// Fills in the shapes of outputs that the file leaves out.
fn infer_missing(
    model: &pb::ModelProto,
    inputs: &[Port],
    outputs: &mut [Port],
) -> Result<(), InspectError> {
    let Some(missing) = outputs.iter().position(|port| port.dims.is_none()) else {
        return Ok(());
    };
    let unknown = |name: &str, reason: &str| InspectError::UnknownOutput {
        name: name.to_owned(),
        reason: reason.to_owned(),
    };
    let rows_agree = must_agree(inputs);
    let shapes = engine::guarded(|| engine::tract::output_shapes(model, rows_agree))
        .map_err(|reason| unknown(&outputs[missing].name, &reason))?;
    for (port, shape) in outputs.iter_mut().zip(shapes) {
        if port.dims.is_none() {
            let shape =
                shape.ok_or_else(|| unknown(&port.name, "its rank depends on the inputs"))?;
            let dim = |size| if size < 0 { Dim::Open } else { Dim::Fixed(size) };
            port.dims = Some(shape.into_iter().map(dim).collect());
        }
    }
    Ok(())
}
