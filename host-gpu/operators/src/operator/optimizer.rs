//! Steps of optimizers: what they take and give. Tensors never change: the new ones come out.

use serde::{Deserialize, Serialize};

use super::{Check, Plan};
use crate::{Accepts, Description, Dtype, OperatorError};

/// A step of stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    /// How far the step goes.
    pub rate: f64,
    /// How much of the velocity stays. Without it there is no velocity, neither given nor made.
    pub momentum: f64,
    /// How much of the parameter is added to the gradient.
    pub weight_decay: f64,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
}

impl Sgd {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        check.not_negative("rate", self.rate)?;
        check.not_negative("momentum", self.momentum)?;
        check.not_negative("weight decay", self.weight_decay)?;
        if self.momentum == 0.0 {
            if self.nesterov {
                return Err(check.attribute("there is no momentum to look ahead along".to_owned()));
            }
            return updated(check.inputs::<2>()?, check);
        }
        updated(check.inputs::<3>()?, check)
    }
}

/// A step of Adam, or of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// How far the step goes.
    pub rate: f64,
    /// How much of the two moments, of gradients and of their squares, stays.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// How much of the parameter is added to the gradient, or taken from the parameter.
    pub weight_decay: f64,
    /// Whether it is taken from the parameter, as in AdamW.
    pub decoupled: bool,
    /// The number of the step, from 1: the moments began as 0.
    pub step: u64,
}

impl Adam {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        check.not_negative("rate", self.rate)?;
        check.not_negative("epsilon", self.epsilon)?;
        check.not_negative("weight decay", self.weight_decay)?;
        for beta in self.betas {
            if !(0.0..1.0).contains(&beta) {
                return Err(check.attribute(format!("beta {beta} is not from 0 to below 1")));
            }
        }
        if self.step == 0 {
            return Err(check.attribute("steps are counted from 1".to_owned()));
        }
        updated(check.inputs::<4>()?, check)
    }
}

/// A parameter, its gradient and what is kept for it: the first and the last come out anew. What
/// is kept is in FP32 where the parameter is FP16 or BF16.
fn updated<const N: usize>(inputs: [Description; N], check: &Check) -> Result<Plan, OperatorError> {
    let (parameter, gradient) = (inputs[0], inputs[1]);
    check.accepts(parameter.dtype, Accepts::Floats)?;
    check.same(parameter.dtype, gradient.dtype)?;
    let kept = match parameter.dtype {
        Dtype::Fp16 | Dtype::Bf16 => Dtype::Fp32,
        dtype => dtype,
    };
    for input in &inputs[2..] {
        check.same(kept, input.dtype)?;
    }
    if inputs.iter().any(|input| input.shape != parameter.shape) {
        return Err(check.shapes("they should all be shaped alike".to_owned()));
    }
    let outputs = std::iter::once(parameter).chain(inputs[2..].iter().copied()).collect();
    Ok(Plan { outputs, ..check.plan(parameter, parameter.shape.elements()) })
}
