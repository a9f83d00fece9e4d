//! The loopback listener (RFC 8252 section 7.3). It takes one kind of request: a browser that is
//! sent, as a whole page, to our own path. It says nothing that came from a request, and nobody
//! can hold it up: connections are short, small and few, and the newest one wins.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use url::{Position, Url};

use crate::clock::{Clock, System};
use crate::error::{Error, Kind};
use crate::profile::Redirect;

/// Bytes of a request's head.
const HEAD: usize = 8 << 10;
/// Seconds in which a request must have arrived whole.
const ARRIVAL: Duration = Duration::from_secs(5);
/// Seconds that a browser waits for the code exchange, which has its own limit below this.
const EXCHANGE: Duration = Duration::from_secs(40);
/// How long the last page may take to be asked for after the redirect to it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Connections at a time; the oldest gives way.
const CONNECTIONS: usize = 16;

pub(super) struct Listener {
    pub(super) redirect: Url,
    events: Receiver<Event>,
}

/// A redirect arrived, and its browser waits.
pub(super) struct Event {
    pub(super) query: String,
    verdict: Sender<Verdict>,
    seen: Receiver<()>,
}

/// What the browser is shown.
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
        arriving: Mutex::default(),
        farewell: Mutex::default(),
    });
    for socket in [Some(socket), more.map(|(socket, _)| socket)].into_iter().flatten() {
        let office = Arc::clone(&office);
        std::thread::spawn(move || office.serve(&socket));
    }
    Ok(Listener { redirect: url, events })
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
    /// Connections whose request is not there yet, by the address of their other end.
    arriving: Mutex<VecDeque<(SocketAddr, TcpStream)>>,
    /// Told when the page after the redirect has been served.
    farewell: Mutex<Option<Sender<()>>>,
}

/// What the head of a request asks for.
#[derive(Debug, PartialEq)]
enum Asked<'a> {
    Redirect(&'a str),
    Page(bool),
    Refused(&'static str),
}

impl Office {
    fn serve(self: &Arc<Self>, socket: &TcpListener) {
        // It ends with the process; the socket is closed by then at the latest.
        for stream in socket.incoming().flatten() {
            let (Ok(copy), Ok(peer)) = (stream.try_clone(), stream.peer_addr()) else { continue };
            {
                let mut arriving = self.arriving();
                arriving.push_back((peer, copy));
                if arriving.len() > CONNECTIONS
                    && let Some((_, oldest)) = arriving.pop_front()
                {
                    let _ = oldest.shutdown(Shutdown::Both);
                }
            }
            let office = Arc::clone(self);
            std::thread::spawn(move || {
                let head = read_head(&mut &stream);
                office.arriving().retain(|(other, _)| *other != peer);
                if let Some(head) = head {
                    office.receive(&stream, &head);
                }
            });
        }
    }

    fn receive(&self, mut stream: &TcpStream, head: &str) {
        let asked = asked(head, &self.authorities, &self.path);
        let response = match asked {
            Asked::Refused(status) => page(status, REFUSED),
            Asked::Page(welcome) => page("200 OK", if welcome { WELCOME } else { SORRY }),
            Asked::Redirect(query) => {
                let (verdict, decided) = mpsc::channel();
                let (farewell, seen) = mpsc::channel();
                let event = Event { query: query.to_owned(), verdict, seen };
                if self.events.send(event).is_err() {
                    return;
                }
                let decided = decided.recv_timeout(EXCHANGE);
                if !matches!(decided, Ok(Verdict::Strange)) {
                    *self.farewell() = Some(farewell);
                }
                match decided {
                    Ok(Verdict::Welcome) => see_other("/done"),
                    Ok(Verdict::Sorry) | Err(_) => see_other("/failed"),
                    Ok(Verdict::Strange) => page("400 Bad Request", REFUSED),
                }
            }
        };
        let written = stream.write_all(response.as_bytes()).and_then(|()| stream.flush());
        let _ = stream.shutdown(Shutdown::Both);
        if written.is_ok() && matches!(asked, Asked::Page(_)) {
            let farewell = self.farewell().take();
            if let Some(farewell) = farewell {
                let _ = farewell.send(());
            }
        }
    }

    fn arriving(&self) -> MutexGuard<'_, VecDeque<(SocketAddr, TcpStream)>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn farewell(&self) -> MutexGuard<'_, Option<Sender<()>>> {
        self.farewell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request line and headers, if they come in time and in bounds.
fn read_head(stream: &mut &TcpStream) -> Option<String> {
    let clock = System::start();
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let left = ARRIVAL.checked_sub(clock.elapsed()).filter(|left| !left.is_zero())?;
        stream.set_read_timeout(Some(left)).ok()?;
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&buffer[..count]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            head.truncate(end);
            return String::from_utf8(head).ok();
        }
        if head.len() > HEAD {
            let _ =
                stream.write_all(page("431 Request Header Fields Too Large", REFUSED).as_bytes());
            return None;
        }
    }
}

fn asked<'a>(head: &'a str, authorities: &[String], path: &str) -> Asked<'a> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Asked::Refused("400 Bad Request");
    };
    let headers: Vec<(&str, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let all = |wanted: &str| -> Vec<&str> {
        let same = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        same.map(|(_, value)| *value).collect()
    };
    let printable = target.bytes().all(|byte| byte.is_ascii_graphic());
    if !version.starts_with("HTTP/1.") || !printable {
        return Asked::Refused("400 Bad Request");
    }
    let [host] = all("host")[..] else { return Asked::Refused("403 Forbidden") };
    if !authorities.iter().any(|authority| authority == host) {
        return Asked::Refused("403 Forbidden");
    }
    if method != "GET" {
        return Asked::Refused("405 Method Not Allowed");
    }
    // A page's script, image or frame is not a person's browser going somewhere (Fetch Metadata).
    let only = |name: &str, value: &str| all(name).iter().all(|found| *found == value);
    if !only("sec-fetch-mode", "navigate") || !only("sec-fetch-dest", "document") {
        return Asked::Refused("403 Forbidden");
    }
    let (asked_path, query) = target.split_once('?').unwrap_or((target, ""));
    match asked_path {
        _ if asked_path == path && !query.is_empty() => Asked::Redirect(query),
        "/done" => Asked::Page(true),
        "/failed" => Asked::Page(false),
        _ => Asked::Refused("404 Not Found"),
    }
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
pub(super) fn fuzz(head: &str) -> Option<&str> {
    let Asked::Redirect(query) = asked(head, &["127.0.0.1:8765".to_owned()], "/callback") else {
        return None;
    };
    assert!(head.starts_with("GET /callback?") && !query.contains([' ', '\r', '\n']));
    Some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(head: &str) -> Asked<'_> {
        asked(head, &["127.0.0.1:8765".to_owned()], "/callback")
    }

    #[test]
    fn only_a_browser_that_goes_to_our_path_is_heard() {
        let head = "GET /callback?code=a HTTP/1.1\r\nhost: 127.0.0.1:8765";
        assert_eq!(judge(head), Asked::Redirect("code=a"));
        let browser = format!("{head}\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document");
        assert_eq!(judge(&browser), Asked::Redirect("code=a"));
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
