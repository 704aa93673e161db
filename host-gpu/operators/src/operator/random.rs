//! Numbers that look random and follow from a seed: what comes out.

use serde::{Deserialize, Serialize};

use super::{Check, Plan};
use crate::{Accepts, Description, Dtype, OperatorError, Shape};

/// How numbers are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distribution {
    /// Evenly from 0 to below 1.
    Uniform,
    /// Normally, around 0 with variance 1.
    Normal,
}

/// A tensor of numbers from a stream of Philox 4x32-10 (Salmon et al., "Parallel random numbers: as
/// easy as 1, 2, 3", 2011). The seed is the key, its lower half first; the counter of a block of
/// four words is its number in the stream. An element takes one word, of FP64 two, and normal
/// numbers are made of pairs (Box and Muller, 1958).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    /// How the numbers are distributed.
    pub distribution: Distribution,
    /// The type of the elements; a float.
    pub dtype: Dtype,
    /// The shape.
    pub shape: Shape,
    /// The stream.
    pub seed: u64,
    /// The number of the first block that is taken. What comes after this tensor begins
    /// [`Random::blocks`] later.
    pub offset: u64,
}

impl Random {
    /// How many blocks it takes of the stream.
    pub fn blocks(&self) -> u64 {
        self.shape.elements().div_ceil(if self.dtype == Dtype::Fp64 { 2 } else { 4 })
    }

    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [] = check.inputs()?;
        check.accepts(self.dtype, Accepts::Floats)?;
        let output = Description::new(self.dtype, self.shape);
        Ok(check.plan(output, self.shape.elements()))
    }
}
