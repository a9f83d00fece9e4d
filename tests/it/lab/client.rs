//! The other end of HTTP: plain requests for tests that play a browser or a tool, and raw
//! connections for tests that play an attacker. It never follows a redirect by itself.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

use super::watched::PATIENCE;
use super::wire::{self, Headers, Untold};
use url::Url;

#[derive(Clone, Debug)]
pub struct Page {
    pub url: String,
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Page {
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: not JSON from {}: {}", self.url, self.text()))
    }

    /// Where the redirect leads, made absolute.
    pub fn location(&self) -> Option<String> {
        let location = self.header("Location")?;
        Some(Url::parse(&self.url).ok()?.join(location).ok()?.into())
    }
}

#[track_caller]
pub fn http_get(url: &str) -> Page {
    http("GET", url, &[], b"").unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

#[track_caller]
pub fn http_post_form(url: &str, fields: &[(&str, &str)]) -> Page {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    http("POST", url, &headers, body.as_bytes())
        .unwrap_or_else(|error| panic!("POST {url}: {error}"))
}

/// One request, one answer. Fails when the other side is not there or does not speak HTTP.
pub fn http(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Page> {
    let parsed = Url::parse(url).map_err(io::Error::other)?;
    if parsed.scheme() != "http" {
        return Err(io::Error::other(format!("this client speaks http only, not {url}")));
    }
    let mut stream = TcpStream::connect(&parsed.socket_addrs(|| None)?[..])?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;

    let target = &parsed[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = &parsed[url::Position::BeforeHost..url::Position::AfterPort];
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Connection: close\r\n");
    if method != "GET" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;

    let mut reader = BufReader::new(&stream);
    let head = wire::read_head(&mut reader)?
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let status = head
        .start_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no status in {:?}", head.start_line)))?;
    let untold = if status == 204 { Untold::Empty } else { Untold::UntilClosed };
    let body = wire::read_body(&mut reader, &head.headers, untold)?;
    Ok(Page { url: url.to_owned(), status, headers: head.headers, body })
}

/// A connection to a port of this machine for bytes that no honest client would send.
pub struct RawConnection(TcpStream);

impl RawConnection {
    #[track_caller]
    pub fn open(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .unwrap_or_else(|error| panic!("nobody listens on port {port}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a deadline can be set");
        stream.set_nodelay(true).expect("bytes can be sent one by one");
        Self(stream)
    }

    /// All bytes of one connection, and everything that came back.
    #[track_caller]
    pub fn exchange(port: u16, bytes: &[u8]) -> Vec<u8> {
        let mut connection = Self::open(port);
        // A refusal may arrive, and the connection may be gone, before everything was sent.
        let _ = connection.send(bytes);
        connection.read_to_end()
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Says that nothing more will come, and still listens.
    pub fn finish_sending(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Everything until the peer closes, politely or not.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut bytes)
            && !matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
            )
        {
            let seen = String::from_utf8_lossy(&bytes);
            panic!("the peer kept the connection open ({error}) after {seen:?}");
        }
        bytes
    }
}
