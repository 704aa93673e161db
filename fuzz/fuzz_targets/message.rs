//! Fuzzes what `fuzz::message` of its crate drives; never anything else.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| quern_gateway::fuzz::message(content));
