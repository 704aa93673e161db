//! Distances between rows of matrices: what they take and give.

use serde::{Deserialize, Serialize};

use super::{Check, Plan};
use crate::{Accepts, Description, OperatorError};

/// What a distance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// `√Σ (left - right)²`
    Euclidean,
    /// `Σ (left - right)²`
    SquaredEuclidean,
    /// `Σ |left - right|`
    Manhattan,
    /// `1 - Σ left × right / (√Σ left² × √Σ right²)`; 1 if a row is all zeros.
    Cosine,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 4] =
        [Self::Euclidean, Self::SquaredEuclidean, Self::Manhattan, Self::Cosine];

    pub(super) fn plan(check: &Check) -> Result<Plan, OperatorError> {
        let [left, right] = check.inputs()?;
        check.accepts(left.dtype, Accepts::Floats)?;
        check.same(left.dtype, right.dtype)?;
        let (left_batch, [rows, width]) = check.matrices(&left.shape)?;
        let (right_batch, [columns, other_width]) = check.matrices(&right.shape)?;
        if width != other_width {
            return Err(check.shapes("the rows are not as long".to_owned()));
        }
        let batch = check.batch(&[left_batch, right_batch])?;
        let output = Description::new(left.dtype, check.with_batch(&batch, [rows, columns])?);
        let inputs = vec![
            check.with_batch(&batch, [rows, width])?,
            check.with_batch(&batch, [columns, width])?,
        ];
        let work = output.shape.elements().saturating_mul(width.max(1));
        Ok(Plan { inputs, outputs: vec![output], work })
    }
}
