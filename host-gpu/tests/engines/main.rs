//! The CPU device from the outside, in this process and in a worker: real engines on small graphs
//! that are built here.

mod batching;
#[path = "../../cuda/tests/mock/building.rs"]
mod building;
mod conformance;
mod device;
mod digits;
mod external;
mod failures;
mod gpus;
mod graphs;
mod inspection;
mod refusals;
mod tensors;
mod trials;
mod warm_ups;
mod worker;
