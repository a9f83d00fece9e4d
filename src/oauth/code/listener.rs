//! The loopback listener (RFC 8252 section 7.3). It takes one kind of request: a browser that is
//! sent, as a whole page, to our own path. It says nothing that came from a request, and nobody
//! can hold it up: connections are short and few, and the newest one wins. A request's head is
//! bytes: but for its first line and the headers that are judged, it is other programs' business.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use url::{Position, Url};

use crate::clock::{Clock, System};
use crate::error::{Error, Kind};
use crate::profile::Redirect;

/// Bytes of a request's head. A browser keeps cookies by host and not by port, so it brings those
/// of every other program of this machine: up to 180 of 4 KiB in Chromium, more than servers take.
const HEAD: usize = 1 << 20;
/// Seconds in which a request must have arrived whole.
const ARRIVAL: Duration = Duration::from_secs(5);
/// Seconds that a browser waits for the code exchange, which has its own limit below this.
const EXCHANGE: Duration = Duration::from_secs(40);
/// How long the last page may take to be asked for after the redirect to it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Connections at a time whose request is not there yet; the oldest gives way.
const CONNECTIONS: usize = 16;
/// Redirects at a time that wait for their verdict; a later one is turned away.
const WAITING: usize = 8;
/// Connections at a time on the whole; the next is accepted when one of them ends.
const ALL: usize = 32;
/// How long the listener rests when the system lets it accept nothing.
const REST: Duration = Duration::from_millis(50);

pub(super) struct Listener {
    pub(super) redirect: Url,
    events: Receiver<Event>,
}

/// A redirect arrived, and its browser waits.
pub(super) struct Event {
    pub(super) query: Vec<u8>,
    verdict: Sender<Verdict>,
    seen: Receiver<()>,
}

/// What the browser is shown.
#[derive(PartialEq)]
pub(super) enum Verdict {
    Welcome,
    Sorry,
    /// Not an answer to our request: the sign-in goes on.
    Strange,
}

impl Event {
    /// Lets the browser go, and stays until it has its last page.
    pub(super) fn answer(self, verdict: Verdict) {
        let last = !matches!(verdict, Verdict::Strange);
        // A browser that has left is none of our business.
        let _ = self.verdict.send(verdict);
        if last {
            let _ = self.seen.recv_timeout(FAREWELL);
        }
    }
}

impl Listener {
    pub(super) fn next(&self, limit: Duration) -> Option<Event> {
        self.events.recv_timeout(limit).ok()
    }
}

/// The redirect of a sign-in that nobody listens for: its code is pasted.
pub(super) fn unheard(redirect: &Redirect, port: Option<u16>) -> Url {
    let port = port.or_else(|| redirect.ports.iter().copied().find(|port| *port != 0));
    // A browser that finds nobody there shows the address, which is all we need.
    address_url(redirect, port.unwrap_or(8765))
}

fn address_url(redirect: &Redirect, port: u16) -> Url {
    let text = format!("http://{}:{port}{}", redirect.host, redirect.path);
    // The parts were checked when the configuration was read.
    Url::parse(&text).unwrap_or_else(|_| unreachable!("{text} is a URL"))
}

/// Ports that the system may choose before we give up: another program can have one of them on the
/// other family.
const TRIES: usize = 8;

/// Binds the first free port of the list, on loopback addresses only. `names`: more hosts by which
/// a browser may call us.
pub(super) fn bind(
    redirect: &Redirect,
    port: Option<u16>,
    names: &[&str],
) -> Result<Listener, Error> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    // RFC 8252 section 7.3: some machines have one family alone.
    let only_v6 = listen(v4, 0).is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable);
    let (host, first, second) = match redirect.host.as_str() {
        "[::1]" => ("[::1]", v6, None),
        "localhost" if only_v6 => ("localhost", v6, None),
        // A browser may take either family for this name.
        "localhost" => ("localhost", v4, Some(v6)),
        _ if only_v6 => ("[::1]", v6, None),
        host => (host, v4, None),
    };
    let redirect = &Redirect { host: host.to_owned(), ..redirect.clone() };
    let ports = port.map_or_else(|| redirect.ports.clone(), |port| vec![port]);
    let chances = ports
        .iter()
        .flat_map(|port| std::iter::repeat_n(*port, if *port == 0 { TRIES } else { 1 }));
    let found = chances.into_iter().find_map(|port| {
        let (socket, port) = listen(first, port).ok()?;
        match second.map(|address| listen(address, port)) {
            // The browser would bring to somebody else what is ours.
            Some(Err(error)) if error.kind() == ErrorKind::AddrInUse => None,
            other => Some((socket, port, other.and_then(Result::ok))),
        }
    });
    let Some((socket, port, more)) = found else {
        return Err(Error::new(Kind::Temporary, "no callback port available")
            .hint(format!("free one of {ports:?}, or choose another with --port")));
    };
    let url = address_url(redirect, port);
    // Written as a browser writes it: without the port of the scheme, without dots in the path.
    let authority = |url: &Url| url[Position::BeforeHost..Position::AfterPort].to_owned();
    let named = names.iter().map(|host| {
        authority(&address_url(&Redirect { host: (*host).to_owned(), ..redirect.clone() }, port))
    });
    let (sender, events) = mpsc::channel();
    let office = Arc::new(Office {
        authorities: named.chain([authority(&url)]).collect(),
        path: url.path().to_owned(),
        events: sender,
        desk: Mutex::default(),
        left: Condvar::new(),
    });
    for socket in [Some(socket), more.map(|(socket, _)| socket)].into_iter().flatten() {
        let office = Arc::clone(&office);
        let started = std::thread::Builder::new().spawn(move || office.serve(&socket));
        started.map_err(|error| {
            let what = "the sign-in cannot wait for the browser";
            Error::new(Kind::Temporary, what).because(error).hint("close some programs")
        })?;
    }
    Ok(Listener { redirect: url, events })
}

