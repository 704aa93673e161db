//! Optimizers: they set parameters by their gradients, one operator of the device for each. What
//! they keep of a parameter is kept by its name.

use std::collections::HashMap;

use super::{Gradients, Parameters};
use crate::gpu::{self, Dtype, Error, Tensor};

/// Stochastic gradient descent.
#[derive(Debug)]
pub struct Sgd {
    options: gpu::Sgd,
    velocities: HashMap<String, Tensor>,
}

impl Sgd {
    /// Without momentum and weight decay.
    pub fn new(rate: f64) -> Self {
        let options = gpu::Sgd { rate, momentum: 0.0, weight_decay: 0.0, nesterov: false };
        Self::with(options)
    }

    /// With all that can be chosen.
    pub fn with(options: gpu::Sgd) -> Self {
        Self { options, velocities: HashMap::new() }
    }

    /// The same with momentum.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.options.momentum = momentum;
        self
    }

    /// Changes how far steps go.
    pub fn set_rate(&mut self, rate: f64) {
        self.options.rate = rate;
    }

    /// Sets the parameters that have gradients.
    pub fn step(&mut self, parameters: &Parameters, gradients: &Gradients) -> Result<(), Error> {
        for parameter in parameters {
            let leaf = parameter.variable();
            let Some(gradient) = gradients.get(&leaf) else { continue };
            let value = leaf.value();
            let value = if self.options.momentum == 0.0 {
                value.sgd(gradient, self.options)?
            } else {
                let velocity = match self.velocities.get(parameter.name()) {
                    Some(velocity) => velocity.clone(),
                    None => zeros_for(value)?,
                };
                let [value, velocity] =
                    value.sgd_with_momentum(gradient, &velocity, self.options)?;
                self.velocities.insert(parameter.name().to_owned(), velocity);
                value
            };
            parameter.set(value)?;
        }
        Ok(())
    }
}

/// Adam (Kingma and Ba, 2015), or AdamW (Loshchilov and Hutter, 2019).
#[derive(Debug)]
pub struct Adam {
    options: gpu::Adam,
    moments: HashMap<String, Moments>,
}

#[derive(Debug, Clone)]
struct Moments {
    /// Steps that were taken.
    steps: u64,
    moments: [Tensor; 2],
}

impl Adam {
    /// As is usual: betas of 0.9 and 0.999, an epsilon of 1e-8, without weight decay.
    pub fn new(rate: f64) -> Self {
        Self::with(gpu::Adam { rate, ..gpu::Adam::default() })
    }

    /// With all that can be chosen; steps are counted here, whatever it says of them.
    pub fn with(options: gpu::Adam) -> Self {
        Self { options, moments: HashMap::new() }
    }

    /// The same with weight decay that is apart from the gradient: AdamW.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        (self.options.weight_decay, self.options.decoupled) = (weight_decay, true);
        self
    }

    /// Changes how far steps go.
    pub fn set_rate(&mut self, rate: f64) {
        self.options.rate = rate;
    }

    /// Sets the parameters that have gradients.
    pub fn step(&mut self, parameters: &Parameters, gradients: &Gradients) -> Result<(), Error> {
        for parameter in parameters {
            let leaf = parameter.variable();
            let Some(gradient) = gradients.get(&leaf) else { continue };
            let value = leaf.value();
            let Moments { steps, moments: [first, second] } =
                match self.moments.get(parameter.name()) {
                    Some(moments) => moments.clone(),
                    None => Moments { steps: 0, moments: [zeros_for(value)?, zeros_for(value)?] },
                };
            let step = steps + 1;
            let options = gpu::Adam { step, ..self.options };
            let [value, moments @ ..] = value.adam(gradient, [&first, &second], options)?;
            self.moments.insert(parameter.name().to_owned(), Moments { steps: step, moments });
            parameter.set(value)?;
        }
        Ok(())
    }
}

/// What is kept for a parameter, at first.
fn zeros_for(parameter: &Tensor) -> Result<Tensor, Error> {
    let dtype = match parameter.dtype()? {
        Dtype::Fp16 | Dtype::Bf16 => Dtype::Fp32,
        dtype => dtype,
    };
    parameter.session().fill(dtype, parameter.shape()?, 0.0)
}
