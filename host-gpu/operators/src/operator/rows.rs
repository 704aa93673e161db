//! Operators that look at whole rows, the innermost dimension: what they take and give.

use serde::{Deserialize, Serialize};

use super::{Check, Plan};
use crate::{Accepts, OperatorError};

/// How rows are normed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Norm {
    /// Added to the variance, or to the mean square; finite and not negative.
    pub epsilon: f64,
}

impl Norm {
    /// `weights`: how many inputs there are beside the rows, each as long as one.
    pub(super) fn plan(&self, check: &Check, weights: usize) -> Result<Plan, OperatorError> {
        let (x, inputs) = check.some_inputs()?;
        match weights {
            1 => check.inputs::<2>().map(|_| ())?,
            _ => check.inputs::<3>().map(|_| ())?,
        }
        check.accepts(x.dtype, Accepts::Floats)?;
        let row = x.shape.dims().last().copied();
        let row = row.ok_or_else(|| check.shapes("a scalar has no rows".to_owned()))?;
        for weight in &inputs[1..] {
            check.same(x.dtype, weight.dtype)?;
            if weight.shape.dims() != [row] {
                return Err(check.shapes(format!("{} is not as long as a row", weight.shape)));
            }
        }
        check.not_negative("epsilon", self.epsilon)?;
        Ok(check.plan(x, x.shape.elements()))
    }
}

pub(super) fn softmax(check: &Check) -> Result<Plan, OperatorError> {
    let [x] = check.inputs()?;
    check.accepts(x.dtype, Accepts::Floats)?;
    if x.shape.rank() == 0 {
        return Err(check.shapes("a scalar has no rows".to_owned()));
    }
    Ok(check.plan(x, x.shape.elements()))
}
