//! How fast valetkey is beside its peers, and what it takes: every row of the README's page on
//! speed. `scripts/bench` builds what is measured and runs it; nothing here is a test, because a
//! busy machine is no fault of the program.

#![allow(unreachable_pub, reason = "a program has no public face")]
#![allow(dead_code, reason = "it visits a part of the laboratory")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "the nevers are for src")]

mod lab;
mod stopwatch;

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use valetkey::model::{Key, Place};

use lab::tls::{CertificateAuthority, TlsFront};
use lab::{Authority, Browser, CLIENT_ID, GitHost, Person, Sandbox, Scheme};
use stopwatch::{Contender, Times, middle, race, together};

const FAR_AWAY: u64 = 10_000_000_000;
const LONG_AGO: u64 = 1_000_000_000;

/// The host that every question is about.
const HOST: &str = "git-5.example";

fn main() {
    let whole = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let mut programs = std::env::args_os().skip(1).map(PathBuf::from).map(whole);
    let dynamic = programs.next().expect("bench PROGRAM [STATIC PROGRAM], or bench count PROGRAM");
    if dynamic == Path::new("count") {
        return count(programs.next().expect("bench count PROGRAM"));
    }
    // The peers were copied to where they are, by a package. What a linker has just written lies in
    // the system's memory in smaller pieces, and takes a fifth longer to start.
    let installed = tempfile::tempdir().expect("a directory");
    let install = |name: &'static str, program: &Path| {
        let copy = installed.path().join(name.replace(", ", "-"));
        std::fs::copy(program, &copy).expect("a copy of the program");
        Build { name, program: copy }
    };
    let mut builds = vec![install("valetkey", &dynamic)];
    match programs.next() {
        Some(program) => builds.push(install("valetkey, static", &program)),
        None => println!("left out: the static build (scripts/release makes it)"),
    }
    let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let mut bench = Bench { rounds: rounds.unwrap_or(200), builds, verdicts: Vec::new() };
    bench.cached();
    bench.many_records();
    bench.secret_service();
    bench.store_of_our_own_answer();
    bench.dialects();
    bench.memory_of_a_refresh();
    bench.size();
    bench.wasted_requests();
    bench.refresh();
    bench.sign_in();
    bench.many_at_once();
    bench.throughput();
    bench.conclude();
}

/// Instructions that a cached `get` may take, those of the loader included: half as many again as
/// were counted on 2026-11-22. The same program takes the same number on a busy machine.
const MOST_INSTRUCTIONS: u64 = 1_200_000;

fn count(program: PathBuf) {
    let home = Home::with_sessions(10);
    let question = home.input("question", &git_question(HOST));
    let build = Build { name: "valetkey", program };
    let counted = instructions(&build.run(&["get"], &home, &question));
    let peer = instructions(&git_store(&home));
    println!("instructions of a cached get: {counted}; of git-credential-store: {peer}");
    assert!(counted <= MOST_INSTRUCTIONS, "at most {MOST_INSTRUCTIONS} are allowed");
}

