//! The only room that connects out. Nothing secret goes anywhere but to the URL it is given for:
//! no redirect is followed, plain HTTP is for this machine only, and every answer has a bound in
//! bytes and seconds.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::read::{MultiGzDecoder, ZlibDecoder};
use serde_json::Value;
pub(super) use ureq::http::Method;
use ureq::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use ureq::http::{Request, Response, request};
use ureq::{Agent, Body};
use url::Url;

use super::Failure;
use super::address::{self, Guard, Reach};
use super::answer::cut;
use super::connection;
use super::network::Network;
use crate::clock::Clock;
use crate::environment::Environment;
use crate::error::{Error, Kind};
use crate::model::{Secret, foreign_text};
use crate::profile::{is_loopback, is_safe};

/// For a name, and for each of its addresses until one answers.
const CONNECT: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(30);
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// Bytes of an answer, also of what it says after it was decompressed.
const LIMIT: u64 = 1 << 20;
/// An answer may be compressed by the server and by a proxy once more.
const MOST_ENCODINGS: usize = 2;

/// What TLS needs is read when it is first used: the system's certificates take longer than a
/// cached `get` as a whole.
pub(super) struct Http<'a> {
    environment: &'a Environment,
    clock: &'a dyn Clock,
    reach: Reach,
    until: Cell<Option<Duration>>,
    network: Network<'a>,
    /// By the certificates that are trusted beside the system's.
    tls: RefCell<HashMap<Vec<PathBuf>, Arc<rustls::ClientConfig>>>,
    /// Something of the latest request was on its way when it failed.
    sent: Arc<AtomicBool>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nothing was sent: the URL, or what this machine has for the way there, is not good for it.
    Unsent(Error),
    /// Nobody got the request.
    Unreached(Error),
    /// The request was sent, and its answer did not come, or not whole: what it brought about is
    /// not known.
    Lost(Error),
    /// What came is no answer.
    Garbled(Error),
}

impl From<Unanswered> for Failure {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Unsent(error) => Self::Other(error),
            Unanswered::Unreached(error) | Unanswered::Lost(error) | Unanswered::Garbled(error) => {
                Self::Transient(error)
            }
        }
    }
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Content-Type.
    pub(super) kind: String,
    pub(super) body: Vec<u8>,
    /// Who answered, for messages.
    pub(super) host: String,
    /// What was sent and nobody may see: some servers quote it back.
    pub(super) sent: Vec<Secret>,
    /// Seconds for which the server wants to be left alone (RFC 9110 section 10.2.3).
    pub(super) wait: Option<u64>,
}

/// A request that is neither a form nor a plain question.
#[derive(Default)]
pub(super) struct Special<'r> {
    pub(super) headers: &'r [(&'r str, &'r str)],
    pub(super) bearer: Option<&'r Secret>,
    /// JSON.
    pub(super) body: Option<serde_json::Value>,
    /// What is in the body and nobody may see.
    pub(super) secret: Option<&'r Secret>,
}

/// Fields of our requests whose values are secrets.
const SECRETS: [&str; 11] = [
    "WebIdentityToken",
    "access_token",
    "assertion",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "device_code",
    "refresh_token",
    "subject_token",
    "token",
];

/// Bytes; a shorter value is no secret, and would be found in every other word.
const SHORTEST: usize = 6;

impl Answer {
    /// As a server at `auth.example` would give it.
    #[cfg(any(test, fuzzing))]
    pub(super) fn scripted(status: u16, kind: &str, body: &[u8]) -> Self {
        let (kind, body, host) = (kind.to_owned(), body.to_vec(), "auth.example".to_owned());
        Self { status, kind, body, host, sent: Vec::new(), wait: None }
    }

    pub(super) fn is_form(&self) -> bool {
        self.kind.starts_with("application/x-www-form-urlencoded")
    }

    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        foreign_text(&self.body)
    }

    /// A server's own text without the secrets that it quotes.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        let hide = |text: String, secret: &Secret| text.replace(secret.expose(), "[secret]");
        self.sent.iter().fold(text.to_owned(), hide)
    }

    /// The server could not say yes or no.
    pub(super) fn transient(&self) -> Failure {
        Failure::Transient(self.undecided())
    }

    pub(super) fn undecided(&self) -> Error {
        let what = format!("{} answered {}", self.host, self.status);
        let hint = match self.wait {
            Some(seconds) if (2..=86_400).contains(&seconds) => {
                format!("try again in {seconds} seconds")
            }
            _ => "try again in a moment".to_owned(),
        };
        Error::new(Kind::Temporary, what).hint(hint)
    }
}

