//! Products of matrices by cuBLASLt, where they lie as it takes them.

use cudarc::cublaslt::result::CublasError;
use quern_kernels::Operand;
use quern_operators::LaneError;

use super::{Launcher, matmul::matrix, space::Space};
use crate::cublaslt::{Addresses, CublasLt, Factor, Product, alignment};

/// Most calls of the library for a product of more dimensions than it knows; what needs more of
/// them is computed by one kernel of our own.
const MAX_CALLS: u64 = 64;

/// The largest size that the library takes.
const MAX_SIZE: u64 = i32::MAX as u64;

/// Most matrices of one call: the library counts them along a dimension of a grid.
const MAX_BATCHES: u64 = 65_535;

/// A product as the library computes it: of the innermost dimension around the matrices at once,
/// and of those around it one after another.
struct Calls {
    product: Product,
    around: Space<2>,
}

impl Calls {
    /// None of factors that lie neither in rows nor in columns, or are empty.
    fn new(launcher: &Launcher, left: &Operand, right: &Operand, out: &Operand) -> Option<Self> {
        let (batch, &[rows, inner]) = matrix(left.layout().shape().dims());
        let (_, &[_, columns]) = matrix(right.layout().shape().dims());
        let (left_batch, &left_strides) = matrix(left.layout().strides());
        let (right_batch, &right_strides) = matrix(right.layout().strides());
        let mut around = Space::new(batch, [left_batch, right_batch]);
        let last = around.rank as usize - 1;
        let batches = around.dims[last];
        let size = left.dtype().size();
        let calls = around.count / batches.max(1);
        let fits = [rows, columns, inner].iter().all(|size| (1..=MAX_SIZE).contains(size))
            && (1..=MAX_BATCHES).contains(&batches);
        if !fits || calls > MAX_CALLS {
            return None;
        }
        let bytes = |x: &Operand, strides: &[u64]| {
            let steps: Vec<_> = strides.iter().map(|stride| stride * size).collect();
            [launcher.at(x)].into_iter().chain(steps)
        };
        let factor = |number: usize, x: &Operand, dims, strides| -> Option<Factor> {
            let of_matrices = &around.strides[number][..=last];
            let mut factor = Factor::new(dims, strides)?.aligned(bytes(x, of_matrices));
            factor.batch_stride = of_matrices[last];
            Some(factor)
        };
        let product = Product {
            dtype: left.dtype(),
            rows,
            columns,
            inner,
            batches,
            left: factor(0, left, [rows, inner], left_strides)?,
            right: factor(1, right, [inner, columns], right_strides)?,
            out_alignment: alignment(bytes(out, &[rows * columns])),
        };
        around.dims[last] = 1;
        around.count = calls;
        Some(Self { product, around })
    }

    /// Where the matrices of a call begin, in elements: left, right, results.
    fn places(&self, call: u64) -> [u64; 3] {
        let (mut rest, mut at) = (call, [0; 2]);
        for axis in (0..self.around.rank as usize).rev() {
            let index = rest % self.around.dims[axis];
            rest /= self.around.dims[axis];
            for (at, strides) in at.iter_mut().zip(self.around.strides) {
                *at += index * strides[axis];
            }
        }
        let Product { rows, columns, batches, .. } = self.product;
        [at[0], at[1], call * batches * rows * columns]
    }
}

/// Has the library compute a product, if it can; none of it is computed otherwise.
pub(super) fn multiply(
    launcher: &mut Launcher,
    library: &CublasLt,
    (left, right): (&Operand, &Operand),
    out: &Operand,
) -> Result<bool, LaneError> {
    let Some(calls) = Calls::new(launcher, left, right, out) else { return Ok(false) };
    let failed = |CublasError(status)| LaneError::Lost {
        reason: format!("a product by cublasLt: {status:?}"),
    };
    let Some(plan) = library.plan(&calls.product).map_err(failed)? else { return Ok(false) };
    let [left_at, right_at, out_at] = [left, right, out].map(|x| launcher.at(x));
    let Product { rows, columns, inner, batches, .. } = calls.product;
    let work = [rows, columns, inner, batches].into_iter().fold(1, u64::saturating_mul);
    launcher.used_library = true;
    for call in 0..calls.around.count {
        let [to_left, to_right, to_out] = calls.places(call).map(|at| at * left.dtype().size());
        let at = Addresses {
            left: left_at + to_left,
            right: right_at + to_right,
            out: out_at + to_out,
            workspace: launcher.library_at,
        };
        // SAFETY: layouts don't lead out of their buffers, the output has an element for each row
        // and column of each batch, and the plan was made for addresses like these.
        unsafe { library.multiply(launcher.stream, &plan, &at) }.map_err(failed)?;
        launcher.progress.step(launcher.core, launcher.stream, work)?;
    }
    Ok(true)
}
