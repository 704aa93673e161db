//! Operators that put the elements along an axis in order: what they take and give. NaN comes
//! last whatever the order, 0 and -0 are the same, and of equal elements the first one comes first.

use serde::{Deserialize, Serialize};

use super::{Check, Plan};
use crate::{Accepts, Description, Dtype, OperatorError};

/// All elements along an axis in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// The dimension.
    pub axis: u8,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl Sort {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x] = check.inputs()?;
        let axis = check.axis(self.axis, &x.shape)?;
        ordered(x, axis, x.shape.dims()[axis], check)
    }
}

/// The first few elements along an axis in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopK {
    /// The dimension.
    pub axis: u8,
    /// How many; at most as many as there are.
    pub count: u64,
    /// Whether the largest are taken and come first, or the smallest.
    pub largest: bool,
}

impl TopK {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x] = check.inputs()?;
        let axis = check.axis(self.axis, &x.shape)?;
        let (count, size) = (self.count, x.shape.dims()[axis]);
        if count > size {
            return Err(check.shapes(format!("{count} are more than there are along axis {axis}")));
        }
        ordered(x, axis, count, check)
    }
}

/// Values and places, so many along the axis.
fn ordered(x: Description, axis: usize, count: u64, check: &Check) -> Result<Plan, OperatorError> {
    check.accepts(x.dtype, Accepts::Numbers)?;
    let mut dims = x.shape.dims().to_vec();
    dims[axis] = count;
    let shape = check.shape(&dims)?;
    let outputs = vec![Description::new(x.dtype, shape), Description::new(Dtype::Int64, shape)];
    // What sorting takes for each element, at most.
    let rounds = u64::from(x.shape.dims()[axis].max(2).ilog2()) + 1;
    let work = x.shape.elements().saturating_mul(rounds);
    Ok(Plan { inputs: vec![x.shape], outputs, work })
}
