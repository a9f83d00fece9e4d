//! Shortens what the loader does before the program begins, where its tools are new enough: the
//! unwinder is put into the program, because to load `libgcc_s.so` for it costs a tenth of the time
//! that a cached `get` takes, and the places that depend on where the program lies come as a packed
//! table. `scripts/bench` shows both.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "how a build script speaks with cargo and the linker"
)]

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let native = variable("HOST") == variable("TARGET");
    let gnu =
        variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu";
    if !native || !gnu {
        return;
    }
    if library("libgcc_eh.a").is_some() {
        let directory = PathBuf::from(variable("OUT_DIR"));
        // A linker reads a library that is text as a script, and ours comes first.
        if std::fs::write(directory.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n").is_ok() {
            println!("cargo:rustc-link-search=native={}", directory.display());
        }
    }
    if loader_reads_packed_relocations() {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// From glibc 2.36 on, which says so by the name of a version.
fn loader_reads_packed_relocations() -> bool {
    let name = b"GLIBC_ABI_DT_RELR";
    let content = library("libc.so.6").and_then(|path| std::fs::read(path).ok());
    content.is_some_and(|content| content.windows(name.len()).any(|window| window == name))
}

/// Where the linker finds a library, if it does.
fn library(name: &str) -> Option<PathBuf> {
    let answer = Command::new("cc").arg(format!("-print-file-name={name}")).output().ok()?;
    let path = PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim());
    path.is_absolute().then_some(path)
}