/// A port that nobody has now.
pub(in crate::oauth) fn free() -> Option<u16> {
    let hosts = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    hosts.into_iter().find_map(|host| listen(host, 0).ok()).map(|(_, port)| port)
}

/// Whether nobody has this port now, on either family that this machine has.
pub(in crate::oauth) fn is_free(port: u16) -> bool {
    let hosts = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let taken = |host| listen(host, port).is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    !hosts.into_iter().any(taken)
}

#[expect(clippy::disallowed_methods, reason = "the room that listens")]
fn listen(address: IpAddr, port: u16) -> std::io::Result<(TcpListener, u16)> {
    let socket = TcpListener::bind(SocketAddr::new(address, port))?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

struct Office {
    /// What a browser of ours can name as Host: a rebound DNS name is another one.
    authorities: Vec<String>,
    path: String,
    events: Sender<Event>,
    desk: Mutex<Desk>,
    /// Told when a connection has ended.
    left: Condvar,
}

#[derive(Default)]
struct Desk {
    /// Connections whose request is not there yet.
    arriving: VecDeque<Arc<TcpStream>>,
    all: usize,
    waiting: usize,
    /// Told when the page after the redirect has been served.
    farewell: Option<Sender<()>>,
}

/// What the head of a request asks for.
#[derive(Debug, PartialEq)]
enum Asked<'a> {
    /// The query.
    Redirect(&'a [u8]),
    Page(bool),
    Refused(&'static str),
}

impl Office {
    /// It ends with the process; the socket is closed by then at the latest.
    fn serve(self: &Arc<Self>, socket: &TcpListener) {
        for stream in socket.incoming() {
            let Ok(stream) = stream.map(Arc::new) else {
                System::start().sleep(REST);
                continue;
            };
            self.admit(&stream);
            let (office, own) = (Arc::clone(self), Arc::clone(&stream));
            let visit = std::thread::Builder::new().spawn(move || office.attend(&own));
            if visit.is_err() {
                // Without a thread of its own it is served by this one, and others wait.
                self.attend(&stream);
            }
        }
    }

    fn admit(&self, stream: &Arc<TcpStream>) {
        let mut desk = self.desk();
        while desk.all >= ALL {
            desk = self.left.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
        desk.all += 1;
        desk.arriving.push_back(Arc::clone(stream));
        if desk.arriving.len() > CONNECTIONS
            && let Some(oldest) = desk.arriving.pop_front()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
    }

    fn attend(&self, stream: &Arc<TcpStream>) {
        let head = read_head(stream);
        self.desk().arriving.retain(|other| !Arc::ptr_eq(other, stream));
        if let Some(head) = head {
            self.receive(stream, &head);
        }
        let _ = stream.shutdown(Shutdown::Both);
        self.desk().all -= 1;
        self.left.notify_all();
    }

    fn receive(&self, mut stream: &TcpStream, head: &[u8]) {
        let asked = asked(head, &self.authorities, &self.path);
        let response = match asked {
            Asked::Refused(status) => page(status, REFUSED),
            Asked::Page(welcome) => page("200 OK", if welcome { WELCOME } else { SORRY }),
            Asked::Redirect(query) => match self.decide(query) {
                Some(Verdict::Welcome) => see_other("/done"),
                Some(Verdict::Sorry) => see_other("/failed"),
                Some(Verdict::Strange) => page("400 Bad Request", REFUSED),
                None => page("503 Service Unavailable", REFUSED),
            },
        };
        let _ = stream.set_write_timeout(Some(ARRIVAL));
        let written = stream.write_all(response.as_bytes()).and_then(|()| stream.flush());
        if written.is_ok() && matches!(asked, Asked::Page(_)) {
            let farewell = self.desk().farewell.take();
            if let Some(farewell) = farewell {
                let _ = farewell.send(());
            }
        }
    }

    /// What the sign-in says of a redirect. `None`: too many others wait for that.
    fn decide(&self, query: &[u8]) -> Option<Verdict> {
        {
            let mut desk = self.desk();
            if desk.waiting >= WAITING {
                return None;
            }
            desk.waiting += 1;
        }
        let (verdict, decided) = mpsc::channel();
        let (farewell, seen) = mpsc::channel();
        let sent = self.events.send(Event { query: query.to_owned(), verdict, seen });
        let decided = decided.recv_timeout(EXCHANGE);
        let mut desk = self.desk();
        desk.waiting -= 1;
        // Where nobody decides any more, the sign-in is over.
        let verdict = decided.unwrap_or(Verdict::Sorry);
        if sent.is_ok() && verdict != Verdict::Strange {
            desk.farewell = Some(farewell);
        }
        Some(verdict)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request line and headers, if they come in time and in bounds.
fn read_head(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let clock = System::start();
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = ARRIVAL.checked_sub(clock.elapsed()).filter(|left| !left.is_zero())?;
        stream.set_read_timeout(Some(left)).ok()?;
        let count = match stream.read(&mut buffer) {
            Ok(count) => Some(count).filter(|count| *count > 0)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return None,
        };
        // The end may have come in pieces.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&buffer[..count]);
        if head.len() > HEAD {
            let response = page("431 Request Header Fields Too Large", REFUSED);
            let _ = stream.set_write_timeout(Some(ARRIVAL));
            let _ = stream.write_all(response.as_bytes());
            return None;
        }
        if let Some(end) = head[from..].windows(4).position(|window| window == b"\r\n\r\n") {
            head.truncate(from + end);
            return Some(head);
        }
    }
}

fn asked<'a>(head: &'a [u8], authorities: &[String], path: &str) -> Asked<'a> {
    let ours =
        |name: &[u8]| authorities.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name));
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Asked::Refused("400 Bad Request");
    };
    let headers: Vec<(&[u8], &[u8])> = lines.filter_map(|line| split_once(line, b':')).collect();
    let all = |wanted: &str| -> Vec<&[u8]> {
        let same = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        same.map(|(_, value)| value.trim_ascii()).collect()
    };
    // A byte beyond ASCII is a letter of somebody's; what can end a line or a word is none.
    let visible = target.iter().all(|byte| !byte.is_ascii_control() && *byte != b' ');
    if !version.starts_with(b"HTTP/1.") || !visible {
        return Asked::Refused("400 Bad Request");
    }
    let [host] = all("host")[..] else { return Asked::Refused("403 Forbidden") };
    // RFC 9112 section 3.2.2: a proxy is asked with the whole URL, and a server takes it too.
    let (named, target) = match target.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case(b"http://") => {
            let rest = &target[7..];
            let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
            (&rest[..end], &rest[end..])
        }
        _ => (host, target),
    };
    if !ours(host) || !ours(named) {
        return Asked::Refused("403 Forbidden");
    }
    if method != b"GET" {
        return Asked::Refused("405 Method Not Allowed");
    }
    // A page's script, image or frame is not a person's browser going somewhere (Fetch Metadata).
    let only = |name: &str, value: &[u8]| all(name).iter().all(|found| *found == value);
    if !only("sec-fetch-mode", b"navigate") || !only("sec-fetch-dest", b"document") {
        return Asked::Refused("403 Forbidden");
    }
    let (asked_path, query) = split_once(target, b'?').unwrap_or((target, b""));
    match asked_path {
        _ if asked_path == path.as_bytes() && !query.is_empty() => Asked::Redirect(query),
        b"/done" => Asked::Page(true),
        b"/failed" => Asked::Page(false),
        _ => Asked::Refused("404 Not Found"),
    }
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}

