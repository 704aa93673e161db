//! Counts of elements by where they lie between bounds: what they take and give.

use serde::{Deserialize, Serialize};

use super::{Check, Plan};
use crate::{Accepts, Description, Dtype, OperatorError};

/// Most bins of a histogram: each thread or block of a device has counts of its own.
const MAX_BINS: u32 = 1 << 16;

/// Bins of one width. An element `x` from `min` to `max` is counted in bin
/// `⌊(x - min) × (bins / (max - min))⌋`, computed in FP64, but `max` in the last one; others and
/// NaN are counted nowhere. Bounds half below the first and half above the last count integers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many there are: at least 1, at most 65,536.
    pub bins: u32,
    /// Where the first one begins.
    pub min: f64,
    /// Where the last one ends; more than `min`.
    pub max: f64,
}

impl Histogram {
    /// Bins for a difference of 1.
    pub fn density(&self) -> f64 {
        f64::from(self.bins) / (self.max - self.min)
    }

    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x] = check.inputs()?;
        check.accepts(x.dtype, Accepts::Numbers)?;
        if self.bins == 0 || self.bins > MAX_BINS {
            return Err(check.attribute(format!("{} bins are not 1 to {MAX_BINS}", self.bins)));
        }
        let density = self.density();
        if !(density > 0.0 && density.is_finite()) {
            let Self { bins, min, max } = self;
            return Err(check.attribute(format!("{min} to {max} can't be cut into {bins} bins")));
        }
        let output = Description::new(Dtype::Int64, check.shape(&[u64::from(self.bins)])?);
        let work = x.shape.elements().saturating_add(output.shape.elements());
        Ok(check.plan(output, work))
    }
}
