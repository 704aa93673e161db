//! Sums of what came before along an axis: a block for each line.

use quern_kernels::Operand;
use quern_operators::{LaneError, Layout};

use super::{Launcher, parameters::Scan, space::Space, suffix, threads_for};
use crate::source::Family;

/// Elements of a thread at a time.
const EACH: u64 = 4;

pub(super) fn cumulative_sum(
    launcher: &mut Launcher,
    axis: u8,
    x: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let axis = usize::from(axis);
    let whole = Layout::dense(*out.layout().shape());
    let without = |all: &[u64]| [&all[..axis], &all[axis + 1..]].concat();
    let (dims, strides) = (x.layout().shape().dims(), x.layout().strides());
    let (around, from, to) = (without(dims), without(strides), without(whole.strides()));
    let space = Space::new(&around, [&from, &to]);
    let told = Scan {
        lines: space.count,
        length: dims[axis],
        rank: space.rank,
        unused: 0,
        dims: space.dims,
        strides: space.strides[0],
        out_strides: space.strides[1],
        stride: strides[axis],
        out_stride: whole.strides()[axis],
        data: launcher.at(x),
        out: launcher.at(out),
    };
    let name = format!("cumulative_sum_{}", suffix(x.dtype()));
    let blocks = if told.length == 0 { 0 } else { told.lines };
    let shape = (blocks, threads_for(told.length.div_ceil(EACH)));
    let work = out.layout().shape().elements();
    // SAFETY: the kernel takes this struct, for this element type; the layout does not lead out of
    // its buffer, and the output has the same shape.
    unsafe { launcher.run_blocks((Family::Scan, &name), shape, work, &told) }
}
