//! What a host says when it refuses.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::challenge(bytes));
