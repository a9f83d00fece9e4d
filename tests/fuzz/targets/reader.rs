//! One program for all targets: `VALETKEY_FUZZ` says which.
#![no_main]

use std::sync::LazyLock;

use valetkey::fuzzing::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("VALETKEY_FUZZ").unwrap_or_default();
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("VALETKEY_FUZZ={wanted} names no target")).1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
