//! Operators that make one element of many: what they take and give.

use serde::{Deserialize, Serialize};

use super::{Check, Plan};
use crate::{Accepts, Description, Dtype, OperatorError, Shape};

/// What becomes of many elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduction {
    /// Their sum; of integers INT64, wrapping. Of none it is 0.
    Sum,
    /// Their mean; floats only. Of none it is NaN.
    Mean,
    /// Their product; of integers INT64, wrapping. Of none it is 1.
    Product,
    /// The largest; NaN if one is. There must be one.
    Max,
    /// The smallest; NaN if one is. There must be one.
    Min,
    /// Whether one of BOOL is true; of none it is false.
    Any,
    /// Whether all of BOOL are true; of none it is true.
    All,
}

impl Reduction {
    /// Every reduction.
    pub const ALL: [Self; 7] =
        [Self::Sum, Self::Mean, Self::Product, Self::Max, Self::Min, Self::Any, Self::All];

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Product => "product",
            Self::Max => "max-along",
            Self::Min => "min-along",
            Self::Any => "any",
            Self::All => "all",
        }
    }

    /// The element types that it takes.
    pub fn accepts(self) -> Accepts {
        match self {
            Self::Sum | Self::Product | Self::Max | Self::Min => Accepts::Numbers,
            Self::Mean => Accepts::Floats,
            Self::Any | Self::All => Accepts::Bool,
        }
    }

    pub(super) fn output(self, dtype: Dtype) -> Dtype {
        match self {
            Self::Sum | Self::Product if dtype.is_integer() => Dtype::Int64,
            _ => dtype,
        }
    }
}

/// A reduction along axes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reduce {
    /// What becomes of elements.
    pub function: Reduction,
    /// The dimensions that go, each at most once.
    pub axes: Vec<u8>,
    /// Whether they stay with size 1.
    pub keep: bool,
}

impl Reduce {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x] = check.inputs()?;
        check.accepts(x.dtype, self.function.accepts())?;
        let mut gone = vec![false; x.shape.rank()];
        for axis in &self.axes {
            let axis = check.axis(*axis, &x.shape)?;
            if std::mem::replace(&mut gone[axis], true) {
                return Err(check.attribute(format!("axis {axis} is named twice")));
            }
        }
        let shape = reduced(&x.shape, &gone, self.keep, check)?;
        let many = x.shape.elements() > 0 || shape.elements() == 0;
        if !many && matches!(self.function, Reduction::Max | Reduction::Min) {
            return Err(check.shapes("there is no element to choose".to_owned()));
        }
        let output = Description::new(self.function.output(x.dtype), shape);
        Ok(check.plan(output, x.shape.elements().max(shape.elements())))
    }
}

/// Which end of the order is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extreme {
    /// The largest element, or NaN.
    Max,
    /// The smallest element, or NaN.
    Min,
}

/// Where along an axis the first extreme element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgReduce {
    /// Which element is looked for.
    pub extreme: Extreme,
    /// The dimension that goes.
    pub axis: u8,
    /// Whether it stays with size 1.
    pub keep: bool,
}

impl ArgReduce {
    pub(super) fn name(&self) -> &'static str {
        match self.extreme {
            Extreme::Max => "arg-max",
            Extreme::Min => "arg-min",
        }
    }

    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x] = check.inputs()?;
        check.accepts(x.dtype, Accepts::Numbers)?;
        let axis = check.axis(self.axis, &x.shape)?;
        let mut gone = vec![false; x.shape.rank()];
        gone[axis] = true;
        let shape = reduced(&x.shape, &gone, self.keep, check)?;
        if x.shape.dims()[axis] == 0 && shape.elements() > 0 {
            return Err(check.shapes("there is no element to choose".to_owned()));
        }
        Ok(check.plan(Description::new(Dtype::Int64, shape), x.shape.elements()))
    }
}

/// A shape without some of its dimensions.
fn reduced(
    shape: &Shape,
    gone: &[bool],
    keep: bool,
    check: &Check,
) -> Result<Shape, OperatorError> {
    let dims = shape.dims().iter().zip(gone);
    let dims: Vec<u64> = match keep {
        true => dims.map(|(dim, gone)| if *gone { 1 } else { *dim }).collect(),
        false => dims.filter(|(_, gone)| !**gone).map(|(dim, _)| *dim).collect(),
    };
    check.shape(&dims)
}