/// As callgrind counts them.
fn instructions(contender: &Contender) -> u64 {
    let inner = contender.command();
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(inner.get_program());
    command.args(inner.get_args()).env_clear();
    command.envs(contender.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(std::fs::File::open(&contender.input).expect("the input"));
    let output = command.output().expect("valgrind is there: tests/peers/install valgrind");
    let said = String::from_utf8_lossy(&output.stderr);
    let (_, number) = said.split_once("Collected : ").unwrap_or_else(|| panic!("{said}"));
    let number = number.split_whitespace().next().unwrap_or_default();
    number.parse().unwrap_or_else(|error| panic!("{number}: {error}"))
}

/// One build of the program.
struct Build {
    name: &'static str,
    program: PathBuf,
}

struct Bench {
    rounds: usize,
    builds: Vec<Build>,
    verdicts: Vec<Verdict>,
}

/// A row of the table: what was measured, and the most or least that it should be.
struct Verdict {
    what: String,
    measured: f64,
    unit: &'static str,
    target: f64,
    at_least: bool,
}

impl Bench {
    fn cached(&mut self) {
        let home = Home::with_sessions(10);
        let question = home.input("question", &git_question(HOST));
        let tools = [contender("/bin/true", "/bin/true", &[], &home, &question), git_store(&home)];
        let ours = self.builds.iter().map(|build| build.run(&["get"], &home, &question));
        let mut all: Vec<_> = tools.into_iter().chain(ours).collect();
        let ours = all.len();
        let daemon = GitCache::start(&home, &question);
        all.push(daemon.get());
        assert!(all[1..].iter().all(|one| one.answer().contains("token-of-git-5")));
        let times = self.show("cached get, file store, 10 sessions", &all, &[0, 1]);
        self.most("cached get / git-credential-store", times[2].ratio(&times[1]), 1.0);
        self.most("cached get / true", times[2].ratio(&times[0]), 1.4);
        if let Some(quick) = times[..ours].get(3) {
            self.most("cached get / git-credential-store, static", quick.ratio(&times[1]), 0.5);
            self.most("cached get / true, static", quick.ratio(&times[0]), 1.0);
        }
        for (build, one) in self.builds.iter().zip(&all[2..]) {
            let peak = one.peak().map_or(f64::NAN, |kib| kib as f64 / 1024.0);
            let what = format!("peak memory of a hit, {}", build.name);
            self.verdicts.push(Verdict::most(what, peak, "MB", 5.0));
        }
    }

    fn many_records(&mut self) {
        let (few, middling, many) = (Home::with_sessions(10), Home::with_sessions(10), 100_000);
        middling.add_records(10_000 - 10);
        let full = Home::with_sessions(10);
        full.add_records(many - 10);
        let question = |home: &Home| home.input("question", &git_question(HOST));
        for build in &self.builds {
            let mut small = build.run(&["get"], &few, &question(&few));
            let mut large = build.run(&["get"], &full, &question(&full));
            small.name = format!("{}, 10 records", build.name);
            large.name = format!("{}, 100,000 records", build.name);
            let times = table("file store by size", &[small, large], &[0], self.rounds);
            let what = format!("100,000 records / 10, {}", build.name);
            self.verdicts.push(Verdict::most(what, times[1].ratio(&times[0]), "x", 1.5));
            let list = build.run(&["list"], &middling, &question(&middling));
            assert_eq!(list.answer().lines().count(), 10_000);
            let times = race(&[&list], 10);
            let what = format!("list of 10,000, {}", build.name);
            self.verdicts.push(Verdict::most(what, milliseconds(times[0].median()), "ms", 150.0));
        }
    }

    fn secret_service(&mut self) {
        if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() {
            println!("left out: the Secret Service (scripts/bench starts one)\n");
            return;
        }
        let home = Home::new("keychain");
        let password = "token-of-git-5";
        let question = home.input("question", &git_question(HOST));
        let stored = format!("{}username=alice\npassword={password}\n", git_question(HOST));
        let stored = home.input("stored", &stored);
        let pair = format!(
            "{{\"ServerURL\":\"{HOST}\",\"Username\":\"alice\",\"Secret\":\"{password}\"}}"
        );
        let pair = home.input("pair", &pair);
        let host = home.input("host", HOST);
        let secret = home.input("secret", password);
        let attributes = ["service", HOST, "username", "alice"];
        let mut peers = Vec::new();
        for (program, store, store_input, get, get_input) in [
            (
                "secret-tool",
                ["store", "--label=bench"].iter().chain(&attributes).copied().collect::<Vec<_>>(),
                &secret,
                ["lookup"].iter().chain(&attributes).copied().collect::<Vec<_>>(),
                &question,
            ),
            ("docker-credential-secretservice", vec!["store"], &pair, vec!["get"], &host),
            ("git-credential-libsecret", vec!["store"], &stored, vec!["get"], &question),
            ("keyring", vec!["set", HOST, "alice"], &secret, vec!["get", HOST, "alice"], &question),
        ] {
            let Some(path) = on_path(program) else {
                println!("left out: {program} is not installed");
                continue;
            };
            contender(program, &path, &store, &home, store_input).answer();
            peers.push(contender(program, &path, &get, &home, get_input));
        }
        for build in &self.builds {
            build.run(&["store"], &home, &stored).answer();
        }
        let first = peers.len();
        peers.extend(self.builds.iter().map(|build| build.run(&["get"], &home, &question)));
        assert!(peers.iter().all(|one| one.answer().contains(password)));
        let bases: Vec<usize> = (0..first).collect();
        let times = self.show("cached get, Secret Service", &peers, &bases);
        for (number, build) in self.builds.iter().enumerate() {
            for (peer, time) in peers[..first].iter().zip(&times) {
                let target = match (peer.name.as_str(), number) {
                    ("secret-tool", 0) => 0.35,
                    ("git-credential-libsecret", _) => 0.3,
                    ("keyring", _) => 1.0,
                    _ => 0.25,
                };
                let what = format!("Secret Service get / {}, {}", peer.name, build.name);
                let ratio = times[first + number].ratio(time);
                self.verdicts.push(Verdict::most(what, ratio, "x", target));
            }
        }
    }

    /// git hands back what it got from us, with the `state[]` that proves it.
    fn store_of_our_own_answer(&mut self) {
        let home = Home::with_sessions(10);
        let question = format!("capability[]=authtype\ncapability[]=state\n{}", git_question(HOST));
        let question = home.input("question", &question);
        for build in &self.builds {
            let answer = build.run(&["get"], &home, &question).answer();
            let back = home.input("back", &format!("{answer}{}", git_question(HOST)));
            let mut store = build.run(&["store"], &home, &back);
            let mut start = build.run(&["capability"], &home, &question);
            store.name = format!("{} store", build.name);
            start.name = format!("{} capability", build.name);
            let before = home.fingerprint();
            let nothing = contender("/bin/true", "/bin/true", &[], &home, &question);
            let all = [nothing, start, store];
            let times = table("store of our own answer", &all, &[0, 1], self.rounds);
            assert_eq!(home.fingerprint(), before, "nothing is written");
            let what = format!("store of our own answer / (1.1 true + start-up), {}", build.name);
            let [nothing, start, store] = [0, 1, 2].map(|one| times[one].median().as_secs_f64());
            let ratio = store / (nothing * 1.1 + start);
            self.verdicts.push(Verdict::most(what, ratio, "x", 1.0));
        }
    }

    fn dialects(&mut self) {
        // goauth answers for every host at once, so there is only this one.
        let home = Home::with_hosts(5..6);
        let url = format!("https://{HOST}");
        let ask = |name: &str, arguments: &[&str], input: &str| {
            let input = home.input(name, input);
            let mut one = self.builds[0].run(arguments, &home, &input);
            one.name = name.to_owned();
            one
        };
        let index = format!(
            "{{\"v\":1,\"registry\":{{\"index-url\":\"sparse+https://{HOST}/index/\"}},\
             \"kind\":\"get\",\"operation\":\"read\",\"args\":[]}}\n"
        );
        let mut kubectl = ask("kubectl", &["kubectl", &url], "");
        let spec = json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "spec": { "interactive": false },
        });
        kubectl.environment.push(("KUBERNETES_EXEC_INFO".into(), spec.to_string().into()));
        let all = [
            ask("git", &["get"], &git_question(HOST)),
            ask("docker", &["docker", "get"], HOST),
            ask("cargo", &["cargo", "--cargo-plugin"], &index),
            kubectl,
            ask("terraform", &["terraform", "get", HOST], ""),
            ask("keyring", &["keyring", "get", &url, "oauth2"], ""),
            ask("goauth", &["goauth"], ""),
            ask("bazel", &["bazel", "get"], &format!("{{\"uri\":\"{url}/x\"}}")),
            ask("token", &["token", &url], ""),
        ];
        for one in &all {
            let answer = one.answer();
            // Some say it as Basic does.
            let found = answer.contains("token-of-git-5") || answer.contains("Basic ");
            assert!(found, "{}: {answer}", one.name);
        }
        let times = self.show("the same answer in every language", &all, &[0]);
        for one in &times[1..] {
            let what = format!("{} / git", one.name);
            self.most(&what, one.ratio(&times[0]), 1.1);
        }
    }

    fn memory_of_a_refresh(&mut self) {
        let scene = TlsScene::new();
        for number in 0..self.builds.len() {
            scene.expire();
            let build = &self.builds[number];
            let get = build.run(&["get"], &scene.home, &scene.question);
            let peak = get.peak().map_or(f64::NAN, |kib| kib as f64 / 1024.0);
            let what = format!("peak memory of a refresh over TLS, {}", build.name);
            self.verdicts.push(Verdict::most(what, peak, "MB", 12.0));
        }
    }

    fn size(&mut self) {
        for build in &self.builds {
            let bytes = build.program.metadata().map_or(f64::NAN, |file| file.len() as f64);
            let what = format!("size, {}", build.name);
            self.verdicts.push(Verdict::most(what, bytes / 1e6, "MB", 3.5));
        }
    }

    /// Requests of one `git fetch` that went without a token, of which the protocol needs one.
    fn wasted_requests(&mut self) {
        for (name, scheme) in [("Basic", Scheme::Basic), ("Bearer", Scheme::Bearer)] {
            let authority = Arc::new(Authority::start());
            let judge = Arc::clone(&authority);
            let host = GitHost::start(scheme, move |token| judge.token_is_live(token));
            host.create("team/s.git");
            let sandbox = sandbox(&self.builds[0].program);
            sandbox.link("git-credential-valetkey");
            sandbox.git_config("[credential]\n\thelper = valetkey\n");
            sandbox.config(&profile(&host.origin(), &authority, name));
            let _browser = Browser::start(&sandbox, Person::Approves);
            let clone = ["clone", "--quiet", &host.url("team/s.git"), "s"];
            sandbox.git(&clone).run().assert_status(0);
            let before = host.authorizations().len();
            let fetch = sandbox.git(&["fetch", "--quiet"]).cwd(sandbox.work().join("s"));
            fetch.run().assert_status(0);
            let requests = host.authorizations().split_off(before);
            let wasted = requests.iter().filter(|header| header.is_none()).count();
            let what = format!("wasted requests of a fetch, {name}");
            self.verdicts.push(Verdict::most(what, wasted as f64, "", 1.0));
        }
    }

    /// A whole `get` that refreshes over TLS on loopback, server and network included.
    fn refresh(&mut self) {
        let scene = TlsScene::new();
        for build in &self.builds {
            let get = build.run(&["get"], &scene.home, &scene.question);
            let mut times = Vec::new();
            for _ in 0..20 {
                scene.expire();
                let before = scene.authority.journal().snapshot().len();
                let start = Instant::now();
                get.answer();
                times.push(start.elapsed());
                let asked = scene.authority.journal().snapshot().len() - before;
                assert_eq!(asked, 1, "one request for one refresh");
            }
            let what = format!("a get that refreshes over TLS, {}", build.name);
            let measured = milliseconds(middle(times));
            self.verdicts.push(Verdict::most(what, measured, "ms", 10.0));
        }
    }

    fn sign_in(&mut self) {
        let authority = Arc::new(Authority::start());
        let host = GitHost::start(Scheme::Basic, |_| true);
        let sandbox = sandbox(&self.builds[0].program);
        sandbox.config(&profile(&host.origin(), &authority, "Basic"));
        let browser = Browser::start(&sandbox, Person::Ignores);
        let mut times = Vec::new();
        for number in 1..=10 {
            let login = sandbox.valetkey(&["login", "--force", &host.origin()]).start();
            let opened = browser.wait_for_opened(number);
            let page = lab::http_get(&opened[number - 1]);
            let callback = page.location().expect("a redirect to the listener");
            let start = Instant::now();
            let answer = lab::http_get(&callback);
            times.push(start.elapsed());
            // Away from the address with the code, to the page that says how it went.
            assert_eq!(answer.status, 303);
            login.wait().assert_status(0);
        }
        let measured = milliseconds(middle(times));
        self.verdicts.push(Verdict::most("callback to page".into(), measured, "ms", 20.0));
        let device = sandbox.valetkey(&["login", "--force", "--flow", "device", &host.origin()]);
        let device = device.start();
        let code = authority.wait_for_device(1);
        let polls = |authority: &Authority| {
            authority.asked_for("urn:ietf:params:oauth:grant-type:device_code")
        };
        let before = polls(&authority);
        authority.approve_device(&code);
        device.wait().assert_status(0);
        let after = (polls(&authority) - before) as f64;
        self.verdicts.push(Verdict::most("device polls after approval".into(), after, "", 1.0));
    }

    fn many_at_once(&mut self) {
        let scene = Renewing::new();
        let get = self.builds[0].run(&["get"], &scene.home, &scene.question);
        let mut single = Vec::new();
        for _ in 0..10 {
            scene.expire();
            let start = Instant::now();
            get.answer();
            single.push(start.elapsed());
        }
        let single = middle(single);
        for many in [64, 1_000] {
            let cached = middle((0..3).map(|_| together(&get, many)).collect());
            scene.expire();
            let before = scene.authority.asked_for("refresh_token");
            let time = together(&get, many);
            let refreshes = (scene.authority.asked_for("refresh_token") - before) as f64;
            let what = format!("refreshes of {many} gets at once");
            self.verdicts.push(Verdict::most(what, refreshes, "", 1.0));
            let allowed = single + cached * 3;
            let what = format!("{many} gets of an expired session / (refresh + 3 x cached)");
            let ratio = time.as_secs_f64() / allowed.as_secs_f64();
            self.verdicts.push(Verdict::most(what, ratio, "x", 1.0));
        }
    }

    fn throughput(&mut self) {
        let home = Home::with_sessions(10);
        let question = home.input("question", &git_question(HOST));
        let peer = git_store(&home);
        for build in &self.builds {
            let ours = build.run(&["get"], &home, &question);
            let mut ratios: Vec<f64> = (0..15)
                .map(|_| {
                    let theirs = together(&peer, 64);
                    theirs.as_secs_f64() / together(&ours, 64).as_secs_f64()
                })
                .collect();
            ratios.sort_by(f64::total_cmp);
            let what = format!("throughput of 64 gets / git-credential-store, {}", build.name);
            let (measured, target) = (ratios[ratios.len() / 2], 0.8);
            let verdict = Verdict { what, measured, unit: "x", target, at_least: true };
            self.verdicts.push(verdict);
        }
    }

    fn show(&self, title: &str, all: &[Contender], bases: &[usize]) -> Vec<Times> {
        table(title, all, bases, self.rounds)
    }

    fn most(&mut self, what: &str, measured: f64, target: f64) {
        self.verdicts.push(Verdict::most(what.to_owned(), measured, "x", target));
    }

    fn conclude(&self) {
        println!("{:<64} {:>10}  {:>10}", "", "measured", "target");
        for Verdict { what, measured, unit, target, at_least } in &self.verdicts {
            let met = if *at_least { measured >= target } else { measured <= target };
            let bound = if *at_least { "at least" } else { "at most" };
            let missed = if met { "" } else { "  missed" };
            println!("{what:<64} {measured:>7.2} {unit:<2}  {bound} {target} {unit}{missed}");
        }
    }
}

