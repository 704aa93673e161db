//! Operators that make of each element something of all before it: what they take and give.

use super::{Check, Plan};
use crate::{Accepts, Description, OperatorError, Reduction};

pub(super) fn cumulative_sum(axis: u8, check: &Check) -> Result<Plan, OperatorError> {
    let [x] = check.inputs()?;
    check.accepts(x.dtype, Accepts::Numbers)?;
    check.axis(axis, &x.shape)?;
    let output = Description::new(Reduction::Sum.output(x.dtype), x.shape);
    Ok(check.plan(output, x.shape.elements()))
}
