//! Tensors on a device of the host, and what is computed of them there: they stay on the device
//! until they are read. The manifest grants memory for them: `[grants] gpu = { memory = "64MiB" }`.
//!
//! ```no_run
//! use quern_sdk::{Error, gpu::Session};
//!
//! /// Class probabilities of images by one layer: `softmax(relu(x × w + b))`.
//! fn classify(pixels: &[f32], weights: &[f32], bias: &[f32]) -> Result<Vec<f32>, Error> {
//!     let session = Session::open()?;
//!     let x = session.tensor([pixels.len() as u64 / 64, 64], pixels)?;
//!     let w = session.tensor([64, 10], weights)?;
//!     let b = session.tensor([10], bias)?;
//!     let y = x.matmul(&w)?.add(&b)?.relu()?.softmax()?;
//!     Ok(y.to_vec()?)
//! }
//! ```
//!
//! An operator returns before its result is computed; the device works through what was asked for
//! while the function goes on. [`Tensor::to_vec`] and [`Session::finish`] wait for it, without
//! using up the function's processor time.
//!
//! A [`Tensor`] is a handle: cloning it costs nothing, and its memory is free when the last clone,
//! and the last view of it, are dropped. It never changes. An [`Operator`] is plain data, so that
//! what is computed can be kept, compared and replayed: [`Session::run`] takes any, and the methods
//! of [`Tensor`] are shorthands for it.
//!
//! What does not fit is an [`Error`] with the operator and the shapes in its message; the session
//! goes on. Only an index that is out of range, or a lost device, end it.

mod catalogue;
mod elements;
mod error;
mod model_calls;
mod offers;
mod ordering;
mod session;
mod tensor;
mod training;

pub use self::{
    elements::Element,
    error::{Error, ErrorKind},
    model_calls::{CallError, Outputs},
    session::Session,
    tensor::Tensor,
};
pub use crate::bindings::quern::ml::gpu::{
    Adam, ArgReduce, Attention, AveragePoolGradient, Binary, Clamp, Comparison, Convolution,
    ConvolutionInputGradient, ConvolutionWeightGradient, CrossEntropy, Description, Distribution,
    Dtype, Extreme, Fill, Histogram, Logical, Metric, Norm, Operator, Padding, Pool, Random, Range,
    Reduce, Reduction, Scalar, Sgd, Sort, TopK, Unary, Usage,
};
