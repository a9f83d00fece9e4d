//! A git host over HTTP: git's own `http-backend` behind a door that asks for a token. It knows
//! nothing of where tokens come from; a closure says which are good.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tempfile::TempDir;

use super::server::{Answer, Journal, Reply, Request, Server};
use super::wire::{self, Untold};

/// How the host takes a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// As the password, with any user name.
    Basic,
    Bearer,
    /// Either, and it names both when it refuses.
    Both,
}

type Accepts = dyn Fn(&str) -> bool + Send + Sync;

struct Door {
    scheme: Scheme,
    accepts: Box<Accepts>,
    challenge: Mutex<Challenge>,
    documents: Mutex<HashMap<String, Answer>>,
}

/// The words of a refusal.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub realm: String,
    /// Added to the Bearer challenge as it stands, for instance `scope="read"`.
    pub bearer_extra: String,
}

pub struct GitHost {
    server: Server,
    door: Arc<Door>,
    repositories: TempDir,
}

impl GitHost {
    pub fn start<A>(scheme: Scheme, accepts: A) -> Self
    where
        A: Fn(&str) -> bool + Send + Sync + 'static,
    {
        let repositories = tempfile::Builder::new().prefix("lab-git-").tempdir().expect("a place");
        let challenge = Challenge { realm: "lab git".to_owned(), bearer_extra: String::new() };
        let (challenge, documents) = (Mutex::new(challenge), Mutex::default());
        let door = Arc::new(Door { scheme, accepts: Box::new(accepts), challenge, documents });
        let backend = backend();
        let root = repositories.path().to_owned();
        let server = Server::start({
            let door = Arc::clone(&door);
            move |request: &Request| {
                let published = door.document(request);
                match published.map_or_else(|| door.admits(request), Err) {
                    Ok(user) => ask_git(&backend, &root, request, &user),
                    Err(answer) => answer.into(),
                }
            }
        });
        Self { server, door, repositories }
    }

    /// Changes the words of the refusals from now on.
    pub fn challenge(&self, change: impl FnOnce(&mut Challenge)) {
        change(&mut self.door.challenge());
    }

    /// Answers everybody at this path from now on.
    pub fn document(&self, path: &str, answer: Answer) {
        self.door.documents().insert(path.to_owned(), answer);
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// The URL of a repository: `url("team/s.git")`.
    pub fn url(&self, repository: &str) -> String {
        format!("{}/{repository}", self.server.origin())
    }

    pub fn journal(&self) -> &Journal {
        self.server.journal()
    }

    /// The `Authorization` headers in order; `None` for a request that came without.
    pub fn authorizations(&self) -> Vec<Option<String>> {
        let header =
            |entry: super::server::Entry| entry.request.header("Authorization").map(str::to_owned);
        self.journal().snapshot().into_iter().map(header).collect()
    }

    /// A bare repository with one commit on `main`: an empty crate called `leaf`.
    pub fn create(&self, repository: &str) -> PathBuf {
        let place = self.repositories.path().join(repository);
        git(self.repositories.path(), &["init", "--quiet", "--bare", "-b", "main", repository], "");
        git(&place, &["config", "http.receivepack", "true"], "");
        git(
            &place,
            &["fast-import", "--quiet"],
            "commit refs/heads/main\n\
             committer Lab <lab@lab.example> 1700000000 +0000\n\
             data <<END\nthe first commit\nEND\n\
             M 100644 inline src/lib.rs\n\
             data 0\n\n\
             M 100644 inline Cargo.toml\n\
             data <<END\n[package]\nname = \"leaf\"\nversion = \"0.1.0\"\nEND\n\n",
        );
        place
    }

    /// What a branch of a repository points at, seen on the host itself.
    pub fn tip(&self, repository: &str, branch: &str) -> String {
        let place = self.repositories.path().join(repository);
        git(&place, &["rev-parse", "--verify", &format!("refs/heads/{branch}")], "")
            .trim_end()
            .to_owned()
    }
}

impl Door {
    /// The user's name, or the refusal.
    fn admits(&self, request: &Request) -> Result<String, Answer> {
        let Some(sent) = request.header("Authorization") else { return Err(self.refusal(false)) };
        let (user, token) = self.unpack(sent).ok_or_else(|| self.refusal(true))?;
        if (self.accepts)(&token) { Ok(user) } else { Err(self.refusal(true)) }
    }

