//! A host that nobody configured says itself who issues its tokens: Terraform's `login.v1`, or
//! protected resource metadata (RFC 9728), or it is its own authorization server. It is asked only
//! where a person named it, and what it says counts for itself alone.

use url::Url;

use super::address::{self, Reach};
use super::answer::cut;
use super::challenge::{self, Challenge};
use super::http::{Http, Unanswered};
use super::metadata::{self, Server, has_user, leads_inside};
use super::{Failure, Oauth, service};
use crate::error::{Error, Kind};
use crate::model::{Document, Offer, Resource, is_plain_path};
use crate::profile::{Found, Issuer, Profile, is_safe};

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
#[derive(Debug)]
struct Description {
    resource: String,
    authorization_servers: Vec<String>,
    scopes_supported: Option<Vec<String>>,
}

/// What went wrong at places that were asked in vain. Each is about its own place: the next is asked
/// all the same, and only where none serves does somebody hear of it.
#[derive(Default)]
struct Vain {
    transient: Option<Error>,
    strange: Option<Error>,
}

impl Vain {
    fn note(&mut self, failure: Failure) {
        match failure {
            Failure::Transient(error) => self.transient = self.transient.take().or(Some(error)),
            Failure::Other(error) => self.strange = self.strange.take().or(Some(error)),
            _ => {}
        }
    }

    /// Whoever could not answer now may do so later, and then the others do not matter.
    fn failure(self) -> Option<Failure> {
        let strange = self.strange.map(Failure::Other);
        self.transient.map(Failure::Transient).or(strange)
    }
}

