//! A small HTTP/1.1 server on the loopback, one thread a connection, one request a connection. It
//! is written by hand because it must be able to misbehave. Every request goes into a journal. It
//! never listens on anything but a free port of 127.0.0.1, and never speaks TLS.

use std::fmt;
use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::listener::Listener;
use super::watched::{PATIENCE, Watched};
use super::wire::{self, Headers, Untold};

/// The first byte of a client that speaks TLS.
const TLS_HANDSHAKE: u8 = 0x16;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// As it stood on the request line.
    pub target: String,
    /// The target without its query, not decoded.
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::find(&self.headers, name)
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    pub fn field(&self, name: &str) -> Option<String> {
        self.form().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub fn bearer(&self) -> Option<&str> {
        self.header("Authorization")?.strip_prefix("Bearer ")
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Headers::new(), body: Vec::new() }
    }

    pub fn text(status: u16, text: &str) -> Self {
        Self::typed(status, "text/plain; charset=utf-8", text)
    }

    pub fn html(status: u16, text: &str) -> Self {
        Self::typed(status, "text/html; charset=utf-8", text)
    }

    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::typed(status, "application/json", &value.to_string())
    }

    pub fn typed(status: u16, content_type: &str, body: &str) -> Self {
        Self { status, headers: Headers::new(), body: body.as_bytes().to_vec() }
            .with_header("Content-Type", content_type)
    }

    pub fn redirect(location: &str) -> Self {
        Self::empty(302).with_header("Location", location)
    }

    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What goes back over the connection. It is closed afterwards in every case.
#[derive(Clone)]
pub enum Reply {
    Answer(Answer),
    /// Nothing.
    Close,
    /// Nothing, once the gate is open.
    Stall(Gate),
    /// The beginning of a JSON object that goes on until the peer has had enough.
    Endless,
    /// An honest answer, one byte at a time with a pause before each.
    Slow(Answer, Duration),
    /// These very bytes, be they HTTP or not.
    Raw(Vec<u8>),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// A place where the server stops until the test lets it go on.
#[derive(Clone, Default)]
pub struct Gate(Arc<Watched<GateState>>);

#[derive(Default)]
struct GateState {
    arrived: usize,
    open: bool,
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Blocks until somebody stands at the gate.
    #[track_caller]
    pub fn reached(&self) {
        self.reached_by(1);
    }

    /// Blocks until that many have come to the gate.
    #[track_caller]
    pub fn reached_by(&self, visitors: usize) {
        let deadline = Instant::now() + PATIENCE;
        self.0.wait(deadline, |state| (state.arrived >= visitors).then_some(())).unwrap_or_else(
            || panic!("the gate was not reached by {visitors} within {PATIENCE:?}"),
        );
    }

    /// Lets everyone through, now and later.
    pub fn open(&self) {
        self.0.change(|state| state.open = true);
    }

    /// Waits at the gate; goes through after a while even when nobody opens it, because a server
    /// thread that panics is seen by nobody.
    pub fn pass(&self) {
        self.0.change(|state| state.arrived += 1);
        self.0.wait(Instant::now() + PATIENCE, |state| state.open.then_some(()));
    }
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Instant,
    pub request: Request,
    /// `None` while the request is held, and when the connection was closed without an answer.
    pub status: Option<u16>,
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { method, target, headers, body, .. } = &self.request;
        write!(out, "{method} {target}")?;
        match self.status {
            Some(status) => writeln!(out, " -> {status}")?,
            None => writeln!(out, " -> no answer")?,
        }
        for name in ["Authorization", "Content-Type"] {
            if let Some(value) = wire::find(headers, name) {
                writeln!(out, "    {name}: {value}")?;
            }
        }
        if !body.is_empty() {
            let shown = &body[..body.len().min(400)];
            writeln!(out, "    {}", String::from_utf8_lossy(shown).escape_debug())?;
        }
        Ok(())
    }
}

/// Every request in the order of arrival, with the status answered. A status is written down before
/// its answer is sent, so whoever has the answer finds it here.
#[derive(Clone, Default)]
pub struct Journal(Arc<Watched<Vec<Entry>>>);

impl Journal {
    pub fn snapshot(&self) -> Vec<Entry> {
        self.0.read(Clone::clone)
    }

