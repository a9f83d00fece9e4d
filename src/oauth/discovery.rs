//! A host that nobody configured says itself who issues its tokens: Terraform's `login.v1`, or
//! protected resource metadata (RFC 9728), or it is its own authorization server. It is asked only
//! where a person named it, and what it says counts for itself alone.

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::address::{self, Reach};
use super::answer::cut;
use super::challenge::{self, Challenge};
use super::http::Http;
use super::metadata::{self, Server, has_user, leads_inside};
use super::{Failure, Oauth};
use crate::error::{Error, Kind};
use crate::model::{Offer, Resource, is_plain_path};
use crate::profile::{Found, Profile, is_safe};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Authorization servers of one resource that are tried, and scopes that are asked for.
const MOST: usize = 8;

/// The host that is asked, and how it is reached.
pub(super) struct Home<'a> {
    pub(super) url: Url,
    pub(super) http: Http<'a>,
    /// It is on this machine or a private network, and so may be its servers.
    pub(super) inside: bool,
}

/// The members of RFC 9728 section 2 that mean something to us.
#[derive(Debug, Deserialize)]
struct Document {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

/// What the host said when it was asked for nothing in particular.
#[derive(Default)]
struct Refusal {
    document: Option<Url>,
    scopes: Option<Vec<String>>,
    /// It takes a token as the password, and in no other way.
    basic: bool,
}

impl Oauth<'_> {
    /// The provider that the host itself names, for this resource alone. `None` where it names none.
    ///
    /// # Errors
    /// `Transient` when somebody cannot be reached, `Other` when what is said cannot be used.
    pub fn discover(&self, resource: &Resource) -> Result<Option<Profile>, Failure> {
        let Some(home) = self.home(resource) else { return Ok(None) };
        if let Some(profile) = self.login_service(&home)? {
            return Ok(Some(profile));
        }
        let refusal = self.refusal(resource, &home)?;
        if let Some((document, named)) = self.document(&home, &refusal)? {
            return self.named(&home, &refusal, document, &named).map(Some);
        }
        self.own_issuer(&home, &refusal)
    }