impl Verdict {
    fn most(what: String, measured: f64, unit: &'static str, target: f64) -> Self {
        Self { what, measured, unit, target, at_least: false }
    }
}

/// Races them and prints a line for each: median, ratios, peak memory.
fn table(title: &str, all: &[Contender], bases: &[usize], rounds: usize) -> Vec<Times> {
    let times = race(&all.iter().collect::<Vec<_>>(), rounds);
    println!("{title}, {rounds} rounds");
    for (one, time) in all.iter().zip(&times) {
        let ratios = bases
            .iter()
            .map(|base| format!("  {:>5.2} x {}", time.ratio(&times[*base]), times[*base].name));
        let peak = one.peak().map_or("?".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0));
        let ratios: String = ratios.collect();
        println!(
            "  {:<34} {:>8.3} ms {:>6} MB{ratios}",
            time.name,
            milliseconds(time.median()),
            peak
        );
    }
    println!();
    times
}

impl Build {
    fn run(&self, arguments: &[&str], home: &Home, input: &Path) -> Contender {
        contender(self.name, &self.program, arguments, home, input)
    }
}

fn contender(
    name: &str,
    program: impl AsRef<Path>,
    arguments: &[&str],
    home: &Home,
    input: &Path,
) -> Contender {
    Contender {
        name: name.to_owned(),
        program: program.as_ref().to_owned(),
        arguments: arguments.iter().map(OsString::from).collect(),
        environment: home.environment.clone(),
        input: input.to_owned(),
    }
}

