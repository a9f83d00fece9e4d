//! The only room that connects out. Nothing secret goes anywhere but to the URL it is given for:
//! no redirect is followed, plain HTTP is for this machine only, and every answer has a bound in
//! bytes and seconds.

use std::cell::OnceCell;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Certificate;
pub(super) use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::Value;
use url::Url;

use super::Failure;
use super::address::{self, Guard, Reach};
use crate::environment::Environment;
use crate::error::{Error, Kind};
use crate::model::Secret;
use crate::profile::{is_loopback, is_safe};

const CONNECT: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(30);
const JSON: &str = "application/json";
/// Bytes of an answer.
const LIMIT: u64 = 1 << 20;

/// The clients are built when first used: reading the system's certificates takes longer than a
/// cached `get` as a whole.
pub(super) struct Http<'a> {
    environment: &'a Environment,
    reach: Reach,
    outside: OnceCell<Client>,
    /// A proxy has no business between two programs of one machine.
    this_machine: OnceCell<Client>,
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
        String::from_utf8_lossy(&self.body)
    }

    /// A server's own text without the secrets that it quotes.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        let hide = |text: String, secret: &Secret| text.replace(secret.expose(), "[secret]");
        self.sent.iter().fold(text.to_owned(), hide)
    }

    /// The server could not say yes or no.
    pub(super) fn transient(&self) -> Failure {
        let what = format!("{} answered {}", self.host, self.status);
        let hint = match self.wait {
            Some(seconds) if (2..=86_400).contains(&seconds) => {
                format!("try again in {seconds} seconds")
            }
            _ => "try again in a moment".to_owned(),
        };
        Failure::Transient(Error::new(Kind::Temporary, what).hint(hint))
    }
}

impl<'a> Http<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self::within(Reach::Anywhere, environment)
    }

    /// With a bound on where a stranger's URLs may lead (attack 24 of oauth.md).
    pub(super) fn within(reach: Reach, environment: &'a Environment) -> Self {
        Self { environment, reach, outside: OnceCell::new(), this_machine: OnceCell::new() }
    }

    /// Posts a form and reads the answer.
    ///
    /// # Errors
    /// `Transient` when there is no whole answer, `Other` when the URL is not safe.
    pub(super) fn post(&self, url: &Url, form: &[(&str, &str)]) -> Result<Answer, Failure> {
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
    ) -> Result<Answer, Failure> {
        let request = self.client(url)?.post(url.clone()).header(ACCEPT, accept).form(form);
        let mut answer = send(url, request)?;
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
    ) -> Result<Answer, Failure> {
        let mut request = self.client(url)?.get(url.clone()).header(ACCEPT, JSON);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(token) = bearer {
            request = request.bearer_auth(token.expose());
        }
        send(url, request)
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
    ) -> Result<Answer, Failure> {
        let request = self.client(url)?.request(method, url.clone());
        let mut request = request.header(ACCEPT, JSON);
        for (name, value) in special.headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = special.bearer {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = &special.body {
            request = request.header(CONTENT_TYPE, JSON).body(body.to_string());
        }
        let mut answer = send(url, request)?;
        answer.sent.extend([special.bearer, special.secret].into_iter().flatten().cloned());
        Ok(answer)
    }

    /// Asks the metadata server of a machine of Google's, which speaks plain HTTP: nobody but the
    /// machine itself hears it, and no proxy may.
    ///
    /// # Errors
    /// `Transient` when there is no whole answer, `Other` when the URL is another server's.
    pub(super) fn metadata(&self, url: &Url) -> Result<Answer, Failure> {
        let known = matches!(url.host_str(), Some("metadata.google.internal" | "169.254.169.254"));
        if !known && !is_loopback(url) {
            let what = format!("{} is no metadata server of this machine", host(url));
            return Err(Failure::Other(Error::new(Kind::Configuration, what)));
        }
        let client = self.client_for(true)?;
        send(url, client.get(url.clone()).header("Metadata-Flavor", "Google"))
    }

    /// Posts a JSON document and reads the answer.
    ///
    /// # Errors
    /// As `post`.
    pub(super) fn post_json(&self, url: &Url, document: &Value) -> Result<Answer, Failure> {
        let body = document.to_string();
        let request = self.client(url)?.post(url.clone()).header(ACCEPT, JSON);
        send(url, request.header(CONTENT_TYPE, JSON).body(body))
    }

    /// Asks a resource without any credential, for the challenges of its refusal: the values of
    /// `WWW-Authenticate`. None where it does not refuse.
    ///
    /// # Errors
    /// As `post`.
    pub(super) fn challenges(&self, url: &Url) -> Result<Vec<String>, Failure> {
        let response = open(url, self.client(url)?.get(url.clone()).header(ACCEPT, JSON))?;
        if response.status().as_u16() != 401 {
            return Ok(Vec::new());
        }
        let all = response.headers().get_all(WWW_AUTHENTICATE).iter();
        Ok(all.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect())
    }

    fn client(&self, url: &Url) -> Result<&Client, Failure> {
        if !is_safe(url) {
            let what = format!("{} is neither https nor on this machine", host(url));
            return Err(Failure::Other(Error::new(Kind::Configuration, what)));
        }
        if self.reach == Reach::Outside && !address::is_outside(url) {
            let what = format!("{} is on this machine or a private network", host(url));
            return Err(Failure::Other(Error::new(Kind::Rejected, what)));
        }
        self.client_for(is_loopback(url))
    }

    fn client_for(&self, this_machine: bool) -> Result<&Client, Failure> {
        let cell = if this_machine { &self.this_machine } else { &self.outside };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = self.build(this_machine).map_err(|error| {
            let what = "the TLS client cannot be set up";
            let error = Error::new(Kind::Configuration, what).because(error);
            Failure::Other(error.hint("check SSL_CERT_FILE and the system's certificates"))
        })?;
        Ok(cell.get_or_init(|| client))
    }

    #[expect(clippy::disallowed_methods, reason = "the room that connects out")]
    fn build(
        &self,
        this_machine: bool,
    ) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
        // A second installation fails and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("valetkey/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT);
        if this_machine {
            builder = builder.no_proxy();
        }
        if self.reach != Reach::Anywhere {
            let guard = Guard::new(self.reach.clone(), self.environment);
            builder = builder.dns_resolver(Arc::new(guard));
        }
        // Only some systems' verifiers read the variable.
        if let Some(path) = self.environment.get("SSL_CERT_FILE") {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&std::fs::read(path)?)?);
        }
        Ok(builder.build()?)
    }
}

fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => url.to_string(),
    }
}

fn lost(url: &Url, error: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    let what = format!("{} cannot be reached", host(url));
    Failure::Transient(
        Error::new(Kind::Temporary, what)
            .hint("check the network, HTTPS_PROXY and SSL_CERT_FILE, then try again")
            .because(error),
    )
}

fn open(url: &Url, request: RequestBuilder) -> Result<Response, Failure> {
    request
        // On the request it bounds the whole exchange; on the client it would bound each read of
        // the body anew.
        .timeout(WHOLE)
        .send()
        .map_err(|error| lost(url, error.without_url().into()))
}

fn send(url: &Url, request: RequestBuilder) -> Result<Answer, Failure> {
    let response = open(url, request)?;
    let status = response.status().as_u16();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    let wait =
        response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
    let mut body = Vec::new();
    response.take(LIMIT + 1).read_to_end(&mut body).map_err(|error| lost(url, error.into()))?;
    if body.len() as u64 > LIMIT {
        return Err(lost(url, "its answer is longer than 1 MiB".into()));
    }
    Ok(Answer { status, kind, body, host: host(url), sent: Vec::new(), wait })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack 24: the name is judged on the connection's own way to an address, not before it.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "somebody has to be there who is not reached")]
    fn attack_24_a_guarded_client_does_not_connect_to_a_name_of_this_machine() {
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let url = format!("http://localhost:{}/", socket.local_addr().unwrap().port());
        let environment = Environment::default();
        let guarded = Http::within(Reach::Outside, &environment);
        // As if its text had told nothing.
        let client = guarded.build(false).unwrap();
        let refused = client.get(&url).timeout(CONNECT).send().unwrap_err();
        let mut causes =
            std::iter::successors(Some(&refused as &dyn std::error::Error), |error| error.source());
        assert!(causes.any(|error| error.to_string().contains("another network")), "{refused:?}");
        assert!(socket.accept().is_err(), "it was connected to");
        // And what the text does tell is enough.
        let url = Url::parse(&url).unwrap();
        assert!(matches!(guarded.get(&url, None, &[]), Err(Failure::Other(_))));
        let plain = Http::new(&environment).build(true).unwrap();
        let _ = plain.get(url).timeout(Duration::from_millis(200)).send();
        assert!(socket.accept().is_ok(), "nobody would have been there");
    }
}
