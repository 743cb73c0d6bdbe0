#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quicwrap::fuzz::known_hosts(data));
