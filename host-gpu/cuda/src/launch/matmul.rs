//! Products of matrices by the kernel of our own.

use quern_kernels::Operand;
use quern_operators::LaneError;

use super::{Launcher, MAX_THREADS, parameters::Matmul, space::Space, suffix};
use crate::source::Family;

/// Rows and columns that a block computes.
const TILE: u64 = 64;

pub(super) fn matmul(
    launcher: &mut Launcher,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [left, right] = inputs else { unreachable!("planned for two inputs") };
    let (batch, &[rows, inner]) = matrix(left.layout().shape().dims());
    let (_, &[_, columns]) = matrix(right.layout().shape().dims());
    let (left_strides, &[left_row, left_inner]) = matrix(left.layout().strides());
    let (right_strides, &[right_inner, right_column]) = matrix(right.layout().strides());
    let space = Space::new(batch, [left_strides, right_strides]);
    if out.layout().shape().elements() == 0 {
        return Ok(());
    }
    let told = Matmul {
        batches: space.count,
        rows,
        columns,
        inner,
        rank: space.rank,
        unused: 0,
        dims: space.dims,
        left_strides: space.strides[0],
        right_strides: space.strides[1],
        left_row,
        left_inner,
        right_inner,
        right_column,
        left: launcher.at(left),
        right: launcher.at(right),
        out: launcher.at(out),
    };
    let name = format!("matmul_{}", suffix(left.dtype()));
    let tiles = rows.div_ceil(TILE) * columns.div_ceil(TILE) * space.count;
    let work = out.layout().shape().elements().saturating_mul(inner);
    // SAFETY: the kernel takes this struct, for this element type; the layouts don't lead out of
    // their buffers, and the output has an element for each row and column of each batch.
    unsafe { launcher.run_blocks((Family::Matmul, &name), (tiles, MAX_THREADS), work, &told) }
}

fn matrix(dims: &[u64]) -> (&[u64], &[u64; 2]) {
    dims.split_last_chunk().expect("planned for matrices")
}