/// git's own cache, which is a daemon.
struct GitCache<'a> {
    home: &'a Home,
    question: &'a Path,
}

impl<'a> GitCache<'a> {
    fn start(home: &'a Home, question: &'a Path) -> Self {
        let stored = format!("{}username=oauth2\npassword=token-of-git-5\n", git_question(HOST));
        let cache = Self { home, question };
        cache.run("store", &home.input("cached", &stored)).answer();
        cache
    }

    fn get(&self) -> Contender {
        self.run("get", self.question)
    }

    fn run(&self, verb: &str, input: &Path) -> Contender {
        contender("git-credential-cache", of_git("git-credential-cache"), &[verb], self.home, input)
    }
}

impl Drop for GitCache<'_> {
    fn drop(&mut self) {
        self.run("exit", self.question).answer();
    }
}

fn of_git(program: &str) -> PathBuf {
    let output = Command::new("git").arg("--exec-path").output().expect("git is there");
    Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(program)
}

fn git_store(home: &Home) -> Contender {
    let lines: String = (0..10)
        .map(|number| format!("https://oauth2:token-of-git-{number}@git-{number}.example\n"))
        .collect();
    home.write(".git-credentials", lines.as_bytes());
    let question = home.input("question", &git_question(HOST));
    contender("git-credential-store", of_git("git-credential-store"), &["get"], home, &question)
}