/// What the host said when it was asked for nothing in particular.
#[derive(Default)]
struct Refusal {
    documents: Vec<Url>,
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
        let mut vain = Vain::default();
        if let Some(profile) = self.login_service(&home, &mut vain)? {
            return Ok(Some(profile));
        }
        let refusal = self.refusal(resource, &home, &mut vain)?;
        if let Some((document, named)) = self.document(&home, &refusal, &mut vain)? {
            return self.named(&home, &refusal, document, &named).map(Some);
        }
        // What the host says of itself, and nobody can use, is not to be replaced by a guess.
        if vain.strange.is_some() {
            return vain.failure().map_or(Ok(None), Err);
        }
        let own = self.own_issuer(&home, &refusal, &mut vain)?;
        match (own, vain.failure()) {
            (None, Some(failure)) => Err(failure),
            (own, _) => Ok(own),
        }
    }

    /// What one of several places answers: `None` where that is nothing. That nobody is there is an
    /// error at once, because it is so for all of them.
    fn look(
        &self,
        home: &Home<'_>,
        place: &Url,
        vain: &mut Vain,
    ) -> Result<Option<Document>, Failure> {
        let answer = match home.http.look(place) {
            Ok(answer) => answer,
            Err(Unanswered::Lost(error) | Unanswered::Garbled(error)) => {
                self.ui.log(|| format!("discover at {place}: {error}"));
                vain.note(Failure::Transient(error));
                return Ok(None);
            }
            Err(failure) => return Err(failure.into()),
        };
        self.ui.log(|| format!("discover at {place}: {}", answer.status));
        match (answer.status, Document::parse(&answer.body)) {
            (200, Ok(document)) => Ok(Some(document)),
            (500.. | 429 | 408, _) => {
                vain.note(answer.transient());
                Ok(None)
            }
            // A site that answers every path with its front page has no document there either.
            _ => Ok(None),
        }
    }

    /// Terraform's own way, where the host has it.
    fn login_service(&self, home: &Home<'_>, vain: &mut Vain) -> Result<Option<Profile>, Failure> {
        let place = service::place(&home.url);
        let Some(document) = self.look(home, &place, vain)? else { return Ok(None) };
        match service::read(&document, &place, home.inside) {
            Ok(found) => Ok(found),
            Err(error) => {
                vain.note(Failure::Other(error));
                Ok(None)
            }
        }
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
        let http = Http::within(reach, self.environment, self.clock, self.hidden);
        is_safe(&url).then_some(Home { url, http, inside })
    }

    /// The challenges that the caller brings, else those of the resource itself.
    fn refusal(
        &self,
        resource: &Resource,
        home: &Home<'_>,
        vain: &mut Vain,
    ) -> Result<Refusal, Failure> {
        let headers = match &resource.offer {
            Some(Offer::Challenges(headers)) => headers.clone(),
            _ => match home.http.challenges(&home.url) {
                Ok(headers) => headers,
                Err(Unanswered::Lost(error) | Unanswered::Garbled(error)) => {
                    vain.note(Failure::Transient(error));
                    Vec::new()
                }
                Err(failure) => return Err(failure.into()),
            },
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
        vain: &mut Vain,
    ) -> Result<Option<(Description, Url)>, Failure> {
        let mut whole = home.url.clone();
        whole.set_path("");
        let mut places = Vec::new();
        places.extend(refusal.documents.iter().cloned().map(|place| (place, &home.url)));
        places.push((well_known(&home.url), &home.url));
        places.push((well_known(&whole), &whole));
        places.dedup();
        for (place, asked) in places {
            let Some(document) = self.look(home, &place, vain)? else { continue };
            match read(&document, asked, &place) {
                Some(Ok(document)) => return Ok(Some((document, asked.clone()))),
                Some(Err(error)) => vain.note(Failure::Other(error)),
                None => {}
            }
        }
        Ok(None)
    }

    /// The first of the servers that it names at which a person can sign in.
    fn named(
        &self,
        home: &Home<'_>,
        refusal: &Refusal,
        document: Description,
        named: &Url,
    ) -> Result<Profile, Failure> {
        let own = named.origin().ascii_serialization();
        let mut issuers = document.authorization_servers;
        if issuers.is_empty() {
            issuers.push(own);
        }
        let mut vain = Vain::default();
        for text in issuers.iter().take(MOST) {
            match self.issuer(text, home) {
                Ok((issuer, server)) => {
                    let several =
                        if issuers.len() > 1 { ", the first that can be used" } else { "" };
                    self.ui.say(&format!("{named} says that {issuer} issues its tokens{several}"));
                    let page = server.authorization.as_ref().map(Url::origin);
                    if let Some(page) = page.filter(|page| *page != issuer.url().origin()) {
                        let page = page.ascii_serialization();
                        self.ui.say(&format!("mind that you sign in at {page}, which is another"));
                    }
                    let offered = document.scopes_supported;
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
                Err(failure) => vain.note(failure),
            }
        }
        Err(vain.failure().unwrap_or(Failure::Expired))
    }

    /// An issuer that a host names, with what it publishes. It says nothing about other issuers.
    fn issuer(&self, text: &str, home: &Home<'_>) -> Result<(Issuer, Server), Failure> {
        // Without what stands before the host: that could be a secret, or another host's name.
        let shown = Url::parse(text).map(|url| url.origin().ascii_serialization());
        let shown = cut(shown.as_deref().unwrap_or(text));
        let unusable = |what: &str| {
            let what = format!("{} names an issuer {what}: {shown}", home.url);
            Failure::Other(Error::new(Kind::Rejected, what))
        };
        let issuer = Issuer::new(text).map_err(|_| unusable("that is no URL"))?;
        let url = issuer.url();
        let plain = url.query().is_none() && url.fragment().is_none() && !has_user(url);
        if !plain || !is_safe(url) || leads_inside(url, &home.url) {
            return Err(unusable("that no token may come from"));
        }
        let http = self.http_within(home.inside);
        let Oauth { environment, clock, ui, .. } = self;
        let wanted = [metadata::TOKEN, metadata::AUTHORIZATION];
        let age = metadata::ASK_ANEW;
        let server = metadata::published(&issuer, age, &wanted, http, environment, *clock, ui)?;
        match server.is_usable() {
            true => Ok((issuer, server)),
            false => Err(unusable("where nobody can sign in")),
        }
    }

    /// Some hosts publish nothing about themselves but what they publish as an issuer.
    fn own_issuer(
        &self,
        home: &Home<'_>,
        refusal: &Refusal,
        vain: &mut Vain,
    ) -> Result<Option<Profile>, Failure> {
        let own = home.url.origin().ascii_serialization();
        let (issuer, server) = match self.issuer(&own, home) {
            Ok(found) => found,
            Err(Failure::Transient(error)) => {
                vain.note(Failure::Transient(error));
                return Ok(None);
            }
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
        let of = |scheme: &'static str| challenges.iter().filter(move |one| one.scheme == scheme);
        // Any of several challenges may be the one that says something.
        let parameters =
            |name: &'static str| of("bearer").filter_map(move |one| one.parameter(name));
        // RFC 9728 section 7.3: whoever can write a challenge is not the resource yet; whoever
        // can write a document on its host is.
        let documents = parameters("resource_metadata").filter_map(|text| Url::parse(text).ok());
        let documents = documents.filter(|url| url.origin() == home.origin() && !has_user(url));
        let scopes = parameters("scope").find(|text| !text.trim().is_empty());
        Self {
            documents: documents.take(MOST).collect(),
            scopes: scopes.map(|text| text.split(' ').map(str::to_owned).collect()),
            basic: of("basic").next().is_some() && of("bearer").next().is_none(),
        }
    }
}

/// The well-known part goes between host and path (RFC 9728 section 3.1).
fn well_known(resource: &Url) -> Url {
    let mut place = resource.clone();
    place.set_path(&format!("{WELL_KNOWN}{}", resource.path().trim_end_matches('/')));
    place
}

/// What a document says of the resource that was asked for. `None`: it is about none.
fn read(document: &Document, asked: &Url, place: &Url) -> Option<Result<Description, Error>> {
    let unusable = |what: String| Some(Err(Error::new(Kind::Rejected, format!("{place} {what}"))));
    let Some(resource) = document.text("resource") else {
        return match document.has("resource") || document.has("authorization_servers") {
            true => unusable(format!("cannot be understood: {}", document.lacks("resource"))),
            false => None,
        };
    };
    if !is_about(resource, asked) {
        return unusable(format!("is about {}", cut(resource)));
    }
    Some(Ok(Description {
        resource: resource.to_owned(),
        authorization_servers: document.list("authorization_servers").unwrap_or_default(),
        scopes_supported: document.list("scopes_supported"),
    }))
}

/// Whether a resource calls itself what was asked for. What was typed has been normalised by then
/// (host in lower case, no port that the scheme has anyway), so scheme, host and port are compared
/// parsed; the rest is compared as it is written. A root's slash makes no difference.
fn is_about(resource: &str, asked: &Url) -> bool {
    let Ok(url) = Url::parse(resource) else { return false };
    let behind = |text: &str| {
        let (_, rest) = text.split_once("://")?;
        Some(rest.find(['/', '?', '#', '\\']).map_or("/", |start| &rest[start..]).to_owned())
    };
    url.origin() == asked.origin() && !has_user(&url) && behind(resource) == behind(asked.as_str())
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
    let Ok(document) = Document::parse(bytes) else { return };
    let Ok(asked) = Url::parse("https://host.example/api") else { return };
    let Some(Ok(found)) = read(&document, &asked, &well_known(&asked)) else { return };
    assert_eq!(Url::parse(&found.resource), Ok(asked));
    for scope in scopes(found.scopes_supported, &Server::default()) {
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
            let document = serde_json::json!({ "resource": resource }).to_string();
            let document = Document::parse(document.as_bytes()).unwrap();
            read(&document, &url(asked), &url(asked)).is_some_and(|found| found.is_ok())
        };
        assert!(about("https://h.example", "https://h.example"));
        assert!(about("https://h.example/", "https://h.example"));
        assert!(about("https://h.example/a", "https://h.example/a"));
        // Nobody knows any more how the person spelled it.
        assert!(about("https://H.example/a", "https://h.example/a"));
        assert!(about("https://h.example:443", "https://h.example"));
        for (resource, asked) in [
            ("https://h.example", "https://h.example/a"),
            ("https://h.example/a", "https://h.example"),
            ("https://h.example/a/", "https://h.example/a"),
            ("https://h.example/A", "https://h.example/a"),
            ("https://h.example/x/../a", "https://h.example/a"),
            ("https://h.example/%61", "https://h.example/a"),
            ("https://u@h.example/a", "https://h.example/a"),
            ("https://h.example:8443", "https://h.example"),
            ("http://h.example", "https://h.example"),
            ("https:h.example/a", "https://h.example/a"),
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
            Refusal::read(&challenge::read(&header), &home).documents
        };
        assert_eq!(place("https://h.example/anything").len(), 1);
        for text in [
            "https://evil.example/x",
            "http://h.example/x",
            "https://h.example:8443/x",
            "https://user@h.example/x",
            "/x",
            "file:///etc/passwd",
        ] {
            assert_eq!(place(text), [], "{text}");
        }
    }

    #[test]
    fn a_password_is_offered_only_where_nothing_else_is() {
        let basic = |header: &str| Refusal::read(&challenge::read(header), &url("https://h")).basic;
        assert!(basic("Basic realm=\"x\""));
        assert!(!basic("Bearer, Basic realm=\"x\"") && !basic("Bearer") && !basic(""));
    }
}
