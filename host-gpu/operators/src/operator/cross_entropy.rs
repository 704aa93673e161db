//! The loss of a classification with its gradient: what it takes and gives.

use serde::{Deserialize, Serialize};

use super::{Check, Plan};
use crate::{Accepts, Description, OperatorError};

/// How far shares of exponentials are from labels.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CrossEntropy {
    /// A label that no row is compared with: its loss and gradient are 0.
    pub ignored: Option<i64>,
    /// The part of each label that is spread over all classes; from 0 to 1.
    pub smoothing: f64,
}

impl CrossEntropy {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [logits, labels] = check.inputs()?;
        check.accepts(logits.dtype, Accepts::Floats)?;
        check.accepts(labels.dtype, Accepts::Indices)?;
        let Some((classes, rows)) = logits.shape.dims().split_last() else {
            return Err(check.shapes("a scalar has no rows".to_owned()));
        };
        if labels.shape.dims() != rows {
            let expected = check.shape(rows)?;
            return Err(check.shapes(format!("the labels should be {expected}")));
        }
        if *classes == 0 {
            return Err(check.shapes("there is no class".to_owned()));
        }
        if !(0.0..=1.0).contains(&self.smoothing) {
            let problem = format!("smoothing {} is not from 0 to 1", self.smoothing);
            return Err(check.attribute(problem));
        }
        let loss = Description::new(logits.dtype, labels.shape);
        Ok(Plan { outputs: vec![loss, logits], ..check.plan(loss, logits.shape.elements()) })
    }
}