    fn home(&self, resource: &Resource) -> Option<Home<'_>> {
        let path = resource.path.as_deref().filter(|path| is_plain_path(path)).unwrap_or_default();
        let mut url = Url::parse(&format!("{}/{path}", resource.web_origin())).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        let inside = address::is_inside(&url);
        let reach = match (inside, url.host_str()) {
            (true, Some(host)) => Reach::From(host.to_owned()),
            _ => Reach::Outside,
        };
        let http = Http::within(reach, self.environment, self.clock);
        is_safe(&url).then_some(Home { url, http, inside })
    }

    /// The challenges that the caller brings, else those of the resource itself.
    fn refusal(&self, resource: &Resource, home: &Home<'_>) -> Result<Refusal, Failure> {
        let headers = match &resource.offer {
            Some(Offer::Challenges(headers)) => headers.clone(),
            _ => home.http.challenges(&home.url)?,
        };
        self.ui.log(|| format!("{} answered {} challenges", home.url, headers.len()));
        let challenges: Vec<_> =
            headers.iter().flat_map(|header| challenge::read(header)).collect();
        Ok(Refusal::read(&challenges, &home.url))
    }

    /// RFC 9728 section 3.3: a document counts only for the resource that was asked for, which it
    /// names itself: at the place that the host named, at the well-known one, or at that of the
    /// whole host.
    fn document(
        &self,
        home: &Home<'_>,
        refusal: &Refusal,
    ) -> Result<Option<(Document, Url)>, Failure> {
        let mut whole = home.url.clone();
        whole.set_path("");
        let mut places = Vec::new();
        places.extend(refusal.document.clone().map(|place| (place, &home.url)));
        places.push((well_known(&home.url), &home.url));
        places.push((well_known(&whole), &whole));
        places.dedup();
        let mut strange = None;
        for (place, asked) in places {
            let answer = home.http.get(&place, None, &[])?;
            self.ui.log(|| format!("discover at {place}: {}", answer.status));
            match (answer.status, serde_json::from_slice::<Value>(&answer.body)) {
                (200, Ok(document)) => match read(&document, asked, &place) {
                    Ok(document) => return Ok(Some((document, asked.clone()))),
                    Err(error) => strange = strange.or(Some(error)),
                },
                (500.. | 429, _) => return Err(answer.transient()),
                // A site that answers every path with its front page has no document there either.
                _ => {}
            }
        }
        strange.map_or(Ok(None), |error| Err(Failure::Other(error)))
    }

    /// The first of the servers that it names at which a person can sign in.
    fn named(
        &self,
        home: &Home<'_>,
        refusal: &Refusal,
        document: Document,
        named: &Url,
    ) -> Result<Profile, Failure> {
        let own = named.origin().ascii_serialization();
        let mut issuers = document.authorization_servers;
        if issuers.is_empty() {
            issuers.push(own);
        }
        let mut first = None;
        for text in issuers.iter().take(MOST) {
            match self.issuer(text, home) {
                Ok((issuer, server)) => {
                    let several =
                        if issuers.len() > 1 { ", the first that can be used" } else { "" };
                    self.ui.say(&format!("{named} says that {issuer} issues its tokens{several}"));
                    let page = server.authorization.as_ref().map(Url::origin);
                    if let Some(page) = page.filter(|page| *page != issuer.origin()) {
                        let page = page.ascii_serialization();
                        self.ui.say(&format!("mind that you sign in at {page}, which is another"));
                    }
                    let offered = Some(document.scopes_supported);
                    let scopes = scopes(refusal.scopes.clone().or(offered), &server);
                    let found = Found {
                        resource: named.as_str().trim_end_matches('/').to_owned(),
                        issuer: Some(issuer),
                        scopes,
                        basic: refusal.basic,
                        indicator: Some(document.resource),
                        inside: home.inside,
                        ..Found::default()
                    };
                    return found.profile().map_err(Failure::Other);
                }
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        Err(first.unwrap_or(Failure::Expired))
    }

    /// An issuer that a host names, with what it publishes. It says nothing about other issuers.
    fn issuer(&self, text: &str, home: &Home<'_>) -> Result<(Url, Server), Failure> {
        // Without what stands before the host: that could be a secret, or another host's name.
        let shown = Url::parse(text).map(|url| url.origin().ascii_serialization());
        let shown = cut(shown.as_deref().unwrap_or(text));
        let unusable = |what: &str| {
            let what = format!("{} names an issuer {what}: {shown}", home.url);
            Failure::Other(Error::new(Kind::Rejected, what))
        };
        let issuer = Url::parse(text).map_err(|_| unusable("that is no URL"))?;
        let plain = issuer.query().is_none() && issuer.fragment().is_none() && !has_user(&issuer);
        if !plain || !is_safe(&issuer) || leads_inside(&issuer, &home.url) {
            return Err(unusable("that no token may come from"));
        }
        let http = self.http_within(home.inside);
        let Oauth { environment, clock, ui, .. } = self;
        let server =
            metadata::published(&issuer, metadata::ASK_ANEW, http, environment, *clock, ui)?;
        match server.is_usable() {
            true => Ok((issuer, server)),
            false => Err(unusable("where nobody can sign in")),
        }
    }

    /// Some hosts publish nothing about themselves but what they publish as an issuer.
    fn own_issuer(&self, home: &Home<'_>, refusal: &Refusal) -> Result<Option<Profile>, Failure> {
        let own = home.url.origin().ascii_serialization();
        let (issuer, server) = match self.issuer(&own, home) {
            Ok(found) => found,
            Err(Failure::Transient(error)) => return Err(Failure::Transient(error)),
            Err(_) => return Ok(None),
        };
        let found = Found {
            resource: own,
            issuer: Some(issuer),
            scopes: scopes(refusal.scopes.clone(), &server),
            basic: refusal.basic,
            inside: home.inside,
            ..Found::default()
        };
        found.profile().map(Some).map_err(Failure::Other)
    }
}

impl Refusal {
    fn read(challenges: &[Challenge], home: &Url) -> Self {
        let bearer = challenges.iter().find(|challenge| challenge.scheme == "bearer");
        let parameter = |name| bearer.and_then(|challenge| challenge.parameter(name));
        // RFC 9728 section 7.3: whoever can write a challenge is not the resource yet; whoever
        // can write a document on its host is.
        let document = parameter("resource_metadata").and_then(|text| Url::parse(text).ok());
        let document = document.filter(|url| url.origin() == home.origin() && !has_user(url));
        let basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        Self {
            document,
            scopes: parameter("scope").map(|text| text.split(' ').map(str::to_owned).collect()),
            basic: basic && bearer.is_none(),
        }
    }
}

/// The well-known part goes between host and path (RFC 9728 section 3.1).
fn well_known(resource: &Url) -> Url {
    let mut place = resource.clone();
    place.set_path(&format!("{WELL_KNOWN}{}", resource.path().trim_end_matches('/')));
    place
}

fn read(document: &Value, asked: &Url, place: &Url) -> Result<Document, Error> {
    let unusable = |what: String| Error::new(Kind::Rejected, format!("{place} {what}"));
    let document =
        Document::deserialize(document).map_err(|_| unusable("cannot be understood".to_owned()))?;
    // As one string with another; a root's slash is the URL parser's.
    let same = document.resource == asked.as_str()
        || (asked.path() == "/" && document.resource == asked.as_str().trim_end_matches('/'));
    match same {
        true => Ok(document),
        false => Err(unusable(format!("is about {}", cut(&document.resource)))),
    }
}

/// What the host wants now, else all that it knows, else the server's own choice. What renews a
/// session is asked for beside others where the server offers it.
fn scopes(wanted: Option<Vec<String>>, server: &Server) -> Vec<String> {
    // RFC 6749 section 3.3.
    let legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let mut scopes = wanted.unwrap_or_default();
    scopes.retain(|scope| !scope.is_empty() && scope.bytes().all(legal));
    scopes.truncate(8 * MOST);
    let lasting = "offline_access";
    if !scopes.is_empty()
        && server.offers_scope(lasting)
        && !scopes.iter().any(|own| own == lasting)
    {
        scopes.push(lasting.to_owned());
    }
    scopes
}

/// For fuzzing: a document counts for its own resource alone.
///
/// # Panics
/// When it counts for another.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let Ok(document) = serde_json::from_slice(bytes) else { return };
    let Ok(asked) = Url::parse("https://host.example/api") else { return };
    let Ok(found) = read(&document, &asked, &well_known(&asked)) else { return };
    assert_eq!(found.resource, "https://host.example/api");
    for scope in scopes(Some(found.scopes_supported), &Server::default()) {
        assert!(scope.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_well_known_part_goes_between_host_and_path() {
        for (resource, place) in [
            ("https://h.example", "https://h.example/.well-known/oauth-protected-resource"),
            ("https://h.example/a/b", "https://h.example/.well-known/oauth-protected-resource/a/b"),
        ] {
            assert_eq!(well_known(&url(resource)).as_str(), place);
        }
    }

    #[test]
    fn a_document_counts_only_for_what_was_asked_for() {
        let about = |resource: &str, asked: &str| {
            let document = serde_json::json!({ "resource": resource });
            read(&document, &url(asked), &url(asked)).is_ok()
        };
        assert!(about("https://h.example", "https://h.example"));
        assert!(about("https://h.example/", "https://h.example"));
        assert!(about("https://h.example/a", "https://h.example/a"));
        for (resource, asked) in [
            ("https://h.example", "https://h.example/a"),
            ("https://h.example/a", "https://h.example"),
            ("https://h.example/a/", "https://h.example/a"),
            ("https://H.example", "https://h.example"),
            ("https://h.example:443", "https://h.example"),
            ("https://evil.example", "https://h.example"),
            ("", "https://h.example"),
        ] {
            assert!(!about(resource, asked), "{resource} for {asked}");
        }
    }

    /// Attack 24: whoever can put a header into an answer has no other host believed.
    #[test]
    fn attack_24_a_document_of_another_origin_is_not_looked_at() {
        let home = url("https://h.example/a");
        let place = |text: &str| {
            let header = format!("Bearer resource_metadata=\"{text}\"");
            Refusal::read(&challenge::read(&header), &home).document
        };
        assert!(place("https://h.example/anything").is_some());
        for text in [
            "https://evil.example/x",
            "http://h.example/x",
            "https://h.example:8443/x",
            "https://user@h.example/x",
            "/x",
            "file:///etc/passwd",
        ] {
            assert_eq!(place(text), None, "{text}");
        }
    }

    #[test]
    fn a_password_is_offered_only_where_nothing_else_is() {
        let basic = |header: &str| Refusal::read(&challenge::read(header), &url("https://h")).basic;
        assert!(basic("Basic realm=\"x\""));
        assert!(!basic("Bearer, Basic realm=\"x\"") && !basic("Bearer") && !basic(""));
    }
}
