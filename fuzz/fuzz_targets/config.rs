#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quicwrap::fuzz::config(data));
