//! Puts the unwinder into the program where the linker has one to put in: to load `libgcc_s.so` for
//! it costs a tenth of the time that a cached `get` takes. `scripts/bench` shows it.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "how a build script speaks with cargo and the linker"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let native = variable("HOST") == variable("TARGET");
    let gnu =
        variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu";
    if !native || !gnu || !linker_has_unwinder() {
        return;
    }
    let directory = PathBuf::from(variable("OUT_DIR"));
    // A linker reads a library that is text as a script, and ours comes first.
    if std::fs::write(directory.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n").is_ok() {
        println!("cargo:rustc-link-search=native={}", directory.display());
    }
}

fn linker_has_unwinder() -> bool {
    let answer = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    let path = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    path.is_ok_and(|path| Path::new(&path).is_absolute())
}
