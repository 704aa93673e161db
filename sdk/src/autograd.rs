//! Reverse-mode automatic differentiation of what is computed on a device, and what small networks
//! need beside it: parameters, layers, optimizers.
//!
//! ```no_run
//! use quern_sdk::{
//!     Error,
//!     autograd::{Adam, Linear, Parameters, Variable},
//!     gpu::{Session, Tensor},
//! };
//!
//! /// A network of two layers that tells ten classes apart, after `steps` steps.
//! fn train(session: &Session, x: &Tensor, labels: &Tensor, steps: u32) -> Result<Parameters, Error> {
//!     let mut parameters = Parameters::new(session, 1);
//!     let hidden = Linear::new(&mut parameters, "hidden", 64, 32)?;
//!     let scores = Linear::new(&mut parameters, "scores", 32, 10)?;
//!     let mut adam = Adam::new(1e-3);
//!     let x = Variable::constant(x.clone());
//!     for _ in 0..steps {
//!         let logits = scores.forward(&hidden.forward(&x)?.relu()?)?;
//!         let loss = logits.cross_entropy(labels)?.mean_all()?;
//!         adam.step(&parameters, &loss.backward()?)?;
//!     }
//!     Ok(parameters)
//! }
//! ```
//!
//! A [`Variable`] is a tensor that remembers how it was computed, as far as a gradient depends on
//! it. What is computed of constants alone is a constant, and remembers nothing. [`Variable::backward`]
//! goes the way back and gives the gradients by the leaves, as new tensors: nothing is accumulated
//! anywhere, and nothing has to be set to zero. Gradients of gradients are not to be had.
//!
//! Only the tensors that the way back needs stay on the device, as long as the variable that was
//! computed of them. An operator of one's own is [`Variable::computed`].

mod elementwise;
mod gradients;
mod images;
mod indexing;
mod layers;
mod movement;
mod optimizers;
mod parameters;
mod products;
mod reductions;
mod rows;
mod variable;

pub use self::{
    gradients::Gradients,
    layers::{Conv2d, Embedding, LayerNorm, Linear},
    optimizers::{Adam, Sgd},
    parameters::{Parameter, Parameters},
    variable::{Edge, Variable},
};
