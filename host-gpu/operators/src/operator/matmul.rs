//! Products of matrices: what they take and give.

use super::{Check, Plan};
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
    let work = output.shape.elements().saturating_mul(inner.max(1));
    Ok(Plan { inputs, outputs: vec![output], work })
}
