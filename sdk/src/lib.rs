//! The guest library of Quern: functions as plain Rust functions.
//!
//! A component is one function. [`inference!`] makes one that turns tensors into tensors, [`http!`]
//! one that answers HTTP requests; both may call [`Model`]s that run on the host's devices, and
//! compute on those devices themselves with [`gpu`], and train with [`autograd`]. Standard output
//! and standard error go to the function's log.
//!
//! ```
//! use quern_sdk::{Error, Inputs, Model, Outputs, Tensor};
//!
//! quern_sdk::inference!(classify);
//!
//! fn classify(inputs: Inputs) -> Result<Outputs, Error> {
//!     let scores = Model::open("digits-mlp")?.infer(inputs)?.take("probabilities")?.to_f32()?;
//!     let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
//!     let best = best.ok_or_else(|| Error::internal("the model gave no scores"))?;
//!     Ok(Tensor::i64("label", [1], &[best as i64])?.into())
//! }
//! # fn main() {}
//! ```

pub mod autograd;
#[doc(hidden)]
pub mod bindings;
mod error;
pub mod gpu;
#[doc(hidden)]
pub mod http;
#[doc(hidden)]
pub mod inference;
mod model;
mod tensor;
mod tensors;

pub use error::{Error, ErrorKind};
pub use http::{Body, Event, Events, Request, Response};
pub use model::{Model, Pending, TensorSpec, wait_all, wait_any};
pub use tensor::{DataType, Tensor};
pub use tensors::{Inputs, Outputs, Tensors};

/// The standard interfaces themselves, for what this library does not wrap.
pub use wasip2 as wasi;

/// Keeps the example of the README compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
