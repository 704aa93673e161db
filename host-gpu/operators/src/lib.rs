//! What can be asked of device tensors: the catalogue of operators, their element types, shapes
//! and layouts, as plain data that may come from anywhere. [`Kernel::plan`] says what comes out, or
//! why it can't. [`KernelCalls`] and [`KernelSession`] are how functions come to devices. Never
//! computes, and knows no device.
//!
//! # The catalogue
//!
//! | family | operators | element types |
//! |---|---|---|
//! | views | permute, reshape, broadcast, slice | all |
//! | elementwise | neg, abs, sign, square, relu, add, sub, mul, div, min, max, clamp | all but BOOL |
//! | | exp, log, sqrt, rsqrt, reciprocal, sin, cos, tanh, erf, sigmoid, silu, gelu, floor, ceil, round, pow | floats |
//! | | and, or, xor, not | BOOL |
//! | | compare (to BOOL), where, cast, copy, fill | all |
//! | reductions | sum, product (INT64 of integers), max, min, arg-max, arg-min | all but BOOL |
//! | | mean | floats |
//! | | any, all | BOOL |
//! | | cumulative sum (INT64 of integers) | all but BOOL |
//! | ordering | sort, top-k, histogram | all but BOOL |
//! | matrices | matmul, pairwise distances, batched | floats |
//! | | scaled dot-product attention | floats, a mask also BOOL |
//! | rows | softmax, log-softmax, layer norm, RMS norm | floats |
//! | joining | concat | all |
//! | indexing | gather (also an embedding) | all, by INT32 or INT64 |
//! | | scatter-add | all but BOOL, by INT32 or INT64 |
//! | images | convolution, max-pool, average-pool, and their gradients | floats |
//! | training | cross-entropy with its gradient | floats, by labels of INT32 or INT64 |
//! | | SGD, Adam, AdamW: one step | floats; what is kept of FP16 and BF16 is in FP32 |
//! | random | uniform, normal, by Philox 4x32-10 | floats |
//!
//! Element types are BOOL, UINT8, INT32, INT64, FP16, BF16, FP32 and FP64; floats are the last
//! four. FP16 and BF16 are computed in FP32 and rounded once. Both inputs of an operator have one
//! type; shapes broadcast as in NumPy.

mod calls;
mod dtype;
mod layout;
mod operator;
mod session;
mod shape;
mod transfer;

pub use calls::{KernelCalls, KernelSession, OpenError, SessionRequest};
pub use dtype::{Accepts, Dtype, UnsupportedDtype};
pub use layout::Layout;
pub use operator::{
    Adam, ArgReduce, Attention, AveragePoolGradient, Binary, Clamp, Comparison, Convolution,
    ConvolutionInputGradient, ConvolutionWeightGradient, CrossEntropy, Distribution, Extreme, Fill,
    Histogram, Kernel, Logical, Metric, Norm, Operator, OperatorError, Padding, Plan, Pool, Random,
    Range, Reduce, Reduction, Scalar, Seen, Sgd, Sort, TopK, Unary, View,
};
pub use session::{LaneError, SessionError, SessionLimits, TensorId, Usage};
pub use shape::{Description, MAX_ELEMENTS, MAX_RANK, Shape, ShapeError};
pub use transfer::{OfferError, Parcel, Ticket};