impl<'a> Http<'a> {
    pub(super) fn new(
        environment: &'a Environment,
        clock: &'a dyn Clock,
        hidden: &'a dyn Fn(&str) -> bool,
    ) -> Self {
        Self::within(Reach::Anywhere, environment, clock, hidden)
    }

    /// With a bound on where a stranger's URLs may lead (attack 24 of oauth.md).
    pub(super) fn within(
        reach: Reach,
        environment: &'a Environment,
        clock: &'a dyn Clock,
        hidden: &'a dyn Fn(&str) -> bool,
    ) -> Self {
        let (tls, until) = (RefCell::default(), Cell::new(None));
        let network = Network::new(environment, hidden);
        Self { environment, reach, clock, network, tls, until, sent: Arc::default() }
    }

    /// No request goes on past this time of the monotonic clock; `None`: each has its own bound.
    /// What held before.
    pub(super) fn end_at(&self, until: Option<Duration>) -> Option<Duration> {
        self.until.replace(until)
    }

    /// Posts a form and reads the answer.
    ///
    /// # Errors
    /// `Unreached` or `Lost` when there is no whole answer, `Unsent` when the URL is not safe.
    pub(super) fn post(&self, url: &Url, form: &[(&str, &str)]) -> Result<Answer, Unanswered> {
        // GitHub answers in a form otherwise.
        self.post_for(url, form, JSON)
    }

    /// As `post`, for an answer of this media type.
    ///
    /// # Errors
    /// As `post`.
    pub(super) fn post_for(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        accept: &str,
    ) -> Result<Answer, Unanswered> {
        let request = request(Method::POST, url).header(ACCEPT, accept);
        self.send_form(url, request, form)
    }

    /// As `post`, with a client's id and secret in the header: what follows `Basic`.
    ///
    /// # Errors
    /// As `post`.
    pub(super) fn post_basic(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        pair: &Secret,
        secret: &Secret,
    ) -> Result<Answer, Unanswered> {
        let request = request(Method::POST, url).header(ACCEPT, JSON);
        let request = request.header(AUTHORIZATION, format!("Basic {}", pair.expose()));
        let mut answer = self.send_form(url, request, form)?;
        let long = |secret: &&Secret| secret.expose().len() >= SHORTEST;
        answer.sent.extend([pair, secret].into_iter().filter(long).cloned());
        Ok(answer)
    }

