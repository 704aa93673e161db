//! Fuzzes what `fuzz::manifest` of its crate drives; never anything else.

#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| quern_types::fuzz::manifest(content));