    pub fn count(&self, matches: impl Fn(&Entry) -> bool) -> usize {
        self.0.read(|entries| entries.iter().filter(|entry| matches(entry)).count())
    }

    pub fn at_path(&self, path: &str) -> Vec<Entry> {
        self.snapshot().into_iter().filter(|entry| entry.request.path == path).collect()
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, satisfied: impl Fn(&[Entry]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        self.0
            .wait(deadline, |entries| satisfied(entries).then_some(()))
            .unwrap_or_else(|| panic!("waited {PATIENCE:?} for {what}; the journal says\n{self}"));
    }

    fn arrived(&self, request: Request) -> usize {
        self.0.change(|entries| {
            entries.push(Entry { at: Instant::now(), request, status: None });
            entries.len() - 1
        })
    }

    fn answered(&self, number: usize, status: u16) {
        self.0.change(|entries| entries[number].status = Some(status));
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.read(|entries| {
            entries
                .iter()
                .enumerate()
                .try_for_each(|(number, entry)| write!(out, "{number} {entry}"))
        })
    }
}

/// Runs until dropped; after that its port refuses connections.
pub struct Server {
    listener: Listener,
    journal: Journal,
}

impl Server {
    pub fn start<H>(handler: H) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        Self::start_knowing_origin(|_| handler)
    }

    /// For a handler that has to name its own address.
    pub fn start_knowing_origin<H>(make_handler: impl FnOnce(&str) -> H) -> Self
    where
        H: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        let listener = Listener::bind();
        let handler = make_handler(&format!("http://{}", listener.address()));
        let journal = Journal::default();
        let listener = listener.serve({
            let journal = journal.clone();
            // A peer that breaks off in the middle is the peer's business.
            move |stream| drop(converse(stream, &handler, &journal))
        });
        Self { listener, journal }
    }

    /// `http://127.0.0.1:PORT`, without a slash.
    pub fn origin(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    pub fn port(&self) -> u16 {
        self.listener.address().port()
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

fn converse(
    mut stream: &TcpStream,
    handler: &impl Fn(&Request) -> Reply,
    journal: &Journal,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first)? == 1 && first[0] == TLS_HANDSHAKE {
        // What Go's client takes as a word to try again without TLS.
        stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")?;
        stream.shutdown(Shutdown::Write)?;
        return io::copy(&mut stream, &mut io::sink()).map(drop);
    }
    let Some(request) = read_request(stream)? else { return Ok(()) };
    let without_body = request.method == "HEAD";
    let number = journal.arrived(request.clone());
    match handler(&request) {
        Reply::Answer(answer) => {
            journal.answered(number, answer.status);
            stream.write_all(&rendered(&answer, without_body))
        }
        Reply::Close => Ok(()),
        Reply::Stall(gate) => {
            gate.pass();
            Ok(())
        }
        Reply::Endless => {
            journal.answered(number, 200);
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"x\":\"",
            )?;
            loop {
                stream.write_all(&[b'x'; 16 << 10])?;
            }
        }
        Reply::Slow(answer, pause) => {
            journal.answered(number, answer.status);
            for byte in rendered(&answer, without_body) {
                thread::park_timeout(pause);
                stream.write_all(&[byte])?;
            }
            Ok(())
        }
        Reply::Raw(bytes) => stream.write_all(&bytes),
    }
}

fn read_request(stream: &TcpStream) -> io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let Some(head) = wire::read_head(&mut reader)? else { return Ok(None) };
    let mut words = head.start_line.split(' ');
    let (Some(method), Some(target), Some(_version)) = (words.next(), words.next(), words.next())
    else {
        return Ok(None);
    };
    if wire::find(&head.headers, "Expect").is_some_and(|value| value.contains("100-continue")) {
        let mut writer = stream;
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let body = wire::read_body(&mut reader, &head.headers, Untold::Empty)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Some(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        path: path.to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: head.headers,
        body,
    }))
}

fn rendered(answer: &Answer, without_body: bool) -> Vec<u8> {
    let Answer { status, headers, body } = answer;
    let mut bytes = format!("HTTP/1.1 {status} {}\r\n", reason(*status)).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(
        format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).as_bytes(),
    );
    if !without_body {
        bytes.extend_from_slice(body);
    }
    bytes
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        302 => "Found",
        303 => "See Other",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
