//! Products of matrices: what they take and give.

use super::{Check, Plan};
use crate::{Accepts, Description, MAX_RANK, OperatorError, Shape};

pub(super) fn plan(check: &Check) -> Result<Plan, OperatorError> {
    let [left, right] = check.inputs()?;
    check.accepts(left.dtype, Accepts::Floats)?;
    check.same(left.dtype, right.dtype)?;
    let not_matrices = || check.shapes("both need two dimensions or more".to_owned());
    let (left_batch, &[rows, inner]) =
        left.shape.dims().split_last_chunk().ok_or_else(not_matrices)?;
    let (right_batch, &[other_inner, columns]) =
        right.shape.dims().split_last_chunk().ok_or_else(not_matrices)?;
    if inner != other_inner {
        return Err(check.shapes("the inner sizes differ".to_owned()));
    }
    let batch = check
        .shape(left_batch)?
        .broadcast(&check.shape(right_batch)?)
        .ok_or_else(|| check.shapes("the outer dimensions don't broadcast".to_owned()))?;
    let with_batch = |matrix: [u64; 2]| -> Result<Shape, OperatorError> {
        let mut dims = Vec::with_capacity(MAX_RANK);
        dims.extend_from_slice(batch.dims());
        dims.extend_from_slice(&matrix);
        check.shape(&dims)
    };
    let output = Description::new(left.dtype, with_batch([rows, columns])?);
    let inputs = vec![with_batch([rows, inner])?, with_batch([inner, columns])?];
    let work = output.shape.elements().saturating_mul(inner.max(1));
    Ok(Plan { inputs, outputs: vec![output], work })
}
