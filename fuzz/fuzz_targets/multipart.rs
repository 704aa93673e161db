//! Fuzzes what `fuzz::multipart` of its crate drives; never anything else.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| quern_gateway::fuzz::multipart(content));
