//! The configuration: TOML of whoever can write it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::configuration(bytes));
