//! tract: computes models in safe Rust, in this process; always present.

use std::sync::Arc;

use bytes::Bytes;
use quern_types::DataType;
use tract_onnx::{
    pb,
    prelude::{
        DatumType, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoTensor, TDim,
        TValue, TVec, Tensor, TractError, TractResult, TypedSimplePlan, TypedSimpleState,
    },
    tract_hir::infer::{Factoid, ShapeFactoid},
};

use super::{Input, Output, Program};

/// The version that this program is linked with; a test holds it against `Cargo.lock`.
pub(crate) const VERSION: &str = "0.23.9";

/// What inference finds out about an output.
pub(crate) type OutputShape = Option<Vec<i64>>;

/// Loads a model for so many lanes, which share one plan and so one copy of the weights.
///
/// `rows_agree` says that the first dimension of all inputs is the same one. The plan is made
/// once, with that dimension as a symbol, rather than once for each number of rows. On the
/// benchmark MLP a plan of its own is quicker (17, 38, 139 and 249 µs for 1, 8, 32 and 64 rows,
/// against 18, 48, 148 and 290), but costs 1 to 5 ms when its number of rows is met first, in the
/// middle of requests, and another copy of the weights.
pub(crate) fn load(
    model: &pb::ModelProto,
    rows_agree: bool,
    lanes: usize,
) -> Result<Vec<Box<dyn Program>>, String> {
    let plan = parse(model, rows_agree)
        .and_then(InferenceModelExt::into_optimized)
        .and_then(TypedSimplePlan::new)
        .map_err(describe)?;
    let lane = |_| Box::new(Lane { plan: plan.clone(), state: None }) as Box<dyn Program>;
    Ok((0..lanes).map(lane).collect())
}

/// Infers the outputs' shapes, -1 for a dynamic dimension; none where even the rank is unknown.
pub(crate) fn output_shapes(
    model: &pb::ModelProto,
    rows_agree: bool,
) -> Result<Vec<OutputShape>, String> {
    let infer = || -> TractResult<Vec<OutputShape>> {
        let mut model = parse(model, rows_agree)?;
        model.analyse(true)?;
        model
            .output_outlets()?
            .iter()
            .map(|&outlet| Ok(shape(model.outlet_fact(outlet)?)))
            .collect()
    };
    infer().map_err(describe)
}

fn shape(fact: &InferenceFact) -> OutputShape {
    let dims = fact.shape.rank().concretize().map(|_| fact.shape.dims())?;
    Some(dims.map(|dim| dim.concretize().and_then(|dim| dim.to_i64().ok()).unwrap_or(-1)).collect())
}

/// The graph with a symbol for each dimension that the file leaves open: without one tract can't
/// plan ahead. Shapes that the file states for intermediate values are left aside: exporters name
/// their dimensions freely, and tract takes two names for two sizes.
fn parse(model: &pb::ModelProto, rows_agree: bool) -> TractResult<InferenceModel> {
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let mut model = onnx.model_for_proto_model(model)?;
    let rows = model.symbols.new_with_prefix("rows");
    for input in 0..model.input_outlets()?.len() {
        let mut fact = model.input_fact(input)?.clone();
        let mut dims: TVec<_> = fact.shape.dims().cloned().collect();
        for (axis, dim) in dims.iter_mut().enumerate() {
            if rows_agree && axis == 0 {
                *dim = TDim::Sym(rows.clone()).into();
            } else if dim.concretize().is_none() {
                *dim = TDim::Sym(model.symbols.new_with_prefix("dim")).into();
            }
        }
        fact.shape = ShapeFactoid::closed(dims);
        model.set_input_fact(input, fact)?;
    }
    Ok(model)
}

struct Lane {
    plan: Arc<TypedSimplePlan>,
    /// Kept between runs; a run that fails leaves it half-way, so it is dropped then.
    state: Option<TypedSimpleState>,
}

impl Program for Lane {
    fn run(&mut self, inputs: &[Input]) -> Result<Vec<Output>, String> {
        let inputs = inputs.iter().map(value).collect::<Result<TVec<TValue>, String>>()?;
        let mut state = match self.state.take() {
            Some(state) => state,
            None => TypedSimpleState::new(&self.plan).map_err(describe)?,
        };
        let outputs = state.run(inputs).map_err(describe)?;
        self.state = Some(state);
        outputs.into_iter().map(output).collect()
    }
}

fn value(input: &Input) -> Result<TValue, String> {
    let mut tensor = Tensor::zero_dt(datum_type(input.dtype)?, &input.shape).map_err(describe)?;
    let buffer = tensor.as_bytes_mut();
    if buffer.len() != input.byte_length() {
        return Err(format!("input {:?} does not have the bytes of its shape", input.name));
    }
    input.copy_to(buffer);
    Ok(tensor.into())
}

fn output(value: TValue) -> Result<Output, String> {
    let mut tensor = value.into_tensor();
    // Shapes that a graph computes are symbolic integers in tract, even once they are numbers.
    if tensor.datum_type() == DatumType::TDim {
        tensor = tensor.cast_to::<i64>().map_err(describe)?.into_owned();
    }
    let dtype = data_type(tensor.datum_type())
        .filter(|_| tensor.is_plain_ram())
        .ok_or_else(|| format!("an output has the element type {:?}", tensor.datum_type()))?;
    let shape = tensor.shape().iter().map(|&dim| dim as u64).collect();
    Ok(Output { dtype, shape, data: Bytes::from_owner(Elements(tensor)) })
}

/// Owns a tensor as bytes.
struct Elements(Tensor);

impl AsRef<[u8]> for Elements {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn datum_type(dtype: DataType) -> Result<DatumType, String> {
    Ok(match dtype {
        DataType::Bool => DatumType::Bool,
        DataType::Uint8 => DatumType::U8,
        DataType::Uint16 => DatumType::U16,
        DataType::Uint32 => DatumType::U32,
        DataType::Uint64 => DatumType::U64,
        DataType::Int8 => DatumType::I8,
        DataType::Int16 => DatumType::I16,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Fp16 => DatumType::F16,
        DataType::Fp32 => DatumType::F32,
        DataType::Fp64 => DatumType::F64,
        DataType::Bf16 | DataType::Bytes => {
            return Err(format!("tract has no tensors of {dtype}: use engine \"onnxruntime\""));
        }
    })
}

fn data_type(datum: DatumType) -> Option<DataType> {
    DataType::ALL.into_iter().find(|&dtype| datum_type(dtype) == Ok(datum.unquantized()))
}

fn describe(error: TractError) -> String {
    format!("{error:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_linked() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = std::fs::read_to_string(lock).expect("the workspace has a lock file");
        let linked = format!("name = \"tract-onnx\"\nversion = \"{VERSION}\"");
        assert!(lock.contains(&linked), "VERSION is not the version in Cargo.lock");
    }
}
