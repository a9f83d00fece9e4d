//! HTTP/1.1 messages as bytes: the start line, the headers, the body in one of its three lengths.
//! Used from both ends. It never opens a connection and never decides what a message means.

use std::io::{self, BufRead, Read};

/// Longer than any honest message, and short enough to notice a runaway one.
const LONGEST_HEAD: u64 = 4 << 20;

pub type Headers = Vec<(String, String)>;

pub struct Head {
    pub start_line: String,
    pub headers: Headers,
}

/// What the body's end is when no header tells.
pub enum Untold {
    Empty,
    UntilClosed,
}

pub fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// Reads up to and including the empty line. `None` when the peer said nothing at all.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut limited = reader.take(LONGEST_HEAD);
    let Some(start_line) = read_line(&mut limited)? else { return Ok(None) };
    let mut headers = Headers::new();
    loop {
        let line = read_line(&mut limited)?.ok_or_else(|| broken("the head has no end"))?;
        if line.is_empty() {
            return Ok(Some(Head { start_line, headers }));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a header has no colon"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

pub fn read_body(
    reader: &mut impl BufRead,
    headers: &[(String, String)],
    untold: Untold,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if find(headers, "Transfer-Encoding").is_some_and(|coding| coding.contains("chunked")) {
        read_chunks(reader, &mut body)?;
    } else if let Some(length) = find(headers, "Content-Length") {
        let length: usize = length.parse().map_err(|_| broken("a length is not a number"))?;
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else if matches!(untold, Untold::UntilClosed) {
        reader.read_to_end(&mut body)?;
    }
    Ok(body)
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(reader)?.ok_or_else(|| broken("a chunk is missing"))?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length =
            usize::from_str_radix(digits, 16).map_err(|_| broken("a chunk has no length"))?;
        if length == 0 {
            break;
        }
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..])?;
        read_line(reader)?;
    }
    while read_line(reader)?.is_some_and(|trailer| !trailer.is_empty()) {}
    Ok(())
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(broken("a line has no end"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
