//! The real binary over real sockets: deploys, calls, bad input, limits, crashes.

#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod deployments;
mod http_functions;
mod inference;
mod limits;
mod operations;

use support::Guest;

const DIGITS: Guest = Guest::function("digits");
const DIGIT_READER: Guest = Guest::function("digit-reader");
const ECHO: Guest = Guest::guest("echo");
const FAN_OUT: Guest = Guest::guest("fan-out");
const GUEST_ERROR: Guest = Guest::guest("guest-error");
const HELLO: Guest = Guest::function("hello");
const MISBEHAVE: Guest = Guest::guest("misbehave");
const MODEL_CALLS: Guest = Guest::guest("model-calls");
const UNKNOWN_IMPORT: Guest = Guest::guest("unknown-import");
const WRONG_OUTPUT: Guest = Guest::guest("wrong-output");
