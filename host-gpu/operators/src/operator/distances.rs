//! Distances between rows of matrices: what they take and give.

use serde::{Deserialize, Serialize};

use super::{Check, Plan, cost};
use crate::{Accepts, Description, OperatorError};

/// Rows of each matrix that devices compare at a time: fewer take as long.
const ROWS: u64 = 32;
const COLUMNS: u64 = 64;

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
        let blocks = [rows.div_ceil(ROWS), columns.div_ceil(COLUMNS)];
        let work = cost::sum(&[
            cost::times(&[batch.elements(), rows, blocks[1], COLUMNS, width.max(1)]),
            cost::times(&[batch.elements(), rows, blocks[1], width, cost::LOADED]),
            cost::times(&[batch.elements(), blocks[0], columns, width, cost::LOADED]),
            cost::times(&[batch.elements(), blocks[0], blocks[1], cost::BEGUN]),
        ]);
        Ok(Plan { inputs, outputs: vec![output], work })
    }
}
