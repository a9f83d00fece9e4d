//! Ends the program. Everything else is in the library.
//!
//! Where the C library is glibc it calls `main` itself. Rust's own start would first read the
//! memory map of the process, to be able to name a stack overflow, and that takes a fifth of the
//! time that `true` takes (`scripts/bench`). What else it does, [`valetkey::Process::current`] does.

#![cfg_attr(all(target_os = "linux", target_env = "gnu"), no_main)]

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the name by which the C library calls it; nothing else is unsafe")]
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    valetkey::run_current().into()
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn main() -> std::process::ExitCode {
    valetkey::run_current().into()
}