fn git_question(host: &str) -> String {
    format!("protocol=https\nhost={host}\n")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.exists())
}

/// A home that only the measured programs see.
struct Home {
    directory: TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl Home {
    fn new(store: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir().expect("a directory");
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("HOME".into(), directory.path().into()),
            ("VALETKEY_STORE".into(), store.into()),
            ("VALETKEY_INTERACTIVE".into(), "never".into()),
        ];
        for name in ["PATH", "DBUS_SESSION_BUS_ADDRESS"] {
            environment.extend(std::env::var_os(name).map(|value| (name.into(), value)));
        }
        Self { directory, environment }
    }

    /// Profiles and sessions of so many hosts, `git-0.example` and so on.
    fn with_sessions(many: usize) -> Self {
        Self::with_hosts(0..many)
    }

    fn with_hosts(numbers: std::ops::Range<usize>) -> Self {
        let home = Self::new("file");
        let profile = |number: usize| {
            format!(
                "[profile.team-{number}]\n\
                 origins = [\"https://git-{number}.example\", {{ url = \
                 \"https://git-{number}.example/index/\", scheme = \"bearer\" }}]\n\
                 issuer = \"https://auth-{number}.example\"\nclient_id = \"bench\"\n\
                 scopes = [\"openid\", \"offline_access\"]\n\n"
            )
        };
        home.configure(&numbers.clone().map(profile).collect::<String>());
        for number in numbers {
            let issuer = format!("https://auth-{number}.example/");
            let token = format!("token-of-git-{number}");
            home.session(&format!("team-{number}"), "bench", &issuer, &token, "refresh", FAR_AWAY);
        }
        home
    }

