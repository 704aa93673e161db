//! The CPU device from the outside, in this process and in a worker: real engines on small graphs
//! that are built here.

mod batching;
mod conformance;
mod device;
mod digits;
mod external;
mod failures;
mod graphs;
mod inspection;
mod refusals;
mod trials;
mod warm_ups;
mod worker;
