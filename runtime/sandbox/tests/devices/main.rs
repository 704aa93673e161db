//! Device tensors of functions: a real guest (`tests/guests/tensors`, built by `make guests`)
//! computes on the CPU device, in this process.

#[path = "../support/mod.rs"]
mod support;

mod catalogue;
mod function;
mod gradients;
mod kernels;
mod limits;
mod refusals;
mod trained;
mod training;
