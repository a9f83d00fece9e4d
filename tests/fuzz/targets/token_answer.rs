//! What a token endpoint answers, as JSON and as a form.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| valetkey::fuzzing::token_answer(bytes));
