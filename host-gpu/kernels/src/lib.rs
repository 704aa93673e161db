//! Device tensors for sandboxed functions, the operators on them, and the device that is always
//! there: the CPU. Never reads a clock, a file or the network, and knows no guest: what comes in is
//! plain data from anywhere, and every bad operator, shape, index or id is an error.
//!
//! The way of an operator: a [`Session`] looks up its inputs, [`Kernel`] says what comes out or why
//! it can't, the session counts memory and work, and hands a [`Step`], which nothing else can
//! make, to the [`Lane`] of a [`Device`]. Tensors never change; views share memory with what they
//! were made of. Whatever the device, [`suite`] holds it to the same answers.
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
//! | matrices | matmul, batched | floats |
//! | rows | softmax, log-softmax, layer norm, RMS norm | floats |
//! | joining | concat | all |
//! | indexing | gather (also an embedding) | all, by INT32 or INT64 |
//! | | scatter-add | all but BOOL, by INT32 or INT64 |
//!
//! Element types are BOOL, UINT8, INT32, INT64, FP16, BF16, FP32 and FP64; floats are the last
//! four. FP16 and BF16 are computed in FP32 and rounded once. Both inputs of an operator have one
//! type; shapes broadcast as in NumPy.

mod cpu;
mod device;
mod dtype;
mod layout;
mod operator;
mod session;
mod shape;
pub mod suite;

pub use cpu::{CpuDevice, CpuDeviceError};
pub use device::{BufferId, Device, GRANULE_BYTES, Lane, LaneError, Operand, Step};
pub use dtype::{Accepts, Dtype, UnsupportedDtype};
pub use layout::Layout;
pub use operator::{
    ArgReduce, Binary, Clamp, Comparison, Extreme, Fill, Kernel, Logical, Norm, Operator,
    OperatorError, Range, Reduce, Reduction, Scalar, Unary, View,
};
pub use session::{Session, SessionError, SessionLimits, TensorId, Usage};
pub use shape::{Description, MAX_ELEMENTS, MAX_RANK, Shape, ShapeError};

use operator::Plan;
