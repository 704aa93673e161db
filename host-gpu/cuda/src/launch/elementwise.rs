//! Kernels that make one element of one of each input.

use quern_kernels::Operand;
use quern_operators::{Binary, Clamp, Comparison, Dtype, LaneError, Logical, Scalar, Unary};

use super::{
    Launcher, movement,
    parameters::{Elementwise, View},
    space::Space,
    suffix,
};
use crate::source::Family;

impl Launcher<'_> {
    /// What a kernel is told of the inputs, which have the shape of the output.
    pub(super) fn elementwise<const N: usize>(
        &self,
        inputs: [&Operand; N],
        out: &Operand,
    ) -> Elementwise {
        let space = Space::of(inputs);
        let mut told = Elementwise {
            count: space.count,
            rank: space.rank,
            dims: space.dims,
            out: self.at(out),
            ..Elementwise::default()
        };
        let mut vector = space.rank == 1;
        for ((told, operand), strides) in told.inputs.iter_mut().zip(inputs).zip(space.strides) {
            *told = View { data: self.at(operand), strides };
            vector &= told.is_in_packs();
        }
        told.vector = vector.into();
        told
    }

    /// Runs a kernel of inputs of one shape.
    fn map<const N: usize>(
        &mut self,
        kernel: (Family, &str),
        inputs: [&Operand; N],
        out: &Operand,
        values: [u64; 2],
    ) -> Result<(), LaneError> {
        let told = Elementwise { values, ..self.elementwise(inputs, out) };
        // SAFETY: kernels of these families take this struct, for these element types; a step's
        // layouts don't lead out of their buffers, and its output has room for each element.
        unsafe { self.run(kernel, told.count, &told) }
    }
}

pub(super) fn unary(
    launcher: &mut Launcher,
    function: Unary,
    x: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let function = match function {
        Unary::Not => "complement",
        Unary::GeluTanh => "gelu_tanh",
        other => other.name(),
    };
    let name = format!("{function}_{}", suffix(x.dtype()));
    launcher.map((Family::Unary, &name), [x], out, [0; 2])
}

pub(super) fn cast(
    launcher: &mut Launcher,
    to: Dtype,
    x: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let from = x.dtype();
    if from == to || (from, to) == (Dtype::Bool, Dtype::Uint8) {
        return movement::copy(launcher, x, out);
    }
    let to = if to == Dtype::Bool { "bool" } else { suffix(to) };
    let name = format!("cast_{}_{to}", suffix(from));
    launcher.map((Family::Cast, &name), [x], out, [0; 2])
}

pub(super) fn clamp(
    launcher: &mut Launcher,
    clamp: &Clamp,
    x: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let dtype = x.dtype();
    let (lowest, highest) = match dtype {
        Dtype::Bool | Dtype::Uint8 => (Scalar::Int(0), Scalar::Int(u8::MAX.into())),
        Dtype::Int32 => (Scalar::Int(i32::MIN.into()), Scalar::Int(i32::MAX.into())),
        Dtype::Int64 => (Scalar::Int(i64::MIN), Scalar::Int(i64::MAX)),
        _ => (Scalar::Float(f64::NEG_INFINITY), Scalar::Float(f64::INFINITY)),
    };
    let bounds = [clamp.min.unwrap_or(lowest), clamp.max.unwrap_or(highest)];
    let name = format!("clamp_{}", suffix(dtype));
    launcher.map((Family::Unary, &name), [x], out, bounds.map(|bound| bits(bound, dtype)))
}

/// The bits of a value in the type that elements are computed in.
fn bits(value: Scalar, dtype: Dtype) -> u64 {
    match value {
        Scalar::Bool(value) => value.into(),
        Scalar::Int(value) => value as u64,
        Scalar::Float(value) if dtype == Dtype::Fp64 => value.to_bits(),
        Scalar::Float(value) => (value as f32).to_bits().into(),
    }
}

pub(super) fn binary(
    launcher: &mut Launcher,
    function: Binary,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    pairs(launcher, function.name(), inputs, out)
}

pub(super) fn compare(
    launcher: &mut Launcher,
    comparison: Comparison,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    pairs(launcher, comparison.name(), inputs, out)
}

/// Truths are 0 and 1.
pub(super) fn logical(
    launcher: &mut Launcher,
    function: Logical,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let function = match function {
        Logical::And => "min",
        Logical::Or => "max",
        Logical::Xor => "ne",
    };
    pairs(launcher, function, inputs, out)
}

fn pairs(
    launcher: &mut Launcher,
    function: &str,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [left, right] = inputs else { unreachable!("planned for two inputs") };
    let name = format!("{function}_{}", suffix(left.dtype()));
    launcher.map((Family::Binary, &name), [left, right], out, [0; 2])
}
