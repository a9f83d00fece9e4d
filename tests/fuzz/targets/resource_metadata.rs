//! What a host publishes about itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::resource_metadata(bytes));
