//! Attention: what it takes and gives.

use serde::{Deserialize, Serialize};

use super::{Check, Plan, cost};
use crate::{Accepts, Description, Dtype, OperatorError};

/// Queries and keys that devices let meet at a time.
const QUERIES: u64 = 64;
const KEYS: u64 = 256;

/// How queries attend to keys.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// What products of queries and keys are multiplied by; `1 / √width` if it isn't said.
    pub scale: Option<f64>,
    /// Whether the query at a place sees the keys up to that place alone, both counted from the
    /// first one.
    pub causal: bool,
}

impl Attention {
    /// What products of queries and keys so wide are multiplied by.
    pub fn scale(&self, width: u64) -> f64 {
        self.scale.unwrap_or_else(|| (width.max(1) as f64).sqrt().recip())
    }

    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let (query, inputs) = check.some_inputs()?;
        let (key, value, mask) = match inputs {
            [_, key, value] => (key, value, None),
            [_, key, value, mask] => (key, value, Some(mask)),
            _ => return Err(check.wrong_count("3 or 4".to_owned())),
        };
        check.accepts(query.dtype, Accepts::Floats)?;
        check.same(query.dtype, key.dtype)?;
        check.same(query.dtype, value.dtype)?;
        let (query_batch, [queries, width]) = check.matrices(&query.shape)?;
        let (key_batch, [keys, key_width]) = check.matrices(&key.shape)?;
        let (value_batch, [values, value_width]) = check.matrices(&value.shape)?;
        if width != key_width {
            return Err(check.shapes("queries and keys are not as wide".to_owned()));
        }
        if keys != values {
            return Err(check.shapes("there is not a value for each key".to_owned()));
        }
        let batch = check.batch(&[query_batch, key_batch, value_batch])?;
        let mut stretched = vec![
            check.with_batch(&batch, [queries, width])?,
            check.with_batch(&batch, [keys, width])?,
            check.with_batch(&batch, [keys, value_width])?,
        ];
        let scores = check.with_batch(&batch, [queries, keys])?;
        if let Some(mask) = mask {
            if mask.dtype != Dtype::Bool {
                check.same(query.dtype, mask.dtype)?;
            }
            if mask.shape.broadcast(&scores) != Some(scores) {
                return Err(check.shapes(format!("the mask does not broadcast to {scores}")));
            }
            stretched.push(scores);
        }
        if let Some(scale) = self.scale.filter(|scale| !scale.is_finite()) {
            return Err(check.attribute(format!("scale {scale} is not finite")));
        }
        let output =
            Description::new(query.dtype, check.with_batch(&batch, [queries, value_width])?);
        let (widths, blocks) = (width.saturating_add(value_width), queries.div_ceil(QUERIES));
        let work = cost::sum(&[
            cost::times(&[scores.elements(), widths.saturating_add(cost::EXPONENTIAL)]),
            cost::times(&[batch.elements(), queries, width, cost::LOADED]),
            cost::times(&[batch.elements(), blocks, keys, widths, cost::LOADED]),
            cost::times(&[batch.elements(), blocks, keys.div_ceil(KEYS).max(1), cost::BEGUN]),
            output.shape.elements(),
        ]);
        Ok(Plan { inputs: stretched, outputs: vec![output], work })
    }
}
