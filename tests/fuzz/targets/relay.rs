//! What a relay answers to a poll.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::relay(bytes));
