#![no_main]

libfuzzer_sys::fuzz_target!(|content: &[u8]| quern_types::fuzz::manifest(content));