    fn configure(&self, text: &str) {
        self.write(".config/valetkey/config.toml", text.as_bytes());
    }

    fn session(
        &self,
        profile: &str,
        client_id: &str,
        authority: &str,
        access: &str,
        refresh: &str,
        expires: u64,
    ) {
        let place = Place::Profile(profile.to_owned());
        let (client, account, path) = (client_id.to_owned(), "alice".to_owned(), None);
        let key = Key { place, client_id: client, account, path };
        let mut record = json!({
            "v": 1, "kind": "session", "profile": profile, "client_id": client_id,
            "account": "alice", "authority": authority, "access_token": access,
            "expires_at": expires, "stored_at": LONG_AGO, "renewed_at": LONG_AGO,
        });
        if !refresh.is_empty() {
            record["refresh_token"] = refresh.into();
        }
        self.record(&key, &record);
    }

    /// Stored credentials of as many hosts without a profile.
    fn add_records(&self, many: usize) {
        for number in 0..many {
            let origin = format!("https://other-{number}.example");
            let place = Place::Origin(origin.clone());
            let key =
                Key { place, client_id: String::new(), account: "alice".to_owned(), path: None };
            let record = json!({
                "v": 1, "kind": "static", "origin": origin, "account": "alice",
                "secret": "a stored credential", "stored_at": LONG_AGO,
            });
            self.record(&key, &record);
        }
    }

