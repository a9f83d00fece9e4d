//! A request of the line protocol, and every answer that it could get.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::git_request(bytes));
