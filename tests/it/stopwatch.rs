//! Times whole programs against each other: every round starts each of them once, so that whatever
//! else the machine does meets them alike, and a ratio is the median of the rounds' own ratios.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One program, always started in the same way.
pub struct Contender {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    /// A file with all of its standard input.
    pub input: PathBuf,
}

/// How long a program took, a value for each round.
pub struct Times {
    pub name: String,
    rounds: Vec<Duration>,
}

impl Contender {
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(&self.arguments).env_clear().envs(environment);
        command.stdin(File::open(&self.input).expect("the input")).stderr(Stdio::null());
        command
    }

    /// What it says on standard output; it has to succeed.
    pub fn answer(&self) -> String {
        let output = self.command().stdout(Stdio::piped()).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{} ends with {}: {text}", self.name, output.status);
        text
    }

    fn time(&self) -> Duration {
        let mut command = self.command();
        command.stdout(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().expect("it starts");
        let status = child.wait().expect("it ends");
        let time = start.elapsed();
        assert!(status.success(), "{} ends with {status}", self.name);
        time
    }

    /// The most memory that it holds at any time, in KiB, as GNU time tells it.
    pub fn peak(&self) -> Option<u64> {
        let gnu_time = Path::new("/usr/bin/time");
        let report = tempfile::NamedTempFile::new().ok()?;
        let inner = self.command();
        let mut command = Command::new(gnu_time);
        command.args(["-f", "%M", "-o"]).arg(report.path()).arg(inner.get_program());
        command.args(inner.get_args()).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(File::open(&self.input).ok()?).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().ok()?;
        std::fs::read_to_string(report.path()).ok()?.trim().parse().ok()
    }
}

pub fn race(contenders: &[&Contender], rounds: usize) -> Vec<Times> {
    let name = |contender: &&Contender| Times { name: contender.name.clone(), rounds: Vec::new() };
    let mut all: Vec<Times> = contenders.iter().map(name).collect();
    // The first round pays for what the others find in the page cache.
    for contender in contenders {
        contender.time();
    }
    for _ in 0..rounds {
        for (contender, times) in contenders.iter().zip(&mut all) {
            times.rounds.push(contender.time());
        }
    }
    all
}

impl Times {
    pub fn median(&self) -> Duration {
        middle(self.rounds.clone())
    }

    pub fn ratio(&self, other: &Self) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        let ratios = pairs.map(|(own, other)| own.as_secs_f64() / other.as_secs_f64());
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}

pub fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Starts so many of the same at once, and waits for all of them.
pub fn together(contender: &Contender, many: usize) -> Duration {
    let start = Instant::now();
    let start_one = |_| contender.command().stdout(Stdio::null()).spawn().expect("it starts");
    let started: Vec<_> = (0..many).map(start_one).collect();
    for mut child in started {
        let status = child.wait().expect("it ends");
        assert!(status.success(), "{} ends with {status}", contender.name);
    }
    start.elapsed()
}
