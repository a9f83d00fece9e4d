//! What an authorization server publishes about itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::metadata(bytes));
