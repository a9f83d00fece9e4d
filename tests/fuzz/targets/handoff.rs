//! The query of a redirect that brings a token, and nothing else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::handoff(bytes));
