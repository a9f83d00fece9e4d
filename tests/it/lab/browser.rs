//! The browser, and the person in front of it. `$BROWSER` is a small script that hands its URL over
//! to the laboratory and exits; a thread then does what the person would do: opens the page, follows
//! the redirects, ends up at the tool's own listener. It asks the listener for a favicon afterwards,
//! as browsers do. It never runs JavaScript and never keeps a cookie.

use std::io::{BufRead as _, BufReader};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use url::Url;

use super::client::{self, Page};
use super::listener::Listener;
use super::sandbox::{self, Sandbox};
use super::watched::{PATIENCE, Watched};

const MOST_REDIRECTS: usize = 10;

/// What happens to a URL once it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    Approves,
    Denies,
    /// Looks at it and does nothing; the test takes it from here with [`super::client`].
    Ignores,
}

/// How the program in `$BROWSER` itself behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Hands the URL over and exits.
    Quiet,
    /// The same, and prints rubbish on stdout and stderr.
    Noisy,
    /// Hands the URL over and stays for as long as the laboratory's browser lives.
    Lingers,
    /// Opens nothing and stays.
    Hangs,
    /// Opens nothing and exits with status 1.
    Fails,
}

#[derive(Default)]
struct Seen {
    opened: Vec<String>,
    pages: Vec<Page>,
    troubles: Vec<String>,
    /// Their closing lets a lingering program go.
    connections: Vec<TcpStream>,
}

/// Runs until dropped.
pub struct Browser {
    script: PathBuf,
    seen: Arc<Watched<Seen>>,
    _listener: Listener,
}

impl Browser {
    /// Puts the script into the sandbox and points its `$BROWSER` there.
    pub fn start(sandbox: &Sandbox, person: Person) -> Self {
        Self::start_program(sandbox, person, Program::Quiet)
    }

    pub fn start_program(sandbox: &Sandbox, person: Person, program: Program) -> Self {
        let browser = Self::start_in(sandbox.bin(), person, program);
        sandbox.env("BROWSER", browser.script());
        browser
    }

    /// Puts the script into any directory; `$BROWSER` is the caller's business.
    pub fn start_in(directory: &Path, person: Person, program: Program) -> Self {
        let listener = Listener::bind();
        let port = listener.address().port();
        let script = directory.join(format!("lab-browser-{port}"));
        sandbox::write_program(&script, &script_text(port, program));
        let seen = Arc::new(Watched::new(Seen::default()));
        let listener = listener.serve({
            let seen = Arc::clone(&seen);
            move |stream| receive(stream, person, &seen)
        });
        Self { script, seen, _listener: listener }
    }

    pub fn script(&self) -> &Path {
        &self.script
    }

    /// Every URL that was opened, in order.
    pub fn opened(&self) -> Vec<String> {
        self.seen.read(|seen| seen.opened.clone())
    }

    #[track_caller]
    pub fn wait_for_opened(&self, number: usize) -> Vec<String> {
        self.wait("URLs opened", number, |seen| &seen.opened)
    }

    /// Every page at which the person ended up, in order.
    pub fn pages(&self) -> Vec<Page> {
        self.seen.read(|seen| seen.pages.clone())
    }

    #[track_caller]
    pub fn wait_for_pages(&self, number: usize) -> Vec<Page> {
        self.wait("final pages", number, |seen| &seen.pages)
    }

    #[track_caller]
    fn wait<T: Clone>(&self, what: &str, number: usize, list: fn(&Seen) -> &Vec<T>) -> Vec<T> {
        let look = |seen: &Seen| (list(seen).len() >= number).then(|| list(seen).clone());
        self.seen.wait(Instant::now() + PATIENCE, look).unwrap_or_else(|| {
            self.seen.read(|seen| {
                panic!(
                    "waited {PATIENCE:?} for {number} {what}; opened {:#?}, ended at {:#?}, troubles {:#?}",
                    seen.opened, seen.pages, seen.troubles
                )
            })
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.seen.change(|seen| {
            for stream in seen.connections.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }
}

fn script_text(port: u16, program: Program) -> String {
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let hand_over = format!("{connect}\nprintf '%s\\n' \"$1\" >&3");
    // Reading from a laboratory that says nothing lasts exactly as long as the laboratory does.
    let stay = "read -r -u 3";
    let body = match program {
        Program::Quiet => hand_over,
        Program::Noisy => format!(
            "echo 'username=rubbish from the browser'\necho 'gtk warning: rubbish' >&2\n{hand_over}"
        ),
        Program::Lingers => format!("{hand_over}\n{stay}"),
        Program::Hangs => format!("{connect}\n{stay}"),
        Program::Fails => "exit 1".to_owned(),
    };
    format!("#!/bin/bash\n{body}\n")
}

fn receive(stream: &TcpStream, person: Person, seen: &Watched<Seen>) {
    if let Ok(clone) = stream.try_clone() {
        seen.change(|seen| seen.connections.push(clone));
    }
    let mut line = String::new();
    // A program that hangs never sends a line, and that is what it is for.
    if BufReader::new(stream).read_line(&mut line).is_err() || line.is_empty() {
        return;
    }
    let url = line.trim_end_matches('\n').to_owned();
    seen.change(|seen| seen.opened.push(url.clone()));
    if person == Person::Ignores {
        return;
    }
    match visit(&url, person) {
        Ok(page) => {
            seen.change(|seen| seen.pages.push(page.clone()));
            ask_for_favicon(&page);
        }
        Err(trouble) => seen.change(|seen| seen.troubles.push(trouble)),
    }
}

/// Opens a URL as that person would, and gives the page where it all ends.
pub fn visit(url: &str, person: Person) -> Result<Page, String> {
    let mut url = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
    if person == Person::Denies {
        url.query_pairs_mut().append_pair("lab_person", "deny");
    }
    let mut url = String::from(url);
    for _ in 0..MOST_REDIRECTS {
        let page = client::http("GET", &url, NAVIGATION, b"")
            .map_err(|error| format!("GET {url}: {error}"))?;
        match page.location() {
            Some(next) if (300..400).contains(&page.status) => url = next,
            _ => return Ok(page),
        }
    }
    Err(format!("too many redirects, the last to {url}"))
}

/// What browsers say when a link from another site brings the person here.
pub const NAVIGATION: &[(&str, &str)] = &[
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) lab"),
    ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("Accept-Language", "en"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-User", "?1"),
];

fn ask_for_favicon(page: &Page) {
    let headers = [
        ("Accept", "image/avif,image/webp,*/*"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "no-cors"),
        ("Sec-Fetch-Dest", "image"),
    ];
    if let Ok(icon) = Url::parse(&page.url).and_then(|url| url.join("/favicon.ico")) {
        // The listener may be gone by now; that is its right.
        let _ = client::http("GET", icon.as_str(), &headers, b"");
    }
}
