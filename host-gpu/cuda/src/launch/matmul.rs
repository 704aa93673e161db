//! Something of each row of a matrix with each of another's: products, by a library where there is
//! one that takes the factors as they lie, and distances.

use quern_kernels::Operand;
use quern_operators::{LaneError, Metric};

use super::{Launcher, MAX_THREADS, parameters::Matmul, products, space::Space, suffix};
use crate::source::Family;

/// Rows and columns that a block computes.
const TILE: u64 = 64;

pub(super) fn matmul(
    launcher: &mut Launcher,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [left, right] = inputs else { unreachable!("planned for two inputs") };
    let core = launcher.core;
    if let Some(library) = core.products.library()
        && products::multiply(launcher, library, (left, right), out)?
    {
        return Ok(());
    }
    let (_, &[_, columns]) = matrix(right.layout().shape().dims());
    let (_, &[right_inner, right_column]) = matrix(right.layout().strides());
    tiles(launcher, "matmul", (left, right), (columns, right_inner, right_column), out)
}

/// The rows of the right matrix take the place of columns.
pub(super) fn distances(
    launcher: &mut Launcher,
    metric: Metric,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [left, right] = inputs else { unreachable!("planned for two inputs") };
    let (_, &[rows, _]) = matrix(right.layout().shape().dims());
    let (_, &[right_row, right_inner]) = matrix(right.layout().strides());
    let function = match metric {
        Metric::Euclidean => "euclidean",
        Metric::SquaredEuclidean => "squared_euclidean",
        Metric::Manhattan => "manhattan",
        Metric::Cosine => "cosine",
    };
    tiles(launcher, function, (left, right), (rows, right_inner, right_row), out)
}

/// Of the right matrix, how many columns it has and how far apart its elements are.
fn tiles(
    launcher: &mut Launcher,
    function: &str,
    (left, right): (&Operand, &Operand),
    (columns, right_inner, right_column): (u64, u64, u64),
    out: &Operand,
) -> Result<(), LaneError> {
    if out.layout().shape().elements() == 0 {
        return Ok(());
    }
    let (batch, &[rows, inner]) = matrix(left.layout().shape().dims());
    let (left_strides, &[left_row, left_inner]) = matrix(left.layout().strides());
    let (right_strides, _) = matrix(right.layout().strides());
    let space = Space::new(batch, [left_strides, right_strides]);
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
    let name = format!("{function}_{}", suffix(left.dtype()));
    let tiles = rows.div_ceil(TILE) * columns.div_ceil(TILE) * space.count;
    let work = out.layout().shape().elements().saturating_mul(inner);
    // SAFETY: the kernel takes this struct, for this element type; the layouts don't lead out of
    // their buffers, and the output has an element for each row and column of each batch.
    unsafe { launcher.run_blocks((Family::Matmul, &name), (tiles, MAX_THREADS), work, &told) }
}

/// The two innermost dimensions, after those around them.
pub(super) fn matrix(dims: &[u64]) -> (&[u64], &[u64; 2]) {
    dims.split_last_chunk().expect("planned for matrices")
}
