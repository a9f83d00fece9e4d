//! What a server answers who makes itself known.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::registration(bytes));
