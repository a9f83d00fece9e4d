//! Ends the program. Everything else is in the library.

fn main() -> std::process::ExitCode {
    match valetkey::Process::current() {
        Ok(process) => valetkey::run(process).into(),
        Err(status) => status.into(),
    }
}