/// RFC 6749 section 3.1.2.5: the code leaves the address bar and the history.
fn see_other(path: &str) -> String {
    format!("HTTP/1.1 303 See Other\r\nLocation: {path}\r\nContent-Length: 0\r\n{HEADERS}\r\n")
}

fn page(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         {HEADERS}\r\n{body}",
        body.len()
    )
}

const HEADERS: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
    frame-ancestors 'none'\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n";

const WELCOME: &str = concat!(include_str!("style.html"), include_str!("welcome.html"));
const SORRY: &str = concat!(include_str!("style.html"), include_str!("sorry.html"));
const REFUSED: &str = concat!(include_str!("style.html"), include_str!("refused.html"));

/// For fuzzing: the query, if the head is one that is heard.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(head: &[u8]) -> Option<&[u8]> {
    let Asked::Redirect(query) = asked(head, &["127.0.0.1:8765".to_owned()], "/callback") else {
        return None;
    };
    assert!(head.starts_with(b"GET ") && !query.iter().any(|byte| b" \r\n".contains(byte)));
    Some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(head: &str) -> Asked<'_> {
        asked(head.as_bytes(), &["127.0.0.1:8765".to_owned()], "/callback")
    }

    #[test]
    fn only_a_browser_that_goes_to_our_path_is_heard() {
        let head = "GET /callback?code=a HTTP/1.1\r\nhost: 127.0.0.1:8765";
        assert_eq!(judge(head), Asked::Redirect(b"code=a"));
        let browser = format!("{head}\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document");
        assert_eq!(judge(&browser), Asked::Redirect(b"code=a"));
        // What a proxy would be asked, and what other programs left in the browser.
        for head in [
            "GET http://127.0.0.1:8765/callback?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765",
            "GET HTTP://127.0.0.1:8765/callback?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765",
            "GET /callback?code=a HTTP/1.0\r\nHost: 127.0.0.1:8765\r\nCookie: é=\u{1}; host: x",
            "GET /callback?code=a HTTP/1.1\r\nX-Host: evil.example\r\nHOST:127.0.0.1:8765 ",
            "GET /callback?code=a HTTP/1.1\r\n: x\r\nno colon\r\n folded: x\r\nHost: 127.0.0.1:8765",
        ] {
            assert_eq!(judge(head), Asked::Redirect(b"code=a"), "{head}");
        }
        let spoken = "GET /callback?code=a&x=\u{e9} HTTP/1.1\r\nHost: 127.0.0.1:8765";
        assert_eq!(judge(spoken), Asked::Redirect("code=a&x=\u{e9}".as_bytes()));
        for (head, status) in [
            ("GET /favicon.ico HTTP/1.1\r\nHost: 127.0.0.1:8765", "404 Not Found"),
            ("GET /callback HTTP/1.1\r\nHost: 127.0.0.1:8765", "404 Not Found"),
            ("GET /callback/x?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765", "404 Not Found"),
            ("POST /callback?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765", "405 Method Not Allowed"),
            ("OPTIONS /callback?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765", "405 Method Not Allowed"),
            ("GET /callback?code=a HTTP/1.1\r\nHost: evil.example:8765", "403 Forbidden"),
            ("GET /callback?code=a HTTP/1.1\r\nHost: 127.0.0.1", "403 Forbidden"),
            ("GET /callback?code=a HTTP/1.1", "403 Forbidden"),
            (
                "GET http://evil.example/callback?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765",
                "403 Forbidden",
            ),
            (
                "GET http://127.0.0.1:8765/callback?code=a HTTP/1.1\r\nHost: evil.example",
                "403 Forbidden",
            ),
            (
                "GET http://127.0.0.1:8765@evil.example/callback?code=a HTTP/1.1\r\n\
                 Host: 127.0.0.1:8765",
                "403 Forbidden",
            ),
            (
                "GET https://127.0.0.1:8765/callback?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765",
                "404 Not Found",
            ),
            ("GET http://127.0.0.1:8765?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765", "404 Not Found"),
            ("GET /callback?code=a HTTP/1.1\r\nHost : 127.0.0.1:8765", "403 Forbidden"),
            ("GET /callback?code=a HTTP/1.1\r\n Host: 127.0.0.1:8765", "403 Forbidden"),
            (
                "GET /callback?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765\r\nHost: evil.example",
                "403 Forbidden",
            ),
            (
                "GET /callback?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765\r\nSec-Fetch-Mode: no-cors",
                "403 Forbidden",
            ),
            (
                "GET /callback?code=a HTTP/1.1\r\nHost: 127.0.0.1:8765\r\nSec-Fetch-Dest: iframe",
                "403 Forbidden",
            ),
            ("GET /callback?code=a", "400 Bad Request"),
            ("GET /callback?code=a\rb HTTP/1.1\r\nHost: 127.0.0.1:8765", "400 Bad Request"),
            ("GET /callback?code=a b HTTP/1.1\r\nHost: 127.0.0.1:8765", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            assert_eq!(judge(head), Asked::Refused(status), "{head}");
        }
    }

    #[test]
    fn pages_hold_nothing_but_themselves() {
        for body in [WELCOME, SORRY, REFUSED] {
            assert!(!body.contains("<script") && !body.contains("http"), "{body}");
        }
        let answer = page("200 OK", WELCOME);
        for header in ["default-src 'none'", "no-store", "no-referrer", "nosniff", "DENY"] {
            assert!(answer.contains(header), "{header}");
        }
    }
}
