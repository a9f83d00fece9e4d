//! Programs that a test needs and a machine may not have. Such a test is left out with a word, but
//! never under CI: `tests/peers/install` puts them there.

/// Whether all of these programs are on the `PATH`.
pub fn all(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|name| !is_there(name)).collect();
    missing.is_empty() || left_out(&format!("{} is not installed", missing.join(", ")))
}

/// Says why a test is left out, or fails it under CI.
#[expect(clippy::print_stderr, reason = "it is for whoever runs the tests")]
pub fn left_out(why: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("left out: {why}");
    false
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