    fn record(&self, key: &Key, record: &Value) {
        let directory = format!(".local/share/valetkey/sessions/{}", key.place.digest());
        self.write(&format!("{directory}/{}.json", key.digest()), record.to_string().as_bytes());
    }

    /// A file of mode 0600 in directories of mode 0700.
    fn write(&self, path: &str, content: &[u8]) -> PathBuf {
        use std::io::Write as _;
        let path = self.directory.path().join(path);
        let mut directories = std::fs::DirBuilder::new();
        let parent = path.parent().expect("a directory above");
        directories.recursive(true).mode(0o700).create(parent).expect("directories");
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path).and_then(|mut file| file.write_all(content)).expect("a file");
        path
    }

    fn input(&self, name: &str, text: &str) -> PathBuf {
        self.write(&format!("input/{name}"), text.as_bytes())
    }

    /// When anything in the store was last changed.
    fn fingerprint(&self) -> Vec<std::time::SystemTime> {
        let mut found = Vec::new();
        let mut left = vec![self.directory.path().join(".local")];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
                let metadata = entry.metadata().expect("metadata");
                found.push(metadata.modified().expect("a time"));
                if metadata.is_dir() {
                    left.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

/// A session of an authorization server on loopback, without TLS.
struct Renewing {
    authority: Authority,
    home: Home,
    question: PathBuf,
    endpoint: String,
}

impl Renewing {
    fn new() -> Self {
        let authority = Authority::start();
        let endpoint = authority.url("/token");
        Self::at(authority, endpoint, Home::new("file"))
    }

    fn at(authority: Authority, endpoint: String, home: Home) -> Self {
        home.configure(&format!(
            "[profile.bench]\norigins = [\"https://{HOST}\"]\ntoken_endpoint = \"{endpoint}\"\n\
             client_id = \"{CLIENT_ID}\"\n"
        ));
        let question = home.input("question", &git_question(HOST));
        let renewing = Self { authority, home, question, endpoint };
        renewing.expire();
        renewing
    }

    /// Plants a session that has to be refreshed.
    fn expire(&self) {
        let tokens = self.authority.grant("alice");
        let refresh = tokens.refresh.expect("a refresh token");
        let Self { home, endpoint, .. } = self;
        home.session("bench", CLIENT_ID, endpoint, &tokens.access, &refresh, LONG_AGO);
    }
}

/// The same behind TLS, with a certificate authority of its own.
struct TlsScene {
    renewing: Renewing,
    _front: TlsFront,
}

impl TlsScene {
    fn new() -> Self {
        let authority = Authority::start();
        let signer = CertificateAuthority::new();
        let front = TlsFront::start(&signer, "localhost", &authority.origin());
        let endpoint = format!("https://localhost:{}/token", front.address().port());
        let mut home = Home::new("file");
        let file = home.input("ca.pem", &signer.pem());
        home.environment.push(("SSL_CERT_FILE".into(), file.into()));
        Self { renewing: Renewing::at(authority, endpoint, home), _front: front }
    }
}

impl std::ops::Deref for TlsScene {
    type Target = Renewing;

    fn deref(&self) -> &Renewing {
        &self.renewing
    }
}

fn sandbox(program: &Path) -> Sandbox {
    let sandbox = Sandbox::new(program);
    sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "always");
    sandbox
}

fn profile(origin: &str, authority: &Authority, scheme: &str) -> String {
    format!(
        "[profile.bench]\norigins = [\"{origin}\"]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
         scheme = \"{}\"\n",
        authority.issuer(),
        scheme.to_lowercase(),
    )
}
