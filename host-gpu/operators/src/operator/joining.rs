//! Tensors one after another: what comes of them.

use super::{Check, Plan};
use crate::{Description, OperatorError};

/// Most tensors that are joined at once.
const MAX_PARTS: usize = 1024;

pub(super) fn concat(axis: u8, check: &Check) -> Result<Plan, OperatorError> {
    let (first, inputs) = check.some_inputs()?;
    let axis = check.axis(axis, &first.shape)?;
    if inputs.len() > MAX_PARTS {
        return Err(check.attribute(format!("{} parts are more than {MAX_PARTS}", inputs.len())));
    }
    let mut dims = first.shape.dims().to_vec();
    dims[axis] = 0;
    for input in inputs {
        check.same(first.dtype, input.dtype)?;
        let other = input.shape.dims();
        let differs = |(position, dim): (usize, &u64)| {
            position != axis && Some(dim) != first.shape.dims().get(position)
        };
        if other.len() != dims.len() || other.iter().enumerate().any(differs) {
            return Err(check.shapes(format!("they differ elsewhere than along axis {axis}")));
        }
        dims[axis] = dims[axis].saturating_add(other[axis]);
    }
    let output = Description::new(first.dtype, check.shape(&dims)?);
    Ok(check.plan(output, output.shape.elements()))
}