    fn send_form(
        &self,
        url: &Url,
        request: request::Builder,
        form: &[(&str, &str)],
    ) -> Result<Answer, Unanswered> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut answer = self.send(url, request.header(CONTENT_TYPE, FORM), Some(body), WHOLE)?;
        let secret =
            |(name, value): &&(&str, &str)| SECRETS.contains(name) && value.len() >= SHORTEST;
        answer.sent.extend(form.iter().filter(secret).map(|(_, value)| Secret::new(*value)));
        Ok(answer)
    }

    /// Gets a document, with an access token if one is given, and with these headers.
    ///
    /// # Errors
    /// As `post`.
    pub(super) fn get(
        &self,
        url: &Url,
        bearer: Option<&Secret>,
        headers: &[(String, String)],
    ) -> Result<Answer, Unanswered> {
        let mut request = request(Method::GET, url).header(ACCEPT, JSON);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.send(url, with_bearer(request, bearer), None, WHOLE)
    }

    /// Looks whether a document is at one of several places: with less patience, for there are
    /// others.
    ///
    /// # Errors
    /// As `post`.
    pub(super) fn look(&self, url: &Url) -> Result<Answer, Unanswered> {
        self.send(url, request(Method::GET, url).header(ACCEPT, JSON), None, CONNECT)
    }

    /// Sends what neither `post` nor `get` can.
    ///
    /// # Errors
    /// As `post`.
    pub(super) fn special(
        &self,
        method: Method,
        url: &Url,
        special: &Special<'_>,
    ) -> Result<Answer, Unanswered> {
        let mut request = request(method, url).header(ACCEPT, JSON);
        for (name, value) in special.headers {
            request = request.header(*name, *value);
        }
        if special.body.is_some() {
            request = request.header(CONTENT_TYPE, JSON);
        }
        let body = special.body.as_ref().map(Value::to_string);
        let mut answer = self.send(url, with_bearer(request, special.bearer), body, WHOLE)?;
        answer.sent.extend([special.bearer, special.secret].into_iter().flatten().cloned());
        Ok(answer)
    }

    /// Asks the metadata server of a machine of Google's, which speaks plain HTTP: nobody but the
    /// machine itself hears it, and no proxy may.
    ///
    /// # Errors
    /// As `post`; `Unsent` when the URL is another server's.
    pub(super) fn metadata(&self, url: &Url) -> Result<Answer, Unanswered> {
        let known = matches!(url.host_str(), Some("metadata.google.internal" | "169.254.169.254"));
        if !known && !is_loopback(url) {
            let what = format!("{} is no metadata server of this machine", host(url));
            return Err(Unanswered::Unsent(Error::new(Kind::Configuration, what)));
        }
        let request = request(Method::GET, url).header("Metadata-Flavor", "Google");
        self.read(url, self.open(url, request, None, None, WHOLE)?)
    }

    /// Posts a JSON document and reads the answer.
    ///
    /// # Errors
    /// As `post`.
    pub(super) fn post_json(&self, url: &Url, document: &Value) -> Result<Answer, Unanswered> {
        let request = request(Method::POST, url).header(ACCEPT, JSON).header(CONTENT_TYPE, JSON);
        self.send(url, request, Some(document.to_string()), WHOLE)
    }

    /// Asks a resource without any credential, for the challenges of its refusal: the values of
    /// `WWW-Authenticate`. None where it does not refuse.
    ///
    /// # Errors
    /// As `post`.
    pub(super) fn challenges(&self, url: &Url) -> Result<Vec<String>, Unanswered> {
        let proxy = self.way(url)?;
        let request = request(Method::GET, url).header(ACCEPT, JSON);
        let response = self.open(url, request, None, proxy, WHOLE)?;
        if response.status().as_u16() != 401 {
            return Ok(Vec::new());
        }
        let all = response.headers().get_all(WWW_AUTHENTICATE).iter();
        Ok(all.map(|value| foreign_text(value.as_bytes()).into_owned()).collect())
    }

    fn send(
        &self,
        url: &Url,
        request: request::Builder,
        body: Option<String>,
        patience: Duration,
    ) -> Result<Answer, Unanswered> {
        let proxy = self.way(url)?;
        self.read(url, self.open(url, request, body, proxy, patience)?)
    }

    /// Whether a request may go to a URL, and through which proxy.
    fn way(&self, url: &Url) -> Result<Option<ureq::Proxy>, Unanswered> {
        let unsent = |kind, what: &str| {
            Err(Unanswered::Unsent(Error::new(kind, format!("{} {what}", host(url)))))
        };
        if !is_safe(url) {
            return unsent(Kind::Configuration, "is neither https nor on this machine");
        }
        if self.reach == Reach::Outside && !address::is_outside(url) {
            return unsent(Kind::Rejected, "is on this machine or a private network");
        }
        // A proxy has no business between two programs of one machine.
        if is_loopback(url) {
            return Ok(None);
        }
        self.network.proxy(url).map_err(Unanswered::Unsent)
    }

    fn open(
        &self,
        url: &Url,
        request: request::Builder,
        body: Option<String>,
        proxy: Option<ureq::Proxy>,
        patience: Duration,
    ) -> Result<Response<Body>, Unanswered> {
        let unsendable = |error: ureq::http::Error| {
            let what = format!("no request can be made for {}", host(url));
            Unanswered::Unsent(Error::new(Kind::Configuration, what).because(error))
        };
        let tls = match url.scheme() {
            "https" => Some(self.tls(url)?),
            _ => None,
        };
        let agent = self.agent(tls, proxy, patience);
        self.sent.store(false, Ordering::Relaxed);
        let outcome = match body {
            Some(body) => agent.run(request.body(body).map_err(unsendable)?),
            None => agent.run(request.body(()).map_err(unsendable)?),
        };
        outcome.map_err(|error| match connection::is_before_the_request(&error) {
            true => Unanswered::Unreached(no_answer(url, error)),
            false if connection::is_garbled(&error) => Unanswered::Garbled(no_answer(url, error)),
            false => self.lost(url, error),
        })
    }

    fn read(&self, url: &Url, response: Response<Body>) -> Result<Answer, Unanswered> {
        let (head, body) = response.into_parts();
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let kind = text(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        // By the server's own clock, if it tells.
        let now = || text(DATE).and_then(date).unwrap_or_else(|| self.clock.now());
        let wait = text(RETRY_AFTER).and_then(|wait| {
            let until = || date(wait).map(|until| until.saturating_sub(now()));
            wait.trim().parse().ok().or_else(until)
        });
        let content = bounded(body.into_reader())
            .and_then(|content| decoded(content, text(CONTENT_ENCODING).unwrap_or_default()));
        let content = content.map_err(|error| match error.is::<std::io::Error>() {
            true => self.lost(url, error),
            false => Unanswered::Garbled(no_answer(url, error)),
        })?;
        let status = head.status.as_u16();
        Ok(Answer { status, kind, body: content, host: host(url), sent: Vec::new(), wait })
    }

    fn lost(&self, url: &Url, why: impl Into<Cause>) -> Unanswered {
        match self.sent.load(Ordering::Relaxed) {
            true => Unanswered::Lost(no_answer(url, why)),
            false => Unanswered::Unreached(no_answer(url, why)),
        }
    }

    fn agent(
        &self,
        tls: Option<Arc<rustls::ClientConfig>>,
        proxy: Option<ureq::Proxy>,
        patience: Duration,
    ) -> Agent {
        // Nothing is asked where there is no time left: the shortest bound there is.
        let left = self.until.get().map(|until| until.saturating_sub(self.clock.elapsed()));
        let whole = left.map_or(patience, |left| left.clamp(Duration::from_millis(1), patience));
        let through = proxy.as_ref().map(|proxy| proxy.host().to_owned());
        let config = Agent::config_builder()
            .user_agent(concat!("valetkey/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .proxy(proxy)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // A connection that was kept may be closed while the next request is on its way, and
            // nobody knows then what became of that.
            .max_idle_connections(0)
            .timeout_resolve(Some(CONNECT.min(whole)))
            .timeout_connect(Some(CONNECT.min(whole)))
            .timeout_global(Some(whole))
            .build();
        let guard = Guard::new(self.reach.clone(), through);
        connection::agent(config, guard, tls, &self.sent)
    }

    fn tls(&self, url: &Url) -> Result<Arc<rustls::ClientConfig>, Unanswered> {
        let trusted = self.network.authorities(url);
        if let Some(tls) = self.tls.borrow().get(&trusted) {
            return Ok(Arc::clone(tls));
        }
        let tls = connection::tls(self.environment, &trusted).map_err(|error| {
            let what = "the TLS client cannot be set up";
            let error = Error::new(Kind::Configuration, what).because(error);
            Unanswered::Unsent(error.hint("check SSL_CERT_FILE and the system's certificates"))
        })?;
        self.tls.borrow_mut().insert(trusted, Arc::clone(&tls));
        Ok(tls)
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Reads to the end, which must come before the limit.
fn bounded(from: impl Read) -> Result<Vec<u8>, Cause> {
    let mut content = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut content)?;
    match content.len() as u64 > LIMIT {
        true => Err("its answer is longer than 1 MiB".into()),
        false => Ok(content),
    }
}

/// An answer as it was before somebody compressed it. We ask for nothing of that kind, and some
/// servers and proxies do it all the same, or undo it and leave the header: the bytes tell.
fn decoded(content: Vec<u8>, encoding: &str) -> Result<Vec<u8>, Cause> {
    let mut content = content;
    for _ in 0..MOST_ENCODINGS {
        content = match content.as_slice() {
            [0x1f, 0x8b, ..] => bounded(MultiGzDecoder::new(content.as_slice()))?,
            // No JSON, form or XML begins with the head of a zlib stream (RFC 1950).
            [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] if encoding.contains("deflate") => {
                bounded(ZlibDecoder::new(content.as_slice()))?
            }
            _ => break,
        };
    }
    let known = |name: &str| {
        matches!(
            name.trim().to_ascii_lowercase().as_str(),
            "" | "identity" | "gzip" | "x-gzip" | "deflate"
        )
    };
    match encoding.split(',').find(|name| !known(name)) {
        Some(name) => {
            Err(format!("its answer is encoded by {}, which it was not asked for", cut(name))
                .into())
        }
        None => Ok(content),
    }
}

/// Seconds of Unix time, from a date in any of the three forms of RFC 9110 section 5.6.7.
fn date(text: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

fn request(method: Method, url: &Url) -> request::Builder {
    Request::builder().method(method).uri(url.as_str())
}

fn with_bearer(request: request::Builder, bearer: Option<&Secret>) -> request::Builder {
    let Some(token) = bearer else { return request };
    request.header(AUTHORIZATION, format!("Bearer {}", token.expose()))
}

fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => url.to_string(),
    }
}

fn no_answer(url: &Url, why: impl Into<Cause>) -> Error {
    let what = format!("{} cannot be reached", host(url));
    Error::new(Kind::Temporary, what)
        .hint("check the network, HTTPS_PROXY and SSL_CERT_FILE, then try again")
        .because(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    /// Attack 23: whatever a profile or a document names, plain http does not leave this machine,
    /// and nothing else is spoken.
    #[test]
    fn attack_23_nothing_is_sent_in_the_open() {
        let (environment, clock) = (Environment::default(), System::start());
        for url in [
            "http://192.0.2.1/",
            "http://auth.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "ftp://auth.example/",
            "ws://auth.example/",
        ] {
            let url = Url::parse(url).unwrap();
            let outcome = Http::new(&environment, &clock, &|_| false)
                .post(&url, &[("refresh_token", "canary")]);
            let Err(Unanswered::Unsent(error)) = outcome else { panic!("{url}: {outcome:?}") };
            assert_eq!(error.kind, Kind::Configuration, "{url}");
            assert!(error.what.ends_with("is neither https nor on this machine"), "{url}");
        }
    }

    /// Attack 24: the name is judged on the connection's own way to an address, not before it.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "somebody has to be there who is not reached")]
    fn attack_24_a_guarded_client_does_not_connect_to_a_name_of_this_machine() {
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let url = format!("http://localhost:{}/", socket.local_addr().unwrap().port());
        let (environment, clock) = (Environment::default(), System::start());
        let guarded = Http::within(Reach::Outside, &environment, &clock, &|_| false);
        // As if its text had told nothing.
        let url = Url::parse(&url).unwrap();
        let refused =
            guarded.open(&url, request(Method::GET, &url), None, None, WHOLE).unwrap_err();
        assert!(format!("{refused:?}").contains("another network"), "{refused:?}");
        assert!(matches!(refused, Unanswered::Unreached(_)), "{refused:?}");
        assert!(socket.accept().is_err(), "it was connected to");
        // And what the text does tell is enough.
        assert!(matches!(guarded.get(&url, None, &[]), Err(Unanswered::Unsent(_))));
        socket.set_nonblocking(false).unwrap();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                Http::new(&Environment::default(), &System::start(), &|_| false)
                    .get(&url, None, &[])
                    .map(drop)
            });
            // Somebody would have been there, and hangs up.
            drop(socket.accept().unwrap());
            assert!(matches!(asked.join().unwrap(), Err(Unanswered::Lost(_))));
        });
    }

    /// Both ways in which an honest server may answer, and a bomb.
    #[test]
    fn what_was_compressed_is_read_within_the_bound() {
        use std::io::Write;
        let gzip = |text: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            out.write_all(text).unwrap();
            out.finish().unwrap()
        };
        let zlib = |text: &[u8]| {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
            out.write_all(text).unwrap();
            out.finish().unwrap()
        };
        for (content, encoding) in [
            (b"{}".to_vec(), ""),
            (b"{}".to_vec(), "identity"),
            // A proxy has undone it and left the header.
            (b"{}".to_vec(), "gzip"),
            (gzip(b"{}"), "gzip"),
            (gzip(b"{}"), "X-GZIP"),
            (gzip(b"{}"), ""),
            (gzip(&gzip(b"{}")), "gzip, gzip"),
            (zlib(b"{}"), "deflate"),
        ] {
            assert_eq!(decoded(content, encoding).unwrap(), b"{}", "{encoding}");
        }
        let half = gzip(b"{\"access_token\":\"x\"}");
        for (content, encoding) in [
            (half[..half.len() - 9].to_vec(), "gzip"),
            (gzip(&vec![b' '; (LIMIT + 1) as usize]), "gzip"),
            (gzip(&gzip(&vec![b' '; 1 << 26])), "gzip"),
            (b"x".to_vec(), "br"),
            (b"x".to_vec(), "gzip, zstd"),
        ] {
            assert!(decoded(content, encoding).is_err(), "{encoding}");
        }
    }

    #[test]
    fn a_date_is_read_in_its_three_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(date(text), Some(784_111_777), "{text}");
        }
        assert_eq!((date("tomorrow"), date("")), (None, None));
    }
}
