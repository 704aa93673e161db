//! Windows of images that become one pixel each, and their gradients: what they take and give.

use serde::{Deserialize, Serialize};

use super::{
    Check, Plan,
    sliding::{Padding, Sliding, images},
};
use crate::{Accepts, Description, OperatorError};

/// How a window goes over images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its rows and columns.
    pub window: [u32; 2],
    /// How far it is to the next place, in rows and in columns.
    pub strides: [u32; 2],
    /// What lies around the images, less than a window on each side. It is never the largest
    /// pixel, and no mean counts it.
    pub padding: Padding,
}

impl Pool {
    /// Squares side by side.
    pub fn squares(size: u32) -> Self {
        Self { window: [size; 2], strides: [size; 2], padding: Padding::default() }
    }

    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x] = check.inputs()?;
        check.accepts(x.dtype, Accepts::Floats)?;
        let output = self.output(&x, check)?;
        Ok(check.plan(output, self.work(&output)))
    }

    /// The gradient by images `x`, which must be the first of the two inputs.
    pub(super) fn plan_gradient(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x, gradient] = check.inputs()?;
        check.accepts(x.dtype, Accepts::Floats)?;
        check.same(x.dtype, gradient.dtype)?;
        let expected = self.output(&x, check)?;
        if gradient != expected {
            let expected = expected.shape;
            return Err(check.shapes(format!("the gradient should be {expected}")));
        }
        Ok(check.plan(x, self.work(&gradient).saturating_add(x.shape.elements())))
    }

    fn output(&self, x: &Description, check: &Check) -> Result<Description, OperatorError> {
        let [count, channels, rows, columns] = images(x, check)?;
        let window = self.window.map(u64::from);
        let sliding =
            Sliding { window, strides: self.strides, dilations: [1; 2], padding: self.padding };
        let [down, across] = sliding.places([rows, columns], check)?;
        for (size, (before, after)) in window.into_iter().zip(self.padding.sides()) {
            if before.max(after) >= size {
                let problem = format!("a window over {size} pixels could lie in the padding alone");
                return Err(check.attribute(problem));
            }
        }
        Ok(Description::new(x.dtype, check.shape(&[count, channels, down, across])?))
    }

    fn work(&self, output: &Description) -> u64 {
        let [rows, columns] = self.window.map(u64::from);
        output.shape.elements().saturating_mul(rows.saturating_mul(columns))
    }
}

/// The gradient of a mean of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AveragePoolGradient {
    /// The windows.
    pub pool: Pool,
    /// Rows and columns of the images: with strides, several sizes have one result.
    pub image: [u64; 2],
}

impl AveragePoolGradient {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [gradient] = check.inputs()?;
        check.accepts(gradient.dtype, Accepts::Floats)?;
        let [count, channels, ..] = images(&gradient, check)?;
        let [rows, columns] = self.image;
        let shape = check.shape(&[count, channels, rows, columns])?;
        let x = Description::new(gradient.dtype, shape);
        let expected = self.pool.output(&x, check)?;
        if gradient != expected {
            let expected = expected.shape;
            return Err(check.shapes(format!("the gradient should be {expected}")));
        }
        let work = self.pool.work(&gradient).saturating_add(shape.elements());
        Ok(check.plan(x, work))
    }
}
