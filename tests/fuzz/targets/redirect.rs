//! What reaches the loopback listener: the head of a request, or its query.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::redirect(bytes));
