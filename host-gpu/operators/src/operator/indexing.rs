//! Operators that are told by indices where to look: what they take and give. Whether indices are
//! in range is seen by the device, when it computes.

use super::{Check, Plan, cost};
use crate::{Accepts, Description, OperatorError, Shape};

pub(super) fn gather(axis: u8, check: &Check) -> Result<Plan, OperatorError> {
    let [x, indices] = check.inputs()?;
    check.accepts(indices.dtype, Accepts::Indices)?;
    let output = Description::new(x.dtype, gathered(axis, &x.shape, &indices.shape, check)?);
    let work = output.shape.elements().saturating_add(indices.shape.elements());
    Ok(check.plan(output, work))
}

pub(super) fn scatter_add(axis: u8, check: &Check) -> Result<Plan, OperatorError> {
    let [x, indices, updates] = check.inputs()?;
    check.accepts(x.dtype, Accepts::Numbers)?;
    check.accepts(indices.dtype, Accepts::Indices)?;
    check.same(x.dtype, updates.dtype)?;
    let expected = gathered(axis, &x.shape, &indices.shape, check)?;
    if updates.shape != expected {
        return Err(check.shapes(format!("the updates should be {expected}")));
    }
    // What several indices name is added up in their order, for which they are sorted.
    let [elements, added, named] = [x, updates, indices].map(|input| input.shape.elements());
    let work = cost::sum(&[elements, added, cost::times(&[named, cost::ORDERED])]);
    Ok(check.plan(x, work))
}

/// The shape of `x` with that of the indices in the place of an axis.
fn gathered(axis: u8, x: &Shape, indices: &Shape, check: &Check) -> Result<Shape, OperatorError> {
    let axis = check.axis(axis, x)?;
    check.shape(&[&x.dims()[..axis], indices.dims(), &x.dims()[axis + 1..]].concat())
}
