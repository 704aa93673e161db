//! The real binary over real sockets: deploys, calls, bad input, limits, crashes.

#[path = "../support/mod.rs"]
mod support;

#[path = "../../host-gpu/cuda/tests/mock/building.rs"]
mod building;

mod access;
mod background;
mod backup;
mod bad_input;
mod batches;
mod capacity;
mod cli;
mod configuration;
mod crashes;
mod deployments;
mod devices;
mod faults;
mod gpu;
mod gpus;
mod grpc;
mod handover;
mod http_functions;
mod http_handlers;
mod imports;
mod inference;
mod isolation;
mod limits;
mod model_tools;
mod models;
mod objects;
mod observability;
mod onnx;
mod operations;
mod protocol;
mod reliability;
mod reload;
mod repository;
mod restart;
mod reuse;
mod settings;
mod shared_memory;
mod sharing;
mod simulation;
mod streaming;
mod tenants;
mod tls;
mod traces;
mod traffic;
mod training;
mod traps;
mod worker;

use support::Guest;

const COUNTER: Guest = Guest::test("counter");
const DIGITS: Guest = Guest::function("digits");
const DIGIT_READER: Guest = Guest::function("digit-reader");
const ECHO: Guest = Guest::test("echo");
const EVENTS: Guest = Guest::test("events");
const FAN_OUT: Guest = Guest::test("fan-out");
const GUEST_ERROR: Guest = Guest::test("guest-error");
const HANDOVER: Guest = Guest::test("handover");
const HANDLER: Guest = Guest::test("handler");
const HELLO: Guest = Guest::function("hello");
const IMPORTS: Guest = Guest::test("imports");
const MISBEHAVE: Guest = Guest::test("misbehave");
const MODEL_CALLS: Guest = Guest::test("model-calls");
const OUTBOUND: Guest = Guest::test("outbound");
const STREAM_TOKENS: Guest = Guest::function("stream-tokens");
const TENSORS: Guest = Guest::test("tensors");
const TRAIN_DIGITS: Guest = Guest::function("train-digits");
const UNKNOWN_IMPORT: Guest = Guest::test("unknown-import");
const WRONG_OUTPUT: Guest = Guest::test("wrong-output");