    fn unpack(&self, sent: &str) -> Option<(String, String)> {
        let (scheme, value) = sent.split_once(' ')?;
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        if is("basic") && self.scheme != Scheme::Bearer {
            let pair = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
            let (user, password) = pair.split_once(':')?;
            Some((user.to_owned(), password.to_owned()))
        } else if is("bearer") && self.scheme != Scheme::Basic {
            Some(("bearer".to_owned(), value.to_owned()))
        } else {
            None
        }
    }

    fn refusal(&self, sent_something: bool) -> Answer {
        let Challenge { realm, bearer_extra } = self.challenge().clone();
        let mut bearer = format!("Bearer realm=\"{realm}\"");
        if !bearer_extra.is_empty() {
            bearer.push_str(&format!(", {bearer_extra}"));
        }
        if sent_something {
            bearer.push_str(", error=\"invalid_token\"");
        }
        let basic = format!("Basic realm=\"{realm}\"");
        let challenges = match self.scheme {
            Scheme::Basic => vec![basic],
            Scheme::Bearer => vec![bearer],
            Scheme::Both => vec![bearer, basic],
        };
        challenges.iter().fold(Answer::text(401, "a token, please\n"), |answer, challenge| {
            answer.with_header("WWW-Authenticate", challenge)
        })
    }

    fn document(&self, request: &Request) -> Option<Answer> {
        self.documents().get(&request.path).cloned()
    }

    fn documents(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn challenge(&self) -> MutexGuard<'_, Challenge> {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask_git(backend: &Path, repositories: &Path, request: &Request, user: &str) -> Reply {
    if request.path.ends_with("/info/lfs/locks") {
        let nothing = Answer::typed(200, "application/vnd.git-lfs+json", "{\"locks\":[]}");
        return nothing.into();
    }
    match run_backend(backend, repositories, request, user) {
        Ok(answer) => answer.into(),
        Err(error) => Answer::text(500, &format!("git http-backend: {error}\n")).into(),
    }
}

/// RFC 3875, as much of it as git uses.
fn run_backend(
    backend: &Path,
    repositories: &Path,
    request: &Request,
    user: &str,
) -> io::Result<Answer> {
    let mut command = scrubbed(Command::new(backend), repositories);
    command
        .env("GIT_PROJECT_ROOT", repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", request.target.split_once('?').map_or("", |(_, query)| query))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("REMOTE_USER", user)
        .env("REMOTE_ADDR", "127.0.0.1");
    for (header, variable) in [
        ("Content-Type", "CONTENT_TYPE"),
        ("Content-Encoding", "HTTP_CONTENT_ENCODING"),
        ("Git-Protocol", "HTTP_GIT_PROTOCOL"),
        ("Accept-Encoding", "HTTP_ACCEPT_ENCODING"),
    ] {
        if let Some(value) = request.header(header) {
            command.env(variable, value);
        }
    }
    let printed = output_of(&mut command, &request.body)?;
    let mut reader = BufReader::new(&printed[..]);
    // CGI has headers and no status line; with one in front the same reader serves.
    let mut framed = BufReader::new((&b"CGI\r\n"[..]).chain(&mut reader));
    let head = wire::read_head(&mut framed)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let body = wire::read_body(&mut framed, &[], Untold::UntilClosed)?;
    let status = wire::find(&head.headers, "Status")
        .and_then(|status| status.split(' ').next()?.parse().ok())
        .unwrap_or(200);
    let mut headers = head.headers;
    headers.retain(|(name, _)| {
        !name.eq_ignore_ascii_case("Status") && !name.eq_ignore_ascii_case("Content-Length")
    });
    Ok(Answer { status, headers, body })
}

fn backend() -> PathBuf {
    let printed = git(Path::new("/"), &["--exec-path"], "");
    Path::new(printed.trim_end()).join("git-http-backend")
}

/// Runs git for the host itself, and gives what it printed.
#[track_caller]
fn git(directory: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = scrubbed(Command::new("git"), directory);
    command.args(arguments).current_dir(directory);
    let printed = output_of(&mut command, input.as_bytes())
        .unwrap_or_else(|error| panic!("git {}: {error}", arguments.join(" ")));
    String::from_utf8(printed).expect("git prints UTF-8 here")
}

fn scrubbed(mut command: Command, home: &Path) -> Command {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

fn output_of(command: &mut Command, input: &[u8]) -> io::Result<Vec<u8>> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut pipe = child.stdin.take();
    let output = thread::scope(|scope| {
        // git may be content with a part of its input, so a broken pipe is no news.
        scope.spawn(move || pipe.take().map(|mut pipe| pipe.write_all(input)));
        child.wait_with_output()
    })?;
    if !output.status.success() && output.stdout.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{}: {said}", output.status)));
    }
    Ok(output.stdout)
}
