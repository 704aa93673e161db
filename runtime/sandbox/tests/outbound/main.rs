//! Outbound HTTP of functions: a real guest (`tests/guests/outbound`, built by `make guests`) sends
//! real requests to servers on loopback addresses, which stand for what an operator has listed and
//! for what must stay out of reach.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod courier;
mod function;
mod grants;
mod limits;
mod servers;
mod tls;
mod trouble;
