//! Products of matrices: what they take and give.

use super::{Check, Plan, cost};
use crate::{Accepts, Description, OperatorError};

pub(super) fn plan(check: &Check) -> Result<Plan, OperatorError> {
    let [left, right] = check.inputs()?;
    check.accepts(left.dtype, Accepts::Floats)?;
    check.same(left.dtype, right.dtype)?;
    let (left_batch, [rows, inner]) = check.matrices(&left.shape)?;
    let (right_batch, [other_inner, columns]) = check.matrices(&right.shape)?;
    if inner != other_inner {
        return Err(check.shapes("the inner sizes differ".to_owned()));
    }
    let batch = check.batch(&[left_batch, right_batch])?;
    let output = Description::new(left.dtype, check.with_batch(&batch, [rows, columns])?);
    let inputs =
        vec![check.with_batch(&batch, [rows, inner])?, check.with_batch(&batch, [inner, columns])?];
    let matrices = batch.elements();
    let work = cost::sum(&[
        cost::times(&[output.shape.elements(), inner.max(1)]),
        cost::times(&[matrices, rows.saturating_add(columns), inner, cost::LOADED]),
        cost::times(&[matrices, cost::BEGUN]),
    ]);
    Ok(Plan { inputs, outputs: vec![output], work })
}
