//! Fuzzes what `fuzz::component` of its crate drives; never anything else.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| quern_sandbox::fuzz::component(content));
