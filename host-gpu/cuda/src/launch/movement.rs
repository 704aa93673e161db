//! Kernels that move elements unchanged: all that is known of them is their size.

use std::ops::Range;

use cudarc::driver::CudaStream;
use half::{bf16, f16};
use quern_kernels::Operand;
use quern_operators::{Dtype, Fill, LaneError, Layout, Scalar};

use super::{
    Launcher, MAX_THREADS,
    parameters::{Elementwise, View},
    space::Space,
};
use crate::{
    device::Core,
    driver::{self, Pinned},
    source::Family,
};

/// The end of the name of a kernel for elements of a size.
pub(super) fn size_suffix(dtype: Dtype) -> String {
    format!("b{}", dtype.size())
}

pub(super) fn fill(launcher: &mut Launcher, fill: &Fill, out: &Operand) -> Result<(), LaneError> {
    let value = match (fill.value, fill.dtype) {
        (Scalar::Bool(value), _) => value.into(),
        (Scalar::Int(value), _) => value as u64,
        (Scalar::Float(value), Dtype::Fp16) => f16::from_f32(value as f32).to_bits().into(),
        (Scalar::Float(value), Dtype::Bf16) => bf16::from_f32(value as f32).to_bits().into(),
        (Scalar::Float(value), Dtype::Fp64) => value.to_bits(),
        (Scalar::Float(value), _) => (value as f32).to_bits().into(),
    };
    let count = out.layout().shape().elements();
    let (at, values) = (launcher.at(out), [value, 0]);
    let told = Elementwise { count, rank: 1, out: at, values, ..Elementwise::default() };
    let name = format!("fill_{}", size_suffix(fill.dtype));
    // SAFETY: the kernel takes this struct, and the output has room for each element.
    unsafe { launcher.run((Family::Movement, &name), count, &told) }
}

pub(super) fn copy(launcher: &mut Launcher, x: &Operand, out: &Operand) -> Result<(), LaneError> {
    let bytes = out.description().bytes();
    if bytes == 0 {
        return Ok(());
    }
    if x.layout().is_dense() {
        let (from, to) = (launcher.at(x), launcher.at(out));
        // SAFETY: both have as many bytes, and an output is a buffer of its own.
        let copied = unsafe { driver::copy_within(launcher.stream, to, from, bytes) };
        launcher.core.check("copying on the device", copied)?;
        return launcher.progress.step(launcher.core, launcher.stream, bytes);
    }
    let told = launcher.elementwise([x], out);
    let name = format!("copy_{}", size_suffix(x.dtype()));
    // SAFETY: the kernel takes this struct; the layout does not lead out of its buffer, and the
    // output has room for each element.
    unsafe { launcher.run((Family::Movement, &name), told.count, &told) }
}

/// Writes some bytes of a tensor that does not lie together to pinned memory, which is at least
/// as long; `at` is where its buffer begins.
pub(crate) fn pack(
    (core, stream): (&Core, &CudaStream),
    operand: &Operand,
    at: u64,
    bytes: Range<usize>,
    pinned: &mut Pinned,
) -> Result<(), LaneError> {
    let (size, space) = (operand.dtype().size(), Space::of([operand]));
    let mut told = Elementwise {
        count: bytes.len() as u64 / size,
        first: bytes.start as u64 / size,
        rank: space.rank,
        dims: space.dims,
        out: pinned.address(),
        ..Elementwise::default()
    };
    let data = at + operand.layout().offset() * size;
    told.inputs[0] = View { data, strides: space.strides[0] };
    let name = format!("copy_{}", size_suffix(operand.dtype()));
    let function = core.modules.function(Family::Movement, &name);
    let function = function.map_err(|reason| LaneError::Lost { reason })?;
    let blocks = told.count.div_ceil(MAX_THREADS.into()).max(1) as u32;
    // SAFETY: the kernel takes this struct; the layout does not lead out of its buffer, and pieces
    // of pinned memory are whole elements long.
    let launched = unsafe { driver::launch(stream, &function, (blocks, MAX_THREADS), &told) };
    core.check("reading elements that don't lie together", launched)
}

pub(super) fn choose(
    launcher: &mut Launcher,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [condition, left, right] = inputs else { unreachable!("planned for three inputs") };
    let told = launcher.elementwise([condition, left, right], out);
    let name = format!("where_{}", size_suffix(left.dtype()));
    // SAFETY: as in `copy`.
    unsafe { launcher.run((Family::Movement, &name), told.count, &told) }
}

pub(super) fn concat(
    launcher: &mut Launcher,
    axis: u8,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let axis = usize::from(axis);
    let name = format!("put_{}", size_suffix(out.dtype()));
    let (to, whole) = (launcher.at(out), Layout::dense(*out.layout().shape()));
    let mut before = 0;
    for part in inputs {
        let dims = part.layout().shape().dims();
        let space = Space::new(dims, [part.layout().strides(), whole.strides()]);
        let mut told = Elementwise {
            count: space.count,
            rank: space.rank,
            dims: space.dims,
            out: to + before * whole.strides()[axis] * out.dtype().size(),
            ..Elementwise::default()
        };
        told.inputs[0] = View { data: launcher.at(part), strides: space.strides[0] };
        told.inputs[1] = View { data: 0, strides: space.strides[1] };
        // SAFETY: the kernel takes this struct; the layout does not lead out of its buffer, and the
        // parts lie one after another in the output, which is as long as all of them.
        unsafe { launcher.run((Family::Movement, &name), told.count, &told) }?;
        before += dims[axis];
    }
    Ok(())
}
